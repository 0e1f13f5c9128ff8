"""Where requests run: what a Classifier needs of a cluster, and the two runners inside this process."""

from __future__ import annotations

import time
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sottovoce.engine.backend.devices import make_backends
from sottovoce.engine.local import LocalCluster
from sottovoce.engine.program import OutputKind, Program
from sottovoce.engine.protocols.table import find
from sottovoce.engine.session import run_plain
from sottovoce.models.compiler.compile import Compiled
from sottovoce.serving.cost import OfflineCost, RequestCost, request_cost


class Runner(Protocol):
    """Runs encoded batches (batch, *input_shape)."""

    @property
    def program(self) -> Program:
        """The public program."""
        ...

    def run(self, encoded: NDArray[np.uint64], output: OutputKind = "label") -> tuple[NDArray[Any], RequestCost]:
        """Label indices (batch,) or logits (batch, classes), and what it cost."""
        ...

    def close(self) -> None:
        """Idempotent."""
        ...


class InProcess:
    """All parties as threads of this process. device: of all, or of each with commas between."""

    def __init__(
        self, compiled: Compiled, protocol: str, *, lanes: int = 1, deadline_s: float = 60.0, device: str = "cpu"
    ) -> None:
        self.program = compiled.program
        backends = make_backends(device, find(protocol).parties)
        for backend in backends:
            backend.prepare()  # no party waits for one that compiles
        self._cluster = LocalCluster(
            compiled.program, compiled.weights, protocol, lanes=lanes, deadline_s=deadline_s, backends=backends
        )

    def run(self, encoded: NDArray[np.uint64], output: OutputKind = "label") -> tuple[NDArray[Any], RequestCost]:
        """See Runner; sharing and opening are part of the online time here."""
        start = time.perf_counter_ns()
        result, stats = self._cluster.run(encoded, output)
        elapsed = time.perf_counter_ns() - start - self._cluster.offline_ns
        cost = request_cost(
            stats,
            batch=len(encoded),
            sharing_ns=0,
            online_ns=elapsed,
            opening_ns=0,
            input_bytes=0,
            output_bytes=0,
            encrypted=True,
            offline=self._offline(len(encoded)),
        )
        return result, cost

    def _offline(self, clips: int) -> OfflineCost | None:
        """Of the last batch: a dealer in this process, whose messages are counted without headers."""
        dealer = self._cluster.dealer
        if dealer is None:
            return None
        common, derived = 8 * dealer.layout.common * clips, 8 * dealer.layout.derived * clips
        return OfflineCost(self._cluster.offline_ns, (common, derived + common))

    def close(self) -> None:
        """Close the lanes."""
        self._cluster.close()


class PlainRunner:
    """Fixed point in the clear."""

    def __init__(self, compiled: Compiled) -> None:
        self.program = compiled.program
        self._weights = compiled.weights

    def run(self, encoded: NDArray[np.uint64], output: OutputKind = "label") -> tuple[NDArray[Any], RequestCost]:
        """See Runner; nothing is sent."""
        start = time.perf_counter_ns()
        result = run_plain(self.program, self._weights, encoded, output)
        elapsed = (time.perf_counter_ns() - start) / 1e6
        return result, RequestCost(len(encoded), 0.0, elapsed, 0.0, (elapsed,), (0.0,), (0,), (0,), 0, 0, 0, True)

    def close(self) -> None:
        """Nothing to close."""
