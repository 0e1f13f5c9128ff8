"""Files that nobody vouches for: each ends in a ModelError, soon, and without much memory."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.models.onnx.conftest import BOX, ints, ones, refused

from sottovoce.engine.errors import ModelError
from sottovoce.models.onnx import chain, import_onnx, walk
from sottovoce.models.onnx.source import MAX_DEPTH, MAX_FIELDS, MAX_FILE_BYTES, MAX_PACKED_BYTES
from sottovoce.models.onnx.walk import MAX_FILE_NODES

BIG = 1 << 62


def test_sources(tmp_path) -> None:
    for source, match in (
        (b"", "nothing"),
        (b"\x00" * 40, "not one"),
        (b"PK\x03\x04 a zip file", "not one"),
        (os.urandom(4096), "ONNX bytes"),
        (tmp_path / "none.onnx", "No such file"),
        (tmp_path, "regular file"),
        ("a\0b", "not a path"),
        (7, "a path or bytes"),
    ):
        with pytest.raises(ModelError, match=match):
            import_onnx(source, **BOX)


def test_a_large_file_is_not_read(tmp_path) -> None:
    path = tmp_path / "large.onnx"
    with path.open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)  # sparse
    tracemalloc.start()
    with pytest.raises(ModelError, match=f"at most {MAX_FILE_BYTES} bytes"):
        import_onnx(path, **BOX)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20


def test_a_pipe_is_not_waited_for(tmp_path) -> None:
    os.mkfifo(tmp_path / "pipe.onnx")
    with pytest.raises(ModelError, match="regular file"):
        import_onnx(tmp_path / "pipe.onnx", **BOX)


def varint(value: int) -> bytes:
    data = bytearray()
    while value > 127:
        data.append(value & 127 | 128)
        value >>= 7
    return bytes([*data, value])


def field(number: int, content: bytes) -> bytes:
    """A length-delimited field of the wire format."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def test_many_fields(onnx_model) -> None:
    """A million empty nodes are two million bytes, and a hundred times that once parsed."""
    refused(field(7, b"\x0a\x00" * 1_000_000), f"at most {MAX_FIELDS} fields")
    refused(onnx_model(("Relu",)).SerializeToString() + field(7, b"\x0a\x00" * MAX_FILE_NODES), "nodes, got")


def test_deep_nesting() -> None:
    content = b""
    for _ in range(MAX_DEPTH):
        content = field(1, field(5, field(6, content)))  # graph > node > attribute > graph
    refused(field(7, content), f"nested at most {MAX_DEPTH} deep")


def test_packed_integers() -> None:
    """One byte each in the file, eight in memory."""
    tensor = field(7, bytes(MAX_PACKED_BYTES + 1))
    refused(field(7, field(5, tensor)), "raw_data")


@pytest.mark.parametrize(
    "data", [b"\x3a\xff\xff\xff\xff\x0f", b"\x3b\x3c", b"\x08" + b"\xff" * 11, b"\x39\x00", b"\x3a\x05a"]
)
def test_broken_wire_format(data: bytes) -> None:
    refused(data, "not one")


def test_truncations_and_flips(onnx_model) -> None:
    """Every cut and some hundreds of flipped bytes: an error of ours or a model, nothing else."""
    data = onnx_model(
        ("Conv", ones(2, 3, 3), ones(2)), ("Relu",), ("MaxPool", {"kernel_shape": [2]}), ("Flatten",), ("Gemm", ones(18, 2))  # noqa: E501
    ).SerializeToString()  # fmt: skip
    rng = np.random.default_rng(1)
    cases = [data[:cut] for cut in range(0, len(data), 11)]
    for _ in range(150):
        flipped = bytearray(data)
        for place in rng.integers(0, len(data), 2):
            flipped[place] = rng.integers(0, 256)
        cases.append(bytes(flipped))
    outcomes = {"model": 0, "refused": 0}
    for case in cases:
        try:
            import_onnx(case, **BOX)
            outcomes["model"] += 1
        except ModelError:
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 15, outcomes


def tensor_changes() -> dict[str, Callable[[onnx.TensorProto], object]]:
    def external(tensor: onnx.TensorProto) -> None:
        tensor.data_location = TensorProto.EXTERNAL
        tensor.ClearField("raw_data")
        tensor.external_data.add(key="location", value="/etc/passwd")

    def dims(*values: int) -> Callable[[onnx.TensorProto], object]:
        def change(tensor: onnx.TensorProto) -> None:
            tensor.dims[:] = values

        return change

    return {
        "which bytes cannot lead to": external,
        "54 bytes": dims(2, 3, 3, 3),
        "dims .*BIG": dims(BIG, 1, 1),
        "got dims": dims(*[1 << 20] * 5),
        "negative": dims(-2, -3, 3),
        "at most 8 dimensions": dims(*[1] * 9),
        "got STRING": lambda tensor: setattr(tensor, "data_type", TensorProto.STRING),
        "got type 77": lambda tensor: setattr(tensor, "data_type", 77),
        "got FLOAT8E5M2": lambda tensor: setattr(tensor, "data_type", TensorProto.FLOAT8E5M2),
        "expected 144 bytes": lambda tensor: setattr(tensor, "data_type", TensorProto.DOUBLE),
        "expected 18 values": lambda tensor: tensor.ClearField("raw_data"),
    }


@pytest.mark.parametrize("expected", tensor_changes())
def test_tensors_that_are_not_what_they_say(onnx_model, expected: str) -> None:
    model = onnx_model(("Conv", ones(2, 3, 3)))
    tensor_changes()[expected](model.graph.initializer[0])
    match = {"54 bytes": "expected 216 bytes", "dims .*BIG": "got dims", "negative": "got dims"}.get(expected, expected)
    assert "'c0_0'" in refused(model, match)


def test_graphs_that_are_no_chain_of_nodes(onnx_model) -> None:
    model = onnx_model(("Relu",), ("Relu",))
    model.graph.node[0].input[0] = "v1"
    refused(model, "node 1.*input 'v1': expected a value that an earlier node makes")
    model = onnx_model(("Relu",), ("Relu",))
    model.graph.node.insert(0, model.graph.node[1])
    del model.graph.node[2]
    refused(model, "earlier node")
    model = onnx_model(("Conv", ones(2, 3, 3)))
    model.graph.initializer.append(model.graph.initializer[0])
    refused(model, "one of this name, got two")
    model = onnx_model(("Relu",))
    model.graph.node[0].output[0] = "x"
    refused(model, "made once")
    model = onnx_model(("Relu",))
    model.graph.output[0].name = "nowhere"
    refused(model, "nowhere")
    model = onnx_model(("Relu",))
    model.graph.node[0].ClearField("input")
    refused(model, "node 1, Relu")


def constants_then_add(*nodes: onnx.NodeProto) -> onnx.ModelProto:
    """The last node's output "big" is added to the data."""
    graph = helper.make_graph(
        [*nodes, helper.make_node("Add", ["x", "big"], ["y"])],
        "made",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["clips", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [
            numpy_helper.from_array(ints(1 << 30, 1 << 10), "huge"),
            numpy_helper.from_array(np.float32(0), "zero"),
            numpy_helper.from_array(np.float32(1e30), "far"),
            numpy_helper.from_array(np.float32(1), "one"),
            numpy_helper.from_array(np.ones((1 << 11, 1), np.float32), "column"),
            numpy_helper.from_array(np.ones((1, 1 << 14), np.float32), "row"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


GROWTH = {
    "fill": [helper.make_node("ConstantOfShape", ["huge"], ["big"])],
    "expand": [helper.make_node("Expand", ["zero", "huge"], ["big"])],
    "range": [helper.make_node("Range", ["zero", "far", "one"], ["big"])],
    "tile": [helper.make_node("Tile", ["one", "huge"], ["big"])],
    "broadcast": [helper.make_node("Add", ["row", "column"], ["big"])],
    "concat": [helper.make_node("Concat", ["row"] * 2000, ["big"], axis=0)],
    "doubling": [
        helper.make_node("Concat", [f"d{i}" if i else "row"] * 2, ["big" if i == 39 else f"d{i + 1}"], axis=0)
        for i in range(40)
    ],
    "many copies": [
        *(helper.make_node("Concat", ["row"] * 10, [f"copy{i}"], axis=0) for i in range(20)),
        helper.make_node("Max", [f"copy{i}" for i in range(20)], ["big"]),
    ],
}


@pytest.mark.parametrize("nodes", GROWTH.values(), ids=GROWTH.keys())
def test_constants_do_not_grow_without_bound(monkeypatch, nodes) -> None:
    monkeypatch.setattr(walk, "MAX_CONSTANTS", 1 << 21)
    refused(constants_then_add(*nodes), "at most|cannot be imported|repeats")


WINDOWS = {
    "pool, kernel": ("MaxPool", {"kernel_shape": [BIG]}),
    "pool, kernel and pads": ("AveragePool", {"kernel_shape": [1 << 40], "pads": [(1 << 40) - 1] * 2}),
    "pool, many windows": ("AveragePool", {"kernel_shape": [1 << 23], "pads": [(1 << 23) - 1] * 2}),
    "pool, many axes": ("MaxPool", {"kernel_shape": [1] * 99}),
    "conv, pads": ("Conv", ones(2, 3, 2), {"pads": [BIG, BIG]}),
    "conv, dilation and pads": ("Conv", ones(2, 3, 2), {"dilations": [1 << 23], "pads": [1 << 23, 1 << 23]}),
    "conv, stride": ("Conv", ones(2, 3, 2), {"strides": [BIG]}),
    "pad": ("Pad", ints(0, 0, BIG, 0, 0, BIG)),
    "reshape": ("Reshape", ints(0, BIG, BIG)),
    "reshape, long": ("Reshape", np.ones(99, np.int64)),
    "unsqueeze": ("Unsqueeze", ints(*range(1, 99))),
    "slice": ("Slice", ints(-BIG), ints(BIG), ints(2), ints(BIG - 1)),
}


@pytest.mark.parametrize("step", WINDOWS.values(), ids=WINDOWS.keys())
def test_attributes_do_not_make_large_arrays(onnx_model, step) -> None:
    tracemalloc.start()
    try:
        import_onnx(onnx_model(step).SerializeToString(), **BOX)
    except ModelError:
        pass
    else:
        assert step[0] == "Slice"  # takes one position
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 8 << 20


def test_weights_used_again_and_again(monkeypatch, onnx_model) -> None:
    """One tensor of a file may be the weight of many layers, each with a copy of its own."""
    monkeypatch.setattr(chain, "MAX_ELEMENTS", 1 << 20)
    model = onnx_model(*[("Gemm", ones(1, 1)) for _ in range(30)], shape=(300,))
    del model.graph.initializer[:]
    model.graph.initializer.append(numpy_helper.from_array(ones(300, 300), "shared"))
    for node in model.graph.node[:-1]:
        node.input[1] = "shared"
    refused(model, "weights up to here")


def test_names_that_are_not_text(onnx_model) -> None:
    data = onnx_model(("LeakyRelu",)).SerializeToString()
    for name in (b"/leakyrelu0/LeakyRelu", b"made"):
        graph = import_onnx(data.replace(name, b"\xff" * len(name)), **BOX)
        assert graph.nodes[0].name.isascii() and graph.name.isascii()
    refused(data.replace(b"v0", b"\xff\xff").replace(b"Flatten", b"\xff" * 7), "ONNX node 2")


def test_no_weight_is_shown(onnx_model) -> None:
    secret = np.full((2, 3, 3), 1234.5678, np.float32)
    secret[0, 0, 0] = np.inf
    for steps in ([("Conv", secret)], [("Conv", secret[:, :2])], [("MatMul", secret)], [("Add", secret)]):
        assert "1234" not in refused(onnx_model(*steps), "expected")
