"""The requests that a party holds its share of, and the order in which all parties run them.

P_0 orders: it announces each request, the others say whether they hold their share of it, and all run it or none.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import msgspec
import numpy as np

from sottovoce.engine.errors import FrameError, SottovoceError
from sottovoce.engine.protocols.base import AShare
from sottovoce.engine.session import Output, RunStats
from sottovoce.engine.transport.base import Transport
from sottovoce.serving.messages import CONTROL_TAG, MAX_CONTROL, Control, Request

MAX_QUEUE: Final = 64
REASON_CHARS: Final = 500
_SLICE_S: Final = 0.1
# In deadlines. A reply takes one where a share is missing; who waits for the verdict waits longer, so that the party
# that is really gone is named; without work P_0 speaks up three times a deadline.
_REPLY_WAITS: Final = 2.0
_VERDICT_WAITS: Final = 3.0
_IDLE_WAITS: Final = 2.0
_IDLE_EVERY: Final = 1 / 3


@dataclass(slots=True)
class Pending:
    """A request whose share is here. `done` is set once there is an output or an error."""

    request: Request
    share: AShare = field(repr=False)
    done: threading.Event = field(default_factory=threading.Event)
    error: str = ""
    output: Output | None = field(default=None, repr=False)
    stats: RunStats | None = None


class RequestBook:
    """Requests that wait at one party. Thread-safe."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._order: deque[Pending] = deque()
        self._waiting: dict[bytes, Pending] = {}
        self._over = ""

    @property
    def over(self) -> str:
        """Why no request is taken any more; empty while they are."""
        return self._over

    def add(self, pending: Pending) -> str:
        """Take a request; the reason if that is not possible."""
        with self._changed:
            if self._over:
                return self._over
            if len(self._waiting) >= MAX_QUEUE:
                return f"busy: {MAX_QUEUE} requests are waiting; try again later"
            if pending.request.request in self._waiting:
                return "a request with this id is waiting already"
            self._waiting[pending.request.request] = pending
            self._order.append(pending)
            self._changed.notify_all()
        return ""

    def oldest(self, wait_s: float) -> Pending | None:
        """The request that came first among those that nobody has taken; None if none comes in time."""
        with self._changed:
            if not self._order:
                self._changed.wait(wait_s)
            return self._order.popleft() if self._order else None

    def find(self, request: bytes, wait_s: float) -> Pending | None:
        """Take the request with this id; None if it does not come in time."""
        end = time.monotonic() + wait_s
        with self._changed:
            while (pending := self._waiting.get(request)) is None:
                left = end - time.monotonic()
                if left <= 0:
                    return None
                self._changed.wait(left)
            self._order.remove(pending)
        return pending

    def finish(self, pending: Pending, error: str = "") -> None:
        """Wake whoever waits for the request."""
        with self._changed:
            self._waiting.pop(pending.request.request, None)
        pending.error = error
        pending.done.set()

    def close(self, reason: str) -> None:
        """Take no more requests; those that wait end with the reason."""
        with self._changed:
            self._over = reason
            left = list(self._waiting.values())
            self._order.clear()
        for pending in left:
            self.finish(pending, reason)


class Sequencer:
    """One party's part in agreeing on the next request, over lane 0 and never while a request runs."""

    def __init__(self, transport: Transport, book: RequestBook, deadline_s: float, stopped: Callable[[], bool]) -> None:
        self._transport = transport
        self._book = book
        self._deadline_s = deadline_s
        self._stopped = stopped
        self._others = range(1, transport.parties)

    def next(self) -> Pending | None:
        """The request to run now, the same at all parties; None when it is time to stop."""
        return self._lead() if self._transport.rank == 0 else self._follow()

    def say_stop(self) -> None:
        """P_0: no more requests."""
        if self._transport.rank == 0:
            for peer in self._others:
                self._say(peer, Control("stop"))

    def _lead(self) -> Pending | None:
        spoke = time.monotonic()
        while not self._stopped():
            pending = self._book.oldest(_SLICE_S)
            if pending is None:
                if time.monotonic() - spoke > _IDLE_EVERY * self._deadline_s:
                    for peer in self._others:
                        self._say(peer, Control("idle"))
                    spoke = time.monotonic()
                continue
            declined = self._propose(pending.request)
            if not declined:
                return pending
            self._book.finish(pending, declined)
            spoke = time.monotonic()
        return None

    def _propose(self, request: Request) -> str:
        """Ask all others; empty if all hold their share, else who does not and why."""
        for peer in self._others:
            self._say(peer, Control("begin", request.request, request.batch, request.output))
        replies = {peer: self._hear(peer, _REPLY_WAITS) for peer in self._others}
        for peer, reply in replies.items():
            if reply.request != request.request or reply.kind not in ("accept", "decline"):
                raise FrameError(f"P0: request: expected accept or decline from P{peer}, got {reply.kind}")
        declined = "; ".join(f"P{peer}: {reply.reason}" for peer, reply in replies.items() if reply.kind == "decline")
        for peer in self._others:
            self._say(peer, Control("cancel" if declined else "go", request.request))
        return declined

    def _follow(self) -> Pending | None:
        me = f"P{self._transport.rank}: request"
        while True:
            begin = self._hear(0, _IDLE_WAITS)
            if begin.kind == "idle":
                continue
            if begin.kind == "stop":
                return None
            if begin.kind != "begin":
                raise FrameError(f"{me}: expected begin from P0, got {begin.kind}")
            pending = self._book.find(begin.request, self._deadline_s)
            refusal = self._refusal(pending, begin)
            self._say(0, Control("decline" if refusal else "accept", begin.request, reason=refusal))
            verdict = self._hear(0, _VERDICT_WAITS)
            if verdict.request != begin.request or verdict.kind not in ("go", "cancel"):
                raise FrameError(f"{me}: expected go or cancel from P0, got {verdict.kind}")
            if pending is None:
                continue
            if verdict.kind == "go" and not refusal:
                return pending
            self._book.finish(pending, refusal or "another party does not hold its share of this request")

    def _refusal(self, pending: Pending | None, begin: Control) -> str:
        if pending is None:
            return f"the client did not send this party its share in {self._deadline_s:g} s"
        if (pending.request.batch, pending.request.output) != (begin.batch, begin.output):
            return "the client asked this party for another batch or output than P0"
        return ""

    def _say(self, peer: int, message: Control) -> None:
        self._transport.send(peer, CONTROL_TAG, [np.frombuffer(msgspec.msgpack.encode(message), np.uint8)])

    def _hear(self, peer: int, deadlines: float) -> Control:
        transport = self._transport
        transport.deadline_s, usual = deadlines * self._deadline_s, transport.deadline_s
        try:
            data = transport.recv_bytes(peer, CONTROL_TAG, MAX_CONTROL)
        finally:
            transport.deadline_s = usual
        try:
            return msgspec.msgpack.decode(data, type=Control)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise FrameError(f"P{transport.rank}: from P{peer}: expected a control message, got other bytes") from None


def reason_of(error: BaseException) -> str:
    """What others may be told: our own errors hold no secrets; of foreign ones only the type."""
    text = str(error) if isinstance(error, SottovoceError) else f"internal error: {type(error).__name__}"
    return text[:REASON_CHARS]
