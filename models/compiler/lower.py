"""One stage of a model at given scales: its program step, what its values can be, and how wrong they are."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from sottovoce.engine import program as ir
from sottovoce.engine.errors import ModelError
from sottovoce.models.compiler import ranges
from sottovoce.models.compiler.fit import PRODUCT_LIMIT, Fit, Products, Rules, check_frac_bits, fit_linear, refusal
from sottovoce.models.compiler.ranges import Bounds
from sottovoce.models.compiler.stages import Stage
from sottovoce.models.graph import Conv1d, Dense, LeakyRelu, MaxPool, Relu, Reshape, SumPool, Transpose, output_shape

EXACT_SLOPE_BITS = 4
"""A slope below zero with at most so many fraction bits is exact, and its bits stay in the result."""
ROUNDED_SLOPE_BITS = 30
"""Any other is rounded to so many, if |z| < 2^62 leaves them, and the result is truncated by as many."""
MAX_WHOLE_SLOPE_BITS = 16


@dataclass(frozen=True, slots=True)
class Lowered:
    """A program step and the bounds after it; for a linear step also what its scales were chosen from."""

    step: ir.Step
    after: Bounds
    fit: Fit | None = field(default=None, repr=False)
    products: Products | None = field(default=None, repr=False)

    @property
    def compare_bits(self) -> int | None:
        """m, where the step compares."""
        if isinstance(self.step, ir.Linear):
            return self.step.compare_bits if self.step.relu else None
        return self.step.compare_bits if isinstance(self.step, ir.Relu | ir.MaxPool) else None


def lower(index: int, stage: Stage, x: Bounds, cap: int, rules: Rules, products: Products | None = None) -> Lowered:
    """Stage `index` on inputs within `x`. Raises RangeProofError that names the layer.

    cap: the most activation bits of a linear stage. products: of an earlier call with the same stage and x.
    """
    node, advice = stage.node, rules.advice(index)
    if isinstance(node, Conv1d | Dense):
        products = products or Products(node, x, rules.observed.get(index))
        fit = fit_linear(stage, products, rules, cap, advice)
        after = _pooled(ranges.relu(fit.value) if stage.relu else fit.value, stage)
        found = Lowered(_linear_step(stage, fit, x.low.shape, after), after, fit, products)
    else:
        found = _without_weights(stage, x, rules.compare_bits, advice)
    require(node.name, found.after.magnitude, advice)
    return found


def require(name: str, magnitude: float, advice: str) -> None:
    """Raise RangeProofError unless magnitude < 2^62."""
    if magnitude >= 2.0**62:
        raise refusal(name, "values", 63, math.frexp(magnitude)[1] + 1, advice)


def narrowest(name: str, magnitude: float, choices: tuple[int, ...], advice: str) -> int:
    """The smallest m with magnitude < 2^(m-1). Raises RangeProofError."""
    for m in choices:
        if magnitude < 2.0 ** (m - 1):
            return m
    raise refusal(name, "compared values", max(choices), math.frexp(magnitude)[1] + 1, advice)


def _pooled(x: Bounds, stage: Stage) -> Bounds:
    return x if stage.pool is None else ranges.sum_pool(x, stage.pool)


def _linear_step(stage: Stage, fit: Fit, in_shape: ir.Shape, after: Bounds) -> ir.Linear:
    node, q = stage.node, fit.quantised
    geometry = (
        (node.stride, node.padding, node.dilation, node.groups) if isinstance(node, Conv1d) else (1, (0, 0), 1, 1)
    )
    return ir.Linear(
        node.name,
        "conv1d" if isinstance(node, Conv1d) else "dense",
        in_shape,
        after.low.shape,
        after.frac_bits,
        ir.TensorSpec(f"{node.name}.weight", q.weight.shape, q.weight_frac_bits),
        ir.TensorSpec(f"{node.name}.bias", q.bias.shape, fit.product.frac_bits),
        *geometry,
        trunc_bits=fit.trunc_bits,
        relu=stage.relu,
        compare_bits=fit.compare_bits if stage.relu and fit.compare_bits else 64,
        sum_pool=None if stage.pool is None else _window(stage.pool),
    )


def _without_weights(stage: Stage, x: Bounds, choices: tuple[int, ...], advice: str) -> Lowered:
    node, in_shape = stage.node, x.low.shape
    if isinstance(node, Relu | LeakyRelu):
        m = narrowest(node.name, x.magnitude, choices, advice)
        numerator, bits, drop = _slope(node, x, stage) if isinstance(node, LeakyRelu) else (0, 0, 0)
        after = ranges.leaky_relu(x, node.slope, numerator, bits) if isinstance(node, LeakyRelu) else ranges.relu(x)
        after = _pooled(after, stage)
        require(node.name, after.magnitude, advice)
        after = ranges.truncate(after, drop)
        window = None if stage.pool is None else _window(stage.pool)
        check_frac_bits(node.name, after.frac_bits)
        step: ir.Step = ir.Relu(
            node.name, in_shape, after.low.shape, after.frac_bits, m, window, numerator, bits, trunc_bits=drop
        )
    elif isinstance(node, MaxPool):
        m = narrowest(node.name, ranges.window_spread(x, node), choices, advice)
        after = ranges.max_pool(x, node)
        step = ir.MaxPool(node.name, in_shape, after.low.shape, after.frac_bits, _window(node), m)
    elif isinstance(node, SumPool):
        after = ranges.sum_pool(x, node)
        check_frac_bits(node.name, after.frac_bits)
        step = ir.SumPool(node.name, in_shape, after.low.shape, after.frac_bits, _window(node))
    elif isinstance(node, Reshape):
        after = ranges.reshape(x, output_shape(node, in_shape))
        step = ir.Reshape(node.name, in_shape, after.low.shape, after.frac_bits)
    elif isinstance(node, Transpose):
        after = ranges.transpose(x)
        step = ir.Transpose(node.name, in_shape, after.low.shape, after.frac_bits)
    else:
        raise ModelError(f"layer {node.name!r}: expected a layer that the compiler knows, got {type(node).__name__}")
    return Lowered(step, after)


def _slope(node: LeakyRelu, x: Bounds, stage: Stage) -> tuple[int, int, int]:
    """(numerator, bits, bits to truncate): a slope of few bits is exact, any other as near as |z| < 2^62 allows."""
    if abs(node.slope) >= 2.0**MAX_WHOLE_SLOPE_BITS:
        raise ModelError(f"layer {node.name!r}: expected a slope below 2^{MAX_WHOLE_SLOPE_BITS}, got {node.slope:g}")
    numerator, bits = _dyadic(node.slope, EXACT_SLOPE_BITS)
    if numerator * 2.0**-bits == node.slope:
        return numerator, bits, 0
    most = x.magnitude * max(1.0, abs(node.slope)) * (1 if stage.pool is None else stage.pool.kernel)
    room = math.floor(math.log2(PRODUCT_LIMIT / max(most, 1.0)))
    whole = max(0, math.frexp(node.slope)[1])  # a program's numerator has 30 bits at most
    numerator, bits = _dyadic(node.slope, max(0, min(ROUNDED_SLOPE_BITS - whole, room)))
    return numerator, bits, bits


def _dyadic(slope: float, bits: int) -> tuple[int, int]:
    """(numerator, bits) of the number nearest to `slope` with at most `bits` fraction bits, in lowest terms."""
    numerator = round(slope * 2.0**bits)
    while bits and numerator % 2 == 0:
        numerator, bits = numerator // 2, bits - 1
    return numerator, bits


def _window(node: SumPool | MaxPool) -> ir.Pool:
    return ir.Pool(node.kernel, node.stride, node.padding)
