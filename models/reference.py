"""The fixed-point meaning of a program, in exact integers: the oracle that protocols are compared with.

Written tap by tap in signed 64-bit numpy, apart from the engine's kernels on purpose. Products wrap mod 2^64 as they do
on shares; a float64 shadow of each product refuses a program whose range promise does not hold for the given input.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sottovoce.engine import program as ir
from sottovoce.engine.errors import RangeProofError
from sottovoce.engine.fixed import as_signed

Ints = NDArray[np.int64]
Rounding = Literal["nearest", "down", "up"]


def fixed_reference(
    program: ir.Program,
    weights: Mapping[str, NDArray[np.uint64]],
    x: NDArray[np.uint64],
    rounding: Rounding = "nearest",
) -> Ints:
    """Logits (batch, labels) as signed integers with `program.frac_bits` fraction bits.

    x: (batch, channels, time) uint64, weights by tensor name. A protocol truncates to floor(z / 2**t) or one more:
    "nearest" (halves up) takes the closer of the two, "down" and "up" always the same one.
    Raises RangeProofError if a value leaves its promised range.
    """
    values = as_signed(x)
    for step in program.steps:
        values = run_step(step, weights, values, rounding)
    spread = values.max(axis=-1).astype(object) - values.min(axis=-1).astype(object)
    _promise("argmax", max(int(s) for s in spread), program.compare_bits - 1)
    return values


def run_step(step: ir.Step, weights: Mapping[str, NDArray[np.uint64]], x: Ints, rounding: Rounding = "nearest") -> Ints:
    """One step on a batch."""
    if isinstance(step, ir.Linear):
        z = _linear(step, as_signed(weights[step.weight.name]), as_signed(weights[step.bias.name]), x)
        z = _truncate(z, step.trunc_bits, rounding)
        if step.relu:
            z = _relu(step.name, z, step.compare_bits)
        return z if step.sum_pool is None else _pool(step.sum_pool, z, False)
    if isinstance(step, ir.Relu):
        z = _relu(step.name, x, step.compare_bits)
        if step.slope or step.slope_bits:
            z = np.asarray(z * np.int64(1 << step.slope_bits) + np.minimum(x, np.int64(0)) * np.int64(step.slope))
        z = z if step.sum_pool is None else _pool(step.sum_pool, z, False)
        _promise(step.name, float(abs(z.astype(np.float64)).max()), 62)
        return _truncate(z, step.trunc_bits, rounding)
    if isinstance(step, ir.Transpose):
        return x.swapaxes(1, 2)
    if isinstance(step, ir.SumPool):
        return _pool(step.pool, x, False)
    if isinstance(step, ir.MaxPool):
        high, low = _pool(step.pool, x, True), -_pool(step.pool, -x, True)
        _promise(step.name, float((high.astype(np.float64) - low).max()), step.compare_bits - 1)
        return high
    return x.reshape(x.shape[:1] + step.out_shape)


def _truncate(z: Ints, bits: int, rounding: Rounding) -> Ints:
    if not bits:
        return z
    offset = {"nearest": 1 << (bits - 1), "down": 0, "up": 1 << bits}[rounding]
    return np.asarray((z + np.int64(offset)) >> np.int64(bits))


def _linear(step: ir.Linear, weight: Ints, bias: Ints, x: Ints) -> Ints:
    shadow = _product(step, weight.astype(np.float64), x.astype(np.float64)) + bias
    _promise(step.name, float(abs(shadow).max()), 62)
    return np.asarray(_product(step, weight, x) + bias)


def _product(step: ir.Linear, weight: NDArray[Any], x: NDArray[Any]) -> NDArray[Any]:
    if step.kind == "dense":
        return np.asarray(x @ weight.T)
    batch, _, time = x.shape
    c_out, c_group, kernel = weight.shape
    left = step.padding[0]
    time_out = step.linear_shape[1]
    out = np.zeros((batch, c_out, time_out), dtype=x.dtype)
    per_group = c_out // step.groups
    for tap in range(kernel):
        source = np.arange(time_out) * step.stride + tap * step.dilation - left
        inside = (source >= 0) & (source < time)
        for group in range(step.groups):
            rows = slice(group * per_group, (group + 1) * per_group)
            columns = x[:, group * c_group : (group + 1) * c_group, source[inside]]
            out[:, rows, inside] += np.matmul(weight[rows, :, tap], columns)
    return out


def _relu(name: str, x: Ints, compare_bits: int) -> Ints:
    _promise(name, float(abs(x.astype(np.float64)).max()), compare_bits - 1)
    return np.maximum(x, np.int64(0))


def _pool(pool: ir.Pool, x: Ints, maximum: bool) -> Ints:
    time = x.shape[2]
    out = []
    for position in range(pool.out_time(time)):
        start = position * pool.stride - pool.padding[0]
        window = x[:, :, max(start, 0) : min(start + pool.kernel, time)]
        out.append(window.max(axis=2) if maximum else window.sum(axis=2))
    return np.stack(out, axis=2)


def _promise(name: str, magnitude: float, bits: int) -> None:
    if magnitude >= 2.0**bits:
        raise RangeProofError(f"layer {name!r}: expected values below 2^{bits}, got a larger one")
