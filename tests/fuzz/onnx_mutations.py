"""Damage to ONNX files: bytes changed at random, and models changed in ways that a parser lets through.

Everything is drawn from the generator that the caller passes, so a seed names a case.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import helper, numpy_helper

Rng = np.random.Generator

INTEGERS = (*range(-3, 9), 16, 40, 41, 1000, 2**16, 2**20, 2**31, 2**62, 2**63 - 1, -(2**31), -(2**63))
VERSIONS = (-1, 0, 1, *range(6, 15), 17, 18, 21, 24, 99, 2**40)
FLOATS = (0.0, -0.0, 1.0, -1.0, 1e-45, 1e-5, 0.3, 1e6, 1e38, float("inf"), float("-inf"), float("nan"))
OPERATOR_NAMES = (
    "Add Sub Mul Div Neg Pow Sqrt Abs Clip Relu LeakyRelu PRelu Sigmoid Softmax LogSoftmax ArgMax Conv Gemm MatMul "
    "BatchNormalization MaxPool AveragePool GlobalAveragePool GlobalMaxPool ReduceMean ReduceMax ReduceSum Flatten "
    "Reshape Transpose Squeeze Unsqueeze Identity Dropout Cast Pad Slice Concat Split Gather Shape Expand Constant "
    "ConstantOfShape Range Tile Where If Loop Nonsense"
)
OPERATORS = tuple(OPERATOR_NAMES.split())
ATTRIBUTE_NAMES = (
    "axis axes pads strides kernel_shape group dilations perm alpha ceil_mode to count_include_pad auto_pad keepdims "
    "transB epsilon mode value"
)
ATTRIBUTES = tuple(ATTRIBUTE_NAMES.split())
TEXTS = ("", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID", "constant", "edge", "\x00", "x" * 5000, "../../etc/passwd")
METADATA = ("labels", "features", "box", "input_shape", "else")
LISTS = ("[]", '["a","b"]', '["a","a","a","a"]', "[1,40]", "[1e9,1e9]", "[-1,0]", "[" * 3000)
JSON = (
    *LISTS,
    "",
    "{",
    "null",
    "1e999",
    '{"low":[1],"high":[0]}',
    '{"low":[-1],"high":[1]}',
    '"mfcc40-mean"',
    '"none"',
)


def mutate(data: bytes, rng: Rng, others: Sequence[bytes] = ()) -> bytes:
    """A damaged copy of a model's bytes; others: files to take parts from."""
    if rng.random() < 0.7:
        try:
            return mutate_model(data, rng)
        except DecodeError:
            pass
    return mutate_bytes(data, rng, others)


def mutate_bytes(data: bytes, rng: Rng, others: Sequence[bytes] = ()) -> bytes:
    """Bytes flipped, set, inserted, deleted, doubled, cut off, or a part of another file put in."""
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 5))):
        start, kind = _place(len(changed), rng), int(rng.integers(7))
        end = min(len(changed), start + int(rng.integers(1, 33)))
        if kind == 0 and changed:
            changed[min(start, len(changed) - 1)] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            changed[start:end] = bytes([int(rng.choice([0, 1, 0x7F, 0x80, 0xFF]))]) * (end - start)
        elif kind == 2:
            changed[start:start] = rng.bytes(int(rng.integers(1, 17)))
        elif kind == 3:
            del changed[start:end]
        elif kind == 4:
            changed[start:start] = changed[start:end] * int(rng.integers(1, 9))
        elif kind == 5:
            del changed[start:]
        elif others:
            other = others[int(rng.integers(len(others)))]
            place = _place(len(other), rng)
            changed[start:end] = other[place : place + int(rng.integers(1, 257))]
    return bytes(changed)


def mutate_model(data: bytes, rng: Rng) -> bytes:
    """A model that still parses, changed in one to three places. Raises DecodeError if `data` does not parse."""
    model = onnx.ModelProto.FromString(data)
    for _ in range(int(rng.integers(1, 4))):
        change = CHANGES[int(rng.integers(len(CHANGES)))]
        try:
            change(model, rng)
        except ValueError:  # protobuf has no room for this number here
            continue
    return model.SerializeToString()


def _place(length: int, rng: Rng) -> int:
    return int(rng.integers(length + 1))


def _number(rng: Rng) -> int:
    return int(INTEGERS[int(rng.integers(len(INTEGERS)))])


def _float(rng: Rng) -> float:
    return FLOATS[int(rng.integers(len(FLOATS)))]


def _node(model: onnx.ModelProto, rng: Rng) -> onnx.NodeProto:
    nodes = model.graph.node
    return nodes[int(rng.integers(len(nodes)))] if nodes else nodes.add()


def _tensor(model: onnx.ModelProto, rng: Rng) -> onnx.TensorProto:
    tensors = model.graph.initializer
    return tensors[int(rng.integers(len(tensors)))] if tensors else tensors.add()


def _name(model: onnx.ModelProto, rng: Rng) -> str:
    """The name of some value of the graph, or of none."""
    names = [name for node in model.graph.node for name in node.output]
    names += [tensor.name for tensor in model.graph.initializer] + [v.name for v in model.graph.input] + ["", "nothing"]
    return names[int(rng.integers(len(names)))]


def input_dim(model: onnx.ModelProto, rng: Rng) -> None:
    """Another size of the input, or one more or less axis."""
    if not model.graph.input:
        return
    dims = model.graph.input[0].type.tensor_type.shape.dim
    kind = int(rng.integers(4))
    if kind == 0 or not dims:
        dims.add().dim_value = _number(rng)
    elif kind == 1:
        del dims[int(rng.integers(len(dims)))]
    elif kind == 2:
        dims[int(rng.integers(len(dims)))].dim_param = "free"
    else:
        dims[int(rng.integers(len(dims)))].dim_value = _number(rng)


def input_type(model: onnx.ModelProto, rng: Rng) -> None:
    """Another type of the input or the output."""
    values = model.graph.input if rng.random() < 0.7 else model.graph.output
    if values:
        values[0].type.tensor_type.elem_type = int(rng.integers(0, 25))


def attribute(model: onnx.ModelProto, rng: Rng) -> None:
    """Another value of an attribute, or one more or less."""
    node = _node(model, rng)
    kind = int(rng.integers(8))
    if not node.attribute or kind == 0:
        value = [_number(rng), _float(rng), [_number(rng)] * int(rng.integers(1, 5)), TEXTS[int(rng.integers(10))]]
        name = ATTRIBUTES[int(rng.integers(len(ATTRIBUTES)))]
        node.attribute.append(helper.make_attribute(name, value[int(rng.integers(4))]))
        return
    place = int(rng.integers(len(node.attribute)))
    chosen = node.attribute[place]
    if kind == 1:
        del node.attribute[place]
    elif kind == 2:
        node.attribute.append(chosen)
    elif kind == 3:
        chosen.type = int(rng.integers(0, 15))
    elif kind == 4:
        chosen.ints.append(_number(rng))
    elif chosen.ints:
        chosen.ints[int(rng.integers(len(chosen.ints)))] = _number(rng)
    elif chosen.HasField("t"):
        damage_tensor(chosen.t, rng)
    elif chosen.HasField("f"):
        chosen.f = _float(rng)
    elif chosen.HasField("s"):
        chosen.s = TEXTS[int(rng.integers(len(TEXTS)))].encode()
    else:
        chosen.i = _number(rng)


def operator(model: onnx.ModelProto, rng: Rng) -> None:
    """Another operator, or another domain."""
    node = _node(model, rng)
    if rng.random() < 0.9:
        node.op_type = OPERATORS[int(rng.integers(len(OPERATORS)))]
    else:
        node.domain = TEXTS[int(rng.integers(len(TEXTS)))]


def wiring(model: onnx.ModelProto, rng: Rng) -> None:
    """Another input or output of a node, one more or less."""
    node = _node(model, rng)
    ends = node.input if rng.random() < 0.8 else node.output
    kind = int(rng.integers(4))
    if kind == 0 or not ends:
        ends.append(_name(model, rng))
    elif kind == 1:
        del ends[int(rng.integers(len(ends)))]
    elif kind == 2:
        ends[:] = list(ends)[::-1]
    else:
        ends[int(rng.integers(len(ends)))] = _name(model, rng)


def nodes(model: onnx.ModelProto, rng: Rng) -> None:
    """A node left out, written twice, moved, or put between two others."""
    graph, node = model.graph.node, _node(model, rng)
    place, kind = int(rng.integers(len(graph))), int(rng.integers(4))
    if kind == 0:
        del graph[place]
    elif kind == 1:
        graph.append(node)
    elif kind == 2:
        order = list(graph)
        order.insert(0, order.pop(place))
        del graph[:]
        graph.extend(order)
    elif node.output:
        name, extra = node.output[0], graph.add()
        extra.op_type = OPERATORS[int(rng.integers(len(OPERATORS)))]
        extra.input.append(name + "'")
        extra.output.append(name)
        node.output[0] = name + "'"
        graph.insert(place + 1, graph.pop())


def weights(model: onnx.ModelProto, rng: Rng) -> None:
    """A weight tensor of another shape, type, storage or content."""
    damage_tensor(_tensor(model, rng), rng)


def damage_tensor(tensor: onnx.TensorProto, rng: Rng) -> None:
    """See `weights`."""
    kind = int(rng.integers(8))
    if kind == 0:
        tensor.dims.append(_number(rng))
    elif kind == 1 and tensor.dims:
        tensor.dims[int(rng.integers(len(tensor.dims)))] = _number(rng)
    elif kind == 2 and tensor.dims:
        tensor.dims[:] = list(tensor.dims)[::-1]
    elif kind == 3:
        tensor.data_type = int(rng.integers(0, 25))
    elif kind == 4:
        tensor.raw_data = tensor.raw_data[: _place(len(tensor.raw_data), rng)]
    elif kind == 5:
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="/etc/passwd")
    elif kind == 6:
        tensor.float_data.append(_float(rng))
    else:
        _other_content(tensor, rng)


def _other_content(tensor: onnx.TensorProto, rng: Rng) -> None:
    """The same shape with other numbers, some of them extreme."""
    try:
        values = numpy_helper.to_array(tensor).copy()
    except (ValueError, TypeError, KeyError):
        return
    if values.size and values.dtype.kind in "fiu":
        extreme = _float(rng) if values.dtype.kind == "f" else _number(rng)
        with np.errstate(over="ignore"):
            values.flat[int(rng.integers(values.size))] = np.array(extreme).astype(values.dtype)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def versions(model: onnx.ModelProto, rng: Rng) -> None:
    """Other operator sets."""
    if model.opset_import and rng.random() < 0.8:
        model.opset_import[0].version = VERSIONS[int(rng.integers(len(VERSIONS)))]
    else:
        model.opset_import.add(domain="", version=13)


def metadata(model: onnx.ModelProto, rng: Rng) -> None:
    """Labels, features, a box: well-formed and not."""
    key, value = METADATA[int(rng.integers(len(METADATA)))], JSON[int(rng.integers(len(JSON)))]
    model.metadata_props.add(key=f"sottovoce.{key}", value=value)


def output(model: onnx.ModelProto, rng: Rng) -> None:
    """Another output, one more or none."""
    kind = int(rng.integers(3))
    if kind == 0 or not model.graph.output:
        model.graph.output.add().name = _name(model, rng)
    elif kind == 1:
        del model.graph.output[0]
    else:
        model.graph.output[0].name = _name(model, rng)


def nesting(model: onnx.ModelProto, rng: Rng) -> None:
    """A graph in an attribute, a function, a sparse tensor, training information."""
    kind = int(rng.integers(4))
    if kind == 0:
        _node(model, rng).attribute.append(helper.make_attribute("then_branch", onnx.GraphProto(name="inner")))
    elif kind == 1:
        model.functions.add(name=_node(model, rng).op_type, domain="")
    elif kind == 2:
        model.graph.sparse_initializer.add().dims.append(_number(rng))
    else:
        model.training_info.add().algorithm.CopyFrom(model.graph)


Change = Callable[[onnx.ModelProto, Rng], None]
CHANGES: tuple[Change, ...] = (
    input_dim, input_type, attribute, attribute, attribute, operator, operator, wiring, wiring, nodes, nodes, weights,
    weights, weights, versions, metadata, output, nesting,
)  # fmt: skip
