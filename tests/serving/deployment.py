"""A whole deployment in one process: three party servers in threads, on loopback ports."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sottovoce.engine.tracing.tracer import Tracer
from sottovoce.engine.transport.tls import TlsContexts
from sottovoce.models.compiler.compile import Compiled, compile_graph
from sottovoce.models.encode import encode_input
from sottovoce.models.graph import Conv1d, Dense, Graph, Relu, Reshape
from sottovoce.serving.cluster import Cluster, free_addresses
from sottovoce.serving.party import PartyServer

DEADLINE_S = 5.0


def tiny_model(seed: int = 0) -> Compiled:
    """Conv, ReLU, dense: 3 labels from 1 x 8 features in [-1, 1]."""
    rng = np.random.default_rng(seed)
    nodes = (
        Conv1d("conv", rng.normal(0, 0.5, (4, 1, 3)), rng.normal(0, 0.5, 4), padding=(1, 1)),
        Relu("relu"),
        Reshape("flatten"),
        Dense("dense", rng.normal(0, 0.5, (3, 32)), rng.normal(0, 0.5, 3)),
    )
    graph = Graph("tiny", (1, 8), nodes, ("x", "y", "z"), (-1.0,), (1.0,))
    return compile_graph(graph, outputs=("label", "scores"))


def some_input(compiled: Compiled, batch: int, seed: int = 1) -> NDArray[np.uint64]:
    """Encoded clips inside the box."""
    return encode_input(compiled.program, np.random.default_rng(seed).uniform(-1, 1, (batch, 8)))


@dataclass(slots=True)
class Deployment:
    """The running servers, what they logged, and the errors that ended them, by rank."""

    cluster: Cluster
    stop: threading.Event
    threads: list[threading.Thread] = field(default_factory=list)
    logs: dict[int, list[str]] = field(default_factory=dict)
    errors: dict[int, BaseException] = field(default_factory=dict)

    def join(self, timeout_s: float = 15.0) -> None:
        """Wait until all servers have ended; fails if one hangs."""
        for thread in self.threads:
            thread.join(timeout_s)
            assert not thread.is_alive(), f"{thread.name} did not end"


@contextmanager
def deployment(
    tls: dict[int, TlsContexts] | None = None,
    *,
    ranks: tuple[int, ...] = (0, 1, 2),
    lanes: int = 1,
    deadline_s: float = DEADLINE_S,
    max_requests: int | None = None,
    tracers: Mapping[int, Tracer] | None = None,
) -> Iterator[Deployment]:
    """Servers for the given ranks; on leaving they are stopped, and must end."""
    running = Deployment(Cluster(free_addresses(3), lanes=lanes), threading.Event())

    def serve(rank: int) -> None:
        server = PartyServer(
            rank,
            running.cluster,
            None if tls is None else tls[rank],
            insecure_loopback=tls is None,
            deadline_s=deadline_s,
            log=running.logs.setdefault(rank, []).append,
            tracer=None if tracers is None else tracers[rank],
        )
        try:
            server.serve(running.stop, max_requests=max_requests)
        except BaseException as error:
            running.errors[rank] = error

    for rank in ranks:
        thread = threading.Thread(target=serve, args=(rank,), name=f"P{rank}")
        running.threads.append(thread)
        thread.start()
    try:
        yield running
    finally:
        running.stop.set()
        running.join()
