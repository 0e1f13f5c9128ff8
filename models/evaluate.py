"""What a model computes, in floating point: the oracle for every rewrite and for the fixed-point program."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from sottovoce.engine.errors import ModelError
from sottovoce.models.graph import (
    Affine,
    Array,
    AvgPool,
    BatchNorm,
    Conv1d,
    Dense,
    Graph,
    LeakyRelu,
    MaxPool,
    Node,
    Relu,
    SumPool,
    Transpose,
    output_shape,
)


def evaluate(graph: Graph, x: ArrayLike, dtype: type[np.floating[Any]] = np.float64) -> Array:
    """Logits (batch, labels) of features x (batch, channels, time), computed in `dtype`."""
    values = np.asarray(x, dtype=dtype)
    if values.ndim != 3 or values.shape[1:] != graph.input_shape:
        raise ModelError(f"model {graph.name!r}: expected x (batch, *{graph.input_shape}), got {values.shape}")
    for node in graph.nodes:
        values = evaluate_node(node, values)
    return values


def evaluate_node(node: Node, x: Array) -> Array:
    """One node on a batch, in x's dtype."""
    shape = output_shape(node, x.shape[1:])
    if isinstance(node, Conv1d):
        bias = node.bias.astype(x.dtype)
        return np.asarray(conv1d(node, node.weight.astype(x.dtype), x) + (bias[:, None] if bias.ndim == 1 else bias))
    if isinstance(node, Dense):
        return np.asarray(x @ node.weight.astype(x.dtype).T + node.bias.astype(x.dtype))
    if isinstance(node, Affine):
        return np.asarray(x * node.scale.astype(x.dtype) + node.shift.astype(x.dtype))
    if isinstance(node, BatchNorm):
        scale, shift = batchnorm_affine(node, x.ndim - 1)
        return np.asarray(x * scale.astype(x.dtype) + shift.astype(x.dtype))
    if isinstance(node, Relu):
        return np.maximum(x, 0)
    if isinstance(node, LeakyRelu):
        return np.asarray(np.where(x >= 0, x, x * x.dtype.type(node.slope)))
    if isinstance(node, Transpose):
        return np.ascontiguousarray(x.swapaxes(1, 2))
    if isinstance(node, AvgPool | SumPool):
        sums = windows(x, node.kernel, node.stride, node.padding).sum(axis=-1)
        return np.asarray(
            sums / x.dtype.type(node.kernel if isinstance(node, AvgPool) else node.divisor), dtype=x.dtype
        )
    if isinstance(node, MaxPool):
        return np.asarray(windows(x, node.kernel, node.stride, node.padding, fill=-np.inf).max(axis=-1))
    return x.reshape(x.shape[:1] + shape)


def batchnorm_affine(node: BatchNorm, dimensions: int) -> tuple[Array, Array]:
    """The (scale, shift) of a batch-norm, broadcastable to a layer of 1 or 2 dimensions."""
    scale = node.gamma.astype(np.float64) / np.sqrt(node.var.astype(np.float64) + node.eps)
    shift = node.beta - node.mean * scale
    return (scale[:, None], shift[:, None]) if dimensions == 2 else (scale, shift)


def conv1d(node: Conv1d, weight: Array, x: Array) -> Array:
    """Convolution without bias: `node`'s geometry with any float weight, on x (batch, c_in, time)."""
    batch, channels, _ = x.shape
    c_out, c_group, kernel = weight.shape
    view = windows(x, kernel, node.stride, node.padding, node.dilation)  # (batch, c_in, time_out, kernel)
    time = view.shape[2]
    view = view.reshape(batch, node.groups, channels // node.groups, time, kernel)
    columns = view.transpose(0, 1, 2, 4, 3).reshape(batch, node.groups, c_group * kernel, time)
    rows = weight.reshape(node.groups, c_out // node.groups, c_group * kernel)
    return np.asarray(np.matmul(rows, columns).reshape(batch, c_out, time))


def windows(
    x: Array, kernel: int, stride: int, padding: tuple[int, int], dilation: int = 1, fill: float = 0.0
) -> Array:
    """Windows over the last axis, (…, time_out, kernel); positions outside the input hold `fill`."""
    padded = np.pad(x, [(0, 0)] * (x.ndim - 1) + [padding], constant_values=fill)
    span = dilation * (kernel - 1) + 1
    view = np.lib.stride_tricks.sliding_window_view(padded, span, axis=-1)
    return np.asarray(view[..., ::stride, ::dilation])
