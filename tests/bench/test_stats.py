"""Summaries and intervals: known values, and coverage by simulation (seeded: the same in every run)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from sottovoce.bench.stats import Interval, pass_interval, ratio_interval, student_quantile, summarise
from sottovoce.engine.errors import ConfigError

RATIO = 1.3


def test_summary_of_known_values() -> None:
    summary = summarise([5, 1, 2, 4, 3])
    assert (summary.n, summary.median, summary.lower, summary.upper) == (5, 3, 2, 4)
    assert (summary.smallest, summary.largest) == (1, 5)


@pytest.mark.parametrize("values", [[], [1.0, float("nan")], [float("inf")]])
def test_summary_refuses_what_has_no_median(values: list[float]) -> None:
    with pytest.raises(ConfigError, match="finite"):
        summarise(values)


@pytest.mark.parametrize(
    ("probability", "dof", "expected"),
    # From the tables of Student's distribution, and for the far tail scipy.stats.t.ppf.
    [(0.975, 1, 12.7062), (0.975, 4, 2.77645), (0.995, 2, 9.92484), (0.95, 30, 1.69726), (0.99985, 4, 11.7513)],
)
def test_student_quantiles(probability: float, dof: float, expected: float) -> None:
    assert student_quantile(probability, dof) == pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize("interval", [ratio_interval, pass_interval])
def test_ratio_is_b_over_a_and_reproducible(interval: Callable[..., Interval]) -> None:
    a, b = [1.0, 2.0, 4.0], [10.0, 20.0, 40.0]
    found = interval(a, b)
    assert found.ratio == pytest.approx(10)
    assert found.low < 10 < found.high
    assert interval(a, b) == found
    back = interval(b, a)
    assert back.low == pytest.approx(1 / found.high, rel=0.02) and back.high == pytest.approx(1 / found.low, rel=0.02)
    assert interval(a, b, confidence=0.5).high <= found.high


@pytest.mark.parametrize("interval", [ratio_interval, pass_interval])
def test_pairs_forget_what_they_share(interval: Callable[..., Interval], rng: np.random.Generator) -> None:
    mood = np.exp(rng.normal(0, 1, 12))
    a, b = mood * np.exp(rng.normal(0, 0.01, 12)), RATIO * mood * np.exp(rng.normal(0, 0.01, 12))
    paired, unpaired = interval(a, b, paired=True), interval(a, b)
    assert paired.high / paired.low < 1.05 < unpaired.high / unpaired.low
    with pytest.raises(ConfigError, match="12 and 11"):
        interval(a, b[1:], paired=True)


def test_even_number_of_values() -> None:
    assert ratio_interval([1, 3], [4, 4]).ratio == pytest.approx(2)


def test_one_pass_says_nothing() -> None:
    for paired in (False, True):
        found = pass_interval([1.0], [2.0], paired=paired)
        assert (found.ratio, found.low, found.high) == (2.0, 0.0, float("inf"))


def test_a_ratio_needs_positive_values() -> None:
    with pytest.raises(ConfigError, match="positive"):
        ratio_interval([0.0, 1.0], [1.0, 2.0])


def lognormal(rng: np.random.Generator, n: int) -> np.ndarray:
    return np.exp(rng.normal(0, 0.1, n))


def spiky(rng: np.random.Generator, n: int) -> np.ndarray:
    return 1 + 0.02 * rng.exponential(size=n) + (rng.random(n) < 0.2) * rng.exponential(0.5, n)


@pytest.mark.parametrize("noise", [lognormal, spiky])
@pytest.mark.parametrize(
    ("interval", "n", "paired", "least"),
    # Least share of hits: what the docstrings say, less three standard errors of 100 runs.
    [
        (ratio_interval, 20, False, 0.90),
        (ratio_interval, 20, True, 0.84),
        (pass_interval, 5, False, 0.88),
        (pass_interval, 5, True, 0.88),
    ],
)
def test_coverage(
    interval: Callable[..., Interval],
    n: int,
    paired: bool,
    least: float,
    noise: Callable[[np.random.Generator, int], np.ndarray],
    rng: np.random.Generator,
) -> None:
    hits = 0
    for _ in range(100):
        mood = lognormal(rng, n) if paired else 1
        found = interval(mood * noise(rng, n), RATIO * mood * noise(rng, n), paired=paired)
        hits += found.low <= RATIO <= found.high
    assert least <= hits / 100
