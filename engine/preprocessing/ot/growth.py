"""The order in which products of shared bits are made: each from a smaller one and a bit, with few transfers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sottovoce.engine.errors import ProtocolError

Rows = frozenset[int]


@dataclass(frozen=True, slots=True)
class Growth:
    """The product of the mask row `multiplier` and of the rows `rest`.

    payload: which bit of the multiplier's pads hides it. to: the row of the result.
    """

    multiplier: int
    payload: int
    rest: Rows
    to: int

    @property
    def whole(self) -> Rows:
        """All rows that are multiplied."""
        return self.rest | {self.multiplier}


@dataclass(frozen=True, slots=True)
class Schedule:
    """stages: what can be made together. payloads: multiplier row -> products that it makes, in ascending order."""

    stages: tuple[tuple[Growth, ...], ...]
    payloads: dict[int, int]


def schedule(sets: Sequence[Sequence[int]]) -> Schedule:
    """For products of the given sets of rows, at least two each, closed under leaving out the multiplier.

    The multiplier of a set is its row that occurs most often, the last of them: its transfers serve all its products.
    Raises ProtocolError if a smaller product that a set would need is not among the sets.
    """
    uses = Counter(row for chosen in sets for row in chosen)
    wanted = {frozenset(chosen) for chosen in sets}
    payloads: Counter[int] = Counter()
    stage_of: dict[Rows, int] = {}
    stages: list[list[Growth]] = []
    for to, chosen in sorted(enumerate(sets), key=lambda pair: len(pair[1])):
        multiplier = max(chosen, key=lambda row: (uses[row], row))
        rest = frozenset(chosen) - {multiplier}
        if len(rest) > 1 and rest not in wanted:
            raise ProtocolError(f"products of bits: expected {sorted(rest)} among the sets, for {sorted(chosen)}")
        stage = stage_of.get(rest, -1) + 1
        stage_of[frozenset(chosen)] = stage
        if stage == len(stages):
            stages.append([])
        stages[stage].append(Growth(multiplier, payloads[multiplier], rest, to))
        payloads[multiplier] += 1
    return Schedule(tuple(map(tuple, stages)), dict(sorted(payloads.items())))
