"""A Graph as a PyTorch function, and back. Needs the extra `train`.

Semantics are those of `models.evaluate`. Trained are the weights and biases of convolutions and dense layers and the
factors and shifts of batch-norms; an Affine is a constant.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # the name that every PyTorch user knows

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
    Reshape,
    SumPool,
    Transpose,
    output_shape,
)

Tensors = dict[str, torch.Tensor]

_TRAINED: Mapping[Any, tuple[str, ...]] = MappingProxyType(
    {Conv1d: ("weight", "bias"), Dense: ("weight", "bias"), BatchNorm: ("gamma", "beta")}
)
_CONSTANT: Mapping[Any, tuple[str, ...]] = MappingProxyType({Affine: ("scale", "shift"), BatchNorm: ("mean", "var")})


@dataclass(frozen=True, slots=True)
class Network:
    """The arrays of a Graph as tensors named "<layer>.<field>".

    parameters: trained. constants: not trained; the statistics of batch-norms follow the batches. divisors: factor by
    layer that its weight is divided by wherever it is used, see `Recipe.equalise`.
    """

    graph: Graph
    parameters: Tensors = field(repr=False)
    constants: Tensors = field(repr=False)
    divisors: Tensors = field(repr=False, default_factory=dict)

    def weight(self, layer: str) -> torch.Tensor:
        weight = self.parameters[f"{layer}.weight"]
        return weight / self.divisors[layer] if layer in self.divisors else weight


@dataclass(frozen=True, slots=True)
class Dropout:
    """Rates before convolutions and before dense layers. Own generator: torch's dropout draws from the global one."""

    hidden: float
    dense: float
    generator: torch.Generator

    def __call__(self, x: torch.Tensor, rate: float) -> torch.Tensor:
        if rate == 0:
            return x
        kept = torch.rand(x.shape, generator=self.generator, device=x.device) >= rate
        return x * kept / (1 - rate)


def to_network(graph: Graph, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Network:
    """The graph's arrays as tensors of their own."""

    def tensors(table: Mapping[Any, tuple[str, ...]]) -> Tensors:
        return {
            f"{node.name}.{name}": torch.tensor(np.asarray(getattr(node, name)), dtype=dtype, device=device)
            for node in graph.nodes
            for name in table.get(type(node), ())
        }

    return Network(graph, tensors(_TRAINED), tensors(_CONSTANT))


def to_graph(network: Network) -> Graph:
    """The graph with the network's arrays, float64."""
    nodes: list[Node] = []
    for node in network.graph.nodes:
        names = (*_TRAINED.get(type(node), ()), *_CONSTANT.get(type(node), ()))
        values: dict[str, Array] = {}
        for name in names:
            key = f"{node.name}.{name}"
            tensor = network.weight(node.name) if name == "weight" else {**network.parameters, **network.constants}[key]
            values[name] = tensor.detach().double().cpu().numpy().copy()
        nodes.append(replace(node, **values) if values else node)  # type: ignore[arg-type]
    return replace(network.graph, nodes=tuple(nodes))


def forward(network: Network, x: torch.Tensor, dropout: Dropout | None = None) -> torch.Tensor:
    """Logits (rows, labels) of x (rows, channels, time). With a dropout: training mode, batch-norms see the batch."""
    first = True
    for node in network.graph.nodes:
        if dropout is not None and isinstance(node, Dense):
            x = dropout(x, dropout.dense)
        elif dropout is not None and isinstance(node, Conv1d) and not first:
            x = dropout(x, dropout.hidden)
        first = first and not isinstance(node, Conv1d | Dense)
        x = apply_node(network, node, x, training=dropout is not None)
    return x


def apply_node(network: Network, node: Node, x: torch.Tensor, *, training: bool) -> torch.Tensor:
    """One node on a batch, as `models.evaluate.evaluate_node`."""
    if isinstance(node, Conv1d):
        bias = network.parameters[f"{node.name}.bias"]
        y = F.conv1d(
            F.pad(x, node.padding),
            network.weight(node.name),
            stride=node.stride,
            dilation=node.dilation,
            groups=node.groups,
        )
        return y + (bias[:, None] if bias.ndim == 1 else bias)
    if isinstance(node, Dense):
        return F.linear(x, network.weight(node.name), network.parameters[f"{node.name}.bias"])
    if isinstance(node, BatchNorm):
        return _batch_norm(network, node, x, training)
    if isinstance(node, Affine):
        return x * network.constants[f"{node.name}.scale"] + network.constants[f"{node.name}.shift"]
    if isinstance(node, Relu):
        return F.relu(x)
    if isinstance(node, LeakyRelu):
        return torch.where(x >= 0, x, x * node.slope)
    if isinstance(node, AvgPool | SumPool):
        means = F.avg_pool1d(F.pad(x, node.padding), node.kernel, node.stride)
        return means if isinstance(node, AvgPool) else means * (node.kernel / node.divisor)
    if isinstance(node, MaxPool):
        return F.max_pool1d(F.pad(x, node.padding, value=-torch.inf), node.kernel, node.stride)
    if isinstance(node, Transpose):
        return x.transpose(1, 2)
    if isinstance(node, Reshape):
        return x.reshape(x.shape[:1] + output_shape(node, tuple(x.shape[1:])))
    return x


def _batch_norm(network: Network, node: BatchNorm, x: torch.Tensor, training: bool) -> torch.Tensor:
    return F.batch_norm(
        x,
        network.constants[f"{node.name}.mean"],
        network.constants[f"{node.name}.var"],
        network.parameters[f"{node.name}.gamma"],
        network.parameters[f"{node.name}.beta"],
        training=training and len(x) > 1,  # one row has no variance
        eps=node.eps,
    )


def equalised(network: Network, x: torch.Tensor) -> Network:
    """`network` with a divisor for its first dense layer: what each position feeds it on x, relative to the mean.

    Only where a flatten of (channels, time) precedes that layer; else the network itself.
    """
    shape: tuple[int, ...] = network.graph.input_shape
    with torch.no_grad():
        for node in network.graph.nodes:
            if isinstance(node, Dense):
                if len(shape) != 2:
                    return network
                size = x.reshape(-1, *shape).square().mean((0, 1)).sqrt()  # (time,)
                divisor = (size / size.mean().clamp_min(1e-12)).clamp_min(1e-3).repeat(shape[0])
                return replace(network, divisors={node.name: divisor})
            if not isinstance(node, Reshape):
                shape = output_shape(node, shape)
            x = apply_node(network, node, x, training=False)
    return network
