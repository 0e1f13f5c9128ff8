"""What is trained: an architecture with fresh weights, standardised inputs in front, and room for the range proof."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from sottovoce.engine.errors import ModelError
from sottovoce.models.compiler.rewrites import fold_affine_forward
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
    SumPool,
    Transpose,
)
from sottovoce.models.training.recipe import Recipe

Float = npt.NDArray[np.float64]

STANDARDISE = "standardise"
"""Name of the Affine in front of a trained graph."""

_HOMOGENEOUS = (Relu, LeakyRelu, AvgPool, SumPool, MaxPool, Reshape, Transpose, Identity)
"""Layers that a positive factor passes through."""


def untrained(graph: Graph, labels: tuple[str, ...], seed: int) -> Graph:
    """The architecture of `graph` for `labels`, with weights drawn anew, uniform in ±1/sqrt(fan-in) as PyTorch does.

    An Affine in front, the standardisation of other data, is dropped; a batch-norm starts as the identity. The last
    dense layer gets one output per label. ModelError where the logits do not come from a dense layer, or where a name
    is taken.
    """
    rng = np.random.default_rng([seed, 4])
    nodes = list(graph.nodes)
    while nodes and isinstance(nodes[0], Affine):
        del nodes[0]
    if not nodes or not isinstance(nodes[-1], Dense):
        raise ModelError(f"model {graph.name!r}: training: expected a dense layer at the end, got another")
    if any(node.name == STANDARDISE for node in nodes):
        raise ModelError(f"model {graph.name!r}: training: expected no layer named {STANDARDISE!r}, got one")
    nodes[-1] = replace(nodes[-1], weight=np.zeros((len(labels), nodes[-1].weight.shape[1])))
    return replace(graph, nodes=tuple(_drawn(node, rng) for node in nodes), labels=labels)


def _drawn(node: Node, rng: np.random.Generator) -> Node:
    if isinstance(node, Conv1d | Dense):
        bound = 1 / math.sqrt(math.prod(node.weight.shape[1:]))
        weight = rng.uniform(-bound, bound, node.weight.shape)
        return replace(node, weight=weight, bias=rng.uniform(-bound, bound, node.weight.shape[:1]))
    if isinstance(node, BatchNorm):
        zeros, ones = np.zeros(node.mean.shape), np.ones(node.mean.shape)
        return replace(node, mean=zeros, var=ones, gamma=ones, beta=zeros)
    return node


@dataclass(frozen=True, slots=True)
class Standardisation:
    """z = (x - mean) / scale; mean, scale: broadcastable to (channels, time)."""

    mean: Float = field(repr=False)
    scale: Float = field(repr=False)

    def __call__(self, features: Float) -> Float:
        """features: (rows, channels, time) to the same shape."""
        return (features - self.mean) / self.scale

    def affine(self) -> Affine:
        """The same as a layer."""
        return Affine(STANDARDISE, 1 / self.scale, -self.mean / self.scale)


def standardisation(features: Float, recipe: Recipe) -> Standardisation:
    """From training rows (rows, channels, time): one mean and scale per channel, or per position if there is only one.

    A feature that never changes is only shifted.
    """
    axes = (0,) if features.shape[1] == 1 else (0, 2)
    mean = features.mean(axis=axes, keepdims=True)[0]
    if recipe.scaling == "common":
        return Standardisation(mean, np.full((1, 1), recipe.common_scale))
    deviation = features.std(axis=axes, keepdims=True)[0]
    return Standardisation(mean, np.where(deviation > 1e-9, deviation, 1.0))


def finished(trained: Graph, standardise: Standardisation, recipe: Recipe) -> Graph:
    """The network for raw features, float32: two layers balanced, weights on the grid, standardisation in front.

    The standardisation is folded into a convolution behind it that can take it: one with the same factor at all
    positions. The weights are then on the grid after the common scale has been folded in.
    """
    common = float(standardise.scale.flat[0]) if recipe.scaling == "common" else 1.0
    first, *_ = [node.name for node in trained.nodes if isinstance(node, Conv1d | Dense)]
    nodes: list[Node] = []
    for node in balanced(trained, recipe.balance_bits).nodes:
        if isinstance(node, Conv1d | Dense):
            step = 2.0**-recipe.grid_bits * (common if node.name == first else 1.0)
            node = replace(node, weight=np.round(node.weight / step) * step)
        nodes.append(node)
    folded = fold_affine_forward(replace(trained, nodes=(standardise.affine(), *nodes)))
    return replace(folded, nodes=tuple(_single(node) for node in folded.nodes))


def arrays(graph: Graph) -> dict[str, npt.NDArray[np.float32]]:
    """The arrays of a graph by "<layer>.<field>", float32: what a weights file holds."""
    return {f"{node.name}.{name}": value.astype(np.float32) for node in graph.nodes for name, value in _fields(node)}


def _single(node: Node) -> Node:
    changes = {name: value.astype(np.float32) for name, value in _fields(node)}
    return replace(node, **changes) if changes else node  # type: ignore[arg-type]


def _fields(node: Node) -> list[tuple[str, npt.NDArray[Any]]]:
    values = [(field.name, getattr(node, field.name)) for field in fields(node)]
    return [(name, value) for name, value in values if isinstance(value, np.ndarray)]


def balanced(graph: Graph, bits: int) -> Graph:
    """The first linear layer times 2**bits and the next divided by it, where the layers between let a factor through.

    The same function; rounding errors made between the two count 2**bits times less.
    """
    linears = [i for i, node in enumerate(graph.nodes) if isinstance(node, Conv1d | Dense)][:2]
    if len(linears) < 2 or not all(isinstance(n, _HOMOGENEOUS) for n in graph.nodes[linears[0] + 1 : linears[1]]):
        return graph
    nodes = list(graph.nodes)
    first, second = nodes[linears[0]], nodes[linears[1]]
    assert isinstance(first, Conv1d | Dense) and isinstance(second, Conv1d | Dense)
    nodes[linears[0]] = replace(first, weight=first.weight * 2.0**bits, bias=first.bias * 2.0**bits)
    nodes[linears[1]] = replace(second, weight=second.weight * 2.0**-bits)
    return replace(graph, nodes=tuple(nodes))
