"""The chain of IR nodes as it grows, and the values that an ONNX graph names.

A value is a constant, a NumPy array, or `Data`: a view of the chain's present tensor. The view is an array of
positions, `index`, in the ONNX shape without the batch axis. So Transpose, Reshape, Slice and Pad are NumPy on `index`
and cost nothing; a layer asks for the arrangement that it needs, and only a transposition that really moves data
becomes a node.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sottovoce.engine.errors import ModelError
from sottovoce.engine.program import MAX_ELEMENTS, MAX_WIDTH
from sottovoce.models.graph import Array, Node, Reshape, Shape, Transpose, output_shape

ZERO = -1  # in an index: a constant zero, as padding adds it
BATCH = -(1 << 61)  # in a constant: the size of the batch axis, where the file leaves it open
MAX_NODES = 1024
MAX_NAME = 48  # `<layer>.weight` and what the compiler appends fit the program's 64

_ARRAYS = ("weight", "bias", "scale", "shift", "mean", "var", "gamma", "beta")
_SCOPE = re.compile(r"StatefulPartitionedCall|(sequential|functional|model)(_\d+)?")  # of the whole model

Index = NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False)
class Data:
    """A tensor that depends on the clip.

    index: ONNX shape without the batch axis; row-major position of each element in the chain's tensor, or ZERO.
    version: of the chain, when this was its tensor.
    merged: the batch axis is joined with the first axis of `index`, as a layer on every time step by itself may do it.
    ended: names the Softmax or the like that was dropped before it, "" if none; no layer may follow.
    """

    version: int
    index: Index
    ended: str = ""
    merged: bool = False

    @property
    def rank(self) -> int:
        """Number of ONNX dimensions, batch included."""
        return self.index.ndim + (0 if self.merged else 1)


Value = Array | Data


def positions(shape: Shape) -> Index:
    """The index of a tensor that lies as the chain holds it."""
    return np.arange(math.prod(shape), dtype=np.int32).reshape(shape)


class Chain:
    """The IR nodes made so far and the shape of the tensor behind the last of them."""

    def __init__(self, shape: Shape) -> None:
        self.nodes: list[Node] = []
        self.shape = shape
        self.version = 0
        self._names: dict[str, int] = {}
        self._weights = 0

    @property
    def last(self) -> str:
        """Name of the last layer, for messages."""
        return f"after layer {self.nodes[-1].name!r}" if self.nodes else "at the model's input"

    def append(self, node: Node) -> None:
        """Add a node. Raises ModelError that names it, if it does not fit."""
        if len(self.nodes) >= MAX_NODES:
            raise ModelError(f"layer {node.name!r}: expected at most {MAX_NODES} layers, got more")
        shape = output_shape(node, self.shape)
        if math.prod(shape) > MAX_WIDTH:
            raise ModelError(f"layer {node.name!r}: expected at most {MAX_WIDTH} elements, got {math.prod(shape)}")
        self._weights += sum(getattr(node, name).size for name in _ARRAYS if hasattr(node, name))
        if self._weights > MAX_ELEMENTS:
            raise ModelError(f"layer {node.name!r}: expected at most {MAX_ELEMENTS} weights up to here, got more")
        self.nodes.append(node)
        self.shape = shape
        self.version += 1

    def replace_last(self, node: Node) -> None:
        """Put `node`, of the same shape, in the last one's place."""
        self.nodes[-1] = node
        self.version += 1

    def view(self, shape: Shape) -> Data:
        """The present tensor, seen in an ONNX shape."""
        return Data(self.version, positions(shape))

    def unique_name(self, *wanted: str) -> str:
        """The first of the wanted names that is not taken, else the last one with a number."""
        free = [name for name in wanted if name not in self._names]
        name = free[0] if free else wanted[-1]
        while name in self._names:
            self._names[wanted[-1]] += 1
            name = f"{wanted[-1]}_{self._names[wanted[-1]]}"
        self._names[name] = 1
        return name

    def arrange(self, name: str, index: Index, shape: Shape) -> bool:
        """Make the chain end in a tensor of `shape` whose elements, row-major, are `index`.

        Adds a Transpose and Reshapes where they are needed. False, with nothing changed, if that is not enough.
        """
        size = math.prod(self.shape)
        order = index.reshape(-1)
        if order.size != size:
            return False
        straight = positions((size,))
        if not np.array_equal(order, straight):
            columns = int(order[1]) if size > 1 else 0
            if columns < 1 or size % columns or not np.array_equal(order, straight.reshape(-1, columns).T.reshape(-1)):
                return False
            self._reshape(name, (size // columns, columns))
            self.append(Transpose(self.unique_name(f"{name}_transpose")))
        self._reshape(name, shape)
        return True

    def _reshape(self, name: str, shape: Shape) -> None:
        if shape != self.shape:
            flat = len(shape) == 1
            self.append(
                Reshape(self.unique_name(f"{name}_{'flatten' if flat else 'reshape'}"), None if flat else shape)
            )


def layer_names(op: str, node_name: str, weight_name: str = "") -> tuple[str, ...]:
    """Names for a layer, best first: after its weight ("conv1.weight": conv1) or its node ("/conv1/Conv": conv1)."""
    stem = weight_name.removesuffix(".weight")
    if stem != weight_name:
        return (_with_letter(stem, op),)
    parts = [part for part in node_name.removeprefix("node_").split("/")[-8:] if part and not _SCOPE.fullmatch(part)]
    scoped = parts[:-1] if len(parts) > 1 and parts[-1].lower().startswith(op.lower()) else parts
    return _with_letter(".".join(scoped[-3:]), op), _with_letter(".".join(parts[-3:]), op)


def _with_letter(stem: str, op: str) -> str:
    """`stem` by the program's rule for names; a bare number, as of a Sequential, behind the operator's name."""
    kind = op.lower()
    return (
        clean_name(stem if stem[:1].isascii() and stem[:1].isalpha() else f"{kind}_{stem}", MAX_NAME)
        or clean_name(kind, MAX_NAME)
        or "layer"
    )


def clean_name(text: str, limit: int) -> str:
    """`text` by the program's rule for names, [A-Za-z][A-Za-z0-9_.-]*, its end kept; "" if nothing is left of it."""
    text = re.sub(r"[^A-Za-z0-9_.\-]+", "_", text[-4 * limit :])
    text = re.sub(r"^[^A-Za-z]+", "", text[-limit:]).rstrip("_.-")
    return re.sub(r"(\.(weight|bias))+$", "", text)  # these would collide with the names of a layer's tensors
