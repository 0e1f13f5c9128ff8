"""Pools: windows over time, global pools, reductions. Other axes are rows, each pooled by itself."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

import numpy as np

from sottovoce.engine.program import MAX_WIDTH
from sottovoce.models.graph import Affine, AvgPool, MaxPool, Relu, SumPool
from sottovoce.models.onnx.call import Call, Handler
from sottovoce.models.onnx.chain import ZERO, Data, Index, Value
from sottovoce.models.onnx.layers import Window, strip_zeros, unarranged, windows_of

Kind = Literal["max", "mean", "sum"]


def _pool(call: Call, kind: Kind) -> Value:
    data = call.data()
    sizes, kernels = data.index.shape[1:], call.ints_attribute("kernel_shape")
    if not sizes or kernels is None:
        raise call.refuse(f"expected kernel_shape and data (batch, channels, time), got {('batch', *data.index.shape)}")
    windows = windows_of(call, sizes, tuple(kernels))
    if call.int_attribute("ceil_mode", 0) not in (0, 1) or any(window.dilation != 1 for window in windows):
        raise call.refuse(
            "a pool with dilation or an unknown ceil_mode cannot be imported: use a pool whose windows have no gaps"
        )
    moving = [axis for axis, w in enumerate(windows) if (w.kernel, w.stride, w.pads) != (1, 1, (0, 0))]
    if len(moving) > 1:
        raise call.refuse("a pool over two axes cannot be imported: pool over time only")
    if not moving:
        return data
    time, window = moving[0], windows[moving[0]]
    rows = np.moveaxis(data.index, time + 1, -1)
    made = _slide(call, rows.reshape(-1, sizes[time]), window, kind)
    return Data(made.version, np.moveaxis(made.index.reshape(*rows.shape[:-1], -1), -1, time + 1))


def _slide(call: Call, index: Index, window: Window, kind: Kind) -> Data:
    """Emit the pool of `index` (rows, time); the result is seen as (rows, windows)."""
    counted_pads = kind == "mean" and bool(call.int_attribute("count_include_pad", 0))
    size, stride, (before, after) = index.shape[1], window.stride, window.pads
    if min(before, after) < 0 or size + before + after < window.kernel:
        raise call.refuse(f"expected paddings >= 0 and at least {window.kernel} padded positions, got {size}")
    count = window.count(size)
    if count * index.shape[0] > MAX_WIDTH:
        raise call.refuse(f"expected a result of at most {MAX_WIDTH} elements")
    if call.int_attribute("ceil_mode", 0) and (size + before + after - window.kernel) % stride:
        count += int(count * stride < size + before)  # a window that starts in the padding behind is left out
    reach = max(0, (count - 1) * stride + window.kernel - size - before)  # padding behind that windows read
    bare, zeros = strip_zeros(index)
    after_relu = isinstance(call.chain.nodes[-1] if call.chain.nodes else None, Relu)
    if kind == "max" and any(zeros) and not after_relu:  # behind a ReLU a zero and no value at all are the same
        raise call.refuse("it reads zeros that a Pad adds: give the MaxPool padding of its own, or ReLU before the Pad")
    name = call.name()
    if not call.chain.arrange(name, bare, bare.shape):
        raise call.refuse(unarranged("(channels, time)"))
    pads = (before + zeros[0], reach + zeros[1])
    if kind == "max":
        call.chain.append(MaxPool(name, window.kernel, stride, pads))
        return call.chain.view(call.chain.shape)
    starts = np.arange(count, dtype=np.int64) * stride - before
    low, high = (-before, size + after) if counted_pads else (0, size)
    divisors = np.minimum(starts + window.kernel, high) - np.maximum(starts, low)
    if bool((divisors < 1).any()):
        raise call.refuse("one of its windows holds nothing but padding")
    if bool((divisors == window.kernel).all()):
        call.chain.append(AvgPool(name, window.kernel, stride, pads))
    else:
        call.chain.append(SumPool(name, window.kernel, stride, pads))
        mean = call.chain.unique_name(f"{name}_mean")
        call.chain.append(Affine(mean, 1.0 / divisors[None, :].astype(np.float64), np.zeros((1, 1))))
    return call.chain.view(call.chain.shape)


def _max_pool(call: Call) -> Value:
    return _pool(call, "max")


def _average_pool(call: Call) -> Value:
    return _pool(call, "mean")


def _global_max(call: Call) -> Value:
    data = call.data()
    return _reduce(call, data, list(range(2, data.rank)), "max", keep=True)


def _global_average(call: Call) -> Value:
    data = call.data()
    return _reduce(call, data, list(range(2, data.rank)), "mean", keep=True)


def _reduce_max(call: Call) -> Value:
    return _reduction(call, "max", since=18)


def _reduce_mean(call: Call) -> Value:
    return _reduction(call, "mean", since=18)


def _reduce_sum(call: Call) -> Value:
    return _reduction(call, "sum", since=13)


def _reduction(call: Call, kind: Kind, since: int) -> Value:
    data = call.data()
    axes = call.axes(data.rank, call.optional_axes(1, since) or [])
    if not axes:
        if call.int_attribute("noop_with_empty_axes", 0):
            return data
        raise call.refuse("it reduces over the batch as well: name the axes")
    return _reduce(call, data, axes, kind, keep=bool(call.int_attribute("keepdims", 1)))


def _reduce(call: Call, data: Data, axes: list[int], kind: Kind, *, keep: bool) -> Data:
    """Reduce over ONNX axes, batch counted: what stays becomes rows, what goes becomes one window over time."""
    if 0 in axes:
        raise call.refuse("it reduces over the batch: every clip stands for itself")
    shape = data.index.shape
    stays = [axis for axis in range(len(shape)) if axis + 1 not in axes]
    rows = math.prod(shape[axis] for axis in stays)
    index = data.index.transpose([*stays, *(axis - 1 for axis in axes)]).reshape(rows, -1)
    if bool((index == ZERO).any()):
        raise call.refuse("it reads zeros that a Pad before it adds: leave the Pad out")
    name, time = call.name(), index.shape[1]
    if not call.chain.arrange(name, index, index.shape):
        raise call.refuse(unarranged("(channels, time)"))
    if kind == "max":
        call.chain.append(MaxPool(name, time, time))
    elif kind == "mean":
        call.chain.append(AvgPool(name, time, time))
    else:
        call.chain.append(SumPool(name, time, time))
    left = [1 if axis + 1 in axes else dim for axis, dim in enumerate(shape)] if keep else [shape[a] for a in stays]
    return call.chain.view(tuple(left))


POOLING: Mapping[str, Handler] = MappingProxyType(
    {
        "MaxPool": _max_pool,
        "AveragePool": _average_pool,
        "GlobalMaxPool": _global_max,
        "GlobalAveragePool": _global_average,
        "ReduceMax": _reduce_max,
        "ReduceMean": _reduce_mean,
        "ReduceSum": _reduce_sum,
    }
)
