"""Rewrites that make a model cheaper to compute on shares and leave its logits what they were.

Each rewrite is a function Graph -> Graph that returns the same object when it found nothing to do; `REWRITES` holds
them in the order in which the compiler applies them. After all of them only Conv1d, Dense, Relu, LeakyRelu, SumPool,
MaxPool, Reshape and Transpose are left.

Why they pay: on shares a comparison costs far more than a product, a rescaling costs a truncation, and a sum costs
nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from sottovoce.models.compiler.affine import as_float64, depthwise, fold_back, fold_forward, suffixed
from sottovoce.models.evaluate import batchnorm_affine
from sottovoce.models.graph import (
    Affine,
    AvgPool,
    BatchNorm,
    Conv1d,
    Dense,
    Graph,
    Identity,
    LeakyRelu,
    MaxPool,
    Node,
    Relu,
    Reshape,
    Shape,
    SumPool,
    Transpose,
)

Rewrite = Callable[[Graph], Graph]


def drop_identity(graph: Graph) -> Graph:
    """Dropout does nothing at inference, and neither does a leaky ReLU of slope 1."""

    def nothing(node: Node) -> bool:
        return isinstance(node, Identity) or (isinstance(node, LeakyRelu) and node.slope == 1)

    return _with(graph, [node for node in graph.nodes if not nothing(node)])


def batchnorm_to_affine(graph: Graph) -> Graph:
    """A frozen batch-norm is one multiplication and one addition per channel."""
    nodes: list[Node] = []
    for node, shape in zip(graph.nodes, graph.shapes, strict=False):
        nodes.append(Affine(node.name, *batchnorm_affine(node, len(shape))) if isinstance(node, BatchNorm) else node)
    return _with(graph, nodes)


def fold_affine_back(graph: Graph) -> Graph:
    """linear, affine -> linear: the factor into the rows of the weight, the shift into the bias."""
    return _pairs(graph, fold_back)


def fold_affine_forward(graph: Graph) -> Graph:
    """affine, linear -> linear: the factor into the columns of the weight, the shift through the weight into the bias.

    At padded edges the shift does not reach the padding, so the bias becomes one number per channel *and position*.
    An affine with pooling, a reshape or a transpose between it and its linear layer is first moved over them.
    """
    return _pairs(graph, fold_forward)


def affine_to_depthwise(graph: Graph) -> Graph:
    """An affine that no linear layer absorbs -> a depthwise convolution of kernel 1.

    A factor that changes along time has a channel for each position: (channels, time) is reshaped to
    (channels * time, 1) around it.
    """
    nodes: list[Node] = []
    names = {node.name for node in graph.nodes}
    for node, shape in zip(graph.nodes, graph.shapes, strict=False):
        nodes += depthwise(node, shape, names) if isinstance(node, Affine) else [node]
    return _with(graph, nodes)


def average_to_sum(graph: Graph) -> Graph:
    """A mean over k positions is a window sum divided by k.

    k a power of two: the division is log2(k) more fraction bits. Otherwise 1/k goes into the next linear layer, or, if
    there is none, into the one before: ReLU, pooling and reshapes in between commute with a positive factor. Without a
    linear layer it becomes a depthwise convolution.
    """
    nodes, shapes = list(graph.nodes), graph.shapes
    divisions: dict[int, Conv1d] = {}
    names = {node.name for node in nodes}
    for i, node in enumerate(graph.nodes):
        if not isinstance(node, AvgPool | SumPool):
            continue
        divisor = node.kernel if isinstance(node, AvgPool) else node.divisor
        if divisor in (1, node.kernel) and divisor & (divisor - 1) == 0:
            if isinstance(node, AvgPool):
                nodes[i] = SumPool(node.name, node.kernel, node.stride, node.padding, divisor)
            continue
        nodes[i] = SumPool(node.name, node.kernel, node.stride, node.padding)
        if not _scale_neighbour(nodes, i, 1.0 / divisor):
            weight = np.full((shapes[i][0], 1, 1), 1.0 / divisor)
            divisions[i] = Conv1d(suffixed(node, "mean", names), weight, np.zeros(len(weight)), groups=len(weight))
    return _with(graph, [n for i, node in enumerate(nodes) for n in (node, divisions.get(i)) if n is not None])


def maxpool_before_relu(graph: Graph) -> Graph:
    """relu, maxpool -> maxpool, relu: the same values with fewer ReLUs; a leaky one only if it never falls."""
    return _pairs(graph, lambda a, b, _: (b, a) if _rises(a) and isinstance(b, MaxPool) else None)


def relu_before_reshape(graph: Graph) -> Graph:
    """reshape, relu -> relu, reshape: brings the ReLU next to the linear layer that it can be fused with."""

    def swap(first: Node, second: Node, shape: Shape) -> tuple[Node, ...] | None:
        moves = isinstance(first, Reshape | Transpose) and isinstance(second, Relu | LeakyRelu)
        return (second, first) if moves else None

    return _pairs(graph, swap)


def merge_relu(graph: Graph) -> Graph:
    """relu, relu -> relu, also if one of the two is leaky with a slope >= 0; leaky with slope 0 -> relu."""

    def merge(first: Node, second: Node, shape: Shape) -> tuple[Node, ...] | None:
        if isinstance(first, Relu) and isinstance(second, Relu | LeakyRelu):
            return (first,)
        return (second,) if _rises(first) and isinstance(second, Relu) else None

    flat = [Relu(n.name) if isinstance(n, LeakyRelu) and n.slope == 0 else n for n in graph.nodes]
    return _pairs(_with(graph, flat), merge)


def fold_transpose(graph: Graph) -> Graph:
    """transpose, transpose -> nothing; of one channel or one position -> a reshape; before a dense layer -> into it.

    In the last case the dense layer's columns are permuted instead: transpose, flatten, dense -> flatten, dense.
    """
    graph = _pairs(graph, lambda a, b, _: () if isinstance(a, Transpose) and isinstance(b, Transpose) else None)
    nodes, shapes = list(graph.nodes), graph.shapes
    for i, node in enumerate(graph.nodes):
        if not isinstance(node, Transpose):
            continue
        channels, time = shapes[i]
        after = graph.nodes[i + 2] if i + 2 < len(nodes) else None
        if 1 in (channels, time):
            nodes[i] = Reshape(node.name, (time, channels))
        elif isinstance(graph.nodes[i + 1], Reshape) and isinstance(after, Dense):
            columns = np.arange(channels * time).reshape(time, channels).T.reshape(-1)
            nodes[i] = Reshape(node.name, (channels * time,))
            nodes[i + 2] = replace(after, weight=after.weight[:, columns])
    return _with(graph, nodes)


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
    ("an affine map that no layer absorbs becomes a depthwise convolution", affine_to_depthwise),
    ("average-pool becomes a window sum with a scale", average_to_sum),
    ("max-pool before ReLU", maxpool_before_relu),
    ("ReLU before reshape", relu_before_reshape),
    ("merge repeated ReLUs", merge_relu),
    ("transpose folded into the dense layer after it, or cancelled", fold_transpose),
    ("merge reshapes", merge_reshape),
)


def rewrite(graph: Graph) -> tuple[Graph, tuple[str, ...]]:
    """The rewritten graph and what was applied, in order."""
    applied = []
    with np.errstate(over="ignore", invalid="ignore"):  # Graph refuses weights that are not finite, by name
        for label, function in REWRITES:
            new = function(graph)
            if new is not graph:
                applied.append(label)
            graph = new
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


def _scale_neighbour(nodes: list[Node], position: int, factor: float) -> bool:
    """Multiply the next linear layer's weight, or the previous one's weight and bias, by `factor`; changes `nodes`.

    False if there is none.
    """
    for i in range(position + 1, len(nodes)):
        node = nodes[i]
        if isinstance(node, Conv1d | Dense):
            nodes[i] = replace(node, weight=as_float64(node.weight) * factor)
            return True
        if isinstance(node, Affine | BatchNorm):  # a shift does not commute with a factor
            break
    for i in range(position - 1, -1, -1):
        node = nodes[i]
        if isinstance(node, Conv1d | Dense):
            nodes[i] = replace(node, weight=as_float64(node.weight) * factor, bias=as_float64(node.bias) * factor)
            return True
        if isinstance(node, Affine | BatchNorm):
            break
    return False


def _rises(node: Node) -> bool:
    """Whether `node` is a ReLU that never falls, so that it commutes with maxima."""
    return isinstance(node, Relu) or (isinstance(node, LeakyRelu) and node.slope >= 0)
