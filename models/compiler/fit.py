"""One linear step's scales: as many fraction bits as the range proof leaves, at the narrowest comparison."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sottovoce.engine.errors import RangeProofError
from sottovoce.engine.fixed import MAX_FRAC_BITS
from sottovoce.engine.program import MAX_TRUNC_BITS
from sottovoce.models.compiler import ranges
from sottovoce.models.compiler.affine import as_float64
from sottovoce.models.compiler.ranges import Bounds, Float, Interval, Quantised
from sottovoce.models.compiler.stages import Stage
from sottovoce.models.graph import Conv1d, Dense

PRODUCT_LIMIT = 2.0**62 - 2.0**33  # |z| before a truncation, with room for the truncation's own rounding
MAX_ACTIVATION_BITS = 30
SIGNIFICANT_BITS = 31
"""Bits of an activation, whole and fraction, beyond which the next layer's weights, left with fewer, lose more."""
MIN_WEIGHT_BITS = 10
MAX_WEIGHT_BITS = 30
SMALLER_BOX = "declare a smaller input box"
OR_CALIBRATE = f"{SMALLER_BOX}, or trust sample data instead of a proof (calibrate=, --calibrated)"


def refusal(name: str, what: str, most: int, need: int, advice: str = OR_CALIBRATE) -> RangeProofError:
    """The error for a layer that cannot be proven: bits that there are, bits that it would need, what can be done."""
    return RangeProofError(f"layer {name!r}: expected {what} of at most {most} bits, got {need} bits; {advice}")


def check_frac_bits(name: str, frac_bits: int) -> None:
    """Refuse a layer at a scale that a program cannot hold. Raises RangeProofError."""
    if frac_bits > MAX_FRAC_BITS:
        raise RangeProofError(
            f"layer {name!r}: expected at most {MAX_FRAC_BITS} fraction bits, got {frac_bits}; "
            "averages and leaky slopes add them: put a linear layer in between, or ask for fewer (input_frac_bits=)"
        )


@dataclass(frozen=True, slots=True)
class Rules:
    """What scales may be chosen from.

    compare_bits: candidates for m, ascending. least_bits: fraction bits that an activation keeps at least. observed:
    calibrated largest |z| by stage. first_linear: the first stage that calibration narrows.
    """

    compare_bits: tuple[int, ...]
    least_bits: int
    observed: dict[int, float]
    first_linear: int

    def advice(self, index: int) -> str:
        """What can be done when stage `index` is refused; calibration only if it is still to come, and narrows it."""
        return SMALLER_BOX if self.observed or index < self.first_linear else OR_CALIBRATE


@dataclass(frozen=True, slots=True)
class Fit:
    """A linear step's encoded weights, its product before and after truncation, and m (None: nothing is compared)."""

    quantised: Quantised
    product: Bounds
    value: Bounds
    compare_bits: int | None
    calibrated: bool

    @property
    def trunc_bits(self) -> int:
        """Bits that the truncation drops."""
        return self.product.frac_bits - self.value.frac_bits


class Products:
    """The bounds of a linear node's product for inputs within `x`, by fraction bits of the weight, computed once.

    observed: calibrated largest |z|, which the product is then clipped to.
    """

    def __init__(self, node: Conv1d | Dense, x: Bounds, observed: float | None) -> None:
        self.node = node
        self.x = x
        self.observed = observed
        self._weight, self._bias = as_float64(node.weight), bias_of(node)
        self._values: dict[int, tuple[Quantised, Interval]] = {}
        self._bounds: dict[int, Bounds] = {}
        self._carried: Interval | None = None
        self.largest_bias = float(abs(self._bias).max())
        self.largest = max(float(abs(self._weight).max()), self.largest_bias)

    def magnitude(self, weight_bits: int) -> float:
        """The largest |z| as an integer."""
        low, high = self._clipped(weight_bits)
        return float(max(abs(low).max(), abs(high).max()))

    def quantised(self, weight_bits: int) -> Quantised:
        """The encoded weights."""
        return self._interval(weight_bits)[0]

    def bounds(self, weight_bits: int) -> Bounds:
        """Values and errors."""
        if weight_bits not in self._bounds:
            q = self.quantised(weight_bits)
            if self._carried is None:
                self._carried = ranges.carried_errors(self.node, q, self.x)
            errors = ranges.linear_errors(self.node, q, self.x, self._carried)
            self._bounds[weight_bits] = Bounds(self.x.frac_bits + weight_bits, *self._clipped(weight_bits), *errors)
        return self._bounds[weight_bits]

    def clips(self, weight_bits: int) -> bool:
        """Whether the proven range is wider than the calibrated one."""
        low, high = self._interval(weight_bits)[1]
        limit = self._limit(weight_bits)
        return bool((low < -limit).any() or (high > limit).any())

    def _interval(self, weight_bits: int) -> tuple[Quantised, Interval]:
        if weight_bits not in self._values:
            q = ranges.quantise(self._weight, self._bias, self.x.frac_bits, weight_bits)
            self._values[weight_bits] = q, ranges.linear_values(self.node, q, self.x)
        return self._values[weight_bits]

    def _clipped(self, weight_bits: int) -> Interval:
        low, high = self._interval(weight_bits)[1]
        limit = self._limit(weight_bits)
        return np.clip(low, -limit, limit), np.clip(high, -limit, limit)

    def _limit(self, weight_bits: int) -> float:
        if self.observed is None:
            return math.inf
        return float(np.ceil(self.observed * 2.0 ** (self.x.frac_bits + weight_bits)))


def fit_linear(stage: Stage, products: Products, rules: Rules, cap: int, advice: str) -> Fit:
    """Scales for `stage` with at most `cap` activation bits. Raises RangeProofError, with the advice."""
    node, x = products.node, products.x
    growth_bits = math.ceil(math.log2(stage.growth)) if stage.last else 0
    check_frac_bits(node.name, x.frac_bits + MIN_WEIGHT_BITS + growth_bits)
    own = 63 - math.frexp(products.largest)[1]  # weights are ring elements too, whatever they multiply
    if own < MIN_WEIGHT_BITS:
        raise refusal(node.name, "weights", 64, 64 + MIN_WEIGHT_BITS - own, "make the model's weights smaller")
    size = products.magnitude(MAX_WEIGHT_BITS) * 2.0 ** -(x.frac_bits + MAX_WEIGHT_BITS)
    size = max(size, products.largest_bias, 2.0**-MAX_WEIGHT_BITS)
    limit = PRODUCT_LIMIT / (stage.growth if stage.last else 1)
    room = min(math.floor(math.log2(limit / size)) - x.frac_bits, own, MAX_FRAC_BITS - x.frac_bits - growth_bits)
    if room < MIN_WEIGHT_BITS:
        need = x.frac_bits + MIN_WEIGHT_BITS + math.ceil(math.log2(size * PRODUCT_LIMIT / limit)) + 1
        raise refusal(node.name, "a product", 63, max(need, 64), advice)
    if stage.last:
        for bits in range(min(MAX_WEIGHT_BITS, room), MIN_WEIGHT_BITS - 1, -1):
            if products.magnitude(bits) < limit:
                product = products.bounds(bits)
                return Fit(products.quantised(bits), product, product, None, products.clips(bits))
    cap = min(cap, max(rules.least_bits, SIGNIFICANT_BITS - math.ceil(math.log2(size))))
    for m in rules.compare_bits:
        value_limit = 2.0 ** (m - 1) / (stage.growth if stage.compared and not stage.relu else 1)
        bits = min(cap, math.floor(math.log2(value_limit / size)))
        found = _search(products, (limit, value_limit), (room, bits), rules.least_bits, m)
        if found is not None:
            return found
    widest = max(rules.compare_bits)
    need = rules.least_bits + math.ceil(math.log2(size * 2.0 ** (widest - 1) / value_limit)) + 1
    raise refusal(node.name, "values", widest, max(need, widest + 1), advice)


def _search(
    products: Products, limits: tuple[float, float], start: tuple[int, int], least_bits: int, m: int
) -> Fit | None:
    """Step down from the estimated (weight bits, activation bits) until the proof on the encoded integers holds."""
    (room, bits), in_bits = start, products.x.frac_bits
    while bits >= least_bits:
        weight_bits = min(MAX_WEIGHT_BITS, room, bits + MAX_TRUNC_BITS - in_bits)
        bits = min(bits, in_bits + weight_bits - 1)
        if weight_bits < MIN_WEIGHT_BITS or bits < least_bits:
            return None
        if products.magnitude(weight_bits) >= limits[0]:
            room = weight_bits - 1
            continue
        product = products.bounds(weight_bits)
        value = ranges.truncate(product, product.frac_bits - bits)
        if value.magnitude < limits[1]:
            return Fit(products.quantised(weight_bits), product, value, m, products.clips(weight_bits))
        bits -= 1
    return None


def bias_of(node: Conv1d | Dense) -> Float:
    """The bias in the program's shape: (out,), (c_out, 1) or (c_out, time_out)."""
    bias = as_float64(node.bias)
    return bias[:, None] if isinstance(node, Conv1d) and bias.ndim == 1 else bias
