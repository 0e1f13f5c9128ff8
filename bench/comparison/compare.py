"""Is B slower than A? Ratios of times with confidence intervals, and a verdict that fails only with confidence.

The unit of observation is the pass: one process that timed everything once, summed up by its median. The rounds inside
a pass share the machine's mood, so that a thousand of them are no more independent than one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np

from sottovoce.bench.comparison.observations import Pass, Side, read_side
from sottovoce.bench.stats import Interval, pass_interval
from sottovoce.engine.errors import ConfigError

Answer = Literal["slower", "faster", "same", "unclear"]

BLOCKS: Final = 8
"""A single pass is cut into this many stretches of time, which stand for passes."""
DRIFT_MARGIN: Final = 1.5
"""By so much the machine may have changed its pace between two single passes."""
ONLY_ONE = (
    "one pass on a side: stretches of its time stand for passes, and the intervals are widened by "
    f"{DRIFT_MARGIN:g} for what the machine may have done in between; take more passes"
)
DRIFT = "A and B were not taken in turn: a machine that became slower in between looks like a slower B"


@dataclass(frozen=True, slots=True)
class Change:
    """One benchmark. a_ms, b_ms: geometric means of the passes' medians. interval: of b / a, at the level of all."""

    name: str
    a_ms: float
    b_ms: float
    passes: tuple[int, int]
    interval: Interval
    answer: Answer


@dataclass(frozen=True, slots=True)
class Comparison:
    """B against A, the slowest ratio first.

    confidence: that no interval of all misses its ratio. only_a, only_b: benchmarks of one side. notes: what weakens
    the answer.
    """

    bound: float
    confidence: float
    paired: bool
    changes: tuple[Change, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    commits: tuple[tuple[str, ...], tuple[str, ...]]
    machines: tuple[tuple[str, ...], tuple[str, ...]]
    notes: tuple[str, ...]

    @property
    def failed(self) -> bool:
        """Something is slower than the bound, with confidence."""
        return any(change.answer == "slower" for change in self.changes)


def compare(a: Sequence[Path], b: Sequence[Path], *, bound: float = 1.10, confidence: float = 0.95) -> Comparison:
    """Compare files (or folders of files) of kernel timings or of results; each file is a pass.

    bound: the ratio that is tolerated, above 1. Raises ConfigError for files that cannot be read or share no benchmark.
    """
    return compare_sides(read_side(a), read_side(b), bound=bound, confidence=confidence)


def compare_sides(
    a: Side, b: Side, *, bound: float = 1.10, confidence: float = 0.95, paired: bool = False
) -> Comparison:
    """Compare two sides; `paired`: pass i of A and pass i of B were taken one after the other.

    Each interval has the level 1 - (1 - confidence) / n for n benchmarks (Bonferroni), so that all of them hold
    together with at least `confidence`, however the benchmarks depend on each other. "slower" needs a whole interval
    above the bound, "faster" one below its inverse, "same" one between the two.
    """
    if not bound > 1 or not 0 < confidence < 1:
        raise ConfigError(f"compare: expected a bound above 1 and a confidence in (0, 1), got {bound} and {confidence}")
    names = [name for name in a.timings if name in b.timings]
    if not names:
        raise ConfigError(f"compare: no benchmark on both sides; A has {_some(a)}, B has {_some(b)}")
    level = 1 - (1 - confidence) / len(names)
    changes = [_change(name, a.timings[name], b.timings[name], bound, level, paired) for name in names]
    notes = [] if paired else [DRIFT]
    notes += [ONLY_ONE] if any(min(change.passes) == 1 for change in changes) else []
    if set(a.machines) != set(b.machines):
        notes.append("the sides come from different machines or Python versions")
    return Comparison(
        bound,
        confidence,
        paired,
        tuple(sorted(changes, key=lambda change: change.interval.ratio, reverse=True)),
        tuple(sorted(a.timings.keys() - b.timings.keys())),
        tuple(sorted(b.timings.keys() - a.timings.keys())),
        (tuple(a.commits), tuple(b.commits)),
        (tuple(a.machines), tuple(b.machines)),
        tuple(notes),
    )


def _change(name: str, a: Sequence[Pass], b: Sequence[Pass], bound: float, level: float, paired: bool) -> Change:
    passes = len(a), len(b)
    if min(passes) == 1:
        first, second, paired = _observations(a), _observations(b), False
    else:
        first, second = ([float(np.median(rounds)) for rounds in side] for side in (a, b))
    interval = pass_interval(first, second, confidence=level, paired=paired)
    if min(passes) == 1:  # nothing tells what the machine did between the two runs
        interval = Interval(interval.ratio, interval.low / DRIFT_MARGIN, interval.high * DRIFT_MARGIN)
    a_ms, b_ms = (float(np.exp(np.mean(np.log(side)))) for side in (first, second))
    return Change(name, a_ms, b_ms, passes, interval, _answer(interval, bound))


def _observations(side: Sequence[Pass]) -> list[float]:
    """The medians of several passes, or of up to BLOCKS stretches of a single one, two rounds or more in each."""
    if len(side) > 1:
        return [float(np.median(rounds)) for rounds in side]
    count = max(1, min(BLOCKS, len(side[0]) // 2))
    return [float(np.median(block)) for block in np.array_split(np.asarray(side[0]), count)]


def _answer(interval: Interval, bound: float) -> Answer:
    if interval.low > bound:
        return "slower"
    if interval.high < 1 / bound:
        return "faster"
    return "same" if interval.low >= 1 / bound and interval.high <= bound else "unclear"


def _some(side: Side) -> str:
    names = list(side.timings)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
