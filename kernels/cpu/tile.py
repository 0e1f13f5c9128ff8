"""The register tile that `gemm` and `conv` share: one or two rows of x times one panel of columns of w, mod 2^64.

Written as LLVM vector code because Numba's loop vectoriser cannot reach it: a CPU without a 64-bit vector multiply
(AVX2, NEON) would spend three 32-bit products, two shifts and two additions on each ring product. Here the low halves
are multiplied by one instruction (lo*lo, 64 bits wide) and both cross products by another (a 32-bit multiply of w by x
with its halves swapped); they are accumulated apart and the one shift by 32 is done after the sum. Where the CPU does
multiply 64-bit lanes (AVX-512DQ) the same builder emits that single instruction instead.

Numba notices a changed kernel by its own source file only: after an edit here, delete `kernels/cpu/__pycache__`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from sottovoce.kernels.cpu.features import has_feature, inline_llvm

NATIVE_MULTIPLY = has_feature("avx512dq")
LANES = 8 if NATIVE_MULTIPLY else 4
VECTORS = 2
PANEL = LANES * VECTORS
"""Columns of w in one tile."""

I32, I64 = ir.IntType(32), ir.IntType(64)
WIDE = ir.VectorType(I64, LANES)
HALVES = ir.VectorType(I32, 2 * LANES)
LOW_HALF = 0xFFFFFFFF

ARGUMENTS = (
    "x", "x_rows", "taps", "tap_step", "chans", "chan_step", "w", "w_at", "w_step", "out", "out_rows", "accumulate",
    "cols",
)  # fmt: skip


def _constant(value: int) -> ir.Constant:
    return ir.Constant(WIDE, [value] * LANES)


def _splat(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
    undefined = ir.Constant(WIDE, ir.Undefined)
    single = builder.insert_element(undefined, value, I32(0))
    return builder.shuffle_vector(single, undefined, ir.Constant(ir.VectorType(I32, LANES), [0] * LANES))


def _swap_halves(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
    """Swap the 32-bit halves of every lane."""
    order = ir.Constant(ir.VectorType(I32, 2 * LANES), [lane ^ 1 for lane in range(2 * LANES)])
    return builder.shuffle_vector(builder.bitcast(value, HALVES), ir.Constant(HALVES, ir.Undefined), order)


class _Memory:
    """Loads and stores the vectors of a panel: all of it, or its first `cols` columns (nothing else is touched)."""

    def __init__(self, builder: ir.IRBuilder, cols: ir.Value | None) -> None:
        self.builder = builder
        self.masks: list[ir.Value] = []
        if cols is not None:
            count = _splat(builder, cols)
            for first in range(0, PANEL, LANES):
                lanes = ir.Constant(WIDE, list(range(first, first + LANES)))
                self.masks.append(builder.icmp_unsigned("<", lanes, count))

    def _pointer(self, data: ir.Value, index: ir.Value, vector: int) -> ir.Value:
        index = self.builder.add(index, I64(vector * LANES))
        return self.builder.bitcast(self.builder.gep(data, [index]), WIDE.as_pointer())

    def _masked(self, name: str, result: ir.Type, arguments: list[ir.Value]) -> ir.Value:
        function_type = ir.FunctionType(result, [argument.type for argument in arguments])
        name = f"llvm.masked.{name}.v{LANES}i64.p0"
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, function_type, name), arguments)

    def load(self, data: ir.Value, index: ir.Value, vector: int) -> ir.Value:
        pointer = self._pointer(data, index, vector)
        if not self.masks:
            return self.builder.load(pointer, align=8)
        return self._masked("load", WIDE, [pointer, I32(8), self.masks[vector], _constant(0)])

    def store(self, value: ir.Value, data: ir.Value, index: ir.Value, vector: int) -> None:
        pointer = self._pointer(data, index, vector)
        if self.masks:
            self._masked("store", ir.VoidType(), [value, pointer, I32(8), self.masks[vector]])
        else:
            self.builder.store(value, pointer, align=8)


class _Sum:
    """The running sum of products of one row and one vector of columns."""

    def __init__(self, builder: ir.IRBuilder) -> None:
        self.builder = builder
        self.low = cgutils.alloca_once_value(builder, _constant(0))
        self.cross = cgutils.alloca_once_value(builder, ir.Constant(HALVES, [0] * (2 * LANES)))

    def multiply_add(self, x: ir.Value, w: ir.Value) -> None:
        builder = self.builder
        if NATIVE_MULTIPLY:
            builder.store(builder.add(builder.load(self.low), builder.mul(x, w)), self.low)
            return
        low = builder.mul(builder.and_(x, _constant(LOW_HALF)), builder.and_(w, _constant(LOW_HALF)))
        builder.store(builder.add(builder.load(self.low), low), self.low)
        cross = builder.mul(_swap_halves(builder, x), builder.bitcast(w, HALVES))
        builder.store(builder.add(builder.load(self.cross), cross), self.cross)

    def total(self) -> ir.Value:
        builder = self.builder
        if NATIVE_MULTIPLY:
            return builder.load(self.low)
        cross = builder.bitcast(builder.load(self.cross), WIDE)
        high = builder.add(builder.shl(cross, _constant(32)), builder.and_(cross, _constant(LOW_HALF << 32)))
        return builder.add(builder.load(self.low), high)


def _emit(builder: ir.IRBuilder, given: dict[str, ir.Value], rows: int, cols: ir.Value | None) -> None:
    memory = _Memory(builder, cols)
    sums = [[_Sum(builder) for _ in range(VECTORS)] for _ in range(rows)]
    with cgutils.for_range(builder, given["taps"]) as tap, cgutils.for_range(builder, given["chans"]) as chan:
        step = builder.add(builder.mul(tap.index, given["chans"]), chan.index)
        w_at = builder.add(given["w_at"], builder.mul(step, given["w_step"]))
        w = [memory.load(given["w"], w_at, vector) for vector in range(VECTORS)]
        x_at = builder.add(builder.mul(tap.index, given["tap_step"]), builder.mul(chan.index, given["chan_step"]))
        for row in range(rows):
            index = builder.add(builder.extract_value(given["x_rows"], row), x_at)
            x = _splat(builder, builder.load(builder.gep(given["x"], [index])))
            for vector in range(VECTORS):
                sums[row][vector].multiply_add(x, w[vector])
    for row in range(rows):
        at = builder.extract_value(given["out_rows"], row)
        for vector in range(VECTORS):
            held = cgutils.alloca_once(builder, WIDE)
            builder.store(_constant(0), held)
            with builder.if_then(given["accumulate"]):
                builder.store(memory.load(given["out"], at, vector), held)
            memory.store(builder.add(sums[row][vector].total(), builder.load(held)), given["out"], at, vector)


def _tile(rows: int) -> Callable[..., None]:
    def typed(
        typing_context: Any, x: Any, x_rows: Any, taps: Any, tap_step: Any, chans: Any, chan_step: Any, w: Any,
        w_at: Any, w_step: Any, out: Any, out_rows: Any, accumulate: Any, cols: Any,
    ) -> Any:  # fmt: skip
        for name, array in (("x", x), ("w", w), ("out", out)):
            if not isinstance(array, types.Array) or array.dtype != types.uint64 or array.layout != "C":
                raise TypeError(f"tile: {name} must be a C-contiguous uint64 array, got {array}")
        number, offsets = types.intp, types.UniTuple(types.intp, rows)
        signature = types.void(
            x, offsets, number, number, number, number, w, number, number, out, offsets, types.boolean, number
        )

        def generate(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> Any:
            given = dict(zip(ARGUMENTS, args, strict=True))
            for name, kind in zip(ARGUMENTS, sig.args, strict=True):
                if isinstance(kind, types.Array):
                    given[name] = context.make_array(kind)(context, builder, given[name]).data
            given["accumulate"] = cgutils.as_bool_bit(builder, given["accumulate"])
            whole = builder.icmp_signed("==", given["cols"], I64(PANEL))
            with builder.if_else(whole) as (then, otherwise):
                with then:
                    _emit(builder, given, rows, None)
                with otherwise:
                    _emit(builder, given, rows, given["cols"])
            return context.get_dummy_value()

        return signature, generate

    return inline_llvm(typed)


# out[out_rows[r] + n] (+)= sum over t < taps, c < chans of
#     x[x_rows[r] + t * tap_step + c * chan_step] * w[w_at + (t * chans + c) * w_step + n]     for n < cols <= PANEL
# All offsets count elements of the flattened arrays and are trusted: the callers compute them from shapes.
tile_one = _tile(1)
tile_two = _tile(2)
