"""The shapes that kernels meet in the models of the zoo, without weights and without compiling."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from sottovoce.models.graph import AvgPool, Conv1d, Dense, Node, Shape, output_shape
from sottovoce.models.zoo import MODELS
from sottovoce.models.zoo.layers import Array

CLASSES = 8
BATCHES = (1, 128)


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer: its name in the zoo ("paper.conv1"), its node, shapes per clip."""

    name: str
    node: Node
    in_shape: Shape
    out_shape: Shape


def layers() -> Iterator[Layer]:
    """All layers of all models, in order."""
    for model in MODELS.values():
        shape: Shape = model.feature_set.input_shape
        for node in model.stacked(CLASSES, _zeros).nodes:
            before, shape = shape, output_shape(node, shape)
            yield Layer(f"{model.name}.{node.name}", node, before, shape)


def convolutions() -> list[Layer]:
    """Convolutions of different shapes; the first model that has a shape names it."""
    return _distinct(row for row in layers() if isinstance(row.node, Conv1d))


def dense_layers() -> list[Layer]:
    """Dense layers of different shapes."""
    return _distinct(row for row in layers() if isinstance(row.node, Dense))


def average_pools() -> list[Layer]:
    """Average pools of different shapes."""
    return _distinct(row for row in layers() if isinstance(row.node, AvgPool))


def activations() -> list[tuple[str, int]]:
    """(layer, values per clip) of each model's first layer: the most that it truncates and compares at a time."""
    first: dict[str, Layer] = {}
    for row in layers():
        first.setdefault(row.name.split(".")[0], row)
    names = {math.prod(row.out_shape): row.name for row in reversed(first.values())}
    return [(name, size) for size, name in sorted(names.items())]


def multiplications(row: Layer) -> int:
    """Ring multiplications of a convolution for one clip, those with padding left out."""
    node = row.node
    assert isinstance(node, Conv1d)
    c_out, c_in, taps = node.weight.shape
    time, time_out = row.in_shape[1], row.out_shape[1]
    at = np.arange(time_out)[:, None] * node.stride + np.arange(taps) * node.dilation - node.padding[0]
    return int(np.count_nonzero((at >= 0) & (at < time)) * c_in * c_out)


def _distinct(rows: Iterator[Layer]) -> list[Layer]:
    seen: dict[object, Layer] = {}
    for row in rows:
        weight = getattr(row.node, "weight", None)
        seen.setdefault((row.in_shape, row.out_shape, None if weight is None else weight.shape), row)
    return list(seen.values())


def _zeros(name: str, shapes: tuple[Shape, ...], fan_in: int) -> Array:
    return np.broadcast_to(np.float32(0), shapes[0])
