"""Operators on constants: weights that an exporter left to be computed, and arithmetic on shapes.

Every result's size is known before it is made, and all of them together are bounded (`Importer`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import reduce
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx

from sottovoce.engine.program import MAX_WIDTH
from sottovoce.models.graph import Array
from sottovoce.models.onnx.call import COUNTS_CLIPS, Call, Handler, slice_of
from sottovoce.models.onnx.chain import BATCH, Data, Value
from sottovoce.models.onnx.tensors import FLOATS

MAX_FILLED = 1 << 20  # elements that a constant may grow to from next to nothing
_BOOL = onnx.TensorProto.BOOL
_SIZES = (onnx.TensorProto.INT32, onnx.TensorProto.INT64)
_INTEGERS: Mapping[int, type[np.integer[Any]]] = MappingProxyType(
    {
        onnx.TensorProto.INT64: np.int64,
        onnx.TensorProto.INT32: np.int32,
        onnx.TensorProto.INT16: np.int16,
        onnx.TensorProto.INT8: np.int8,
        onnx.TensorProto.UINT64: np.uint64,
        onnx.TensorProto.UINT32: np.uint32,
        onnx.TensorProto.UINT16: np.uint16,
        onnx.TensorProto.UINT8: np.uint8,
    }
)


def _constant(call: Call) -> Value:
    tensor = call.tensor_attribute("value")
    if tensor is not None:
        return tensor
    for name, dtype in (("value_float", np.float32), ("value_int", np.int64)):
        if name in call.attributes:
            value = call.float_attribute(name, 0.0) if dtype is np.float32 else call.int_attribute(name, 0)
            return np.asarray(value, dtype=dtype)
    if "value_ints" in call.attributes:
        return np.asarray(list(call.attributes["value_ints"].ints), dtype=np.int64)
    if "value_floats" in call.attributes:
        return np.asarray(list(call.attributes["value_floats"].floats), dtype=np.float32)
    raise call.refuse("expected a dense tensor of numbers")


def _filled(call: Call, dims: list[int]) -> tuple[int, ...]:
    """`dims`, if a constant of that shape may be made."""
    if min(dims, default=1) < 0 or math.prod(dims) > MAX_FILLED:
        raise call.refuse(f"expected a constant of at most {MAX_FILLED} elements, got dims {dims}")
    return tuple(dims)


def _constant_of_shape(call: Call) -> Value:
    value = call.tensor_attribute("value")
    value = np.zeros(1, dtype=np.float32) if value is None else value
    if value.size != 1:
        raise call.refuse(f"expected one value, got {value.shape}")
    return np.full(_filled(call, call.integers(0)), value.reshape(-1)[0])


def _shape(call: Call) -> Value:
    value = call.inputs[0] if call.inputs else None
    if isinstance(value, Data):
        if value.merged:
            raise call.refuse(COUNTS_CLIPS)
        dims = [BATCH if call.batch is None else call.batch, *value.index.shape]
    else:
        dims = list(call.constant(0).shape)
    start, end = call.int_attribute("start", 0), call.int_attribute("end", len(dims))
    return np.asarray(dims[start:end], dtype=np.int64)


def _range(call: Call) -> Value:
    start, limit, delta = (call.scalar(position) for position in range(3))
    if not all(map(math.isfinite, (start, limit, delta))) or delta == 0:
        raise call.refuse("expected finite numbers and a step that is not 0")
    _filled(call, [max(0, math.ceil((limit - start) / delta))])
    return np.arange(start, limit, delta).astype(call.constant(0).dtype)


def _cast(call: Call) -> Value:
    to = call.int_attribute("to", 0)
    value = call.constant(0, open_batch=to in _SIZES)
    if to in FLOATS:
        return value.astype(np.float64)
    if to == _BOOL or (value.dtype == np.int64 and to in _SIZES):  # what counts the clips stays in 64 bits
        return value.astype(np.bool_ if to == _BOOL else np.int64)
    cast = value.astype(_INTEGERS.get(to, np.int64))
    if to not in _INTEGERS or not np.array_equal(cast, np.trunc(value)):
        raise call.refuse("expected a type of numbers that can hold its input")
    return cast


def _gather(call: Call) -> Value:
    value, picks = call.constant(0, open_batch=True), call.constant(1)
    axis = call.axis(value.ndim, 0)
    if picks.dtype.kind not in "iu" or picks.size * value.size > MAX_WIDTH:
        raise call.refuse("expected a few integers to pick")
    return np.take(value, picks.astype(np.int64), axis)


def _slice(call: Call) -> Value:
    value = call.constant(0, open_batch=True)
    if call.opset < 10:
        starts, ends, given = (call.ints_attribute(name) for name in ("starts", "ends", "axes"))
        steps = None
    else:
        starts, ends = call.integers(1), call.integers(2)
        given, steps = (call.integers(position) if call.given(position) else None for position in (3, 4))
    starts, ends = starts or [], ends or []
    axes = call.axes(value.ndim, list(range(len(starts))) if given is None else given)
    cut = [slice(None)] * value.ndim
    for axis, start, end, step in zip(axes, starts, ends, steps or [1] * len(starts), strict=True):
        cut[axis] = slice_of(value.shape[axis], start, end, step)
    return np.asarray(value[tuple(cut)])


def _concat(call: Call) -> Value:
    parts = [call.constant(position, open_batch=True) for position in range(len(call.inputs))]
    if sum(part.size for part in parts) > MAX_WIDTH:
        raise call.refuse(f"expected at most {MAX_WIDTH} elements")
    return np.concatenate(parts, call.int_attribute("axis", 0))


def _squeeze(call: Call) -> Value:
    value = call.constant(0, open_batch=True)
    given = call.optional_axes(1, since=13)
    return np.squeeze(value, None if given is None else tuple(call.axes(value.ndim, given)))


def _unsqueeze(call: Call) -> Value:
    value, given = call.constant(0, open_batch=True), call.optional_axes(1, since=13) or []
    return np.expand_dims(value, tuple(call.axes(value.ndim + len(given), given)))


def _reshape(call: Call) -> Value:
    value, dims = call.constant(0, open_batch=True), call.integers(1)
    if not call.int_attribute("allowzero", 0):
        dims = [value.shape[place] if dim == 0 else dim for place, dim in enumerate(dims)]
    return value.reshape(dims)


def _flatten(call: Call) -> Value:
    value, axis = call.constant(0, open_batch=True), call.int_attribute("axis", 1)
    return value.reshape(math.prod(value.shape[:axis]), -1)


def _transpose(call: Call) -> Value:
    value = call.constant(0)
    return value.transpose(call.axes(value.ndim, call.ints_attribute("perm") or list(range(value.ndim))[::-1]))


def _expand(call: Call) -> Value:
    value = call.constant(0)
    return np.broadcast_to(value, np.broadcast_shapes(value.shape, _filled(call, call.integers(1))))


def _dequantize(call: Call) -> Value:
    value, scale = call.constant(0).astype(np.float64), call.weights(1)
    zero = call.constant(2).astype(np.float64) if call.given(2) else np.zeros_like(scale)
    if scale.ndim > 1 or scale.shape != zero.shape or call.int_attribute("block_size", 0):
        raise call.refuse("expected one scale per tensor or per channel")
    if scale.size > 1:
        axis = call.axis(value.ndim, 1)
        shape = [-1 if place == axis else 1 for place in range(value.ndim)]
        scale, zero = scale.reshape(shape), zero.reshape(shape)
    return (value - zero) * scale


def _elementwise(function: Callable[..., Any]) -> Handler:
    """A handler that broadcasts `function` over its constant inputs."""

    def fold(call: Call) -> Value:
        values = [call.constant(position) for position in range(len(call.inputs))]
        if math.prod(np.broadcast_shapes(*(value.shape for value in values))) > MAX_WIDTH:
            raise call.refuse(f"expected at most {MAX_WIDTH} elements")
        return np.asarray(function(*values))

    return fold


def _quotient(a: Array, b: Array) -> Array:
    if a.dtype.kind == "f":
        return np.asarray(a / b)
    if not b.all():
        raise ZeroDivisionError
    return np.asarray(a // b + ((a % b != 0) & ((a < 0) != (b < 0))))  # towards 0


def _power(a: Array, b: Array) -> Array:
    return np.asarray(np.power(a.astype(np.float64), b).astype(a.dtype))


FOLDING: Mapping[str, Handler] = MappingProxyType(
    {
        "Constant": _constant,
        "ConstantOfShape": _constant_of_shape,
        "Shape": _shape,
        "Range": _range,
        "Cast": _cast,
        "Gather": _gather,
        "Slice": _slice,
        "Concat": _concat,
        "Squeeze": _squeeze,
        "Unsqueeze": _unsqueeze,
        "Reshape": _reshape,
        "Flatten": _flatten,
        "Transpose": _transpose,
        "Expand": _expand,
        "DequantizeLinear": _dequantize,
        "Identity": _elementwise(lambda a: a),
        "Add": _elementwise(np.add),
        "Sub": _elementwise(np.subtract),
        "Mul": _elementwise(np.multiply),
        "Div": _elementwise(_quotient),
        "Pow": _elementwise(_power),
        "Neg": _elementwise(np.negative),
        "Sqrt": _elementwise(np.sqrt),
        "Exp": _elementwise(np.exp),
        "Reciprocal": _elementwise(lambda a: 1.0 / a),
        "Abs": _elementwise(np.abs),
        "Floor": _elementwise(np.floor),
        "Ceil": _elementwise(np.ceil),
        "Max": _elementwise(lambda *values: reduce(np.maximum, values)),
        "Min": _elementwise(lambda *values: reduce(np.minimum, values)),
        "Equal": _elementwise(np.equal),
        "Where": _elementwise(np.where),
    }
)
