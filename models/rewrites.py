"""Rewrites that make a model cheaper to compute on shares and leave its logits what they were.

Each rewrite is a function Graph -> Graph that returns the same object when it found nothing to do; `REWRITES` holds
them in the order in which the compiler applies them. After all of them only Conv1d, Dense, Relu, SumPool, MaxPool and
Reshape are left.

Why they pay: on shares a comparison costs far more than a product, a rescaling costs a truncation, and a sum costs
nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sottovoce.engine.errors import ModelError
from sottovoce.models.evaluate import batchnorm_affine, conv1d, evaluate_node
from sottovoce.models.graph import (
    Affine,
    AvgPool,
    BatchNorm,
    Conv1d,
    Dense,
    Graph,
    Identity,
    MaxPool,
    Node,
    Relu,
    Reshape,
    Shape,
    SumPool,
)

Array = NDArray[Any]
Rewrite = Callable[[Graph], Graph]


def drop_identity(graph: Graph) -> Graph:
    """Dropout does nothing at inference."""
    return _with(graph, [node for node in graph.nodes if not isinstance(node, Identity)])


def batchnorm_to_affine(graph: Graph) -> Graph:
    """A frozen batch-norm is one multiplication and one addition per channel."""
    nodes: list[Node] = []
    for node, shape in zip(graph.nodes, graph.shapes, strict=False):
        nodes.append(Affine(node.name, *batchnorm_affine(node, len(shape))) if isinstance(node, BatchNorm) else node)
    return _with(graph, nodes)


def fold_affine_back(graph: Graph) -> Graph:
    """linear, affine -> linear: the factor into the rows of the weight, the shift into the bias."""
    return _pairs(graph, _fold_back)


def fold_affine_forward(graph: Graph) -> Graph:
    """affine, linear -> linear: the factor into the columns of the weight, the shift through the weight into the bias.

    At padded edges the shift does not reach the padding, so the bias becomes one number per channel *and position*.
    An affine with pooling or a reshape between it and its linear layer is first moved over them.
    """
    return _pairs(graph, _fold_forward)


def average_to_sum(graph: Graph) -> Graph:
    """A mean over k positions is a window sum divided by k.

    k a power of two: the division is log2(k) more fraction bits. Otherwise 1/k goes into the next linear layer, or, if
    there is none, into the one before: ReLU, pooling and reshapes in between commute with a positive factor.
    """
    nodes = list(graph.nodes)
    for i, node in enumerate(nodes):
        if not isinstance(node, AvgPool):
            continue
        power_of_two = node.kernel & (node.kernel - 1) == 0
        divisor = node.kernel if power_of_two else 1
        nodes[i] = SumPool(node.name, node.kernel, node.stride, node.padding, divisor)
        if not power_of_two:
            _scale_neighbour(nodes, i, 1.0 / node.kernel)
    return _with(graph, nodes)


def maxpool_before_relu(graph: Graph) -> Graph:
    """relu, maxpool -> maxpool, relu: the same values with fewer ReLUs."""
    return _pairs(graph, lambda a, b, _: (b, a) if isinstance(a, Relu) and isinstance(b, MaxPool) else None)


def relu_before_reshape(graph: Graph) -> Graph:
    """reshape, relu -> relu, reshape: brings the ReLU next to the linear layer that it can be fused with."""
    return _pairs(graph, lambda a, b, _: (b, a) if isinstance(a, Reshape) and isinstance(b, Relu) else None)


def merge_relu(graph: Graph) -> Graph:
    """relu, relu -> relu."""
    return _pairs(graph, lambda a, b, _: (a,) if isinstance(a, Relu) and isinstance(b, Relu) else None)


def merge_reshape(graph: Graph) -> Graph:
    """reshape, reshape -> the last one; a reshape to the same shape -> nothing."""
    merged = _pairs(graph, lambda a, b, _: (b,) if isinstance(a, Reshape) and isinstance(b, Reshape) else None)
    shapes = merged.shapes
    return _with(
        merged, [n for i, n in enumerate(merged.nodes) if not (isinstance(n, Reshape) and shapes[i] == shapes[i + 1])]
    )


REWRITES: tuple[tuple[str, Rewrite], ...] = (
    ("drop dropout and identity layers", drop_identity),
    ("batch-norm becomes one affine map per channel", batchnorm_to_affine),
    ("fold affine maps into the linear layer before them", fold_affine_back),
    ("fold affine maps into the linear layer after them", fold_affine_forward),
    ("average-pool becomes a window sum with a scale", average_to_sum),
    ("max-pool before ReLU", maxpool_before_relu),
    ("ReLU before reshape", relu_before_reshape),
    ("merge repeated ReLUs", merge_relu),
    ("merge reshapes", merge_reshape),
)


def rewrite(graph: Graph) -> tuple[Graph, tuple[str, ...]]:
    """The rewritten graph and what was applied, in order. Raises ModelError for an affine that nothing can absorb."""
    applied = []
    for label, function in REWRITES:
        new = function(graph)
        if new is not graph:
            applied.append(label)
        graph = new
    for node in graph.nodes:
        if isinstance(node, Affine):
            raise ModelError(
                f"layer {node.name!r}: expected a linear layer that can absorb this affine map or batch-norm "
                "(its factor may not change along time where a convolution or a pool must take it), got none"
            )
    return graph, tuple(applied)


def _with(graph: Graph, nodes: list[Node]) -> Graph:
    same = len(nodes) == len(graph.nodes) and all(a is b for a, b in zip(nodes, graph.nodes, strict=True))
    return graph if same else replace(graph, nodes=tuple(nodes))


def _pairs(graph: Graph, rule: Callable[[Node, Node, Shape], tuple[Node, ...] | None]) -> Graph:
    """Apply a rule on neighbours (first, second, shape before first) until it finds nothing more."""
    done = False
    while not done:
        done = True
        shapes = graph.shapes
        for i in range(len(graph.nodes) - 1):
            new = rule(graph.nodes[i], graph.nodes[i + 1], shapes[i])
            if new is not None:
                graph = replace(graph, nodes=graph.nodes[:i] + new + graph.nodes[i + 2 :])
                done = False
                break
    return graph


def _fold_back(first: Node, second: Node, shape: Shape) -> tuple[Node, ...] | None:
    if not isinstance(second, Affine):
        return None
    if isinstance(first, Affine):
        return (Affine(second.name, second.scale * first.scale, second.scale * first.shift + second.shift),)
    if isinstance(first, Dense):
        out = first.weight.shape[:1]
        scale, shift = np.broadcast_to(second.scale, out), np.broadcast_to(second.shift, out)
        return (replace(first, weight=_f64(first.weight) * scale[:, None], bias=first.bias * scale + shift),)
    if isinstance(first, Conv1d):
        factor = _per_channel(second.scale, first.weight.shape[0])
        if factor is None:
            return None
        bias = first.bias[:, None] if first.bias.ndim == 1 else first.bias
        weight = _f64(first.weight) * factor[:, None, None]
        return (replace(first, weight=weight, bias=_column(factor * bias.T, second.shift)),)
    return None


def _column(scaled_bias: Array, shift: Array) -> Array:
    """(time or 1, c_out) + a shift broadcastable to (c_out, time), as a bias (c_out, time or 1)."""
    bias = scaled_bias.T
    shift = np.asarray(shift, dtype=np.float64)
    if shift.ndim < 2:
        shift = shift.reshape((1, -1))  # numpy broadcasting: a 1-d shift runs along time
    return bias + shift


def _fold_forward(first: Node, second: Node, shape: Shape) -> tuple[Node, ...] | None:
    if not isinstance(first, Affine):
        return None
    scale = np.broadcast_to(_f64(first.scale), shape)
    shift = np.broadcast_to(_f64(first.shift), shape)
    if isinstance(second, Affine):
        return _fold_back(first, second, shape)
    if isinstance(second, Dense):
        weight = _f64(second.weight)
        return (replace(second, weight=weight * scale, bias=second.bias + weight @ shift),)
    if isinstance(second, Reshape):
        new = (math.prod(shape),) if second.shape is None else second.shape
        return (second, Affine(first.name, scale.reshape(new), shift.reshape(new)))
    if not isinstance(second, Conv1d | AvgPool | MaxPool):
        return None
    factor = _per_channel(first.scale, shape[0])
    if factor is None:
        return None
    if isinstance(second, Conv1d):
        return (_fold_into_conv(second, factor, first.shift, shape),)
    if isinstance(second, AvgPool):
        moved = evaluate_node(second, shift[None])[0]  # padding counts as zeros that the shift never reached
        return (second, Affine(first.name, factor[:, None], moved))
    level = _per_channel(first.shift, shape[0])
    if level is None or bool((factor < 0).any()):  # a negative factor would turn maxima into minima
        return None
    return (second, Affine(first.name, factor[:, None], level[:, None]))


def _fold_into_conv(conv: Conv1d, factor: Array, shift: Array, shape: Shape) -> Conv1d:
    weight = _f64(conv.weight)
    bias = _f64(conv.bias[:, None] if conv.bias.ndim == 1 else conv.bias)
    through = conv1d(conv, weight, np.broadcast_to(_f64(shift), shape)[None])[0]
    if conv.padding == (0, 0) and np.atleast_1d(shift).shape[-1] == 1:
        through = through[:, :1]  # no edges: every position gets the same; decided by shapes alone, as they are public
    width = conv.weight.shape[1]
    per_group = factor.reshape(conv.groups, 1, width)
    rows = weight.reshape(conv.groups, -1, width, weight.shape[2]) * per_group[..., None]
    return replace(conv, weight=rows.reshape(weight.shape), bias=bias + through)


def _scale_neighbour(nodes: list[Node], position: int, factor: float) -> None:
    """Multiply the next linear layer's weight, or the previous one's weight and bias, by `factor`; changes `nodes`."""
    for i in range(position + 1, len(nodes)):
        node = nodes[i]
        if isinstance(node, Conv1d | Dense):
            nodes[i] = replace(node, weight=_f64(node.weight) * factor)
            return
        if isinstance(node, Affine | BatchNorm):  # a shift does not commute with a factor
            break
    for i in range(position - 1, -1, -1):
        node = nodes[i]
        if isinstance(node, Conv1d | Dense):
            nodes[i] = replace(node, weight=_f64(node.weight) * factor, bias=_f64(node.bias) * factor)
            return
        if isinstance(node, Affine | BatchNorm):
            break
    raise ModelError(f"layer {nodes[position].name!r}: expected a linear layer that can absorb its factor, got none")


def _per_channel(values: Array, channels: int) -> NDArray[np.float64] | None:
    """One number per channel if `values`, broadcastable to (channels, time), is constant along time; else None."""
    values = np.atleast_1d(_f64(values))
    if bool((values != values[..., :1]).any()):
        return None
    return np.broadcast_to(values[..., 0].reshape(-1), (channels,)).copy()


def _f64(values: Array) -> NDArray[np.float64]:
    return np.asarray(values, dtype=np.float64)
