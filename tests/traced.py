"""All parties of a small model in this process, traced, and what they recorded."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sottovoce.engine.backend.cpu import CpuBackend
from sottovoce.engine.keys import fresh_pair_keys, keys_of, streams_of
from sottovoce.engine.local import run_parties
from sottovoce.engine.party import Party
from sottovoce.engine.program import OutputKind
from sottovoce.engine.protocols.table import find
from sottovoce.engine.session import RunStats, Session, join_output
from sottovoce.engine.tracing.events import Ranges
from sottovoce.engine.tracing.file import PartyTrace, read_trace
from sottovoce.engine.tracing.tracer import Tracer
from sottovoce.engine.transport.memory import memory_mesh
from sottovoce.models.compiler.compile import Compiled

ROW = find("rep3")
BACKEND = CpuBackend()


@dataclass(slots=True)
class TracedCluster:
    """Three traced sessions over in-process lanes, and the files that they write."""

    compiled: Compiled
    sessions: list[Session]
    tracers: list[Tracer]
    files: list[Path]
    log: list[str] = field(default_factory=list)

    def run(self, encoded: NDArray[np.uint64], output: OutputKind = "label") -> tuple[NDArray[Any], list[RunStats]]:
        """One request at all parties."""
        program = self.compiled.program
        slots = ROW.split(encoded, BACKEND.fill)
        shares = [
            ROW.receive(rank, slots[rank], encoded.shape, program.input_frac_bits, BACKEND.fill) for rank in range(3)
        ]
        answers = run_parties([lambda r=r: self.sessions[r].run(shares[r], output) for r in range(3)], lambda: None)
        for tracer in self.tracers:
            tracer.finish()
        return join_output(ROW, program, [a[0] for a in answers]), [a[1] for a in answers]

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
) -> Iterator[TracedCluster]:
    """Parties as `serving.party` makes them with a tracer."""
    program = compiled.program
    keys = pair_keys or fresh_pair_keys(3)
    meshes = [memory_mesh(3, lane=n, deadline_s=20.0) for n in range(lanes)]
    files = [folder / f"party{rank}.jsonl" for rank in range(3)]
    tracers = [Tracer(files[rank], ranges=None if ranges is None else ranges[rank]) for rank in range(3)]
    slots = {t.name: ROW.split(compiled.weights[t.name], BACKEND.fill) for t in program.tensors}
    sessions = []
    for rank, tracer in enumerate(tracers):
        parties = []
        for lane, mesh in enumerate(meshes):
            transport, backend, profile = tracer.means(mesh[rank], CpuBackend())
            ciphers = dict.fromkeys(range(3), "aes128ctr")
            streams = streams_of(ROW, rank, keys_of(rank, keys), ciphers, lane, backend.fill)
            parties.append(Party(rank, 3, transport, streams, backend, profile))
        tensors = {
            t.name: ROW.receive(rank, slots[t.name][rank], t.shape, t.frac_bits, BACKEND.fill) for t in program.tensors
        }
        sessions.append(tracer.session(ROW, parties, program, tensors))
    try:
        yield TracedCluster(compiled, sessions, tracers, files)
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
