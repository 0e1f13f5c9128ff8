"""A party's means, wrapped: they do what they did, and a recorder hears of it."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from enum import Enum
from types import SimpleNamespace
from typing import Final, cast

from sottovoce.engine.backend.base import Backend
from sottovoce.engine.party import Party
from sottovoce.engine.profile import Profile
from sottovoce.engine.protocols.base import Protocol
from sottovoce.engine.protocols.table import AnyProtocol, ProtocolRow
from sottovoce.engine.tracing.events import Event, Recorder
from sottovoce.engine.transport.base import Array, Counters, Transport

OPERATIONS: Final = tuple(sorted(Protocol.__abstractmethods__))
"""Every method of the protocols' base class: a new one is traced without another line here."""


class TracedTransport(Transport):
    """A lane whose frames are recorded. Counters, deadline and errors are the lane's own."""

    def __init__(self, lane: Transport, recorder: Recorder) -> None:
        self.rank = lane.rank
        self.parties = lane.parties
        self.encrypted = lane.encrypted
        self._lane = lane
        self._recorder = recorder

    @property
    def counters(self) -> Counters:  # type: ignore[override]
        """The lane's."""
        return self._lane.counters

    @property
    def deadline_s(self) -> float:
        """The lane's."""
        return self._lane.deadline_s

    @deadline_s.setter
    def deadline_s(self, value: float) -> None:
        self._lane.deadline_s = value

    def send(self, to: int, tag: int, parts: Sequence[Array]) -> None:
        counters = self._lane.counters
        sent, waited = counters.bytes_sent.get(to, 0), counters.wait_ns
        start = time.monotonic_ns()
        self._lane.send(to, tag, parts)
        end = time.monotonic_ns()
        size, wait = counters.bytes_sent[to] - sent, counters.wait_ns - waited
        recorder = self._recorder
        recorder.events.append(Event("send", _name(tag), start, end, recorder.depth, to, size, wait))

    def recv(self, frm: int, tag: int, parts: Sequence[Array]) -> None:
        before = self._before(frm)
        self._lane.recv(frm, tag, parts)
        self._received(frm, tag, *before)

    def recv_bytes(self, frm: int, tag: int, limit: int) -> bytes:
        before = self._before(frm)
        payload = self._lane.recv_bytes(frm, tag, limit)
        self._received(frm, tag, *before)
        return payload

    def close(self, reason: str = "") -> None:
        self._lane.close(reason)

    def _before(self, frm: int) -> tuple[int, int, int]:
        """Bytes received, time waited and time of day, before a receipt."""
        counters = self._lane.counters
        return counters.bytes_received.get(frm, 0), counters.wait_ns, time.monotonic_ns()

    def _received(self, frm: int, tag: int, received: int, waited: int, start: int) -> None:
        end = time.monotonic_ns()
        counters, recorder = self._lane.counters, self._recorder
        size, wait = counters.bytes_received[frm] - received, counters.wait_ns - waited
        event = Event("recv", _name(tag), start, end, recorder.depth, frm, size, wait, counters.clock)
        recorder.events.append(event)


class TracedProfile(Profile):
    """The per-layer spans that are always there, each recorded as an event too."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self.recorder = recorder

    @contextmanager
    def span(self, layer: str, counters: Counters) -> Iterator[None]:
        """See Profile."""
        with self.recorder.span("layer", layer), super().span(layer, counters):
            yield


def traced_backend(backend: Backend, recorder: Recorder) -> Backend:
    """The same backend; the calls of its kernels, also by its keystreams, are recorded."""
    traced = copy.copy(backend)
    kernels = {name: recorder.kernel(name, kernel) for name, kernel in vars(backend.kernels).items()}
    traced.kernels = SimpleNamespace(**kernels)
    return traced


def traced_row(row: ProtocolRow) -> ProtocolRow:
    """The protocol; the operations of parties whose profile is a TracedProfile are recorded."""

    def make(party: Party, rotation: int) -> AnyProtocol:
        profile = party.profile
        assert isinstance(profile, TracedProfile), "make the party of Tracer.means"
        return _TracedProtocol.of(row.make(party, rotation), profile.recorder)

    return replace(row, make=make)


class _TracedProtocol:
    """A protocol's methods, each call an event; what they call among themselves is part of it."""

    @classmethod
    def of(cls, protocol: AnyProtocol, recorder: Recorder) -> AnyProtocol:
        traced = cls()
        for name in OPERATIONS:
            setattr(traced, name, recorder.operation(name, getattr(protocol, name)))
        traced.__dict__.update(name=protocol.name, parties=protocol.parties, and_inputs=protocol.and_inputs)
        return cast(AnyProtocol, traced)


def _name(tag: int) -> str:
    """A protocol's tags are members of an Enum."""
    return tag.name if isinstance(tag, Enum) else f"tag {tag}"
