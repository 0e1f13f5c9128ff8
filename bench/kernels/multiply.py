"""How many ring multiplications a core can do: a loop of products and sums that never leaves the registers.

Per product it spends what the processor needs at least: one vector instruction where 64-bit lanes multiply
(AVX-512DQ), else two 32-bit ones (low halves; both cross products at once), as in kernels/cpu/tile.py. Nothing is
loaded, so no kernel can be faster with the same instructions.
"""

from __future__ import annotations

from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils

from sottovoce.kernels.cpu.features import has_feature, inline_llvm

NATIVE = has_feature("avx512dq")
LANES = 8 if NATIVE else 4
SUMS = 12 if NATIVE else 4
"""Independent sums: enough to hide the latency of a product, few enough for the registers."""
PRODUCTS = LANES * SUMS
"""Ring multiplications of one turn."""

I32, I64 = ir.IntType(32), ir.IntType(64)
WIDE, HALVES = ir.VectorType(I64, LANES), ir.VectorType(I32, 2 * LANES)


def _constant(value: int) -> ir.Constant:
    return ir.Constant(WIDE, [value] * LANES)


def _step(
    builder: ir.IRBuilder, x: ir.Value, factor: int, total: ir.Value, cross: ir.Value
) -> tuple[ir.Value, ir.Value]:
    """(total, cross) + x * factor."""
    if NATIVE:
        return builder.add(total, builder.mul(x, _constant(factor))), cross
    low = builder.mul(builder.and_(x, _constant(0xFFFFFFFF)), _constant(factor & 0xFFFFFFFF))
    order = ir.Constant(HALVES, [lane ^ 1 for lane in range(2 * LANES)])
    swapped = builder.shuffle_vector(builder.bitcast(x, HALVES), ir.Constant(HALVES, ir.Undefined), order)
    halves = ir.Constant(HALVES, [factor & 0xFFFFFFFF, factor >> 32] * LANES)
    return builder.add(total, low), builder.add(cross, builder.mul(swapped, halves))


def _typed(typing_context: Any, turns: Any) -> Any:
    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        x_at = cgutils.alloca_once_value(builder, ir.Constant(WIDE, list(range(1, LANES + 1))))
        totals = [cgutils.alloca_once_value(builder, _constant(0)) for _ in range(SUMS)]
        crosses = [cgutils.alloca_once_value(builder, ir.Constant(HALVES, [0] * (2 * LANES))) for _ in range(SUMS)]
        with cgutils.for_range(builder, arguments[0]):
            x = builder.add(builder.load(x_at), _constant(0x9E3779B97F4A7C15))
            builder.store(x, x_at)
            for index in range(SUMS):
                factor = (0xD1342543DE82EF95 * (2 * index + 1)) % 2**64
                held = builder.load(totals[index]), builder.load(crosses[index])
                total, cross = _step(builder, x, factor, *held)
                builder.store(total, totals[index])
                builder.store(cross, crosses[index])
        result: ir.Value = _constant(0)
        for total_at, cross_at in zip(totals, crosses, strict=True):
            cross = builder.bitcast(builder.load(cross_at), WIDE)
            result = builder.xor(result, builder.add(builder.load(total_at), cross))
        value: ir.Value = I64(0)
        for lane in range(LANES):
            value = builder.xor(value, builder.extract_element(result, I32(lane)))
        return value

    return types.uint64(types.intp), generate


_turns: Any = inline_llvm(_typed)


@numba.njit(nogil=True, cache=True)
def multiply_add(turns: int) -> int:
    """`turns` times PRODUCTS ring multiplications and additions; returns a digest, so that none can be left out."""
    result: int = _turns(turns)
    return result
