"""The model as its owner writes it: a chain of layers with real weights, and its meaning in floating point.

Semantics are PyTorch's: channels first, `x: (batch, channels, time)`, convolution weights (c_out, c_in / groups,
kernel), row-major flatten. A padded convolution and a padded average count zeros; a padded maximum leaves the padding
out. `models.evaluate` computes it.

Weights belong to the model's owner: they are never part of a repr.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sottovoce.engine.errors import ModelError

Array = NDArray[Any]
Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Affine:
    """y = scale * x + shift, both broadcastable to the layer's shape: a standardisation, a folded batch-norm."""

    name: str
    scale: Array = field(repr=False)
    shift: Array = field(repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class BatchNorm:
    """y = gamma * (x - mean) / sqrt(var + eps) + beta per channel, with the statistics frozen (inference)."""

    name: str
    mean: Array = field(repr=False)
    var: Array = field(repr=False)
    gamma: Array = field(repr=False)
    beta: Array = field(repr=False)
    eps: float = 1e-5


@dataclass(frozen=True, slots=True, eq=False)
class Conv1d:
    """Cross-correlation over time. bias: (c_out,), (c_out, 1), or (c_out, time_out) if it depends on the position."""

    name: str
    weight: Array = field(repr=False)
    bias: Array = field(repr=False)
    stride: int = 1
    padding: tuple[int, int] = (0, 0)
    dilation: int = 1
    groups: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class Dense:
    """y = weight @ x + bias; weight (out, in), bias (out,)."""

    name: str
    weight: Array = field(repr=False)
    bias: Array = field(repr=False)


@dataclass(frozen=True, slots=True)
class Relu:
    """max(x, 0)."""

    name: str


@dataclass(frozen=True, slots=True)
class LeakyRelu:
    """max(x, 0) + slope * min(x, 0); the slope, any finite number, is public."""

    name: str
    slope: float = 0.01


@dataclass(frozen=True, slots=True)
class AvgPool:
    """Mean over windows of time; padding counts as zeros (PyTorch's count_include_pad)."""

    name: str
    kernel: int
    stride: int
    padding: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class SumPool:
    """Window sums divided by `divisor`; the compiler's form of AvgPool (then the divisor is the kernel or 1)."""

    name: str
    kernel: int
    stride: int
    padding: tuple[int, int] = (0, 0)
    divisor: int = 1


@dataclass(frozen=True, slots=True)
class MaxPool:
    """Maximum over windows of time; padding is left out."""

    name: str
    kernel: int
    stride: int
    padding: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class Reshape:
    """Row-major reshape to `shape`; None flattens."""

    name: str
    shape: Shape | None = None


@dataclass(frozen=True, slots=True)
class Transpose:
    """(channels, time) to (time, channels)."""

    name: str


@dataclass(frozen=True, slots=True)
class Identity:
    """Nothing at inference: dropout, or a placeholder."""

    name: str


Node = (
    Affine
    | BatchNorm
    | Conv1d
    | Dense
    | Relu
    | LeakyRelu
    | AvgPool
    | SumPool
    | MaxPool
    | Reshape
    | Transpose
    | Identity
)
Pooling = AvgPool | SumPool | MaxPool


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """A chain of nodes from `input_shape` (channels, time) to one logit per label. Checked when made: ModelError.

    input_low, input_high: the declared box of the features, one number or one per feature (row-major).
    features: name of the feature extraction that the model was trained on, "" if none.
    """

    name: str
    input_shape: Shape
    nodes: tuple[Node, ...]
    labels: tuple[str, ...]
    input_low: tuple[float, ...]
    input_high: tuple[float, ...]
    features: str = ""

    def __post_init__(self) -> None:
        names = [node.name for node in self.nodes]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ModelError(f"model {self.name!r}: expected different layer names, got {sorted(twice)} more than once")
        if len(self.input_shape) != 2 or min(self.input_shape) < 1:
            raise ModelError(f"model {self.name!r}: expected input_shape (channels, time), got {self.input_shape}")
        shape = self.shapes[-1]
        if shape != (len(self.labels),):
            raise ModelError(
                f"model {self.name!r}: expected one logit for each of {len(self.labels)} labels, got {shape}"
            )
        self.box()

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """Shape before the first node, and after each."""
        shapes = [self.input_shape]
        for node in self.nodes:
            shapes.append(output_shape(node, shapes[-1]))
        return tuple(shapes)

    @property
    def parameters(self) -> int:
        """Number of the model's parameters, as a training framework counts them.

        A convolution has one bias per channel, also where folding has made it depend on the position. A
        standardisation of the features is not a parameter.
        """
        total = 0
        for node in self.nodes:
            if isinstance(node, Conv1d | Dense):
                total += node.weight.size + node.weight.shape[0]
            elif isinstance(node, BatchNorm):
                total += node.gamma.size + node.beta.size
        return total

    def box(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(low, high), each in `input_shape`."""
        sides = []
        for side in (self.input_low, self.input_high):
            if len(side) not in (1, math.prod(self.input_shape)):
                expected = f"1 or {math.prod(self.input_shape)} numbers"
                raise ModelError(f"model {self.name!r}: input box: expected {expected}, got {len(side)}")
            values = np.asarray(side, dtype=np.float64)
            sides.append(
                np.broadcast_to(values if len(side) == 1 else values.reshape(self.input_shape), self.input_shape)
            )
        if not all(np.isfinite(side).all() for side in sides) or bool((sides[0] > sides[1]).any()):
            raise ModelError(f"model {self.name!r}: input box: expected finite low <= high for every feature")
        return sides[0], sides[1]


def same_padding(kernel: int, dilation: int = 1) -> tuple[int, int]:
    """Padding that keeps the length at stride 1; the odd position goes to the right (as Keras and PyTorch do)."""
    total = dilation * (kernel - 1)
    return (total // 2, total - total // 2)


def out_time(time: int, span: int, stride: int, padding: tuple[int, int]) -> int:
    """Number of windows of `span` positions over `time` padded positions."""
    return (time + sum(padding) - span) // stride + 1


def output_shape(node: Node, shape: Shape) -> Shape:
    """Shape after `node` for one clip. Raises ModelError that names the layer, what it expects and what it got."""
    if isinstance(node, Conv1d):
        return _conv_shape(node, shape)
    if isinstance(node, Dense):
        _check(node.name, "weight of 2 dimensions", node.weight.ndim == 2, node.weight.shape)
        _check(
            node.name, f"({node.weight.shape[1]},) values (a Reshape flattens)", shape == node.weight.shape[1:], shape
        )
        _check(node.name, f"bias ({node.weight.shape[0]},)", node.bias.shape == node.weight.shape[:1], node.bias.shape)
        _check_finite(node.name, node.weight, node.bias)
        return (node.weight.shape[0],)
    if isinstance(node, AvgPool | SumPool | MaxPool):
        _check(node.name, "(channels, time)", len(shape) == 2, shape)
        if isinstance(node, SumPool):
            _check(node.name, "a divisor >= 1", node.divisor >= 1, node.divisor)
        return (shape[0], _windows(node.name, shape[1], node.kernel, node.stride, node.padding))
    if isinstance(node, Reshape):
        new = (math.prod(shape),) if node.shape is None else node.shape
        _check(node.name, f"{math.prod(shape)} elements", math.prod(new) == math.prod(shape), new)
        _check(node.name, "1 or 2 dimensions", len(new) in (1, 2) and min(new) > 0, new)
        return new
    if isinstance(node, Transpose):
        _check(node.name, "(channels, time)", len(shape) == 2, shape)
        return (shape[1], shape[0])
    if isinstance(node, LeakyRelu):
        _check(node.name, "a finite slope", math.isfinite(node.slope), node.slope)
    if isinstance(node, BatchNorm):
        for values in (node.mean, node.var, node.gamma, node.beta):
            _check(node.name, f"({shape[0]},) numbers per tensor", values.shape == shape[:1], values.shape)
            _check_finite(node.name, values)
        _check(node.name, "var + eps > 0", bool(np.all(node.var + node.eps > 0)), "one that is not")
    if isinstance(node, Affine):
        for values in (node.scale, node.shift):
            _check(node.name, f"numbers broadcastable to {shape}", _broadcasts(values.shape, shape), values.shape)
            _check_finite(node.name, values)
    return shape


def _conv_shape(node: Conv1d, shape: Shape) -> Shape:
    name, weight = node.name, node.weight
    _check(name, "(channels, time)", len(shape) == 2, shape)
    _check(name, "weight (c_out, c_in / groups, kernel)", weight.ndim == 3 and weight.size > 0, weight.shape)
    _check(
        name,
        "groups >= 1 that divide both channel counts",
        node.groups >= 1 and shape[0] % node.groups == 0 and weight.shape[0] % node.groups == 0,
        node.groups,
    )
    _check(name, f"{weight.shape[1] * node.groups} channels", shape[0] == weight.shape[1] * node.groups, shape)
    _check(name, "dilation >= 1", node.dilation >= 1, node.dilation)
    span = node.dilation * (weight.shape[2] - 1) + 1
    time = _windows(name, shape[1], span, node.stride, node.padding)
    c_out = weight.shape[0]
    _check(
        name,
        f"bias ({c_out},), ({c_out}, 1) or ({c_out}, {time})",
        node.bias.shape in ((c_out,), (c_out, 1), (c_out, time)),
        node.bias.shape,
    )
    _check_finite(name, weight, node.bias)
    return (c_out, time)


def _windows(name: str, time: int, span: int, stride: int, padding: tuple[int, int]) -> int:
    _check(name, "window >= 1 and stride >= 1", span >= 1 and stride >= 1, (span, stride))
    _check(name, f"two paddings from 0 to {span - 1}", all(0 <= p < span for p in padding), padding)
    _check(name, f"at least {span} padded positions", time + sum(padding) >= span, time + sum(padding))
    return out_time(time, span, stride, padding)


def _broadcasts(shape: Shape, target: Shape) -> bool:
    try:
        return np.broadcast_shapes(shape, target) == target
    except ValueError:
        return False


def _check(name: str, expected: str, holds: bool, got: object) -> None:
    if not holds:
        raise ModelError(f"layer {name!r}: expected {expected}, got {got}")


def _check_finite(name: str, *arrays: Array) -> None:
    for values in arrays:
        if values.dtype.kind not in "fiu" or not np.isfinite(values).all():
            raise ModelError(f"layer {name!r}: expected finite real weights, got some that are not")
