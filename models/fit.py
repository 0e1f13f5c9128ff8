"""One linear step's scales: as many fraction bits as the range proof leaves, at the narrowest comparison."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sottovoce.engine.errors import RangeProofError
from sottovoce.engine.fixed import MAX_FRAC_BITS
from sottovoce.engine.program import MAX_TRUNC_BITS
from sottovoce.models import ranges
from sottovoce.models.graph import Conv1d, Dense
from sottovoce.models.ranges import Bounds, Float, Quantised
from sottovoce.models.stages import Stage

PRODUCT_LIMIT = 2.0**62 - 2.0**33  # |z| before a truncation, with room for the truncation's own rounding
MIN_ACTIVATION_BITS = 16
MAX_ACTIVATION_BITS = 24
MIN_WEIGHT_BITS = 10
MAX_WEIGHT_BITS = 30


@dataclass(frozen=True, slots=True)
class Fit:
    """A linear step's encoded weights, its product before and after truncation, and m (None: nothing is compared)."""

    quantised: Quantised
    product: Bounds
    value: Bounds
    compare_bits: int | None

    @property
    def trunc_bits(self) -> int:
        """Bits that the truncation drops."""
        return self.product.frac_bits - self.value.frac_bits


def fit_linear(stage: Stage, x: Bounds, choices: tuple[int, ...], cap: int, observed: float | None) -> Fit:
    """Scales for `stage` on inputs within `x`; at most `cap` activation bits. Raises RangeProofError."""
    node = stage.node
    if not isinstance(node, Conv1d | Dense):
        raise TypeError(f"expected a linear stage, got {type(node).__name__}")
    trial = _product(node, x, MAX_WEIGHT_BITS, observed)[1]
    size = max(trial.magnitude * 2.0**-trial.frac_bits, float(abs(node.bias).max()), 2.0**-MAX_WEIGHT_BITS)
    limit = PRODUCT_LIMIT / (stage.growth if stage.last else 1)
    room = math.floor(math.log2(limit / size)) - x.frac_bits
    spare = MAX_FRAC_BITS - x.frac_bits - (math.ceil(math.log2(stage.growth)) if stage.last else 0)
    if room < MIN_WEIGHT_BITS:
        need = x.frac_bits + MIN_WEIGHT_BITS + math.ceil(math.log2(size * PRODUCT_LIMIT / limit)) + 1
        raise RangeProofError(f"layer {node.name!r}: expected a product of at most 63 bits, got one of {need} bits")
    room = min(room, spare)
    if stage.last:
        for bits in range(min(MAX_WEIGHT_BITS, room), MIN_WEIGHT_BITS - 1, -1):
            quantised, product = _product(node, x, bits, observed)
            if product.magnitude < limit:
                return Fit(quantised, product, product, None)
    for m in choices:
        value_limit = 2.0 ** (m - 1) / (2 * stage.growth if stage.compared and not stage.relu else 1)
        bits = min(cap, math.floor(math.log2(value_limit / size)))
        found = _search(node, x, (limit, value_limit), (room, bits), m, observed)
        if found is not None:
            return found
    need = MIN_ACTIVATION_BITS + math.ceil(math.log2(size * 2.0 ** (max(choices) - 1) / value_limit)) + 1
    raise RangeProofError(f"layer {node.name!r}: expected values of at most {max(choices)} bits, got {need} bits")


def _search(
    node: Conv1d | Dense, x: Bounds, limits: tuple[float, float], start: tuple[int, int], m: int, observed: float | None
) -> Fit | None:
    """Step down from the estimated (weight bits, activation bits) until the proof on the encoded integers holds."""
    room, bits = start
    while bits >= MIN_ACTIVATION_BITS:
        weight_bits = min(MAX_WEIGHT_BITS, room, bits + MAX_TRUNC_BITS - x.frac_bits)
        bits = min(bits, x.frac_bits + weight_bits - 1)
        if weight_bits < MIN_WEIGHT_BITS or bits < MIN_ACTIVATION_BITS:
            return None
        quantised, product = _product(node, x, weight_bits, observed)
        value = ranges.truncate(product, product.frac_bits - bits)
        if product.magnitude >= limits[0]:
            room = weight_bits - 1
        elif value.magnitude >= limits[1]:
            bits -= 1
        else:
            return Fit(quantised, product, value, m)
    return None


def _product(node: Conv1d | Dense, x: Bounds, weight_bits: int, observed: float | None) -> tuple[Quantised, Bounds]:
    quantised = ranges.quantise(_f64(node.weight), bias_of(node), x.frac_bits, weight_bits)
    product = ranges.linear(node, quantised, x)
    return quantised, product if observed is None else ranges.clip(product, observed)


def bias_of(node: Conv1d | Dense) -> Float:
    """The bias in the program's shape: (out,), (c_out, 1) or (c_out, time_out)."""
    bias = _f64(node.bias)
    return bias[:, None] if isinstance(node, Conv1d) and bias.ndim == 1 else bias


def _f64(values: Float) -> Float:
    return np.asarray(values, dtype=np.float64)
