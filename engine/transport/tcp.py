"""The TCP transport: one lane over one connection per peer, driven by poll in the calling thread.

While send() would block it reads what all peers have sent into their inboxes, so that parties that send large frames
at each other at the same time never wait for one another. recv() reads large payloads straight into the caller's
arrays. A small frame is one system call on either side.

Deadlines: an operation fails after `deadline_s` without progress, and in any case after `deadline_s` plus its payload
at MIN_RATE, so that a peer that trickles cannot hold a party either.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Final

from sottovoce.engine.errors import DeadlineError, FrameError, PeerClosedError, ProtocolError, TransportError
from sottovoce.engine.transport.base import HEADER_BYTES, Array, Transport
from sottovoce.engine.transport.frame import ABORT, DATA, Header, LaneState, clean_reason, payload_views
from sottovoce.engine.transport.link import ENDED, READ_AHEAD, Link

MIN_RATE: Final = 1_000_000
"""Bytes a second below which even a steady peer counts as too slow."""
_JOIN_PLAIN: Final = 32 << 10
_JOIN_TLS: Final = (16 << 10) - HEADER_BYTES  # one TLS record
_SLICE_MS: Final = 100
_CLOSED: Final = "closed by this side"


class _Patience:
    """The deadlines of one operation; made only when it must wait for the first time."""

    __slots__ = ("_end", "_idle_end", "_idle_ns", "began")

    def __init__(self, deadline_s: float, length: int) -> None:
        self.began = time.monotonic_ns()
        self._idle_ns = int(deadline_s * 1e9)
        self._idle_end = self.began + self._idle_ns
        self._end = self._idle_end + length * (1_000_000_000 // MIN_RATE)

    def progress(self) -> None:
        self._idle_end = time.monotonic_ns() + self._idle_ns

    def left_ns(self) -> int:
        return min(self._idle_end, self._end) - time.monotonic_ns()


class Cancel(threading.Event):
    """An event that ends waits and can say why; the first reason stays."""

    def __init__(self) -> None:
        super().__init__()
        self.reason = ""

    def because(self, reason: str) -> None:
        """Set the event, with a reason."""
        self.reason = self.reason or clean_reason(reason)
        self.set()


class TcpTransport(Transport):
    """One lane at one party over the links that `connect_mesh` made.

    links: by rank. deadline_s: see the module. spin_us: how long recv polls, yielding its core, before it sleeps;
    worth it only where every party has a core of its own. cancel: another thread sets it to end every wait (a `Cancel`
    can say why).
    """

    def __init__(
        self,
        rank: int,
        parties: int,
        links: Mapping[int, Link],
        *,
        session: bytes,
        lane: int = 0,
        deadline_s: float = 30.0,
        spin_us: float = 0.0,
        cancel: threading.Event | None = None,
        name: str = "",
        kind: int = DATA,
    ) -> None:
        self.rank = rank
        self.parties = parties
        self.encrypted = all(link.encrypted for link in links.values())
        self.deadline_s = deadline_s
        self._links = dict(links)
        self._state = LaneState(name or f"P{rank} lane {lane}", links, session, lane, kind)
        self.counters = self._state.counters
        self._spin_ns = int(spin_us * 1000)
        self._cancel = cancel
        self._broken = ""
        self._header = memoryview(bytearray(HEADER_BYTES))

    def send(self, to: int, tag: int, parts: Sequence[Array]) -> None:
        link = self._link(to)
        views, length, dtype = payload_views(parts, writable=False)
        header = self._state.outgoing(to, tag, dtype, length)
        pending = _gather(header, views, length, link.encrypted)
        try:
            self._write(link, to, tag, pending, length)
        except TransportError as error:
            self._broken = self._broken or str(error)
            raise
        self.counters.frames_sent[to] += 1

    def recv(self, frm: int, tag: int, parts: Sequence[Array]) -> None:
        link = self._link(frm)
        views, length, dtype = payload_views(parts, writable=True)
        try:
            header, patience = self._receive_header(link, frm, tag, dtype, length, length)
            for view in views:
                patience = self._fill(link, view, tag, length, patience)
        except TransportError as error:
            self._broken = self._broken or str(error)
            raise
        self._state.consumed(frm, header)

    def recv_bytes(self, frm: int, tag: int, limit: int) -> bytes:
        link = self._link(frm)
        try:
            header, patience = self._receive_header(link, frm, tag, 0, 0, limit)
            payload = bytearray(header.length)
            with memoryview(payload) as view:
                self._fill(link, view, tag, header.length, patience)
        except TransportError as error:
            self._broken = self._broken or str(error)
            raise
        self._state.consumed(frm, header)
        return bytes(payload)

    def close(self, reason: str = "") -> None:
        if self._broken == _CLOSED:
            return
        self._broken = _CLOSED
        text = clean_reason(reason).encode("ascii")
        farewell = self._state.abort_header(len(text)) + text if text else b""
        for link in self._links.values():
            link.close(farewell)

    def release(self, peer: int) -> Link:
        """Give the link to `peer` away, with what was read ahead; this object is closed without closing the link."""
        link = self._link(peer)
        self._links.clear()
        self._broken = _CLOSED
        return link

    @property
    def cancel_reason(self) -> str:
        """Why the waits were cancelled; empty if they were not, or without a reason."""
        return self._cancel.reason if isinstance(self._cancel, Cancel) else ""

    def set_cancel(self, cancel: threading.Event | None) -> None:
        """Another owner, another way to be cancelled."""
        self._cancel = cancel

    def _link(self, peer: int) -> Link:
        if self._broken:
            raise TransportError(f"{self._state.name}: unusable: {self._broken}")
        link = self._links.get(peer)
        if link is None:
            raise ProtocolError(f"{self._state.name}: no peer P{peer} on this lane")
        return link

    def _write(self, link: Link, to: int, tag: int, pending: list[memoryview], length: int) -> None:
        patience: _Patience | None = None
        sent = self.counters.bytes_sent
        link.mid_frame = True
        while pending:
            count = link.write(pending)
            if count > 0:
                sent[to] += count
                if patience is not None:
                    patience.progress()
                while pending and count >= len(pending[0]):
                    count -= len(pending.pop(0))
                if count:
                    pending[0] = pending[0][count:]
                continue
            operation = f"send to {link.name}, tag {tag}"
            if count == ENDED:
                raise self._gone(link, operation)
            began = time.monotonic_ns()
            if patience is None:
                patience = _Patience(self.deadline_s, length)
            self._drain_or_sleep(link, operation, patience)
            self.counters.wait_ns += time.monotonic_ns() - began
        link.mid_frame = False

    def _drain_or_sleep(self, link: Link, operation: str, patience: _Patience) -> None:
        """Sending is blocked: read what there is; if there is nothing, sleep until something can move."""
        try:
            moved = sum(peer.drain() for peer in self._links.values() if not peer.ended)
        except FrameError as error:
            raise FrameError(f"{self._state.name}: {operation}: {error}") from None
        if link.ended:
            raise self._gone(link, operation)
        if moved:
            self._check(operation, patience)
            return
        poll = select.poll()
        for peer in self._links.values():
            if not peer.ended:
                poll.register(peer.fd, peer.read_events | (peer.write_events if peer is link else 0))
        self._sleep(poll, operation, patience)

    def _receive_header(
        self, link: Link, frm: int, tag: int, dtype: int, least: int, most: int
    ) -> tuple[Header, _Patience | None]:
        patience = self._fill(link, self._header, tag, most, None, boundary=True)
        try:
            header = self._state.incoming(frm, self._header, tag, dtype, least, most)
        except FrameError as error:
            raise FrameError(f"{self._state.name}: recv from {link.name}, tag {tag}: {error}") from None
        if header.kind == ABORT:
            reason = bytearray(header.length)
            with memoryview(reason) as view:
                self._fill(link, view, tag, 0, None)
            link.peer_reason = clean_reason(bytes(reason)) or "no reason given"
            raise self._gone(link, f"recv from {link.name}, tag {tag}")
        return header, patience

    def _fill(
        self,
        link: Link,
        view: memoryview,
        tag: int,
        length: int,
        patience: _Patience | None,
        boundary: bool = False,
    ) -> _Patience | None:
        """Fill `view` from the inbox and the socket. boundary: the view begins where a frame begins."""
        size = len(view)
        got = link.take(view)
        while got < size:
            if size - got >= READ_AHEAD:
                count = link.read_into(view[got:])
                got += max(count, 0)
            else:
                count = link.read_ahead()
                if count > 0:
                    got += link.take(view[got:])
            if count > 0:
                if patience is not None:
                    patience.progress()
                continue
            operation = f"recv from {link.name}, tag {tag}"
            if count == ENDED:
                raise self._gone(link, operation if boundary and got == 0 else operation + ", in the middle of a frame")
            began = time.monotonic_ns()
            if patience is None:
                patience = _Patience(self.deadline_s, length)
            if not self._spin(link, began):
                poll = select.poll()
                poll.register(link.fd, link.read_events)
                self._sleep(poll, operation, patience)
            self.counters.wait_ns += time.monotonic_ns() - began
        return patience

    def _spin(self, link: Link, began: int) -> bool:
        """Poll for a short while, giving the core to whoever wants it; true if something arrived."""
        if not self._spin_ns:
            return False
        poll = select.poll()
        poll.register(link.fd, link.read_events)
        while time.monotonic_ns() - began < self._spin_ns:
            if poll.poll(0):
                return True
            os.sched_yield()
        return False

    def _sleep(self, poll: select.poll, operation: str, patience: _Patience) -> None:
        self._check(operation, patience)
        timeout = patience.left_ns() / 1e6
        if self._cancel is not None:
            timeout = min(timeout, _SLICE_MS)
        poll.poll(max(timeout, 0.0))

    def _check(self, operation: str, patience: _Patience) -> None:
        if self._cancel is not None and self._cancel.is_set():
            why = f": {self.cancel_reason}" if self.cancel_reason else ""
            raise TransportError(f"{self._state.name}: {operation}: cancelled{why}")
        if patience.left_ns() <= 0:
            waited = (time.monotonic_ns() - patience.began) / 1e9
            raise DeadlineError(
                f"{self._state.name}: {operation}: the peer was too slow: waited {waited:.1f} s"
                f" (deadline {self.deadline_s:g} s without progress)"
            )

    def _gone(self, link: Link, operation: str) -> PeerClosedError:
        link.peer_reason = link.peer_reason or link.find_abort()
        said = f"it said: {link.peer_reason}" if link.peer_reason else link.ended
        return PeerClosedError(f"{self._state.name}: {operation}: {link.name} is gone: {said}")


def _gather(header: bytes, views: list[memoryview], length: int, tls: bool) -> list[memoryview]:
    """What to write: a small frame joined into one buffer, else the header (under TLS with the first bytes), views."""
    if length <= (_JOIN_TLS if tls else _JOIN_PLAIN):
        return [memoryview(b"".join((header, *views)))]
    if not tls:
        return [memoryview(header), *views]
    # Each write is a TLS record: the header must not be one of its own.
    first = views[0][:_JOIN_TLS]
    return [memoryview(header + bytes(first)), *(v for v in (views[0][_JOIN_TLS:], *views[1:]) if len(v))]
