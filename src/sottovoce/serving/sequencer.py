"""How the parties agree on the next request: P_0 proposes, the others say whether they hold their share of it.

All run a request or none does. One that somebody does not hold yet goes behind the others, so that it delays nobody
for long, and fails after a deadline.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Literal

import msgspec
import numpy as np

from sottovoce.engine.errors import FrameError
from sottovoce.engine.structs import unpack
from sottovoce.engine.transport.base import Transport
from sottovoce.engine.transport.frame import clean_reason
from sottovoce.serving.messages import CONTROL_TAG, MAX_CONTROL, Control
from sottovoce.serving.requests import Pending, RequestBook

_SLICE_S: Final = 0.1
_GRACE_S: Final = 0.02  # a client sends all parties their shares at about the same time
_RETRY_S: Final = 0.01
# In deadlines. Who waits for the verdict waits longer than P_0 waits for a reply, so that the party that is really gone
# is named; without work P_0 speaks up three times a deadline.
_REPLY_WAITS: Final = 1.0
_VERDICT_WAITS: Final = 2.0
_IDLE_WAITS: Final = 2.0
_IDLE_EVERY: Final = 1 / 3


class Sequencer:
    """One party's part in the agreement, over lane 0 and never while a request runs.

    refusal: why this party cannot run a request of so many clips now; empty if it can. log: told of every request that
    is not run.
    """

    def __init__(
        self,
        transport: Transport,
        book: RequestBook,
        deadline_s: float,
        stopped: Callable[[], bool],
        refusal: Callable[[int], str] = lambda clips: "",
        log: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._transport = transport
        self._book = book
        self._deadline_s = deadline_s
        self._stopped = stopped
        self._refusal = refusal
        self._log = log
        self._others = range(1, transport.parties)

    def next(self) -> Pending | None:
        """The request to run now, the same at all parties; None when it is time to stop."""
        return self._lead() if self._transport.rank == 0 else self._follow()

    def say_stop(self) -> None:
        """P_0: no more requests."""
        if self._transport.rank == 0:
            self._tell(Control("stop"))

    def _lead(self) -> Pending | None:
        spoke = time.monotonic()
        while not self._stopped():
            pending = self._book.oldest(_SLICE_S)
            if pending is None:
                if time.monotonic() - spoke > _IDLE_EVERY * self._deadline_s:
                    self._tell(Control("idle"))
                    spoke = time.monotonic()
                continue
            if self._propose(pending):
                return pending
            spoke = time.monotonic()
        return None

    def _propose(self, pending: Pending) -> bool:
        """Ask all others; True if all hold their share. A request that failed is finished, an early one put back."""
        request = pending.request
        about = Control("begin", pending.client, request.request, request.batch, request.output)
        self._tell(about)
        replies = {peer: self._hear(peer, _REPLY_WAITS) for peer in self._others}
        for peer, reply in replies.items():
            same = (reply.client, reply.request) == pending.key
            if not same or reply.kind not in ("accept", "missing", "decline"):
                raise FrameError(f"P0: request: expected an answer about the same request from P{peer}")
        kinds = {reply.kind for reply in replies.values()}
        own = self._refusal(request.batch)
        if kinds == {"accept"} and not own:
            self._tell(msgspec.structs.replace(about, kind="go"))
            return True
        late = pending.age_s > self._deadline_s
        if own or "decline" in kinds or late:
            missing = f"the client did not send this party its share in {self._deadline_s:g} s"
            reason = own or "; ".join(
                f"P{peer}: {missing if reply.kind == 'missing' else clean_reason(reply.reason)}"
                for peer, reply in replies.items()
                if reply.kind != "accept"
            )
            self._tell(msgspec.structs.replace(about, kind="drop", reason=reason))
            self._drop(about, pending, reason)
            return False
        self._tell(msgspec.structs.replace(about, kind="later"))
        self._book.put_back(pending)
        time.sleep(_RETRY_S)
        return False

    def _follow(self) -> Pending | None:
        me = f"P{self._transport.rank}: request"
        while True:
            begin = self._hear(0, _IDLE_WAITS)
            if begin.kind == "stop":
                return None
            if begin.kind == "idle":
                # P_0 has no request: what has waited here for long was not sent to it.
                self._book.expire(self._deadline_s, "P0: the client did not send this party its share")
                continue
            if begin.kind != "begin":
                raise FrameError(f"{me}: expected begin from P0, got {begin.kind}")
            pending = self._book.take((begin.client, begin.request), _GRACE_S)
            kind, refusal = self._judge(pending, begin)
            self._say(0, Control(kind, begin.client, begin.request, reason=refusal))
            verdict = self._hear(0, _VERDICT_WAITS)
            if (verdict.client, verdict.request) != (begin.client, begin.request):
                raise FrameError(f"{me}: expected a verdict about the same request from P0")
            if pending is not None and verdict.kind == "go" and kind == "accept":
                return pending
            if verdict.kind == "later":
                if pending is not None:
                    self._book.put_back(pending)
                continue
            self._drop(begin, pending, clean_reason(verdict.reason) or refusal)
            if verdict.kind != "drop":
                raise FrameError(f"{me}: expected later or drop from P0, got {verdict.kind}")

    def _judge(self, pending: Pending | None, begin: Control) -> tuple[Literal["accept", "missing", "decline"], str]:
        if pending is None:
            return "missing", ""
        if (pending.request.batch, pending.request.output) != (begin.batch, begin.output):
            return "decline", "the client asked this party for another batch or output than P0"
        refusal = self._refusal(begin.batch)
        return ("decline", refusal) if refusal else ("accept", "")

    def _drop(self, about: Control, pending: Pending | None, reason: str) -> None:
        """A request that no party runs, whether this one holds its share or not."""
        self._log(f"{about.client}: request not run: {reason}")
        if pending is not None:
            self._book.finish(pending, reason)

    def _tell(self, message: Control) -> None:
        for peer in self._others:
            self._say(peer, message)

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
            return unpack(data, Control)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise FrameError(f"P{transport.rank}: from P{peer}: expected a control message, got other bytes") from None
