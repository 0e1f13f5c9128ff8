"""Interval arithmetic against exact integers, and its edge cases."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from sottovoce.models.compiler import ranges
from sottovoce.models.compiler.ranges import Bounds
from sottovoce.models.graph import Conv1d, Dense, MaxPool, SumPool


def bounds(low, high, error=0.0, frac_bits=0) -> Bounds:
    low, high = np.asarray(low, dtype=float), np.asarray(high, dtype=float)
    errors = np.full(low.shape, error)
    return Bounds(frac_bits, low, high, -errors, errors)


def exact_interval(weight, bias, low, high):
    """Row by row in Python integers."""
    out = []
    for row, b in zip(weight.tolist(), bias.tolist(), strict=True):
        ends = [
            (int(w) * int(lo), int(w) * int(hi)) for w, lo, hi in zip(row, low.tolist(), high.tolist(), strict=True)
        ]
        out.append((int(b) + sum(map(min, ends)), int(b) + sum(map(max, ends))))
    return out


@pytest.mark.parametrize("bits", [4, 20, 31])
def test_a_dense_layer_is_enclosed_and_tightly(rng, bits):
    size = 2.0**bits
    weight = rng.normal(size=(6, 300))
    bias = rng.normal(size=6)
    low = np.rint(rng.uniform(-size, 0, 300))
    high = low + np.rint(rng.uniform(0, size, 300))
    q = ranges.quantise(weight, bias, 0, 30)
    found = ranges.linear(Dense("d", weight, bias), q, bounds(low, high))
    for i, (exact_low, exact_high) in enumerate(exact_interval(q.weight, q.bias, low, high)):
        assert int(found.low[i]) <= exact_low and exact_high <= int(found.high[i])
        room = 2 + (exact_high - exact_low) // 10**9
        assert exact_low - int(found.low[i]) <= room and int(found.high[i]) - exact_high <= room


def test_a_padded_grouped_convolution_is_enclosed_by_its_own_corners(rng):
    """Every element's bound is reached by one corner of the box, padding included: the interval is the exact one."""
    weight = np.rint(rng.normal(size=(4, 2, 3)) * 50)
    node = Conv1d("c", weight, np.rint(rng.normal(size=(4, 7)) * 9), 1, (2, 0), 1, 2)
    low, high = np.full((4, 7), -3.0), np.full((4, 7), 5.0)
    found = ranges.linear(node, ranges.quantise(weight, node.bias, 0, 0), bounds(low, high))
    for o, t in np.ndindex(found.low.shape):
        total = [node.bias[o, t]] * 2
        for c, k in np.ndindex(2, 3):
            if 0 <= t + k - 2 < 7:
                ends = sorted((weight[o, c, k] * -3, weight[o, c, k] * 5))
                total = [total[0] + ends[0], total[1] + ends[1]]
        assert total[0] - 1 <= found.low[o, t] <= total[0]
        assert total[1] <= found.high[o, t] <= total[1] + 1


def test_encoding_errors_are_exact(rng):
    weight, bias = rng.normal(size=(3, 4)), rng.normal(size=3)
    q = ranges.quantise(weight, bias, 5, 9)
    for integer, real, error in zip(q.weight.ravel(), weight.ravel(), q.weight_error.ravel(), strict=True):
        assert Fraction(integer) / 2**9 - Fraction(real) == Fraction(error)
        assert abs(error) <= 2.0**-10
    assert np.all(abs(q.bias_error) <= 2.0**-15)


def test_truncation_covers_both_last_places_of_negative_and_positive_values():
    found = ranges.truncate(bounds([-5.0, 5.0, -8.0], [-5.0, 5.0, 8.0], frac_bits=4), 2)
    assert found.frac_bits == 2
    assert found.low.tolist() == [-2, 1, -2]
    assert found.high.tolist() == [-1, 2, 3]
    assert np.all(found.error_high >= 0.25) and np.all(found.error_high < 0.2501)


def test_relu_keeps_no_error_where_nothing_is_positive():
    found = ranges.relu(bounds([-9.0, -9.0, 1.0], [-5.0, 9.0, 9.0], error=0.5))
    assert found.low.tolist() == [0, 0, 1] and found.high.tolist() == [0, 9, 9]
    assert (found.error_low[0], found.error_high[0]) == (0, 0)
    assert found.error_high[1:].tolist() == [0.5, 0.5] and found.error_low[1:].tolist() == [-0.5, -0.5]


def test_relu_error_when_only_the_real_value_may_be_positive():
    found = ranges.relu(bounds([-3.0], [-1.0], error=1.5))
    assert found.error_high[0] == 0
    assert 0.5 <= -found.error_low[0] < 0.5 + 1e-9


@pytest.mark.parametrize("slope", [0.01, 0.0, 0.3, 1.5, -0.5])
@pytest.mark.parametrize("bits", [0, 3, 12])
def test_leaky_relu_encloses_every_value_and_error_and_the_interval_is_the_exact_one(rng, slope, bits):
    """All integers of small intervals, and real values at both ends of their error."""
    low = rng.integers(-40, 40, 60).astype(float)
    high = low + rng.integers(0, 30, 60)
    error_low, error_high = -rng.uniform(0, 3, 60), rng.uniform(0, 3, 60)
    numerator = round(slope * 2**bits)
    found = ranges.leaky_relu(Bounds(2, low, high, error_low, error_high), slope, numerator, bits)
    assert found.frac_bits == 2 + bits
    for i in range(60):
        integers = np.arange(low[i], high[i] + 1)
        values = np.where(integers >= 0, integers * 2**bits, integers * numerator)
        assert found.low[i] <= values.min() <= found.low[i] + 1 and found.high[i] - 1 <= values.max() <= found.high[i]
        for error in (error_low[i], 0.0, error_high[i]):
            real = integers / 4 - error
            off = values * 2.0 ** -(2 + bits) - np.where(real >= 0, real, slope * real)
            assert np.all(off >= found.error_low[i] - 1e-12) and np.all(off <= found.error_high[i] + 1e-12)


def test_a_leaky_relu_s_error_is_not_far_from_the_worst_one():
    """Below zero the error shrinks with the slope; the slope's own rounding shows in proportion to the value."""
    found = ranges.leaky_relu(bounds([-9.0, -9.0, 1.0], [-5.0, 9.0, 9.0], error=0.5), 0.25, 1, 2)
    np.testing.assert_allclose(found.error_high, [0.125, 0.5, 0.5], rtol=1e-9)
    rounded = ranges.leaky_relu(bounds([-8.0], [-5.0]), 0.3, 1, 2)
    np.testing.assert_allclose([rounded.error_low, rounded.error_high], [[0.0], [0.4]], atol=1e-9)


def test_a_transpose_moves_all_four_bounds():
    x = Bounds(3, *np.arange(24.0).reshape(4, 2, 3))
    turned = ranges.transpose(x)
    assert turned.frac_bits == 3 and turned.low.shape == (3, 2)
    assert np.array_equal(turned.error_high.T, x.error_high) and np.array_equal(turned.high.T, x.high)


def test_pools():
    x = bounds([[-1.0, 2.0, -3.0, 4.0]], [[0.0, 5.0, 1.0, 6.0]], error=0.5)
    sums = ranges.sum_pool(x, SumPool("s", 2, 2, (1, 1), 2))
    assert sums.frac_bits == 1
    assert np.all(sums.low <= [[-1, -1, 4]]) and np.all(sums.low >= [[-2, -2, 3]])
    assert np.all(sums.high >= [[0, 6, 6]]) and np.all(sums.high <= [[1, 7, 7]])
    np.testing.assert_allclose(sums.error_high, [[0.25, 0.5, 0.25]])
    node = MaxPool("m", 2, 2, (1, 1))
    most = ranges.max_pool(x, node)
    assert (most.low.tolist(), most.high.tolist()) == ([[-1, 2, 4]], [[0, 5, 6]])
    assert np.all(most.error_high == 0.5)
    assert ranges.window_spread(x, node) == 8


def test_differences_cancel_what_all_classes_have_in_common():
    common = np.full(50, 0.3)
    weight = np.stack([common, common + np.eye(50)[0] * 0.1])
    node = Dense("d", weight, np.zeros(2))
    q = ranges.quantise(weight, node.bias, 16, 20)
    x = bounds(np.zeros(50), np.full(50, 2.0**20), error=0.01, frac_bits=16)
    spread, error = ranges.differences(node, q, x)
    alone = ranges.linear(node, q, x)
    assert spread * 2.0**-36 == pytest.approx(1.6, rel=1e-4)
    assert alone.magnitude * 2.0**-36 > 200
    assert 0.001 < error < 0.0011
    loose_spread, loose_error = ranges.plain_differences(alone)
    assert loose_spread > spread and loose_error > error


def test_calibration_clips():
    found = ranges.clip(bounds([-100.0, 3.0], [7.0, 90.0], frac_bits=2), 5.0)
    assert found.low.tolist() == [-20, 3] and found.high.tolist() == [7, 20]


def test_bounds_show_nothing_of_the_weights():
    assert "123" not in repr(bounds([123.0], [123.0]))
