"""What a party sees: recorded messages and keystream draws of single operations, replayed, and reprogrammed.

The corrupt party's shares are fixed; the secret moves only the slot that it does not hold. Keys are fixed by a seed.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sottovoce.engine.backend.cpu import CpuBackend
from sottovoce.engine.keys import keys_of
from sottovoce.engine.local import run_parties
from sottovoce.engine.party import Party
from sottovoce.engine.prg import KeyStream, PairStreams
from sottovoce.engine.protocols.base import Message, Schedule
from sottovoce.engine.protocols.rep3.protocol import Rep3
from sottovoce.engine.protocols.rep3.share import Rep3AShare, key_holders
from sottovoce.engine.transport.base import Array, Transport
from sottovoce.engine.transport.memory import memory_mesh
from tests.conformance.operations import Operation

PARTIES = 3
DEADLINE_S = 20.0
U64 = NDArray[np.uint64]
Draw = tuple[int, str, int]
"""(slot, purpose, operation id): one draw of one pairwise stream."""


@dataclass(frozen=True, slots=True)
class Received:
    """One frame as it arrived."""

    source: int
    tag: int
    payload: bytes


class RecordingTransport(Transport):
    """Passes everything on and keeps the payloads, sent (by target) and received (in the order of recv)."""

    def __init__(self, inner: Transport) -> None:
        self.inner = inner
        self.rank, self.parties, self.encrypted = inner.rank, inner.parties, inner.encrypted
        self.counters = inner.counters
        self.deadline_s = inner.deadline_s
        self.sent: list[Received] = []
        self.received: list[Received] = []

    def send(self, to: int, tag: int, parts: Sequence[Array]) -> None:
        self.sent.append(Received(to, tag, b"".join(p.tobytes() for p in parts)))
        self.inner.send(to, tag, parts)

    def recv(self, frm: int, tag: int, parts: Sequence[Array]) -> None:
        self.inner.recv(frm, tag, parts)
        self.received.append(Received(frm, tag, b"".join(p.tobytes() for p in parts)))

    def recv_bytes(self, frm: int, tag: int, limit: int) -> bytes:
        data = self.inner.recv_bytes(frm, tag, limit)
        self.received.append(Received(frm, tag, data))
        return data

    def close(self, reason: str = "") -> None:
        self.inner.close(reason)


class ReplayTransport(RecordingTransport):
    """A party alone with given messages: what it sends is kept, what it receives comes from the list."""

    def __init__(self, rank: int, messages: Mapping[int, Sequence[bytes]]) -> None:
        super().__init__(memory_mesh(PARTIES)[rank])
        self.left = {source: deque(payloads) for source, payloads in messages.items()}

    def send(self, to: int, tag: int, parts: Sequence[Array]) -> None:
        self.sent.append(Received(to, tag, b"".join(p.tobytes() for p in parts)))

    def recv(self, frm: int, tag: int, parts: Sequence[Array]) -> None:
        payload = self.left[frm].popleft()
        assert len(payload) == sum(p.nbytes for p in parts), f"tag {tag}: the declared length is not the received one"
        offset = 0
        for part in parts:
            part.reshape(-1).view(np.uint8)[:] = np.frombuffer(payload, np.uint8)[offset : offset + part.nbytes]
            offset += part.nbytes
        self.received.append(Received(frm, tag, payload))


class ScriptedStream(KeyStream):
    """A keystream that records its draws and gives programmed words where there are any."""

    __slots__ = ("drawn", "name", "script")

    def __init__(self, inner: KeyStream, name: tuple[int, str], script: Mapping[Draw, U64], drawn: dict[Draw, U64]):
        self._key, self._cipher, self._source = inner._key, inner._cipher, inner._source
        self._next, self.label, self.observer = 0, inner.label, None
        self.name, self.script, self.drawn = name, script, drawn

    def for_kernel(self, *words: int) -> tuple[U64, ...]:
        return self.draw(*words)

    def draw_at(self, operation: int, *words: int) -> tuple[U64, ...]:
        arrays = super().draw_at(operation, *words)
        key = (*self.name, operation)
        if key in self.script:
            cuts = np.cumsum([a.size for a in arrays])[:-1]
            arrays = tuple(a.copy() for a in np.split(self.script[key], cuts))
        self.drawn[key] = np.concatenate(arrays)
        return arrays


MakeStream = Callable[[KeyStream, tuple[int, str], Mapping[Draw, U64], dict[Draw, U64]], KeyStream]


def fixed_keys(seed: int) -> dict[tuple[int, int], bytes]:
    """Pairwise keys that are a function of a number."""
    return {
        (a, b): hashlib.sha256(f"test key {seed} {a} {b}".encode()).digest()
        for a in range(PARTIES)
        for b in range(a + 1, PARTIES)
    }


def party_streams(
    rank: int,
    keys: Mapping[tuple[int, int], bytes],
    script: Mapping[Draw, U64],
    drawn: dict[Draw, U64],
    make_stream: MakeStream = ScriptedStream,
) -> dict[int, PairStreams]:
    """The party's streams by slot, recording and programmable."""
    own, backend = keys_of(rank, keys), CpuBackend()
    streams = {}
    for slot, peer in key_holders(rank).items():
        pair = PairStreams.of(own[peer], "aes128ctr", backend, f"slot {slot}")
        streams[slot] = PairStreams(
            *(make_stream(getattr(pair, p), (slot, p), script, drawn) for p in ("masks", "dealing"))
        )
    return streams


@dataclass(frozen=True, slots=True)
class Run:
    """One operation at all three parties. views, draws: by rank; outputs: each party's output share."""

    views: list[list[Received]]
    sent: list[list[Received]]
    draws: list[dict[Draw, U64]]
    outputs: list[Any] = field(repr=False)

    def payloads(self, rank: int) -> list[bytes]:
        """What the party received, in its order."""
        return [m.payload for m in self.views[rank]]


Slots = Sequence[NDArray[np.uint64]]


def slots_of(value: NDArray[np.int64], corrupt: int, own: U64 | int, nxt: U64 | int) -> Slots:
    """Slots 0, 1, 2 of a secret, where the corrupt party's two are given."""
    slots: list[Any] = [None] * PARTIES
    slots[corrupt] = np.broadcast_to(np.asarray(own, np.uint64), value.shape).copy()
    slots[(corrupt + 1) % PARTIES] = np.broadcast_to(np.asarray(nxt, np.uint64), value.shape).copy()
    slots[(corrupt + 2) % PARTIES] = value.view(np.uint64) - slots[corrupt] - slots[(corrupt + 1) % PARTIES]
    return slots


def shares_at(rank: int, inputs: Sequence[Slots]) -> list[Rep3AShare]:
    """A party's shares of all inputs."""
    return [Rep3AShare(s[rank].copy(), s[(rank + 1) % PARTIES].copy(), 0) for s in inputs]


def run_operation(
    operation: Operation,
    inputs: Sequence[Slots],
    rotation: int,
    keys: Mapping[tuple[int, int], bytes],
    script: Mapping[Draw, U64] | None = None,
    protocol: type[Rep3] = Rep3,
    make_stream: MakeStream = ScriptedStream,
) -> Run:
    """Run it at all parties and record everything."""
    mesh = [RecordingTransport(t) for t in memory_mesh(PARTIES, deadline_s=DEADLINE_S)]
    draws: list[dict[Draw, U64]] = [{} for _ in range(PARTIES)]

    def work(rank: int) -> Callable[[], Any]:
        streams = party_streams(rank, keys, script or {}, draws[rank], make_stream)
        party = Party(rank, PARTIES, mesh[rank], streams)
        return lambda: operation.apply(protocol(party, rotation), shares_at(rank, inputs))

    def wake() -> None:
        for transport in mesh:
            transport.close("another party failed")

    outputs = run_parties([work(rank) for rank in range(PARTIES)], wake)
    return Run([t.received for t in mesh], [t.sent for t in mesh], draws, outputs)


def replay(
    operation: Operation,
    inputs: Sequence[Slots],
    rank: int,
    rotation: int,
    keys: Mapping[tuple[int, int], bytes],
    messages: Mapping[int, Sequence[bytes]],
) -> tuple[Any, ReplayTransport, dict[Draw, U64]]:
    """One party's real code on its shares, its keys and given messages: its output, transport and draws."""
    transport = ReplayTransport(rank, messages)
    drawn: dict[Draw, U64] = {}
    party = Party(rank, PARTIES, transport, party_streams(rank, keys, {}, drawn))
    return operation.apply(Rep3(party, rotation), shares_at(rank, inputs)), transport, drawn


def declared_to(schedule: Schedule, role: int) -> list[Message]:
    """The declared messages that a role receives, by round."""
    return sorted((m for m in schedule if m.target == role), key=lambda m: m.round)


def share_arrays(share: Any) -> list[NDArray[Any]]:
    """The arrays of an output share, or the opened tensor."""
    return [share] if isinstance(share, np.ndarray) else [share.own, share.nxt]
