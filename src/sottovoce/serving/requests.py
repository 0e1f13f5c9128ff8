"""The requests that a party holds its share of.

A request is known by the client that made it *and* by the id that the client chose: two clients that use one id have
two requests, and a share of one is never computed on with shares of the other.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sottovoce.engine.errors import SottovoceError
from sottovoce.engine.session import Output, RunStats
from sottovoce.serving.messages import MAX_QUEUED_BYTES, Request

MAX_QUEUE: Final = 64
REASON_CHARS: Final = 500
ABANDONED: Final = "the client has gone"

Key = tuple[str, bytes]
"""The client's identity, as its certificate says it, and the request id."""


@dataclass(slots=True, eq=False)
class Pending:
    """A request whose share is here. `done` is set once there is an output or an error.

    slots: the share's bytes as they came; seeds are expanded only when the request is run. offline: ns and bytes that
    its preprocessed material cost, where that is known.
    """

    client: str
    request: Request
    slots: Sequence[NDArray[np.uint8]] = field(repr=False)
    arrived: float = field(default_factory=time.monotonic)
    abandoned: bool = False
    done: threading.Event = field(default_factory=threading.Event)
    error: str = ""
    output: Output | None = field(default=None, repr=False)
    stats: RunStats | None = None
    offline: tuple[int, int] | None = None

    @property
    def key(self) -> Key:
        """What makes it this request."""
        return self.client, self.request.request

    @property
    def age_s(self) -> float:
        """Seconds since its share arrived."""
        return time.monotonic() - self.arrived


class RequestBook:
    """Requests that wait at one party, in order of arrival. Thread-safe."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._order: deque[Pending] = deque()
        self._waiting: dict[Key, Pending] = {}
        self._bytes = 0
        self._over = ""

    @property
    def over(self) -> str:
        """Why no request is taken any more; empty while they are."""
        return self._over

    def reserve(self, nbytes: int) -> bool:
        """Set memory aside for a share that is about to arrive; False if there is no room."""
        with self._changed:
            if self._bytes + nbytes > MAX_QUEUED_BYTES:
                return False
            self._bytes += nbytes
        return True

    def release(self, nbytes: int) -> None:
        """Give memory back."""
        with self._changed:
            self._bytes -= nbytes

    def add(self, pending: Pending) -> str:
        """Take a request; the reason if that is not possible."""
        with self._changed:
            if self._over:
                return self._over
            if len(self._waiting) >= MAX_QUEUE:
                return f"busy: {MAX_QUEUE} requests are waiting; try again later"
            if pending.key in self._waiting:
                return "a request of this client with this id is waiting already"
            self._waiting[pending.key] = pending
            self._order.append(pending)
            self._changed.notify_all()
        return ""

    def oldest(self, wait_s: float) -> Pending | None:
        """Take the request that came first; None if none comes in time."""
        with self._changed:
            if not self._order:
                self._changed.wait(wait_s)
            return self._order.popleft() if self._order else None

    def take(self, key: Key, wait_s: float) -> Pending | None:
        """Take this request; None if it does not come in time."""
        with self._changed:
            if not self._changed.wait_for(lambda: key in self._waiting, wait_s):
                return None
            pending = self._waiting[key]
            if pending in self._order:
                self._order.remove(pending)
        return pending

    def put_back(self, pending: Pending) -> None:
        """A request that was taken and cannot run yet: behind the others."""
        with self._changed:
            if not pending.abandoned:
                self._order.append(pending)
                return
        self.finish(pending, ABANDONED)

    def abandon(self, pending: Pending) -> None:
        """Its client has gone. A request that was taken already runs to its end, as it does at the other parties."""
        with self._changed:
            pending.abandoned = True
            if pending not in self._order:
                return
            self._order.remove(pending)  # from here on nobody can take it
            del self._waiting[pending.key]
        self.finish(pending, ABANDONED)

    def finish(self, pending: Pending, error: str = "") -> None:
        """Wake whoever waits for the request."""
        with self._changed:
            self._waiting.pop(pending.key, None)
            if pending in self._order:
                self._order.remove(pending)
        pending.error = error
        pending.slots = ()
        pending.done.set()

    def expire(self, age_s: float, reason: str) -> None:
        """End requests that nobody has taken for so long."""
        with self._changed:
            old = [pending for pending in self._order if pending.age_s > age_s]
        for pending in old:
            self.finish(pending, reason)

    def close(self, reason: str) -> None:
        """Take no more requests; those that wait end with the reason."""
        with self._changed:
            self._over = reason
            left = list(self._waiting.values())
            self._order.clear()
        for pending in left:
            self.finish(pending, reason)


def reason_of(error: BaseException) -> str:
    """What others may be told: our own errors hold no secrets; of foreign ones only the type."""
    text = str(error) if isinstance(error, SottovoceError) else f"internal error: {type(error).__name__}"
    return text[:REASON_CHARS]
