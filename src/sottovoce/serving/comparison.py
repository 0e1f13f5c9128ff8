"""Which comparison `beaver2` uses: Boolean circuits over dealt bits, or function secret sharing.

Boolean comparison takes more rounds and bytes; function secret sharing takes one round, a dealer, and the evaluation
of a tree of pseudorandom generators for each number. On a fast link that work decides, on a slow one the rounds do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from sottovoce.engine.cost import demand, predict_cost
from sottovoce.engine.errors import ConfigError
from sottovoce.engine.program import Program
from sottovoce.engine.protocols.table import ProtocolRow, find

COMPARISONS: Final[Mapping[str, str]] = MappingProxyType({"boolean": "beaver2", "fss": "beaver2-fss"})
"""The row of the table for each."""
AUTO: Final = "auto"
EVALUATION_NS_PER_WORD: Final = 15.0
"""Online time for a dealt word of correction, beyond what Boolean comparison takes: measured with both parties in one
process on two cores, batches of 32 clips of `paper` and `max`. It need not be exact: delays differ by factors."""


@dataclass(frozen=True, slots=True)
class Network:
    """delay_ms: one way. mbit_s: 10^6 bits per second of each party's link, in each direction."""

    delay_ms: float
    mbit_s: float


NETWORKS: Final[Mapping[str, Network]] = MappingProxyType(
    {
        "loopback": Network(0.0, 100_000),
        "lan": Network(0.05, 10_000),
        "metro": Network(2.5, 1_000),
        "wan": Network(20, 100),
    }
)
"""As in `sottovoce.bench.network.profiles`; loopback's figures stand for none."""


def resolve(protocol: str, comparison: str, program: Program, network: str = "loopback") -> ProtocolRow:
    """The row of the table. comparison: auto, boolean or fss; auto takes what one clip would be faster with.

    Raises ConfigError for a comparison that the protocol does not have.
    """
    row = find(protocol)
    if comparison not in (AUTO, *COMPARISONS):
        raise ConfigError(f"comparison: expected one of {AUTO}, {', '.join(COMPARISONS)}, got {comparison!r}")
    if network not in NETWORKS:
        raise ConfigError(f"network: expected one of {', '.join(NETWORKS)}, got {network!r}")
    if comparison == AUTO:
        if row.name != COMPARISONS["boolean"]:
            return row
        rows = [find(name) for name in COMPARISONS.values()]
        return min(rows, key=lambda row: estimated_ms(program, row, NETWORKS[network]))
    chosen = find(COMPARISONS[comparison])
    if row.name not in (COMPARISONS["boolean"], chosen.name):
        raise ConfigError(f"comparison: {row.name} has no choice of {comparison}; it is for beaver2")
    return chosen


def estimated_ms(program: Program, row: ProtocolRow, network: Network) -> float:
    """Online time of one clip, without the work that both comparisons have."""
    steps = predict_cost(program, row, 1)
    rounds = sum(step.rounds for step in steps)
    sent = max(sum(step.bytes_sent[rank] for step in steps) for rank in range(row.parties))
    work_ms = demand(program, row).common * EVALUATION_NS_PER_WORD / 1e6
    return rounds * network.delay_ms + sent * 8e-3 / network.mbit_s + work_ms
