"""Convolution, dense layers and batch normalisation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from sottovoce.engine.program import MAX_ELEMENTS, MAX_WIDTH
from sottovoce.models.graph import Array, BatchNorm, Conv1d, Dense, Reshape
from sottovoce.models.onnx.arithmetic import apply_affine
from sottovoce.models.onnx.call import Call, Handler
from sottovoce.models.onnx.chain import ZERO, Data, Index, Value, positions

ONE_DIMENSION = (
    "a convolution over two axes cannot be imported: use one over time (Conv1d) with the other axis as channels"
)


@dataclass(frozen=True, slots=True)
class Window:
    """How a convolution or a pool walks along one axis."""

    kernel: int
    stride: int
    dilation: int
    pads: tuple[int, int]

    @property
    def span(self) -> int:
        """Positions from the first to the last that one window reads."""
        return self.dilation * (self.kernel - 1) + 1

    def count(self, size: int) -> int:
        """Number of windows over an axis of `size`."""
        return (size + sum(self.pads) - self.span) // self.stride + 1


def windows_of(call: Call, sizes: tuple[int, ...], kernels: tuple[int, ...]) -> list[Window]:
    """The windows of a Conv or a pool along its spatial axes, with auto_pad worked out."""
    rank = len(sizes)
    strides = call.ints_attribute("strides") or [1] * rank
    dilations = call.ints_attribute("dilations") or [1] * rank
    pads = call.ints_attribute("pads") or [0] * (2 * rank)
    auto = call.text_attribute("auto_pad", "NOTSET")
    if auto not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"):
        raise call.refuse(f"auto_pad: expected NOTSET, VALID, SAME_UPPER or SAME_LOWER, got {auto!a}")
    if not (len(kernels) == len(strides) == len(dilations) == rank and len(pads) == 2 * rank):
        raise call.refuse(f"expected kernel, strides, dilations and pads for {rank} spatial axes")
    if min((*kernels, *strides, *dilations)) < 1:
        raise call.refuse("expected kernel, strides and dilations of at least 1")
    if max(*kernels, *strides, *dilations, *pads) > MAX_WIDTH:
        raise call.refuse(f"expected kernel, strides, dilations and pads of at most {MAX_WIDTH}")
    found = []
    for axis, size in enumerate(sizes):
        before, after = (pads[axis], pads[axis + rank]) if auto == "NOTSET" else (0, 0)
        window = Window(kernels[axis], strides[axis], dilations[axis], (before, after))
        if auto.startswith("SAME"):
            total = (-(-size // window.stride) - 1) * window.stride + window.span - size
            if total < 0 and call.op != "Conv":  # runtimes differ: some cut the data at both ends, some refuse
                raise call.refuse(f"{auto} with a stride of {window.stride} and a smaller window: name the pads")
            total = max(total, 0)
            less, more = total // 2, total - total // 2
            both = (less, more) if auto == "SAME_UPPER" else (more, less)
            window = Window(window.kernel, window.stride, window.dilation, both)
        found.append(window)
    return found


def _conv(call: Call) -> Value:
    data, weight = call.data(), call.weights(1)
    rank = data.index.ndim - 1
    if rank < 1 or weight.ndim != rank + 2 or not weight.size:
        raise call.refuse(
            f"expected data (batch, channels, time) and weight (out, in, kernel), got {data.rank} and "
            f"{weight.ndim} dimensions"
        )
    kernels = call.ints_attribute("kernel_shape") or list(weight.shape[2:])
    if tuple(kernels) != weight.shape[2:]:
        raise call.refuse(f"kernel_shape: expected {weight.shape[2:]}, got {kernels}")
    sizes = data.index.shape[1:]
    windows = windows_of(call, sizes, weight.shape[2:])
    counts = [window.count(size) for window, size in zip(windows, sizes, strict=True)]
    moving = [axis for axis, count in enumerate(counts) if count > 1]
    if len(moving) > 1:
        raise call.refuse(ONE_DIMENSION)
    time = moving[0] if moving else max(range(rank), key=lambda axis: (sizes[axis], axis))
    for axis in range(rank):
        if axis != time:
            weight = _cover(call, weight, axis + 2, windows[axis], sizes[axis])
    weight = np.moveaxis(weight, time + 2, -1)
    weight = weight.reshape(weight.shape[0], -1, weight.shape[-1])
    index = np.moveaxis(data.index, time + 1, -1).reshape(-1, sizes[time])
    return _convolve(call, weight, index, windows[time], (*counts[:time], *counts[time + 1 :]), time)


def _cover(call: Call, weight: Array, axis: int, window: Window, size: int) -> Array:
    """The weight that a single window applies to an axis of `size`, which then counts as channels."""
    if window.count(size) != 1:
        raise call.refuse(ONE_DIMENSION)
    if window.pads == (0, 0) and window.dilation == 1 and window.kernel == size:
        return weight
    if weight.size // window.kernel * size > MAX_ELEMENTS:
        raise call.refuse(f"expected at most {MAX_ELEMENTS} weights")
    moved = np.moveaxis(weight, axis, 0)
    full = np.zeros((size, *moved.shape[1:]))
    for tap, values in enumerate(moved):
        position = tap * window.dilation - window.pads[0]
        if 0 <= position < size:
            full[position] = values
    return np.moveaxis(full, 0, axis)


def _convolve(call: Call, weight: Array, index: Index, window: Window, ones: tuple[int, ...], time: int) -> Value:
    """Emit a Conv1d on `index` (channels, time); the result is seen with axes of size 1 in place of `ones`."""
    bias = call.weights(2) if call.given(2) else np.zeros(weight.shape[0])
    name = call.name()
    index, zeros = strip_zeros(index)
    if not call.chain.arrange(name, index, index.shape):
        raise call.refuse(unarranged("(channels, time)"))
    pads = (window.pads[0] + zeros[0], window.pads[1] + zeros[1])
    groups = call.int_attribute("group", 1)
    call.chain.append(Conv1d(name, weight, bias, window.stride, pads, window.dilation, groups))
    channels, steps = call.chain.shape
    return call.chain.view((channels, *ones[:time], steps, *ones[time:]))


def strip_zeros(index: Index) -> tuple[Index, tuple[int, int]]:
    """`index` (rows, time) without the padding at its ends, and how many positions that was on each side."""
    real = np.flatnonzero((index != ZERO).any(axis=0))
    if not real.size:
        return index, (0, 0)
    first, last = int(real[0]), int(real[-1])
    return index[:, first : last + 1], (first, index.shape[1] - 1 - last)


def unarranged(expected: str) -> str:
    """The reason given when data does not lie as a layer needs it."""
    return (
        f"its input cannot be brought to {expected} by one transposition, or is only a part of a tensor: transpose "
        "only channels and time, slice only before a dense layer, pad only before a convolution or an average pool"
    )


def _gemm(call: Call) -> Value:
    data, weight = call.data(), call.weights(1)
    if call.int_attribute("transA", 0):
        raise call.refuse("transA: expected 0, the batch first")
    weight = weight if call.int_attribute("transB", 0) else weight.T
    if weight.ndim != 2 or data.rank != 2 or data.index.shape[-1:] != weight.shape[1:]:
        raise call.refuse(f"expected {weight.shape[1:]} values per clip, got {data.index.shape}: flatten before it")
    bias = np.zeros(weight.shape[0])
    if call.given(2):
        given = call.weights(2)
        if given.ndim > 2 or given.shape not in ((), (1,), (1, 1), bias.shape, (1, *bias.shape)):
            raise call.refuse(f"expected a bias {bias.shape}, got {given.shape}")
        bias = bias + given.reshape(-1) * call.float_attribute("beta", 1.0)
    return _linear(call, data, weight * call.float_attribute("alpha", 1.0), bias)


def _linear(call: Call, data: Data, weight: Array, bias: Array) -> Data:
    """weight (out, in) on the last axis: a Dense where the clip has one row, else a convolution with kernel 1."""
    rows = data.index.shape[:-1]
    if math.prod(rows) == 1:
        made = _dense(call, data.index.reshape(-1), weight, bias)
    else:
        made = _mix_channels(call, data.index.reshape(-1, weight.shape[1]).T, weight, bias)
    return Data(made.version, made.index.T.reshape(*rows, -1), merged=data.merged)


def _dense(call: Call, index: Index, weight: Array, bias: Array) -> Data:
    """Emit a Dense whose columns are put where the chain holds their inputs; `index` (inputs,)."""
    size = math.prod(call.chain.shape)
    if not np.array_equal(index, positions((size,))):
        if weight.shape[0] * size > MAX_ELEMENTS:
            raise call.refuse(f"expected at most {MAX_ELEMENTS} weights")
        real = index != ZERO
        placed = np.zeros((size, weight.shape[0]))
        np.add.at(placed, index[real], weight.T[real])
        weight = placed.T
    name = call.name()
    if len(call.chain.shape) != 1:
        call.chain.append(Reshape(call.chain.unique_name(f"{name}_flatten")))
    call.chain.append(Dense(name, weight, bias))
    return call.chain.view(call.chain.shape)


def _matmul(call: Call) -> Value:
    if isinstance(call.inputs[0], np.ndarray):
        return _matmul_left(call)
    data, weight = call.data(), call.weights(1)
    if 2 < weight.ndim <= data.rank and math.prod(weight.shape[:-2]) == 1:
        weight = weight.reshape(weight.shape[-2:])
    if weight.ndim != 2 or not data.index.ndim or data.index.shape[-1] != weight.shape[0]:
        raise call.refuse(f"expected {weight.shape[:1]} values on the last axis, got {data.index.shape}")
    return _linear(call, data, weight.T, np.zeros(weight.shape[1]))


def _matmul_left(call: Call) -> Value:
    """A constant times (batch, channels, time): every time step by itself."""
    weight, data = call.weights(0), call.data(1)
    if weight.ndim != 2 or data.index.ndim != 2 or weight.shape[1] != data.index.shape[0]:
        raise call.refuse(f"expected a matrix and (batch, channels, time), got {weight.shape} and {data.index.shape}")
    return _mix_channels(call, data.index, weight, np.zeros(weight.shape[0]))


def _mix_channels(call: Call, index: Index, weight: Array, bias: Array) -> Data:
    """Emit a convolution with kernel 1: weight (out, in) on `index` (in, time)."""
    name = call.name()
    if not call.chain.arrange(name, index, index.shape):
        raise call.refuse(unarranged("(channels, time)"))
    call.chain.append(Conv1d(name, weight[:, :, None], bias))
    return call.chain.view(call.chain.shape)


def _batch_norm(call: Call) -> Value:
    data = call.data()
    if call.int_attribute("training_mode", 0):
        raise call.refuse("it is in training mode: export the model for inference, model.eval()")
    if not call.int_attribute("spatial", 1):
        raise call.refuse("it has statistics per position: use BatchNorm, with one mean and variance per channel")
    gamma, beta, mean, var = (call.weights(position) for position in range(1, 5))
    eps = call.float_attribute("epsilon", 1e-5)
    channels = data.index.shape[:1]
    if any(values.shape != channels for values in (gamma, beta, mean, var)) or bool((var + eps <= 0).any()):
        raise call.refuse(f"expected {channels} statistics per tensor and variances above 0")
    shape = call.chain.shape
    rows = np.broadcast_to(np.arange(channels[0])[:, None], (channels[0], data.index.size // channels[0]))
    columns = math.prod(shape[1:])
    if shape[0] == channels[0] and np.array_equal(data.index.reshape(rows.shape) // columns, rows):
        call.chain.append(BatchNorm(call.name(), mean, var, gamma, beta, eps))
        return Data(call.chain.version, data.index)
    tall = (-1, *[1] * (data.index.ndim - 1))
    scale = gamma / np.sqrt(var + eps)
    return apply_affine(call, data, scale.reshape(tall), (beta - mean * scale).reshape(tall))


LAYERS: Mapping[str, Handler] = MappingProxyType(
    {"Conv": _conv, "Gemm": _gemm, "MatMul": _matmul, "BatchNormalization": _batch_norm}
)
