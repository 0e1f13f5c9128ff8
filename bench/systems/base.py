"""What a system under test is: ours or a peer, started once and asked for one batch after another.

So that systems can be measured *interleaved* in one run: each is started, then asked in turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from sottovoce.bench.schema import NetworkUsed
from sottovoce.engine.transport.tls import Address
from sottovoce.models.graph import Graph
from sottovoce.serving.cluster import free_addresses

PORTS: Final = 100


class Network(Protocol):
    """Where the processes run: see bench/network. Nodes 0 .. parties - 1 are the parties', the next is the client's."""

    @property
    def used(self) -> NetworkUsed:
        """What was asked for and measured."""
        ...

    def prefix(self, node: int) -> Sequence[str]:
        """The words before a command that make it run in that node; none on loopback."""
        ...

    def address(self, node: int) -> str:
        """The node's IP address."""
        ...


@dataclass(frozen=True, slots=True)
class Job:
    """The work, the same for every system.

    graph: the network in floating point, weights inside. features: (rows, *input_shape) float64; batch b is the first b
    rows, repeated from the start where there are fewer. batches: all sizes that will be asked for. scratch: a folder
    that is deleted afterwards. port: the system's first one in a node; PORTS of them are its own.
    """

    graph: Graph = field(repr=False)
    features: NDArray[np.float64] = field(repr=False)
    batches: tuple[int, ...]
    network: Network
    scratch: Path
    lanes: int = 1
    encrypted: bool = True
    port: int = 7100

    def of_system(self, number: int) -> Job:
        """The same for one of several systems that share the nodes of the network."""
        return replace(self, port=self.port + number * PORTS)

    def addresses(self, number: int) -> tuple[Address, ...]:
        """Where the processes of nodes 0 .. number - 1 listen."""
        if self.network.used.method == "loopback":
            return free_addresses(number)
        return tuple((self.network.address(node), self.port + node) for node in range(number))

    def batch(self, size: int) -> NDArray[np.float64]:
        """(size, *input_shape)."""
        return np.resize(self.features, (size, *self.features.shape[1:]))


@dataclass(frozen=True, slots=True)
class Description:
    """What a row says of a system. adversary: "semi-honest" or "malicious". settings: name -> value, for humans.
    device: what the parties compute with, as --device says it."""

    system: str
    version: str
    protocol: str
    adversary: str
    security: str
    parties: int
    encrypted: bool
    preprocessing: bool = False
    settings: dict[str, str] = field(default_factory=dict)
    device: str = "cpu"


@dataclass(frozen=True, slots=True)
class Sample:
    """One timed batch. Times in ms; tuples are by party; None or empty: this system does not say.

    online_ms: weights and inputs shared beforehand (ours: the input shares are still to be sent) until the labels are
    opened. labels: (batch,) class numbers. offline_ms, offline_bytes: what the batch's preprocessing took beforehand;
    bytes that each party sent, and those that a dealer sent it.
    """

    online_ms: float
    labels: NDArray[Any] = field(repr=False)
    party_ms: tuple[float, ...] = ()
    wait_ms: tuple[float, ...] = ()
    sharing_ms: float | None = None
    opening_ms: float | None = None
    offline_ms: float | None = None
    offline_bytes: tuple[int, ...] = ()
    bytes_sent: tuple[int, ...] = ()
    rounds: int | None = None
    input_bytes: int = 0
    output_bytes: int = 0


class Running(Protocol):
    """A system with the model loaded and warm."""

    def prepare(self, batch: int, least: int, most: int) -> int:
        """Do ahead of time what `least` to `most` requests of that size need; returns for how many it is ready.

        Not timed, and asked before `run` with another batch size. Raises SottovoceError.
        """
        ...

    def run(self, batch: int) -> Sample:
        """Classify a batch once. Raises SottovoceError; never hangs."""
        ...

    def memory_mb(self) -> tuple[float, ...]:
        """Peak resident size of each party's process since its start, in MB; empty if unknown."""
        ...


class System(Protocol):
    """A protocol of ours, or a peer in an environment of its own."""

    @property
    def name(self) -> str:
        """Of system and protocol, unique among the systems of a run: "sottovoce rep3", "crypten"."""
        ...

    def describe(self) -> Description:
        """What the rows say of it; raises ConfigError with what to do if it cannot run here."""
        ...

    def start(self, job: Job) -> AbstractContextManager[Running]:
        """Processes up, model shared, kernels compiled. Leaving the context ends every process."""
        ...
