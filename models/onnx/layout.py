"""Operators that only move data: NumPy on a view's positions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from sottovoce.engine.program import MAX_WIDTH
from sottovoce.models.graph import Shape
from sottovoce.models.onnx.call import Call, Handler
from sottovoce.models.onnx.chain import BATCH, ZERO, Data, Index, Value
from sottovoce.models.onnx.tensors import FLOATS

KEEP_BATCH = "it moves or changes the batch axis, which must stay the first one"


def _moved(data: Data, index: Index) -> Data:
    return replace(data, index=index)


def _same(call: Call) -> Value:
    return call.data(after_end=True)


def _dropout(call: Call) -> Value:
    if call.given(2) and bool(call.scalar(2)):
        raise call.refuse("it is in training mode: export the model for inference, model.eval()")
    return call.data(after_end=True)


def _cast(call: Call) -> Value:
    data = call.data(after_end=True)
    if call.int_attribute("to", 0) not in FLOATS and not data.ended.startswith("ArgMax"):
        raise call.refuse("it rounds the data to another type: keep the model in floating point")
    return data


def _reshape(call: Call) -> Value:
    data, target = call.data(after_end=True), call.integers(1, open_batch=True)
    shape, merged = _new_shape(call, data, target, copies_zero=not call.int_attribute("allowzero", 0))
    return replace(data, index=data.index.reshape(shape), merged=merged)


def _new_shape(call: Call, data: Data, target: list[int], *, copies_zero: bool) -> tuple[Shape, bool]:
    """(shape of the index, whether the batch is joined with its first axis) that a Reshape to `target` gives."""
    size, merged = data.index.size, data.merged
    old = data.index.shape if merged else (0, *data.index.shape)
    if call.batch is not None and -1 not in target and math.prod(target) == size * call.batch:
        target = [-1, *target[1:]]
    first, rest = target[0] if target else 1, target[1:]
    if copies_zero:
        rest = [old[place] if dim == 0 and place < len(old) else dim for place, dim in enumerate(rest, 1)]
    kept = first == 0 and copies_zero
    if kept or first == BATCH or first == call.batch:
        rows = old[0] if kept and merged else 1
        known = -math.prod(rest) * rows
        if rest.count(-1) == 1 and known > 0 and size % known == 0:
            rest[rest.index(-1)] = size // known
    elif first == -1 and min(rest, default=1) > 0 and size % math.prod(rest) == 0:
        rows = size // math.prod(rest)
    else:
        raise call.refuse(f"{KEEP_BATCH}: got shape {_show(target)}; export with a dynamic batch axis")
    if any(dim < 1 for dim in rest) or math.prod(rest) * rows != size:
        raise call.refuse(f"expected a shape of {size} elements per clip, got {_show(target)}: {KEEP_BATCH}")
    joined = rows > 1 or (kept and merged)
    return ((rows, *rest) if joined else tuple(rest)), joined


def _show(shape: list[int]) -> list[int | str]:
    return [dim if abs(dim) < 1 << 60 else "batch" for dim in shape]


def _flatten(call: Call) -> Value:
    data = call.data(after_end=True)
    axis = call.int_attribute("axis", 1)
    axis = axis + data.rank if axis < 0 else axis
    if not 1 <= axis <= data.rank or math.prod(data.index.shape[: axis - 1]) != 1:
        raise call.refuse(f"{KEEP_BATCH}: flatten from axis 1 on")
    return _moved(data, data.index.reshape(-1))


def _squeeze(call: Call) -> Value:
    data = call.data(after_end=True)
    shape = data.index.shape
    given = call.optional_axes(1, since=13)
    if given is None and call.batch == 1:
        raise call.refuse(f"{KEEP_BATCH}: name the axes to squeeze, or export with a dynamic batch axis")
    axes = call.axes(data.rank, [axis for axis, dim in enumerate(shape, 1) if dim == 1] if given is None else given)
    if 0 in axes:
        raise call.refuse(KEEP_BATCH)
    if any(shape[axis - 1] != 1 for axis in axes):
        raise call.refuse(f"expected axes of size 1, got {axes} of {('batch', *shape)}")
    return _moved(data, data.index.reshape([dim for axis, dim in enumerate(shape, 1) if axis not in axes]))


def _unsqueeze(call: Call) -> Value:
    data = call.data(after_end=True)
    given = call.optional_axes(1, since=13) or []
    axes = call.axes(data.rank + len(given), given)
    if 0 in axes:
        raise call.refuse(KEEP_BATCH)
    return _moved(data, np.expand_dims(data.index, tuple(axis - 1 for axis in axes)))


def _transpose(call: Call) -> Value:
    data = call.data(after_end=True)
    order = call.axes(data.rank, call.ints_attribute("perm") or list(range(data.rank))[::-1])
    if len(order) != data.rank or order[0] != 0:
        raise call.refuse(KEEP_BATCH)
    return _moved(data, data.index.transpose([axis - 1 for axis in order[1:]]))


def _slice(call: Call) -> Value:
    data = call.data(after_end=True)
    if call.opset < 10:
        starts, ends = call.ints_attribute("starts") or [], call.ints_attribute("ends") or []
        given, steps = call.ints_attribute("axes"), [1] * len(starts)
    else:
        starts, ends = call.integers(1), call.integers(2)
        given = call.integers(3) if call.given(3) else None
        steps = call.integers(4) if call.given(4) else [1] * len(starts)
    axes = call.axes(data.rank, list(range(len(starts))) if given is None else given)
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
        raise call.refuse("expected a start, an end and a step that is not 0 for each axis")
    cut = [slice(None)] * data.rank
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        cut[axis] = slice(start, end, step)
        if axis == 0 and not (start == 0 and step == 1 and end >= (call.batch or 1 << 31)):
            raise call.refuse(KEEP_BATCH)
    return _nonempty(call, data, data.index[tuple(cut[1:])])


def _gather(call: Call) -> Value:
    data, picks = call.data(after_end=True), call.constant(1)
    axis = call.axis(data.rank, 0)
    if axis == 0:
        raise call.refuse(KEEP_BATCH)
    dim = data.index.shape[axis - 1]
    if picks.dtype.kind not in "iu" or picks.ndim > 1 or picks.size > dim:
        raise call.refuse(f"expected at most {dim} integers to pick, got {picks.dtype} {picks.shape}")
    if picks.size and not (-dim <= int(picks.min()) and int(picks.max()) < dim):
        raise call.refuse(f"expected picks from an axis of {dim}, got one outside")
    return _nonempty(call, data, np.take(data.index, picks.astype(np.int64), axis - 1))


def _nonempty(call: Call, data: Data, index: Index) -> Data:
    if not index.size:
        raise call.refuse("it keeps nothing of the data")
    return _moved(data, index)


def _concat(call: Call) -> Value:
    parts = [call.data(position).index for position in range(len(call.inputs))]
    axis = call.axis(call.data().rank, 0)
    sizes_fit = len({(*p.shape[: axis - 1], *p.shape[axis:]) for p in parts}) == 1
    if axis == 0 or not sizes_fit or sum(p.size for p in parts) > MAX_WIDTH:
        raise call.refuse("expected tensors of one shape to join along a channel or time axis")
    return _moved(call.data(), np.concatenate(parts, axis - 1))


def _pad(call: Call) -> Value:
    data = call.data()
    if call.text_attribute("mode", "constant") != "constant":
        raise call.refuse("only padding with zeros can be imported: padding_mode='zeros'")
    if call.opset < 11:
        pads, fill = call.ints_attribute("pads") or [], call.float_attribute("value", 0.0)
    else:
        pads, fill = call.integers(1), call.scalar(2) if call.given(2) else 0.0
    if fill != 0.0:
        raise call.refuse("only padding with zeros can be imported; a MaxPool has padding of its own that is left out")
    axes = call.axes(data.rank, call.integers(3) if call.given(3) else list(range(data.rank)))
    if len(pads) != 2 * len(axes):
        raise call.refuse(f"expected two paddings for each of {len(axes)} axes, got {len(pads)}")
    widths = [(0, 0)] * data.rank
    for place, axis in enumerate(axes):
        widths[axis] = (pads[place], pads[place + len(axes)])
    dims = [dim + sum(width) for dim, width in zip(data.index.shape, widths[1:], strict=True)]
    if widths[0] != (0, 0) or min(pads, default=0) < 0 or math.prod(dims) > MAX_WIDTH:
        raise call.refuse("expected paddings >= 0 of the channel or time axes only, and a tensor that stays small")
    return _moved(data, np.pad(data.index, widths[1:], constant_values=ZERO))


def _expand(call: Call) -> Value:
    data, target = call.data(), call.integers(1, open_batch=True)
    full = (1, *data.index.shape)
    first = len(full) - len(target)  # axis that the target's first number stands for
    if first < 0 or any(
        dim not in (1, size) and not (axis == 0 and call.is_batch(dim))
        for axis, (dim, size) in enumerate(zip(target, full[first:], strict=True), first)
    ):
        raise call.refuse("it repeats data, which no layer of a chain does: feed the longer tensor as features")
    return data


LAYOUT: Mapping[str, Handler] = MappingProxyType(
    {
        "Identity": _same,
        "Dropout": _dropout,
        "Cast": _cast,
        "Reshape": _reshape,
        "Flatten": _flatten,
        "Squeeze": _squeeze,
        "Unsqueeze": _unsqueeze,
        "Transpose": _transpose,
        "Slice": _slice,
        "Gather": _gather,
        "Concat": _concat,
        "Pad": _pad,
        "Expand": _expand,
    }
)
