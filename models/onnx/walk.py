"""ONNX to the IR: the nodes are read in order, constants are computed, layers are added to one chain."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import onnx

from sottovoce.engine.errors import ModelError
from sottovoce.engine.program import MAX_LABELS, MAX_WIDTH
from sottovoce.models.graph import Shape
from sottovoce.models.onnx.arithmetic import ARITHMETIC
from sottovoce.models.onnx.call import Call, Handler
from sottovoce.models.onnx.chain import Chain, Data, Index, Value, positions
from sottovoce.models.onnx.external import ExternalData
from sottovoce.models.onnx.fold import FOLDING
from sottovoce.models.onnx.layers import LAYERS
from sottovoce.models.onnx.layout import LAYOUT
from sottovoce.models.onnx.metadata import Metadata
from sottovoce.models.onnx.pooling import POOLING
from sottovoce.models.onnx.refusals import DOMAIN, UNKNOWN, WORKS_INSTEAD
from sottovoce.models.onnx.tensors import FLOATS, to_array, type_name
from sottovoce.models.speech.features import FeatureSet

MIN_OPSET = 7
STANDARD = ("", "ai.onnx")  # domain of the standard operators
MAX_FILE_NODES = 1 << 14
MAX_CONSTANTS = 1 << 26  # elements of all constants that are used, together
MAX_VIEWS = 1 << 28  # elements of all views of data, together

ON_DATA: Mapping[str, Handler] = MappingProxyType({**LAYOUT, **LAYERS, **POOLING, **ARITHMETIC})


class Walk:
    """One walk over one model's nodes.

    input_shape: of the IR, (channels, time).
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        where: str,
        metadata: Metadata,
        known: FeatureSet | None,
        external: ExternalData,
    ) -> None:
        self._graph = model.graph
        self._external = external
        self._where = where
        self._opset = _opset(model, where)
        self._values: dict[str, Value] = {}
        self._tensors: dict[str, onnx.TensorProto] = {}
        self._constants = self._views = 0
        for tensor in self._graph.initializer:
            if tensor.name in self._tensors:
                raise ModelError(f"{where}: tensor {tensor.name[:80]!a}: expected one of this name, got two")
            self._tensors[tensor.name] = tensor
        if any(function.domain in STANDARD for function in model.functions):
            raise ModelError(f"{where}: it defines standard operators anew: {DOMAIN}")
        if len(self._graph.sparse_initializer):
            raise ModelError(f"{where}: expected dense weights, got sparse ones")
        inputs = [value for value in self._graph.input if value.name not in self._tensors]
        if len(inputs) != 1 or len(self._graph.output) != 1:
            raise ModelError(
                f"{where}: expected one input and one output, got inputs {_names(inputs)} and outputs "
                f"{_names(self._graph.output)}: export a model that maps features to logits and nothing else; where "
                "a constant has become an input (as of Keras's Normalization), use BatchNormalization or Rescaling"
            )
        self._batch, shape = _input_dims(inputs[0], where)
        self.input_shape, index = _orient(shape, metadata, known, where)
        self._chain = Chain(self.input_shape)
        self._values[inputs[0].name] = Data(0, index.reshape(shape))

    def run(self) -> Chain:
        """Apply all nodes that the output rests on; returns the chain, which then ends in the logits."""
        if len(self._graph.node) > MAX_FILE_NODES:
            raise ModelError(f"{self._where}: expected at most {MAX_FILE_NODES} nodes, got {len(self._graph.node)}")
        with np.errstate(all="ignore"):  # what is not finite is refused where it becomes a weight
            self._apply_all(self._needed())
        return self._end()

    def _apply_all(self, needed: set[str]) -> None:
        steps = [(n, proto) for n, proto in enumerate(self._graph.node, 1) if not needed.isdisjoint(proto.output)]
        last_reader = {name: number for number, proto in steps for name in proto.input}
        for number, proto in steps:
            value = self._apply(proto, number)
            self._charge(value)
            for name in proto.input:  # what nobody reads any more need not stay in memory
                if last_reader[name] == number:
                    self._values.pop(name, None)
            self._values[proto.output[0]] = value

    def _end(self) -> Chain:
        """The chain, which must now give the graph's output."""
        name = self._graph.output[0].name
        where = f"{self._where}: output {name[:80]!a}"
        output = self._values.get(name)
        if not isinstance(output, Data) or output.version != self._chain.version:
            raise ModelError(f"{where}: expected the last layer's result, got another value")
        shape = tuple(dim for dim in output.index.shape if dim != 1) or (1,)
        if len(shape) != 1 or not self._chain.arrange("output", output.index, shape):
            raise ModelError(
                f"{where}: expected one logit per label, got {('batch', *output.index.shape)}: end the model in a "
                "Linear layer, or in a pool over all of time"
            )
        if shape[0] > MAX_LABELS:
            raise ModelError(f"{where}: expected at most {MAX_LABELS} logits, got {shape[0]}")
        return self._chain

    def _needed(self) -> set[str]:
        """Names of all values that the output rests on."""
        makers: dict[str, onnx.NodeProto] = {}
        for proto in self._graph.node:
            for name in proto.output:
                if name in makers or name in self._values or name in self._tensors:
                    raise ModelError(f"{self._where}: value {name[:80]!a}: expected it to be made once, got twice")
                if name:
                    makers[name] = proto
        needed: set[str] = set()
        stack = [self._graph.output[0].name]
        while stack:
            name = stack.pop()
            if name not in needed:
                needed.add(name)
                if name in makers:
                    stack.extend(source for source in makers[name].input if source and source not in needed)
        return needed

    def _apply(self, proto: onnx.NodeProto, number: int) -> Value:
        sources = [name if name in self._tensors else "" for name in proto.input]
        attributes = {attribute.name: attribute for attribute in proto.attribute}
        call = Call(proto, number, [], sources, attributes, self._chain, self._opset, self._batch)
        if proto.domain not in STANDARD:
            raise call.refuse(WORKS_INSTEAD.get(proto.op_type, f"domain {proto.domain[:80]!a}: {DOMAIN}"))
        call = replace(call, inputs=[self._value(name, call) if name else None for name in proto.input])
        on_data = proto.op_type != "Shape" and any(isinstance(value, Data) for value in call.inputs)
        handler = (ON_DATA if on_data else FOLDING).get(proto.op_type)
        if handler is None:
            known = proto.op_type in ON_DATA
            raise call.refuse("expected data, got constants only" if known else _instead(proto.op_type))
        try:
            value = handler(call)
            return value if isinstance(value, Data) else np.asarray(value)
        except ModelError:
            if proto.op_type in LAYOUT:  # it may only serve an operator behind it that says more
                self._refuse_next(number)
            raise
        except (ValueError, TypeError, IndexError, OverflowError, ArithmeticError):  # NumPy on what a file declares
            raise call.refuse("expected inputs and attributes that fit each other, got some that do not") from None

    def _refuse_next(self, number: int) -> None:
        """Refuse the first layer behind node `number`, if its operator cannot be imported in any case."""
        for place, proto in enumerate(self._graph.node[number : number + 64], number + 1):
            if proto.op_type not in LAYOUT and proto.op_type not in FOLDING:
                if proto.op_type not in ON_DATA:
                    call = Call(proto, place, [], [], {}, self._chain, self._opset, self._batch)
                    raise call.refuse(_instead(proto.op_type))
                return

    def _value(self, name: str, call: Call) -> Value:
        """The value of a node's input; a tensor of the file is read when it is first used."""
        if name not in self._values:
            if name not in self._tensors:
                raise call.refuse(
                    f"input {name[:80]!a}: expected a value that an earlier node makes as its first output"
                )
            self._values[name] = to_array(self._tensors[name], f"{self._where}: tensor {name[:80]!a}", self._external)
            self._charge(self._values[name])
        return self._values[name]

    def _charge(self, value: Value) -> None:
        """Bound the memory of all values together; a constant or a view of nothing still counts as one element."""
        if isinstance(value, Data):
            self._views += value.index.size
        else:
            self._constants += max(1, value.size)
        if self._views > MAX_VIEWS or self._constants > MAX_CONSTANTS:
            raise ModelError(
                f"{self._where}: expected constants of at most {MAX_CONSTANTS} elements together, and tensors of one "
                f"clip of at most {MAX_VIEWS} together, got more"
            )


def _instead(op: str) -> str:
    return WORKS_INSTEAD.get(op, UNKNOWN)


def _names(values: Sequence[onnx.ValueInfoProto]) -> list[str]:
    return [value.name[:80] for value in values[:8]]


def _opset(model: onnx.ModelProto, where: str) -> int:
    """Version of the standard operators."""
    versions = [entry.version for entry in model.opset_import if entry.domain in STANDARD]
    newest = onnx.defs.onnx_opset_version()
    if len(versions) != 1 or not MIN_OPSET <= versions[0] <= newest:
        raise ModelError(
            f"{where}: expected operators of one version from {MIN_OPSET} to {newest}, got {versions[:4]}: export with "
            "opset_version=18"
        )
    return int(versions[0])


def _input_dims(value: onnx.ValueInfoProto, where: str) -> tuple[int | None, Shape]:
    """(clips that the file is fixed to or None, shape without the batch axis) of the model's input."""
    where = f"{where}: input {value.name[:80]!a}"
    tensor = value.type.tensor_type
    if tensor.elem_type not in FLOATS:
        raise ModelError(f"{where}: expected floating-point features, got {type_name(tensor.elem_type)}")
    dims = [dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim]
    sizes = tuple(dim for dim in dims[1:] if dim is not None)
    if not 2 <= len(dims) <= 6 or len(sizes) != len(dims) - 1 or min(sizes) < 1 or math.prod(sizes) > MAX_WIDTH:
        raise ModelError(
            f"{where}: expected (clips, channels, time) or (clips, features), only the number of clips left open, got "
            f"{['?' if dim is None else dim for dim in dims[:8]]}: export with fixed channels and time"
        )
    batch = dims[0] if dims[0] is not None and dims[0] > 0 else None
    return batch, sizes


def _orient(shape: Shape, metadata: Metadata, known: FeatureSet | None, where: str) -> tuple[Shape, Index]:
    """The IR's input shape, that of the feature set if one is known, and the file's view of it."""
    if metadata.input_shape == shape:
        return shape, positions(shape)
    sizes = tuple(dim for dim in shape if dim != 1)
    if len(sizes) > 2:
        raise ModelError(
            f"{where}: expected one or two axes beside the clips, got an input of {sizes}: 2-D convolutions cannot be "
            "imported; use 1-D convolutions over time with the other axes as channels"
        )
    rows, columns = (1,) * (2 - len(sizes)) + sizes
    if known is None or known.input_shape == (rows, columns):
        return (rows, columns), positions((rows, columns))
    if known.input_shape == (columns, rows):
        return (columns, rows), positions((columns, rows)).T
    raise ModelError(
        f"{where}: expected an input of {known.input_shape}, as features {known.name!r} have, got {(rows, columns)}"
    )
