"""The model as a peer gets it: a few kinds of layers in float64, and the same as files that need no code of ours.

The rewrites of the compiler that pay under any protocol are applied: batch-norms and a standardisation go into the
neighbouring linear layer, dropout goes, a maximum is taken before its ReLU. The logits stay what they were.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from sottovoce.engine.errors import ConfigError
from sottovoce.models.compiler import rewrites
from sottovoce.models.graph import AvgPool, Conv1d, Dense, Graph, MaxPool, Node, Relu, Reshape, Shape, SumPool

Kind = Literal["conv1d", "dense", "relu", "sumpool", "maxpool", "flatten"]
Array = NDArray[np.float64]

ARCHITECTURE = "model.json"
WEIGHTS = "weights.npz"

_REWRITES: tuple[Callable[[Graph], Graph], ...] = (
    rewrites.drop_identity,
    rewrites.batchnorm_to_affine,
    rewrites.fold_affine_back,
    rewrites.fold_affine_forward,
    rewrites.affine_to_depthwise,
    rewrites.maxpool_before_relu,
    rewrites.relu_before_reshape,
    rewrites.merge_relu,
    rewrites.fold_transpose,
    rewrites.merge_reshape,
)


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One layer. before, after: shapes for one clip, (channels, time) or (features,). Fields that a kind does not use
    keep their defaults.

    conv1d: cross-correlation over time; weight (c_out, c_in / groups, kernel), bias (c_out, 1) or (c_out, time_out).
    dense: weight (out, in), bias (out,). relu: max(x, 0). sumpool: window sums divided by `divisor`; an average has
    its kernel there. maxpool: window maxima. flatten: row-major. padding: (left, right); zeros for conv1d and sumpool,
    left out of maxima (repeating the edge value gives the same).
    """

    kind: Kind
    name: str
    before: Shape
    after: Shape
    weight: Array | None = field(default=None, repr=False)
    bias: Array | None = field(default=None, repr=False)
    kernel: int = 1
    stride: int = 1
    padding: tuple[int, int] = (0, 0)
    dilation: int = 1
    groups: int = 1
    divisor: int = 1


def neutral_layers(graph: Graph) -> list[Layer]:
    """The layers of `graph`. Raises ConfigError that names a layer which the peers are not given."""
    for function in _REWRITES:
        graph = function(graph)
    shapes = graph.shapes
    return [_layer(node, before, after) for node, before, after in zip(graph.nodes, shapes, shapes[1:], strict=False)]


def write_model(folder: Path, layers: Sequence[Layer]) -> None:
    """Write `model.json`, the public part, and `weights.npz`, "<position>.weight" and "<position>.bias" in float64.

    The JSON is a list of layers: kind, name, before, after, kernel, stride, padding, dilation, groups, divisor, and for
    conv1d and dense weight_shape and bias_shape.
    """
    public, arrays = [], {}
    for position, layer in enumerate(layers):
        entry: dict[str, object] = {
            name: getattr(layer, name)
            for name in (
                "kind",
                "name",
                "before",
                "after",
                "kernel",
                "stride",
                "padding",
                "dilation",
                "groups",
                "divisor",
            )
        }
        for name, values in (("weight", layer.weight), ("bias", layer.bias)):
            if values is not None:
                entry[f"{name}_shape"] = values.shape
                arrays[f"{position}.{name}"] = values
        public.append(entry)
    (folder / ARCHITECTURE).write_bytes(msgspec.json.encode(public))
    np.savez(folder / WEIGHTS, **arrays)  # type: ignore[arg-type]


def _layer(node: Node, before: Shape, after: Shape) -> Layer:
    if isinstance(node, Conv1d):
        weight, bias = _float64(node.weight), _float64(node.bias)
        return Layer(
            "conv1d",
            node.name,
            before,
            after,
            weight,
            bias.reshape(after[0], -1),
            kernel=weight.shape[2],
            stride=node.stride,
            padding=node.padding,
            dilation=node.dilation,
            groups=node.groups,
        )
    if isinstance(node, Dense):
        return Layer("dense", node.name, before, after, _float64(node.weight), _float64(node.bias))
    if isinstance(node, Relu):
        return Layer("relu", node.name, before, after)
    if isinstance(node, AvgPool | SumPool):
        divisor = node.kernel if isinstance(node, AvgPool) else node.divisor
        return _pool("sumpool", node, before, after, divisor)
    if isinstance(node, MaxPool):
        return _pool("maxpool", node, before, after)
    if isinstance(node, Reshape) and len(after) == 1:
        return Layer("flatten", node.name, before, after)
    expected = "Conv1d, Dense, ReLU, average, sum or max pooling, or flatten"
    raise ConfigError(f"peers: layer {node.name!r}: expected {expected}, got {type(node).__name__} to {after}")


def _pool(kind: Kind, node: AvgPool | SumPool | MaxPool, before: Shape, after: Shape, divisor: int = 1) -> Layer:
    return Layer(
        kind,
        node.name,
        before,
        after,
        kernel=node.kernel,
        stride=node.stride,
        padding=node.padding,
        divisor=divisor,
    )


def _float64(values: NDArray[np.generic]) -> Array:
    return np.ascontiguousarray(values, dtype=np.float64)
