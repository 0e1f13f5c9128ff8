"""Layers on top of each other: what the zoo's architectures are written with.

One description serves three purposes, by where its parameters come from: given arrays make the graph, zeros tell the
shapes, random draws initialise.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from sottovoce.models.graph import (
    AvgPool,
    Conv1d,
    Dense,
    MaxPool,
    Node,
    Relu,
    Reshape,
    Shape,
    output_shape,
    same_padding,
)

Array = NDArray[np.floating[Any]]
Parameter = Callable[[str, tuple[Shape, ...], int], Array]
"""(name, allowed shapes, fan-in of its layer) -> values in one of these shapes."""


class Layers:
    """A chain that grows at its end. nodes: so far; shape: after the last one; classes: logits wanted at the end."""

    def __init__(self, input_shape: Shape, classes: int, parameter: Parameter) -> None:
        self.nodes: list[Node] = []
        self.shape = input_shape
        self.classes = classes
        self._parameter = parameter

    def conv(self, name: str, channels: int, kernel: int) -> Self:
        """Convolution with stride 1 and same padding. The first layer's bias may depend on the position."""
        c_in, time = self.shape
        fan_in = c_in * kernel
        biases: tuple[Shape, ...] = ((channels,),) if self.nodes else ((channels,), (channels, time))
        weight = self._parameter(f"{name}.weight", ((channels, c_in, kernel),), fan_in)
        bias = self._parameter(f"{name}.bias", biases, fan_in)
        return self._add(Conv1d(name, weight, bias, padding=same_padding(kernel)))

    def dense(self, name: str, outputs: int) -> Self:
        """Fully connected layer; flatten first."""
        fan_in = math.prod(self.shape)
        weight = self._parameter(f"{name}.weight", ((outputs, fan_in),), fan_in)
        return self._add(Dense(name, weight, self._parameter(f"{name}.bias", ((outputs,),), fan_in)))

    def relu(self) -> Self:
        """max(x, 0)."""
        return self._add(Relu(f"relu{1 + self._count(Relu)}"))

    def avg_pool(self, kernel: int) -> Self:
        """Means of windows side by side; what is left over at the end is dropped."""
        return self._add(AvgPool(self._pool_name(), kernel, kernel))

    def max_pool(self, kernel: int) -> Self:
        """Maxima of windows side by side; what is left over at the end is dropped."""
        return self._add(MaxPool(self._pool_name(), kernel, kernel))

    def max_pool_same(self, kernel: int, stride: int) -> Self:
        """Maxima of overlapping windows, ceil(time / stride) of them, the odd padding to the right (Keras's same)."""
        time = self.shape[1]
        total = max((math.ceil(time / stride) - 1) * stride + kernel - time, 0)
        return self._add(MaxPool(self._pool_name(), kernel, stride, (total // 2, total - total // 2)))

    def flatten(self) -> Self:
        """(channels, time) to (channels * time,), row-major."""
        return self._add(Reshape("flatten"))

    def _add(self, node: Node) -> Self:
        self.shape = output_shape(node, self.shape)
        self.nodes.append(node)
        return self

    def _count(self, *kinds: type[Node]) -> int:
        return sum(isinstance(node, kinds) for node in self.nodes)

    def _pool_name(self) -> str:
        return f"pool{1 + self._count(AvgPool, MaxPool)}"
