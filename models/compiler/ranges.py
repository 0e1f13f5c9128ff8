"""The range proof and the error bound: what every element of every layer can be, for any input in the declared box.

`Bounds` holds, per element of one clip, an interval of the fixed-point *integer* and an interval of its error
(fixed-point value minus the real model's value). Both are propagated by interval arithmetic on the encoded integer
weights, not on the real ones, with the truncation's last place included.

The arithmetic is float64 with every rounding error counted: a sum of n products is off by at most n * 2^-52 times the
sum of the absolute products (the standard bound, doubled), which is added outwards. So the intervals are proofs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sottovoce.models.evaluate import conv1d, windows
from sottovoce.models.graph import Conv1d, Dense, MaxPool, SumPool

Float = NDArray[np.float64]
Interval = tuple[Float, Float]
UNIT = 2.0**-52  # twice float64's unit round-off


@dataclass(frozen=True, slots=True)
class Bounds:
    """low <= integer <= high, error_low <= integer / 2**frac_bits - real <= error_high, error_low <= 0 <= error_high.

    Derived from secret weights, so kept out of every repr.
    """

    frac_bits: int
    low: Float
    high: Float
    error_low: Float
    error_high: Float

    def __repr__(self) -> str:
        return f"Bounds(shape={self.low.shape}, frac_bits={self.frac_bits})"

    @property
    def magnitude(self) -> float:
        """The largest absolute integer."""
        return float(max(abs(self.low).max(), abs(self.high).max()))

    @property
    def error(self) -> float:
        """The largest absolute error, as a real number."""
        return float(max(abs(self.error_low).max(), abs(self.error_high).max()))


@dataclass(frozen=True, slots=True)
class Quantised:
    """A linear map with its encoded integers and what encoding changed.

    weight, bias: integers (held exactly in float64); weight_error, bias_error: encoded minus real value.
    """

    weight_frac_bits: int
    weight: Float
    bias: Float
    real_weight: Float
    weight_error: Float
    bias_error: Float

    def __repr__(self) -> str:
        return f"Quantised(shape={self.weight.shape}, weight_frac_bits={self.weight_frac_bits})"


def quantise(weight: Float, bias: Float, in_frac_bits: int, weight_frac_bits: int) -> Quantised:
    """Round half to even, as engine.fixed.encode does; the bias gets the product's fraction bits."""
    unit, bias_unit = 2.0**-weight_frac_bits, 2.0 ** -(in_frac_bits + weight_frac_bits)
    integers, bias_integers = np.rint(weight / unit), np.rint(bias / bias_unit)  # powers of two: exact quotients
    return Quantised(
        weight_frac_bits, integers, bias_integers, weight, integers * unit - weight, bias_integers * bias_unit - bias
    )


def input_bounds(low: Float, high: Float, frac_bits: int) -> Bounds:
    """A feature x in [low, high] becomes round(x * 2**frac_bits): off by half a unit at most."""
    half = np.full(low.shape, 2.0 ** -(frac_bits + 1))
    return Bounds(frac_bits, np.rint(low * 2.0**frac_bits), np.rint(high * 2.0**frac_bits), -half, half)


def linear(node: Conv1d | Dense, q: Quantised, x: Bounds) -> Bounds:
    """Bounds of weight * x + bias before truncation."""
    low, high = linear_values(node, q, x)
    return Bounds(x.frac_bits + q.weight_frac_bits, low, high, *linear_errors(node, q, x, carried_errors(node, q, x)))


def linear_values(node: Conv1d | Dense, q: Quantised, x: Bounds) -> Interval:
    """The integers of weight * x + bias."""
    low, high = _interval(node, q.weight, x.low, x.high)
    return np.floor(_down(low + q.bias, q.bias, low)), np.ceil(_up(high + q.bias, q.bias, high))


def carried_errors(node: Conv1d | Dense, q: Quantised, x: Bounds) -> Interval:
    """What the input's error becomes; the same for all scales of the weight."""
    return _interval(node, q.real_weight, x.error_low, x.error_high)


def linear_errors(node: Conv1d | Dense, q: Quantised, x: Bounds, carried: Interval) -> Interval:
    """y_fixed - y = W (x_fixed - x) + (W_encoded - W) x_fixed + (b_encoded - b); the first term is `carried`."""
    scale = 2.0**-x.frac_bits
    own = _interval(node, q.weight_error, x.low * scale, x.high * scale)
    low, high = (c + o + q.bias_error for c, o in zip(carried, own, strict=True))
    return (
        np.minimum(_down(low, carried[0], own[0], q.bias_error), 0),
        np.maximum(_up(high, carried[1], own[1], q.bias_error), 0),
    )


def _interval(node: Conv1d | Dense, weight: Float, low: Float, high: Float) -> Interval:
    """Outward-rounded interval of weight * x for x in [low, high], from centre and radius."""
    centre, radius = (low + high) * 0.5, (high - low) * 0.5
    size = np.abs(weight)
    middle, spread = _product(node, weight, centre), _product(node, size, radius)
    rows = size.reshape(len(weight), -1).sum(axis=1)
    mass = rows.reshape(-1, *[1] * (middle.ndim - 1)) * abs(centre).max()  # at least the sum of absolute products
    terms = weight.size // weight.shape[0]
    slack = (terms + 8) * UNIT * (mass + spread)
    return middle - spread - slack, middle + spread + slack


def _product(node: Conv1d | Dense, weight: Float, x: Float) -> Float:
    return weight @ x if isinstance(node, Dense) else conv1d(node, weight, x[None])[0]


def truncate(x: Bounds, bits: int) -> Bounds:
    """floor(v / 2**bits) + {0, 1}: the last place depends on the shares."""
    if bits == 0:
        return x
    frac_bits = x.frac_bits - bits
    unit = 2.0**-frac_bits
    return Bounds(
        frac_bits,
        np.floor(x.low * 2.0**-bits),
        np.floor(x.high * 2.0**-bits) + 1,
        _down(x.error_low - unit, x.error_low),
        _up(x.error_high + unit, x.error_high),
    )


def relu(x: Bounds) -> Bounds:
    """ReLU never enlarges a difference, and an element that cannot be positive has none."""
    unit = 2.0**-x.frac_bits
    most = np.maximum(x.high, 0) * unit  # the fixed-point result is at most this
    most_real = np.maximum(_up(x.high * unit - x.error_low, x.high * unit), 0)  # and the real one at most this
    return Bounds(
        x.frac_bits,
        np.maximum(x.low, 0),
        np.maximum(x.high, 0),
        -np.minimum(-x.error_low, most_real),
        np.minimum(x.error_high, most),
    )


def leaky_relu(x: Bounds, slope: float, numerator: int, bits: int) -> Bounds:
    """max(x, 0) + s min(x, 0) with s = numerator / 2**bits, as integers with `bits` more fraction bits.

    The error is what the input's error becomes, at least by the smallest and at most by the largest slope that
    occurs, and (s - slope) min(x, 0).
    """
    unit, encoded = 2.0**-x.frac_bits, numerator * 2.0**-bits
    scale = 2.0**bits
    ends = [np.maximum(v, 0) * scale + np.minimum(v, 0) * numerator for v in (x.low, x.high)]
    kink = [np.where((x.low < 0) & (x.high > 0), 0.0, end) for end in ends]
    below = np.minimum(x.low, 0) * unit
    # The real value lies in [x.low - error_high, x.high - error_low].
    positive = _up(x.high * unit - x.error_low, x.high * unit, x.error_low) > 0
    negative = _down(x.low * unit - x.error_high, x.low * unit, x.error_high) < 0
    least = np.where(positive & negative, min(1.0, slope), np.where(negative, slope, 1.0))
    most = np.where(positive & negative, max(1.0, slope), np.where(negative, slope, 1.0))
    changes = [q * e for q in (least, most) for e in (x.error_low, x.error_high)]
    rounding = (encoded - slope) * below
    largest = abs(rounding) + np.maximum.reduce([abs(c) for c in changes])
    low = np.minimum.reduce(changes) + np.minimum(rounding, 0)
    high = np.maximum.reduce(changes) + np.maximum(rounding, 0)
    return Bounds(
        x.frac_bits + bits,
        np.floor(_down(np.minimum.reduce([*ends, *kink]))),
        np.ceil(_up(np.maximum.reduce([*ends, *kink]))),
        np.minimum(_down(low, largest), 0),
        np.maximum(_up(high, largest), 0),
    )


def sum_pool(x: Bounds, node: SumPool) -> Bounds:
    """Window sums; a divisor 2^k is k more fraction bits."""

    def sums(values: Float) -> Float:
        return np.asarray(windows(values, node.kernel, node.stride, node.padding).sum(axis=-1))

    slack = (node.kernel + 4) * UNIT
    low, high = sums(x.low), sums(x.high)
    low_slack, high_slack = slack * sums(abs(x.low)), slack * sums(abs(x.high))
    return Bounds(
        x.frac_bits + node.divisor.bit_length() - 1,
        np.floor(low - low_slack),
        np.ceil(high + high_slack),
        sums(x.error_low) / node.divisor * (1 + slack),
        sums(x.error_high) / node.divisor * (1 + slack),
    )


def max_pool(x: Bounds, node: MaxPool) -> Bounds:
    """Window maxima; the error of a maximum is at most the largest error in its window."""

    def over(values: Float, fill: float) -> Float:
        return windows(values, node.kernel, node.stride, node.padding, fill=fill)

    return Bounds(
        x.frac_bits,
        np.asarray(over(x.low, -np.inf).max(axis=-1)),
        np.asarray(over(x.high, -np.inf).max(axis=-1)),
        np.asarray(over(x.error_low, np.inf).min(axis=-1)),
        np.asarray(over(x.error_high, -np.inf).max(axis=-1)),
    )


def window_spread(x: Bounds, node: MaxPool) -> float:
    """The largest difference between two elements of one window."""
    high = windows(x.high, node.kernel, node.stride, node.padding, fill=-np.inf).max(axis=-1)
    low = windows(x.low, node.kernel, node.stride, node.padding, fill=np.inf).min(axis=-1)
    return float((high - low).max())


def reshape(x: Bounds, shape: tuple[int, ...]) -> Bounds:
    """Row-major."""
    return Bounds(x.frac_bits, *(v.reshape(shape) for v in (x.low, x.high, x.error_low, x.error_high)))


def transpose(x: Bounds) -> Bounds:
    """(channels, time) to (time, channels)."""
    return Bounds(x.frac_bits, *(v.T for v in (x.low, x.high, x.error_low, x.error_high)))


def clip(x: Bounds, largest: float) -> Bounds:
    """Calibration: trust that no element's real value exceeds `largest` in absolute value."""
    limit = np.ceil(largest * 2.0**x.frac_bits)
    return Bounds(x.frac_bits, np.clip(x.low, -limit, limit), np.clip(x.high, -limit, limit), x.error_low, x.error_high)


def differences(node: Dense, q: Quantised, x: Bounds) -> tuple[float, float]:
    """Largest |l_i - l_j| as an integer, and largest error of l_i - l_j, over all pairs of the last dense layer's rows.

    Taken through W_i - W_j, so that what all classes have in common cancels.
    """
    largest, error = 0.0, 0.0
    for i in range(q.weight.shape[0] - 1):
        rest = slice(i + 1, None)
        parts = [np.asarray(v[i] - v[rest]) for v in (q.weight, q.bias, q.real_weight, q.weight_error, q.bias_error)]
        pair = linear(node, Quantised(q.weight_frac_bits, *parts), x)
        largest, error = max(largest, pair.magnitude), max(error, pair.error)
    return largest, error


def plain_differences(logits: Bounds) -> tuple[float, float]:
    """The same for logits that are not the rows of a dense layer: from each logit's own bounds, looser."""
    high, low = logits.high, logits.low
    pairs = ~np.eye(high.size, dtype=bool)
    spread = (high[:, None] - low[None, :])[pairs].max(initial=0)
    error = (logits.error_high[:, None] - logits.error_low[None, :])[pairs].max(initial=0)
    return float(spread), float(_up(error, error))


def _up(value: Any, *parts: Any) -> Any:
    """`value`, computed from `parts` with a few roundings, moved up by more than they can be wrong."""
    return value + 8 * UNIT * sum(abs(part) for part in parts) + 8 * UNIT * abs(value)


def _down(value: Any, *parts: Any) -> Any:
    """The same, down."""
    return value - 8 * UNIT * sum(abs(part) for part in parts) - 8 * UNIT * abs(value)
