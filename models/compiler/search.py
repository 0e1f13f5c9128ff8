"""The scales of all layers: first ones that are proven, then ones with a smaller error bound.

Every scale is a public number that costs nothing on shares. What bounds them is |z| < 2^62: more fraction bits of an
activation leave fewer for the next layer's weights. A descent on one scale after the other finds the balance; it is cut
off after a fixed amount of arithmetic, so the same model always gives the same program.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sottovoce.engine import program as ir
from sottovoce.engine.errors import RangeProofError
from sottovoce.models.compiler import ranges
from sottovoce.models.compiler.fit import MAX_ACTIVATION_BITS, SMALLER_BOX, Rules, refusal
from sottovoce.models.compiler.lower import Lowered, lower, narrowest
from sottovoce.models.compiler.ranges import Bounds
from sottovoce.models.compiler.stages import Stage
from sottovoce.models.graph import Dense, Graph, Reshape

LEAST_ACTIVATION_BITS = (8, 0)
"""Fraction bits that every activation keeps: the first that can be proven. m is the narrowest that leaves them."""
PATIENCE = 2
"""A walk along one scale ends after so many values that are no better."""
SWEEPS = 2
SEARCH_WORK = 400_000_000
"""Multiplications per clip, summed over all layers tried, after which the search ends."""
PAIR_WORK = 1 << 21
"""Weights of all differences of two rows of the last layer, up to which logits are compared pair by pair."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """A model at given scales.

    caps: activation bits allowed, per stage. lowered: the steps. compare_bits: m of the argmax over the logits. margin:
    the error of a difference of two logits.
    """

    start: Bounds
    caps: tuple[int, ...]
    lowered: tuple[Lowered, ...]
    compare_bits: int
    margin: float

    @property
    def rank(self) -> tuple[int, float]:
        """What is compared: bits that comparisons look at, then the margin bound."""
        return sum(step.compare_bits or 0 for step in self.lowered), self.margin

    def before(self, index: int) -> Bounds:
        """Bounds of what goes into a stage."""
        return self.lowered[index - 1].after if index else self.start


class Search:
    """The scales of one rewritten graph."""

    def __init__(self, graph: Graph, stages: Sequence[Stage], rules: Rules) -> None:
        self.graph = graph
        self.stages = tuple(stages)
        self.rules = rules
        self.work = 0

    def best(self, input_frac_bits: Sequence[int]) -> Attempt:
        """The best attempt found with one of the input scales. Raises the RangeProofError of the last one."""
        found: list[Attempt] = []
        for bits in input_frac_bits:
            try:
                found.append(self._first_fit(bits))
            except RangeProofError as error:
                refused = error
        if not found:
            raise refused
        best = min(found, key=lambda attempt: attempt.rank)
        for _ in range(SWEEPS):
            for index in reversed(range(len(self.stages))):  # late layers first: little follows them, so they are cheap
                best = self._walk(self._walk(best, index, -1), index, +1)
        return best

    def _first_fit(self, input_frac_bits: int) -> Attempt:
        """Greedy scales; with fewer and fewer activation bits if a later layer then lacks room."""
        low, high = self.graph.box()
        bits = input_frac_bits + math.frexp(max(abs(low).max(), abs(high).max()))[1]
        if bits > 62:
            raise refusal("input", "values", 63, bits + 1, SMALLER_BOX)
        start = ranges.input_bounds(low, high, input_frac_bits)
        for cap in range(MAX_ACTIVATION_BITS, self.rules.least_bits - 1, -2):
            try:
                return self._lower(start, (cap,) * len(self.stages))
            except RangeProofError as error:
                refused = error
        raise refused

    def _walk(self, best: Attempt, index: int, direction: int) -> Attempt:
        """Change one layer's activation bits one by one as long as that helps."""
        fit = best.lowered[index].fit
        if fit is None or self.stages[index].last:
            return best  # nothing to choose
        bits, misses = fit.value.frac_bits, 0
        while misses < PATIENCE and self.work < SEARCH_WORK:
            bits += direction
            try:
                tried = self._lower(best.start, (*best.caps[:index], bits, *best.caps[index + 1 :]), best, index)
            except RangeProofError:
                misses += 1
                continue
            if tried is best and direction > 0:
                break  # the range proof allows no more
            best, misses = (tried, 0) if tried.rank < best.rank else (best, misses + 1)
        return best

    def _lower(self, start: Bounds, caps: tuple[int, ...], known: Attempt | None = None, first: int = 0) -> Attempt:
        """All stages from `first` on; those before it as in `known`."""
        steps = list(known.lowered[:first]) if known else []
        x = known.before(first) if known else start
        for index in range(first, len(self.stages)):
            same = known.lowered[index].products if known and index == first else None
            found = lower(index, self.stages[index], x, caps[index], self.rules, same)
            if known and index == first and found.step == known.lowered[index].step:
                return known
            if isinstance(found.step, ir.Linear) and same is None:
                self.work += found.step.multiplications
            steps.append(found)
            x = found.after
        spread, margin = _differences(self.stages, start, steps)
        choices = tuple(m for m in ir.COMPARE_BITS if m >= min(self.rules.compare_bits))
        advice = self.rules.advice(len(self.stages) - 1)
        return Attempt(start, caps, tuple(steps), narrowest("argmax", spread, choices, advice), margin)


def _differences(stages: Sequence[Stage], start: Bounds, steps: Sequence[Lowered]) -> tuple[float, float]:
    """(largest |l_i - l_j| as an integer, largest error of l_i - l_j)."""
    last = len(stages) - 1
    while last >= 0 and isinstance(stages[last].node, Reshape):
        last -= 1
    spread, error = ranges.plain_differences(steps[-1].after)  # of calibrated logits, where they are
    node, fit = stages[last].node, steps[last].fit
    if last < 0 or not isinstance(node, Dense) or not stages[last].last or fit is None:
        return spread, error
    if node.weight.size * (node.weight.shape[0] - 1) // 2 <= PAIR_WORK:
        pairs = ranges.differences(node, fit.quantised, steps[last - 1].after if last else start)
        spread, error = min(spread, pairs[0]), min(error, pairs[1])
    return spread, error
