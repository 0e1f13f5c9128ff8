"""The in-process transport: n parties in threads of one process, with the frames and counters of the wire.

Frames are really built and parsed, so that bytes, counters, clock and errors equal those of TCP. The buffer of each
direction is bounded: a sender that is far ahead waits for the receiver, until the deadline.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from sottovoce.engine.errors import DeadlineError, FrameError, PeerClosedError, ProtocolError, TransportError
from sottovoce.engine.transport.base import HEADER_BYTES, Array, Transport
from sottovoce.engine.transport.frame import LaneState, clean_reason, payload_views

DEFAULT_BUFFER = 256 << 20


class _Channel:
    """One direction between two parties."""

    __slots__ = ("buffered", "changed", "closed", "frames", "limit")

    def __init__(self, limit: int) -> None:
        self.changed = threading.Condition()
        self.frames: deque[tuple[bytes, bytes]] = deque()
        self.buffered = 0
        self.limit = limit
        self.closed: dict[str, str] = {}
        """Which end closed ("sender", "receiver") and the reason it gave."""

    def close(self, end: str, reason: str) -> None:
        with self.changed:
            self.closed.setdefault(end, reason)
            self.changed.notify_all()


class MemoryTransport(Transport):
    """One party's lane of a `memory_mesh`."""

    def __init__(
        self,
        rank: int,
        parties: int,
        out: dict[int, _Channel],
        into: dict[int, _Channel],
        session: bytes,
        lane: int,
        deadline_s: float,
    ) -> None:
        self.rank = rank
        self.parties = parties
        self.encrypted = True
        self._out = out
        self._into = into
        self.deadline_s = deadline_s
        self._state = LaneState(f"P{rank} lane {lane}", out, session, lane)
        self.counters = self._state.counters
        self._broken = ""

    def send(self, to: int, tag: int, parts: Sequence[Array]) -> None:
        self._check_peer(to)
        views, length, dtype = payload_views(parts, writable=False)
        header = self._state.outgoing(to, tag, dtype, length)
        channel = self._out[to]
        with channel.changed:
            # A frame larger than the whole buffer passes alone: the bound is on running ahead.
            self._wait(
                channel, lambda: not channel.frames or channel.buffered + length <= channel.limit, f"send to P{to}", tag
            )
            channel.frames.append((header, b"".join(views)))
            channel.buffered += length
            channel.changed.notify_all()
        self.counters.bytes_sent[to] += HEADER_BYTES + length
        self.counters.frames_sent[to] += 1

    def recv(self, frm: int, tag: int, parts: Sequence[Array]) -> None:
        self._check_peer(frm)
        views, length, dtype = payload_views(parts, writable=True)
        payload = memoryview(self._next(frm, tag, dtype, length, length))
        offset = 0
        for view in views:
            view[:] = payload[offset : offset + len(view)]
            offset += len(view)

    def recv_bytes(self, frm: int, tag: int, limit: int) -> bytes:
        self._check_peer(frm)
        return self._next(frm, tag, 0, 0, limit)

    def close(self, reason: str = "") -> None:
        if self._broken == "closed by this side":
            return
        self._broken = "closed by this side"
        for channel in self._out.values():
            channel.close("sender", clean_reason(reason))
        for channel in self._into.values():
            channel.close("receiver", clean_reason(reason))

    def _check_peer(self, peer: int) -> None:
        if self._broken:
            raise TransportError(f"{self._state.name}: unusable: {self._broken}")
        if not self._state.knows(peer):
            raise ProtocolError(f"{self._state.name}: no peer P{peer} on this lane")

    def _next(self, frm: int, tag: int, dtype: int, least: int, most: int) -> bytes:
        channel = self._into[frm]
        with channel.changed:
            self._wait(channel, lambda: bool(channel.frames), f"recv from P{frm}", tag)
            raw, payload = channel.frames.popleft()
            channel.buffered -= len(payload)
            channel.changed.notify_all()
        try:
            header = self._state.incoming(frm, raw, tag, dtype, least, most)
        except FrameError as error:
            raise self._fail(FrameError(f"{self._state.name}: recv from P{frm}, tag {tag}: {error}")) from None
        self._state.consumed(frm, header)
        return payload

    def _wait(self, channel: _Channel, ready: Callable[[], bool], operation: str, tag: int) -> None:
        """Wait until ready() with the channel's lock held; frames already there are delivered after a close."""
        receiving = operation.startswith("recv")
        end = "sender" if receiving else "receiver"
        if not ready() and end not in channel.closed:
            began = time.monotonic_ns()
            channel.changed.wait_for(lambda: ready() or end in channel.closed, self.deadline_s)
            self.counters.wait_ns += time.monotonic_ns() - began
        where = f"{self._state.name}: {operation}, tag {tag}"
        if end in channel.closed and not (receiving and ready()):
            reason = channel.closed[end]
            raise self._fail(PeerClosedError(f"{where}: the peer closed the lane{': ' + reason if reason else ''}"))
        if not ready():
            raise self._fail(DeadlineError(f"{where}: nothing happened for {self.deadline_s:g} s"))

    def _fail(self, error: TransportError) -> TransportError:
        self._broken = self._broken or str(error)
        return error


def memory_mesh(
    parties: int,
    *,
    session: bytes = bytes(16),
    deadline_s: float = 30.0,
    lane: int = 0,
    buffer_limit: int = DEFAULT_BUFFER,
) -> list[Transport]:
    """One lane between `parties` parties of this process; element i is the transport of party i.

    buffer_limit: bytes that one direction may hold before its sender waits.
    """
    channels = {(a, b): _Channel(buffer_limit) for a in range(parties) for b in range(parties) if a != b}
    return [
        MemoryTransport(
            rank,
            parties,
            {peer: channels[rank, peer] for peer in range(parties) if peer != rank},
            {peer: channels[peer, rank] for peer in range(parties) if peer != rank},
            session,
            lane,
            deadline_s,
        )
        for rank in range(parties)
    ]
