"""The paper's timing table: {semi-honest, malicious} x {2, 3, 4 parties}, one clip, ours beside what was published.

Which cells there are follows from the table of protocols: a new protocol appears by itself, and a cell without one is
said to be missing. The figures come from rows that the runner measured; paper_tables.py writes them down.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, get_args

import numpy as np

from sottovoce import __version__
from sottovoce.bench.paper_reference import Adversary, References, TimingFigure
from sottovoce.bench.schema import Row
from sottovoce.bench.stats import summarise
from sottovoce.engine.errors import ConfigError
from sottovoce.engine.protocols.table import PROTOCOLS, ProtocolRow
from sottovoce.engine.session import run_plain
from sottovoce.models.compiler.compile import compile_graph
from sottovoce.models.encode import encode_input
from sottovoce.models.evaluate import evaluate
from sottovoce.models.graph import Graph

MODEL: Final = "paper"
BATCH: Final = 1
PARTIES: Final = (2, 3, 4)
REPEAT: Final[Mapping[str, int]] = MappingProxyType({"loopback": 30, "lan": 20, "metro": 10, "wan": 10})
"""Requests on each network."""
QUICK: Final = ("loopback", "lan")
LARGE_BATCH: Final = 128
BATCHES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {MODEL: tuple(REPEAT), "tiny": tuple(REPEAT), "max": tuple(REPEAT), "medium": ("loopback",)}
)
"""Models of the full run, and the networks on which the large batch does not take too long."""
IN_THE_CLEAR: Final = ("plain", "float")
"""Protocols of the rows that `clear_rows` makes: fixed point and floating point, without parties."""
OUT_OF_SCOPE: Final[Mapping[tuple[Adversary, int], str]] = MappingProxyType({("malicious", 2): "out of scope for now"})
NO_PROTOCOL: Final = "no protocol yet"
NOT_MEASURED: Final = "not measured"


@dataclass(frozen=True, slots=True)
class Cell:
    """A place of the table. protocol: one that fills it, or "", and then `reason` says why there is none."""

    adversary: Adversary
    parties: int
    protocol: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class TimingLine:
    """A cell on one network. row: what was measured, or None and a reason. reference: what was published for it."""

    cell: Cell
    row: Row | None
    reason: str
    reference: TimingFigure | None

    @property
    def total_ms(self) -> float | None:
        """Median time of preprocessing and online phase together; None where one of them was not measured."""
        if self.row is None or self.row.online_ms is None or (self.row.preprocessing and self.row.offline_ms is None):
            return None
        return self.row.online_ms.median + (self.row.offline_ms.median if self.row.offline_ms else 0.0)

    @property
    def factor(self) -> float | None:
        """The published time over ours, preprocessing included in both: above 1, ours is faster."""
        if self.reference is None or self.total_ms is None:
            return None
        return 1000 * self.reference.time_s / self.total_ms


@dataclass(frozen=True, slots=True)
class Requirement:
    """One measurement that the tables or the plots beside them need."""

    model: str
    protocol: str
    batch: int
    network: str
    repeat: int


def cells(protocols: Mapping[str, ProtocolRow] = PROTOCOLS) -> list[Cell]:
    """All places, by adversary and number of parties: one for each protocol, or one that is missing."""
    found = []
    for adversary in get_args(Adversary):
        for parties in sorted({*PARTIES, *(p.parties for p in protocols.values() if p.adversary == adversary)}):
            names = [n for n, p in protocols.items() if (p.adversary, p.parties) == (adversary, parties)]
            missing = Cell(adversary, parties, reason=OUT_OF_SCOPE.get((adversary, parties), NO_PROTOCOL))
            found += [Cell(adversary, parties, name) for name in names] or [missing]
    return found


def timing_lines(
    rows: Sequence[Row], references: References, protocols: Mapping[str, ProtocolRow] = PROTOCOLS, model: str = MODEL
) -> list[TimingLine]:
    """The table: each cell on each network where it was measured, in the order of the rows.

    Only rows of our protocols on `model` with one clip and one lane are looked at.
    """
    usable = [row for row in rows if (row.system, row.model, row.batch, row.lanes) == ("sottovoce", model, BATCH, 1)]
    lines = []
    for cell in cells(protocols):
        figure = references.time(cell.adversary, cell.parties)
        mine = [row for row in usable if cell.protocol and row.protocol == cell.protocol]
        if not mine:
            reason = NOT_MEASURED if cell.protocol else cell.reason
            lines.append(TimingLine(cell, None, reason, figure))
        lines += [TimingLine(cell, row, _why_not(row), figure) for row in mine]
    return lines


def in_the_clear(rows: Sequence[Row], model: str = MODEL) -> list[Row]:
    """The rows that `clear_rows` made for `model`, one clip."""
    return [row for row in rows if row.protocol in IN_THE_CLEAR and (row.model, row.batch) == (model, BATCH)]


def requirements(quick: bool, protocols: Sequence[str] = tuple(PROTOCOLS)) -> list[Requirement]:
    """What to measure, the paper's table first: neighbours share model, network and repeat, so can share a session.

    quick: within a minute, else within ten, for one protocol on 2 cores and given the runner's limit for each batch.
    """
    if quick:
        return [Requirement(MODEL, name, BATCH, network, REPEAT[network]) for network in QUICK for name in protocols]
    return [
        Requirement(model, name, batch, network, REPEAT[network])
        for model, large in BATCHES.items()
        for network in REPEAT
        for batch in ((BATCH, LARGE_BATCH) if network in large else (BATCH,))
        for name in protocols
    ]


def clear_rows(graph: Graph, *, model: str = MODEL, batch: int = BATCH, repeat: int = 30) -> list[Row]:
    """The same network without parties, on this machine: fixed point (numpy and our kernels), floating point (numpy).

    What the arithmetic alone costs; neither is a fast implementation of the network. Features are drawn from its box.
    """
    low, high = graph.box()
    features = np.random.default_rng(0).uniform(low, high, (batch, *graph.input_shape))
    compiled = compile_graph(graph)
    encoded = encode_input(compiled.program, features)
    return [
        _clear_row(
            "plain", model, batch, repeat, lambda: run_plain(compiled.program, compiled.weights, encoded, "label")
        ),
        _clear_row("float", model, batch, repeat, lambda: evaluate(graph, features, np.float32).argmax(axis=1)),
    ]


def _clear_row(protocol: str, model: str, batch: int, repeat: int, work: Callable[[], object]) -> Row:
    if repeat < 1:
        raise ConfigError(f"bench: repeat: expected at least 1, got {repeat}")
    samples = []
    for number in range(-2, repeat):
        start = time.perf_counter_ns()
        work()
        if number >= 0:
            samples.append((time.perf_counter_ns() - start) / 1e6)
    online = summarise(samples)
    return Row(
        version=__version__,
        protocol=protocol,
        security="none: in the clear",
        parties=1,
        model=model,
        batch=batch,
        encrypted=False,
        online_ms=online,
        samples_ms=tuple(round(sample, 4) for sample in samples),
        clips_per_s=round(1000 * batch / online.median, 4),
    )


def _why_not(row: Row) -> str:
    """Why a row has no figure; "" if it has."""
    if row.status == "measured" and row.online_ms is not None:
        return ""
    return f"{row.status}: {row.reason}" if row.reason else row.status
