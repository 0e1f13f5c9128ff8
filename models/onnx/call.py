"""One ONNX node with the values of its inputs: what a handler sees, and how it refuses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from sottovoce.engine.errors import ModelError
from sottovoce.models.graph import Array
from sottovoce.models.onnx.chain import BATCH, Chain, Data, Value, layer_names
from sottovoce.models.onnx.external import ExternalData
from sottovoce.models.onnx.tensors import to_array

MAX_AXES = 16
BRANCHES = (
    "models with branches (skip connections, inception blocks, attention, gates; an exporter may write Swish or GELU "
    "so) cannot be imported, only chains of layers: train with ReLU or LeakyReLU and without branches"
)
COUNTS_CLIPS = "it computes with the size of the batch: every clip stands for itself"
# Operators that treat every row by itself, so that batch and time may be one axis.
BY_ROWS = frozenset(
    [
        *("Add", "Sub", "Mul", "Div", "Neg", "Pow", "Relu", "LeakyRelu", "PRelu", "Abs", "Clip", "Max"),
        *("Identity", "Dropout", "Cast", "Reshape", "MatMul", "Gemm"),
    ]
)


@dataclass(frozen=True, slots=True, eq=False, repr=False)  # it holds weights
class Call:
    """An ONNX node to be applied.

    number: its place in the file, from 1. opset: version of the operator set. batch: the clips that the file is fixed
    to, None if any number. sources: for each input, the name of the initialiser that it is, "" if none.
    """

    proto: onnx.NodeProto
    number: int
    inputs: Sequence[Value | None]
    sources: Sequence[str]
    attributes: dict[str, onnx.AttributeProto]
    chain: Chain
    opset: int
    batch: int | None

    @property
    def op(self) -> str:
        """Operator type."""
        return self.proto.op_type

    @property
    def where(self) -> str:
        """Place of the node, for messages."""
        name = f" {self.proto.name[:80]!a}" if self.proto.name else ""
        return f"ONNX node {self.number}, {ascii(self.op[:40])[1:-1]}{name}, {self.chain.last}"

    def refuse(self, reason: str) -> ModelError:
        """The error that says why this node cannot be imported."""
        return ModelError(f"{self.where}: {reason}")

    def name(self) -> str:
        """A new name for the layer that this node becomes."""
        weights = [source for source in self.sources[1:] if source.endswith(".weight")]
        return self.chain.unique_name(*layer_names(self.op, str(self.proto.name), weights[0] if weights else ""))

    def data(self, position: int = 0, *, after_end: bool = False) -> Data:
        """Input number `position`, the chain's present tensor; after_end: or what a Softmax made of it."""
        value = self.inputs[position] if position < len(self.inputs) else None
        if not isinstance(value, Data):
            raise self.refuse(f"expected a tensor that depends on the clip as input {position}, got a constant or none")
        if value.version != self.chain.version:
            raise self.refuse(f"it reads a tensor that another layer has used already: {BRANCHES}")
        if value.ended and not after_end:
            raise self.refuse(
                f"it follows {value.ended}, which may stand only at the model's end, where it is left out: inside a "
                "model use ReLU or LeakyReLU"
            )
        if value.merged and self.op not in BY_ROWS:
            raise self.refuse("the batch axis is joined with another one: only a dense layer on every step may do that")
        return value

    def given(self, position: int) -> bool:
        """Whether the optional input number `position` is there."""
        return position < len(self.inputs) and self.inputs[position] is not None

    def constant(self, position: int, *, open_batch: bool = False) -> Array:
        """Input number `position`, which must be a constant; open_batch: it may hold BATCH."""
        value = self.inputs[position] if position < len(self.inputs) else None
        if value is None:
            raise self.refuse(f"expected a constant as input {position}, got none")
        if isinstance(value, Data):
            raise self.refuse(
                f"expected a constant as input {position}, got a tensor that depends on the clip: weights and shapes "
                "that are computed from data (attention, dynamic layers) cannot be imported; use fixed ones"
            )
        if not open_batch and value.dtype == np.int64 and bool((value == BATCH).any()):
            raise self.refuse(COUNTS_CLIPS)
        return value

    def weights(self, position: int) -> Array:
        """Input number `position`: constant floating-point numbers, as float64."""
        value = self.constant(position)
        if value.dtype.kind != "f":
            raise self.refuse(f"expected floating-point numbers as input {position}, got {value.dtype}")
        return value.astype(np.float64)

    def scalar(self, position: int) -> float:
        """Input number `position`: a constant of one element."""
        value = self.constant(position)
        if value.size != 1:
            raise self.refuse(f"expected one number as input {position}, got {value.shape}")
        return float(value.reshape(-1)[0])

    def integers(self, position: int, *, open_batch: bool = False) -> list[int]:
        """Input number `position`: a constant vector of a few integers; open_batch: BATCH may be one of them."""
        value = self.constant(position, open_batch=open_batch)
        if value.dtype.kind not in "iu" or value.ndim > 1 or value.size > MAX_AXES:
            raise self.refuse(
                f"expected at most {MAX_AXES} integers as input {position}, got {value.dtype} {value.shape}"
            )
        return [int(v) for v in value.reshape(-1)]

    def int_attribute(self, name: str, default: int) -> int:
        """An integer attribute."""
        found = self._attribute(name, onnx.AttributeProto.INT)
        return default if found is None else int(found.i)

    def ints_attribute(self, name: str) -> list[int] | None:
        """A list of integers, None if it is absent."""
        found = self._attribute(name, onnx.AttributeProto.INTS)
        if found is None:
            return None
        if len(found.ints) > MAX_AXES:
            raise self.refuse(f"attribute {name}: expected at most {MAX_AXES} integers, got {len(found.ints)}")
        return [int(v) for v in found.ints]

    def float_attribute(self, name: str, default: float) -> float:
        """A real attribute."""
        found = self._attribute(name, onnx.AttributeProto.FLOAT)
        return default if found is None else float(found.f)

    def text_attribute(self, name: str, default: str) -> str:
        """A string attribute."""
        found = self._attribute(name, onnx.AttributeProto.STRING)
        return default if found is None else found.s[:64].decode("ascii", "replace")

    def tensor_attribute(self, name: str) -> Array | None:
        """A tensor attribute, None if it is absent."""
        found = self._attribute(name, onnx.AttributeProto.TENSOR)
        return None if found is None else to_array(found.t, f"{self.where}: attribute {name}", ExternalData(None))

    def _attribute(self, name: str, kind: int) -> onnx.AttributeProto | None:
        found = self.attributes.get(name)
        if found is not None and found.type not in (kind, onnx.AttributeProto.UNDEFINED):
            raise self.refuse(f"attribute {name}: expected another type, got {found.type}")
        return found

    def axes(self, rank: int, values: list[int]) -> list[int]:
        """Axes made non-negative for a tensor of `rank` dimensions, batch included; each once."""
        if any(not -rank <= axis < rank for axis in values):
            raise self.refuse(f"expected axes of a tensor of {rank} dimensions, got {values}")
        axes = [axis % rank for axis in values]
        if len(set(axes)) != len(axes):
            raise self.refuse(f"expected different axes, got {values}")
        return axes

    def axis(self, rank: int, default: int) -> int:
        """The attribute "axis", made non-negative for a tensor of `rank` dimensions."""
        return self.axes(rank, [self.int_attribute("axis", default)])[0]

    def optional_axes(self, position: int, since: int) -> list[int] | None:
        """The axes of a Squeeze, Reduce…: an attribute before opset `since`, an input from then on; None if absent."""
        if self.opset < since:
            return self.ints_attribute("axes")
        return self.integers(position) if self.given(position) else None

    def is_batch(self, size: int) -> bool:
        """Whether a number in a constant shape can only mean the size of the batch axis."""
        return size == BATCH or (self.batch is not None and size == self.batch)


def slice_of(size: int, start: int, end: int, step: int) -> slice:
    """What ONNX cuts from an axis. Unlike Python, it takes a start before the axis for the first element always."""
    return slice(max(start, -size), end, step)


Handler = Callable[[Call], Value]
