"""All parties of a small model in this process, traced, and what they recorded."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sottovoce.engine.backend.cpu import CpuBackend
from sottovoce.engine.cost import demand
from sottovoce.engine.keys import fresh_pair_keys, keys_of, streams_of
from sottovoce.engine.local import run_parties
from sottovoce.engine.party import Party
from sottovoce.engine.preprocessing.local import LocalDealer
from sottovoce.engine.program import OutputKind
from sottovoce.engine.protocols.table import ProtocolRow, find
from sottovoce.engine.session import RunStats, Session, join_output
from sottovoce.engine.tracing.events import Ranges
from sottovoce.engine.tracing.file import PartyTrace, read_trace
from sottovoce.engine.tracing.tracer import Tracer
from sottovoce.engine.transport.memory import memory_mesh
from sottovoce.models.compiler.compile import Compiled

BACKEND = CpuBackend()


@dataclass(slots=True)
class TracedCluster:
    """Traced sessions over in-process lanes, a party each, and the files that they write."""

    row: ProtocolRow
    compiled: Compiled
    sessions: list[Session]
    tracers: list[Tracer]
    files: list[Path]
    dealer: LocalDealer | None = None
    log: list[str] = field(default_factory=list)

    def run(self, encoded: NDArray[np.uint64], output: OutputKind = "label") -> tuple[NDArray[Any], list[RunStats]]:
        """One request at all parties."""
        row, program = self.row, self.compiled.program
        if self.dealer is not None:
            self.dealer.prepare(len(encoded))
        slots = row.split(encoded, BACKEND.fill)
        shares = [
            row.receive(rank, slots[rank], encoded.shape, program.input_frac_bits, BACKEND.fill)
            for rank in range(row.parties)
        ]
        answers = run_parties(
            [partial(session.run, share, output) for session, share in zip(self.sessions, shares, strict=True)],
            lambda: None,
        )
        for tracer in self.tracers:
            tracer.finish()
        return join_output(row, program, [a[0] for a in answers]), [a[1] for a in answers]

    def traces(self) -> list[PartyTrace]:
        """What lies in the files."""
        return [read_trace(file) for file in self.files]


@contextmanager
def traced_cluster(
    compiled: Compiled,
    folder: Path,
    *,
    lanes: int = 1,
    pair_keys: Mapping[tuple[int, int], bytes] | None = None,
    ranges: Sequence[Ranges] | None = None,
    protocol: str = "rep3",
) -> Iterator[TracedCluster]:
    """Parties as `serving.party` makes them with a tracer."""
    row, program = find(protocol), compiled.program
    keys = pair_keys or fresh_pair_keys(row.parties)
    meshes = [memory_mesh(row.parties, lane=n, deadline_s=20.0) for n in range(lanes)]
    files = [folder / f"party{rank}.jsonl" for rank in range(row.parties)]
    tracers = [Tracer(file, ranges=None if ranges is None else ranges[rank]) for rank, file in enumerate(files)]
    dealer = LocalDealer(demand(program, row), BACKEND.fill) if row.preprocessing else None
    slots = {t.name: row.split(compiled.weights[t.name], BACKEND.fill) for t in program.tensors}

    def session(rank: int) -> Session:
        parties = []
        for lane, mesh in enumerate(meshes):
            transport, backend, profile = tracers[rank].means(mesh[rank], CpuBackend())
            ciphers = dict.fromkeys(range(row.parties), "aes128ctr")
            streams = streams_of(row, rank, keys_of(rank, keys), ciphers, lane, backend)
            source = None if dealer is None else dealer.parties[rank]
            parties.append(Party(rank, row.parties, transport, streams, backend, profile, source))
        tensors = {
            t.name: row.receive(rank, slots[t.name][rank], t.shape, t.frac_bits, BACKEND.fill) for t in program.tensors
        }
        return tracers[rank].session(row, parties, program, tensors)

    sessions = run_parties([partial(session, rank) for rank in range(row.parties)], lambda: None)
    try:
        yield TracedCluster(row, compiled, sessions, tracers, files, dealer)
    finally:
        for tracer in tracers:
            tracer.close()
        for mesh in meshes:
            for transport in mesh:
                transport.close()


class Full(io.BytesIO):
    """A disk without room."""

    def write(self, data: Any, /) -> int:
        raise OSError(28, "No space left on device")


class Ranging:
    """Stands for the package nvtx: which ranges were opened and closed."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.open: list[str] = []

    def push_range(self, message: str) -> None:
        self.open.append(message)
        self.said.append(message)

    def pop_range(self) -> None:
        self.open.pop()
