"""All computing parties as threads of one process: the protocol for real, the separation of secrets not.

For tests, for measuring, and for users who own both the model and the recordings. Parties that must not trust each
other run as processes on their own machines (sottovoce.serving).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Self, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from sottovoce.engine.backend.base import Backend
from sottovoce.engine.backend.cpu import CpuBackend
from sottovoce.engine.cost import demand
from sottovoce.engine.errors import TransportError
from sottovoce.engine.keys import fresh_pair_keys, keys_of, streams_of
from sottovoce.engine.party import Party
from sottovoce.engine.preprocessing.base import Preprocessing
from sottovoce.engine.preprocessing.local import LocalDealer
from sottovoce.engine.prg import Cipher, Observer
from sottovoce.engine.program import OutputKind, Program
from sottovoce.engine.protocols.table import ProtocolRow, find
from sottovoce.engine.session import RunStats, Session, join_output, share_input
from sottovoce.engine.staging import lane_for
from sottovoce.engine.transport.base import Transport
from sottovoce.engine.transport.memory import memory_mesh

R = TypeVar("R")
DEADLINE_S = 60.0


def run_parties(work: Sequence[Callable[[], R]], on_failure: Callable[[], None]) -> list[R]:
    """Run each party's work in a thread of its own; the first failure is raised after all have ended.

    on_failure must wake parties that wait for the failed one. A failed message is told only if nothing else failed:
    it may be what the failure of another party looks like.
    """
    results: list[R | None] = [None] * len(work)
    failures: list[BaseException] = []

    def body(rank: int) -> None:
        try:
            results[rank] = work[rank]()
        except BaseException as error:
            failures.append(error)
            on_failure()

    threads = [threading.Thread(target=body, args=(rank,), name=f"party {rank}") for rank in range(len(work))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise next((failure for failure in failures if not isinstance(failure, TransportError)), failures[0])
    return cast(list[R], results)


def make_parties(
    row: ProtocolRow,
    meshes: Sequence[Sequence[Transport]],
    *,
    pair_keys: Mapping[tuple[int, int], bytes] | None = None,
    cipher: Cipher = "aes128ctr",
    observer: Observer | None = None,
    preprocessing: Sequence[Preprocessing] | None = None,
    backends: Sequence[Backend] | None = None,
) -> list[list[Party]]:
    """Parties by rank and lane over given transports (lane -> rank -> transport); fixed pair keys are for tests.

    preprocessing: by rank, where the protocol needs it. backends: by rank; default: one CPU.
    """
    keys = fresh_pair_keys(row.parties) if pair_keys is None else pair_keys
    ciphers = dict.fromkeys(range(row.parties), cipher)
    backends = [CpuBackend()] * row.parties if backends is None else backends

    def party(rank: int, lane: int) -> Party:
        backend = backends[rank].for_lane()
        return Party(
            rank,
            row.parties,
            lane_for(meshes[lane][rank], backend),
            streams_of(row, rank, keys_of(rank, keys), ciphers, lane, backend, observer),
            backend,
            preprocessing=None if preprocessing is None else preprocessing[rank],
        )

    return [[party(rank, lane) for lane in range(len(meshes))] for rank in range(row.parties)]


class LocalCluster:
    """A program on all parties of a protocol, in threads, over in-process lanes. A context manager.

    backends: each party's device, by rank (default: one CPU for all); parties on other devices send the same messages.
    cipher: of the keystreams between the parties; default: the first that suits all devices.
    """

    def __init__(
        self,
        program: Program,
        weights: Mapping[str, NDArray[np.uint64]],
        protocol: str = "rep3",
        *,
        lanes: int = 1,
        meshes: Sequence[Sequence[Transport]] | None = None,
        pair_keys: Mapping[tuple[int, int], bytes] | None = None,
        cipher: Cipher | None = None,
        observer: Observer | None = None,
        deadline_s: float = DEADLINE_S,
        backends: Sequence[Backend] | None = None,
    ) -> None:
        self.row = find(protocol)
        self.program = program
        self._backend = CpuBackend()
        backends = [self._backend] * self.row.parties if backends is None else backends
        chunk_elements = min(backend.chunk_elements for backend in backends)
        cipher = cipher or next(c for c in backends[0].ciphers if all(c in b.ciphers for b in backends))
        if meshes is None:
            meshes = [memory_mesh(self.row.parties, lane=n, deadline_s=deadline_s) for n in range(lanes)]
        self._meshes = meshes
        self.dealer = None if self.row.demands is None else LocalDealer(demand(program, self.row), self._backend.fill)
        self.parties = make_parties(
            self.row,
            meshes,
            pair_keys=pair_keys,
            cipher=cipher,
            observer=observer,
            preprocessing=None if self.dealer is None else self.dealer.parties,
            backends=backends,
        )
        self.offline_ns = 0
        slots = {t.name: self.row.split(weights[t.name], self._backend.fill) for t in program.tensors}

        def session(rank: int) -> Session:
            tensors = {
                t.name: self.row.receive(rank, slots[t.name][rank], t.shape, t.frac_bits, self._backend.fill)
                for t in program.tensors
            }
            return Session(self.row, self.parties[rank], program, tensors, chunk_elements=chunk_elements)

        self.sessions = run_parties([partial(session, rank) for rank in range(self.row.parties)], self.close)

    def run(self, encoded: NDArray[np.uint64], output: OutputKind = "label") -> tuple[NDArray[Any], list[RunStats]]:
        """Classify an encoded batch: label indices or logits, and each party's cost.

        Missing preprocessing is made first; `offline_ns` is the time that this took for the last batch.
        """
        self.offline_ns = self._prepare(encoded.shape[0])
        slots = share_input(self.row, encoded, self._backend.fill)
        frac_bits = self.program.input_frac_bits

        def party(rank: int) -> Callable[[], Any]:
            share = self.row.receive(rank, slots[rank], encoded.shape, frac_bits, self._backend.fill)
            return lambda: self.sessions[rank].run(share, output)

        answers = run_parties([party(rank) for rank in range(self.row.parties)], self.close)
        return join_output(self.row, self.program, [a[0] for a in answers]), [a[1] for a in answers]

    def _prepare(self, clips: int) -> int:
        if self.dealer is None:
            return 0
        start = time.perf_counter_ns()
        self.dealer.prepare(clips)
        return time.perf_counter_ns() - start

    def close(self) -> None:
        """Close all lanes. Idempotent."""
        for mesh in self._meshes:
            for transport in mesh:
                transport.close("the cluster was closed")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
