"""Where an affine map goes: into a linear layer beside it, past what it commutes with, or into a layer of its own."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import count

import numpy as np
from numpy.typing import NDArray

from sottovoce.engine.program import MAX_NAME
from sottovoce.models.evaluate import conv1d, evaluate_node
from sottovoce.models.graph import (
    Affine,
    Array,
    AvgPool,
    Conv1d,
    Dense,
    MaxPool,
    Node,
    Reshape,
    Shape,
    SumPool,
    Transpose,
    output_shape,
)


def fold_back(first: Node, second: Node, shape: Shape) -> tuple[Node, ...] | None:
    """linear, affine -> linear; None if the affine cannot go into the weights."""
    if not isinstance(second, Affine):
        return None
    scale, shift = as_float64(second.scale), as_float64(second.shift)
    if isinstance(first, Affine):
        return (Affine(second.name, scale * as_float64(first.scale), scale * as_float64(first.shift) + shift),)
    if isinstance(first, Dense):
        rows = np.broadcast_to(scale, first.weight.shape[:1])
        weight, bias = as_float64(first.weight) * rows[:, None], as_float64(first.bias) * rows + shift
        return (replace(first, weight=weight, bias=bias),)
    if isinstance(first, Conv1d):
        factor = _per_channel(second.scale, first.weight.shape[0])
        if factor is None:
            return None
        bias = first.bias[:, None] if first.bias.ndim == 1 else first.bias
        weight = as_float64(first.weight) * factor[:, None, None]
        return (replace(first, weight=weight, bias=_column(factor * bias.T, shift)),)
    return None


def _column(scaled_bias: Array, shift: Array) -> Array:
    """(time or 1, c_out) + a shift broadcastable to (c_out, time), as a bias (c_out, time or 1)."""
    bias = scaled_bias.T
    if shift.ndim < 2:
        shift = shift.reshape((1, -1))  # numpy broadcasting: a 1-d shift runs along time
    return bias + shift


def fold_forward(first: Node, second: Node, shape: Shape) -> tuple[Node, ...] | None:
    """affine, linear -> linear; affine, other -> other, affine where they commute; None if neither is possible."""
    if not isinstance(first, Affine):
        return None
    scale = np.broadcast_to(as_float64(first.scale), shape)
    shift = np.broadcast_to(as_float64(first.shift), shape)
    if isinstance(second, Affine):
        return fold_back(first, second, shape)
    if isinstance(second, Dense):
        weight = as_float64(second.weight)
        return (replace(second, weight=weight * scale, bias=second.bias + weight @ shift),)
    if isinstance(second, Reshape):
        new = output_shape(second, shape)
        return (second, Affine(first.name, scale.reshape(new), shift.reshape(new)))
    if isinstance(second, Transpose):
        return (second, Affine(first.name, scale.T, shift.T))
    if not isinstance(second, Conv1d | AvgPool | SumPool | MaxPool):
        return None
    factor = _per_channel(first.scale, shape[0])
    if factor is None:
        return None
    if isinstance(second, Conv1d):
        return (_fold_into_conv(second, factor, first.shift, shape),)
    if isinstance(second, AvgPool | SumPool):
        moved = evaluate_node(second, shift[None])[0]  # padding counts as zeros that the shift never reached
        return (second, Affine(first.name, factor[:, None], moved))
    level = _per_channel(first.shift, shape[0])
    if level is None or bool((factor < 0).any()):  # a negative factor would turn maxima into minima
        return None
    return (second, Affine(first.name, factor[:, None], level[:, None]))


def _fold_into_conv(conv: Conv1d, factor: Array, shift: Array, shape: Shape) -> Conv1d:
    weight = as_float64(conv.weight)
    bias = as_float64(conv.bias[:, None] if conv.bias.ndim == 1 else conv.bias)
    through = conv1d(conv, weight, np.broadcast_to(as_float64(shift), shape)[None])[0]
    if conv.padding == (0, 0) and np.atleast_1d(shift).shape[-1] == 1:
        through = through[:, :1]  # no edges: every position gets the same; decided by shapes alone, as they are public
    width = conv.weight.shape[1]
    per_group = factor.reshape(conv.groups, 1, width)
    rows = weight.reshape(conv.groups, -1, width, weight.shape[2]) * per_group[..., None]
    return replace(conv, weight=rows.reshape(weight.shape), bias=bias + through)


def depthwise(node: Affine, shape: Shape, names: set[str]) -> list[Node]:
    """`node` on (channels, time) or (values,) as a convolution with a group per channel, or per position.

    names: those taken; new ones are added.
    """
    scale, shift = (np.broadcast_to(as_float64(values), shape) for values in (node.scale, node.shift))
    factor = _per_channel(node.scale, shape[0]) if len(shape) == 2 else None
    if factor is not None:
        bias = shift[:, :1] if np.atleast_1d(node.shift).shape[-1] == 1 else shift
        return [Conv1d(node.name, factor[:, None, None], bias, groups=shape[0])]
    places = math.prod(shape)
    conv = Conv1d(node.name, scale.reshape(places, 1, 1), shift.reshape(places, 1), groups=places)
    return [Reshape(suffixed(node, "in", names), (places, 1)), conv, Reshape(suffixed(node, "out", names), shape)]


def suffixed(node: Node, suffix: str, names: set[str]) -> str:
    """A name for a layer that stands in for a part of `node`: no longer than a program's may be, and a new one.

    names: those taken; the new one is added.
    """
    for number in count(1):
        ending = f".{suffix}{number}" if number > 1 else f".{suffix}"
        name = node.name[: MAX_NAME - len(ending)] + ending
        if name not in names:
            break
    names.add(name)
    return name


def _per_channel(values: Array, channels: int) -> NDArray[np.float64] | None:
    """One number per channel if `values`, broadcastable to (channels, time), is constant along time; else None."""
    values = np.atleast_1d(as_float64(values))
    if bool((values != values[..., :1]).any()):
        return None
    return np.broadcast_to(values[..., 0].reshape(-1), (channels,)).copy()


def as_float64(values: Array) -> NDArray[np.float64]:
    """Weights in double precision."""
    return np.asarray(values, dtype=np.float64)
