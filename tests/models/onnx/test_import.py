"""Every operator and attribute that the importer knows, against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.models.onnx.conftest import BOX, ints

from sottovoce.models.evaluate import evaluate
from sottovoce.models.graph import BatchNorm, Conv1d, Dense, Graph, LeakyRelu, Relu, Transpose
from sottovoce.models.onnx import import_onnx

BOUND = 2e-5  # onnxruntime computes in float32; values here are below 100
RNG = np.random.default_rng(7)


def numbers(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def run(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})[0]


def check(model: onnx.ModelProto, **arguments: Any) -> Graph:
    """Import the model and compare it with onnxruntime on random inputs."""
    graph = import_onnx(model.SerializeToString(), **{**BOX, **arguments})
    dims = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim]
    x = RNG.normal(size=(dims[0] or 3, *dims[1:])).astype(np.float32)
    expected = run(model, x)
    got = evaluate(graph, x.reshape(len(x), *graph.input_shape))
    assert got.shape == (len(x), expected.size // len(x))
    assert np.max(np.abs(got - expected.reshape(got.shape))) < BOUND
    return graph


CONV = numbers(4, 3, 3)
AUTO = ("SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET")
CASES = {
    "conv": [("Conv", CONV)],
    "conv, bias": [("Conv", CONV, numbers(4))],
    "conv, all geometry": [("Conv", CONV, numbers(4), {"pads": [4, 1], "strides": [2], "dilations": [2]})],
    "conv, groups": [("Conv", numbers(6, 1, 4), {"group": 3, "pads": [0, 3]})],
    **{f"conv, {auto}": [("Conv", numbers(4, 3, 4), {"auto_pad": auto, "strides": [2]})] for auto in AUTO},
    "conv, two in a row": [("Conv", CONV), ("Relu",), ("Conv", numbers(2, 4, 2), numbers(2))],
    "conv on channels last": [("Transpose", {"perm": [0, 2, 1]}), ("Conv", numbers(2, 12, 2))],
    "conv, unit axis behind": [("Unsqueeze", ints(3)), ("Conv", numbers(4, 3, 3, 1), {"pads": [1, 0, 1, 0]})],
    "conv, unit axis before": [("Unsqueeze", ints(2)), ("Conv", numbers(4, 3, 1, 3), {"strides": [1, 2]})],
    "conv, square kernel on a unit axis": [("Unsqueeze", ints(2)), ("Conv", numbers(4, 3, 3, 3), {"pads": [1] * 4})],
    "conv, kernel over all bands": [("Unsqueeze", ints(1)), ("Conv", numbers(4, 1, 3, 5), {"pads": [0, 2, 0, 2]})],
    "conv, kernel over bands and padding": [
        ("Unsqueeze", ints(1)),
        ("Conv", numbers(4, 1, 5, 2), {"pads": [1, 0, 1, 0]}),
    ],
    "conv, whole length": [("Conv", numbers(5, 3, 12), numbers(5))],
    "pad and conv": [("Pad", ints(0, 0, 2, 0, 0, 1)), ("Conv", numbers(4, 3, 4), numbers(4))],
    "pad, relu and padded conv": [
        ("Pad", ints(0, 0, 0, 0, 0, 1)),
        ("Relu",),
        ("Conv", numbers(4, 3, 4), {"pads": [1, 1]}),
    ],
    "pad of chosen axes": [("Pad", ints(1, 2), None, ints(-1)), ("Conv", numbers(4, 3, 4))],
    "pad and average": [("Pad", ints(0, 0, 1, 0, 0, 2)), ("AveragePool", {"kernel_shape": [4], "strides": [2]})],
    "pad and max behind a relu": [
        ("Relu",),
        ("Pad", ints(0, 0, 1, 0, 0, 2)),
        ("MaxPool", {"kernel_shape": [3], "strides": [2]}),
    ],
    "pad and dense": [("Pad", ints(0, 1, 1, 0, 0, 2)), ("Flatten",), ("Gemm", numbers(60, 3))],
    "gemm": [("Flatten",), ("Gemm", numbers(36, 5), numbers(5))],
    "gemm, transB": [("Flatten",), ("Gemm", numbers(5, 36), numbers(1, 5), {"transB": 1})],
    "gemm, alpha and beta": [("Flatten",), ("Gemm", numbers(36, 5), numbers(5), {"alpha": 0.5, "beta": -2.0})],
    "gemm, scalar bias": [("Flatten",), ("Gemm", numbers(36, 5), numbers(1))],
    "gemm on a transposed flatten": [
        ("Transpose", {"perm": [0, 2, 1]}),
        ("Flatten",),
        ("Gemm", numbers(36, 5), numbers(5)),
    ],
    "gemm on a slice": [("Slice", ints(-1), ints(12), ints(2)), ("Flatten",), ("Gemm", numbers(3, 5))],
    "gemm on every second step": [
        ("Slice", ints(11), ints(-(1 << 62)), ints(2), ints(-2)),
        ("Flatten",),
        ("Gemm", numbers(18, 2)),
    ],
    "gemm on the last step": [("Gather", np.int64(-1), {"axis": 2}), ("Gemm", numbers(3, 5))],
    "gemm on chosen steps": [("Gather", ints(7, 2), {"axis": 2}), ("Flatten",), ("Gemm", numbers(6, 5))],
    "gemm on copies": [("Flatten",), ("Gather", ints(*range(30)), {"axis": 1}), ("Gemm", numbers(30, 2))],
    "matmul": [("Flatten",), ("MatMul", numbers(36, 4)), ("Add", numbers(4))],
    "matmul on every step": [("Transpose", {"perm": [0, 2, 1]}), ("MatMul", numbers(3, 4)), ("Add", numbers(4))],
    "matmul over time": [("MatMul", numbers(12, 4)), ("Relu",), ("MatMul", numbers(4, 2))],
    "matmul, constant first": [("MatMul", numbers(5, 3), {"swap": True}), ("Add", numbers(5, 1))],
    "matmul, batch and time joined": [
        ("Transpose", {"perm": [0, 2, 1]}),
        ("Reshape", ints(-1, 3)),
        ("MatMul", numbers(3, 4)),
        ("Add", numbers(1, 4)),
        ("Relu",),
        ("Gemm", numbers(4, 2), numbers(2)),
        ("Reshape", ints(-1, 12, 2)),
    ],
    "matmul, weight of three axes": [("MatMul", numbers(1, 12, 2))],
    "add, constant of all axes": [("Flatten",), ("Add", numbers(1, 36)), ("Add", numbers(1, 1))],
    "matmul, one row": [("Reshape", ints(0, 1, 36)), ("MatMul", numbers(1, 36, 4)), ("Add", numbers(4))],
    "add to everything": [("Add", numbers(1, 3, 12))],
    "sub": [("Sub", numbers(3, 1))],
    "sub, constant first": [("Sub", numbers(12), {"swap": True})],
    "mul, channels last": [("Transpose", {"perm": [0, 2, 1]}), ("Mul", numbers(3)), ("Add", numbers(12, 1))],
    "div": [("Div", np.float32(1.0) + np.abs(numbers(3, 12)))],
    "div by a number": [("Div", np.asarray(0.25, dtype=np.float32))],
    "neg and pow 1": [("Neg",), ("Pow", np.asarray([1.0], dtype=np.float32))],
    "conv, add per position": [("Conv", CONV), ("Add", numbers(4, 10)), ("Add", numbers(4, 1))],
    "conv, scale": [("Conv", CONV), ("Mul", numbers(4, 1)), ("Add", numbers(1))],
    "affine on a part": [
        ("Slice", ints(2), ints(9), ints(2)),
        ("Add", numbers(3, 7)),
        ("Flatten",),
        ("Gemm", numbers(21, 2)),
    ],
    "scaled padding": [("Pad", ints(0, 0, 1, 0, 0, 1)), ("Mul", numbers(3, 1)), ("Conv", CONV)],
    "relu": [("Relu",)],
    "leaky relu": [("LeakyRelu",), ("LeakyRelu", {"alpha": 0.3})],
    "leaky relu, steep": [("LeakyRelu", {"alpha": 1.5})],
    "prelu": [("PRelu", np.full((3, 1), 0.2, dtype=np.float32))],
    "abs": [("Abs",)],
    "clip": [("Clip", np.asarray(0, dtype=np.float32))],
    "clip to the largest float": [("Clip", np.float32(0), np.finfo(np.float32).max)],
    "clip without bounds": [("Clip",)],
    "max with 0": [("Max", np.zeros(1, dtype=np.float32))],
    "max of one": [("Max",)],
    "batch norm": [("BatchNormalization", numbers(3), numbers(3), numbers(3), np.abs(numbers(3)), {"epsilon": 0.01})],
    "batch norm, flat": [("Flatten",), ("BatchNormalization", *numbers(3, 36), np.abs(numbers(36)))],
    "batch norm, transposed": [
        ("Transpose", {"perm": [0, 2, 1]}),
        ("BatchNormalization", *numbers(3, 12), np.abs(numbers(12))),
    ],
    "batch norm, decomposed": [
        ("Sub", numbers(3, 1)),
        ("Div", np.float32(0.5) + np.abs(numbers(3, 1))),
        ("Mul", numbers(3, 1)),
        ("Add", numbers(3, 1)),
    ],
    "global max": [("GlobalMaxPool",)],
    "global average": [("Conv", CONV), ("GlobalAveragePool",), ("Flatten",), ("Gemm", numbers(4, 2))],
    "average, then squeeze": [("GlobalAveragePool",), ("Squeeze", ints(2)), ("MatMul", numbers(3, 2))],
    "reduce mean": [("ReduceMean", ints(-1), {"keepdims": 0}), ("Gemm", numbers(3, 2))],
    "reduce mean over channels": [("ReduceMean", ints(1))],
    "reduce max": [("ReduceMax", ints(2))],
    "reduce sum": [("ReduceSum", ints(2)), ("Mul", numbers(3, 1))],
    "reduce both": [("ReduceMean", ints(1, 2))],
    "reduce, channels last": [("Transpose", {"perm": [0, 2, 1]}), ("ReduceMean", ints(1), {"keepdims": 0})],
    "reduce nothing": [("ReduceMean", {"noop_with_empty_axes": 1})],
    "reshape": [("Reshape", ints(-1, 4, 9)), ("Conv", numbers(2, 4, 3))],
    "reshape, copied batch": [("Reshape", ints(0, -1, 4)), ("Conv", numbers(2, 9, 3))],
    "reshape, copied axes": [("Unsqueeze", ints(3)), ("Reshape", ints(0, 0, -1)), ("Conv", CONV)],
    "squeeze everything": [("Unsqueeze", ints(1, 4)), ("Squeeze",), ("Conv", CONV)],
    "transposed twice": [("Transpose", {"perm": [0, 2, 1]}), ("Relu",), ("Transpose", {"perm": [0, 2, 1]}), ("Relu",)],
    "transposed and reshaped": [("Transpose", {"perm": [0, 2, 1]}), ("Reshape", ints(0, 4, 9)), ("Conv", numbers(2, 4, 3))],  # noqa: E501  # noqa: E501
    "concat of parts": [("Concat", {"axis": 2}), ("Conv", CONV)],
    "dropout": [("Dropout",), ("Dropout", np.float32(0.4)), ("Identity",)],
    "cast": [("Cast", {"to": TensorProto.FLOAT})],
    "expand to itself": [("Expand", ints(1, 3, 12)), ("Expand", ints(12)), ("Relu",)],
}  # fmt: skip


@pytest.mark.parametrize("steps", CASES.values(), ids=CASES.keys())
def test_operators(onnx_model, steps) -> None:
    check(onnx_model(*steps))


POOLS = [
    {"kernel_shape": [3]},
    {"kernel_shape": [3], "strides": [3]},
    {"kernel_shape": [4], "strides": [2], "pads": [1, 2]},
    {"kernel_shape": [5], "strides": [2], "pads": [2, 2], "ceil_mode": 1},
    {"kernel_shape": [2], "strides": [5], "ceil_mode": 1},
    {"kernel_shape": [3], "strides": [2], "pads": [0, 1], "ceil_mode": 1},
    {"kernel_shape": [4], "strides": [3], "auto_pad": "SAME_UPPER"},
    {"kernel_shape": [5], "strides": [2], "auto_pad": "SAME_LOWER"},
    {"kernel_shape": [4], "strides": [3], "auto_pad": "VALID"},
    {"kernel_shape": [2], "strides": [2], "pads": [0, 1], "ceil_mode": 1},
    {"kernel_shape": [1]},
]


@pytest.mark.parametrize("time", [11, 12])
@pytest.mark.parametrize("pool", POOLS, ids=str)
@pytest.mark.parametrize("op", ["MaxPool", "AveragePool", "AveragePool with padding"])
def test_pools(onnx_model, op: str, pool: dict[str, Any], time: int) -> None:
    name = op.split()[0]
    attributes = {**pool, "count_include_pad": 1} if name != op else pool
    check(onnx_model((name, attributes), shape=(2, time), opset=19))


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
def test_a_pool_over_one_of_two_axes(onnx_model, op: str) -> None:
    windows = {"kernel_shape": [1, 3], "strides": [1, 2], "pads": [0, 1, 0, 1]}
    check(onnx_model(("Reshape", ints(0, 3, 2, 6)), (op, windows)))
    check(onnx_model(("Unsqueeze", ints(3)), (op, {"kernel_shape": [3, 1], "strides": [2, 1]})))


OLD = {
    "squeeze and unsqueeze": [("Unsqueeze", {"axes": [1, 4]}), ("Squeeze", {"axes": [1, -1]})],
    "reduce": [("ReduceMean", {"axes": [2]}), ("ReduceSum", {"axes": [-1], "keepdims": 0})],
    "clip": [("Clip", {"min": 0.0})],
    "pad": [("Pad", {"pads": [0, 0, 1, 0, 0, 1]}), ("Conv", CONV)],
    "slice": [("Slice", {"starts": [0, 3], "ends": [1 << 40, 9], "axes": [0, 2]}), ("Flatten",), ("Gemm", numbers(18, 2), numbers(2))],  # noqa: E501
    "dropout": [("Dropout", {"ratio": 0.3})],
    "softmax": [("Flatten",), ("Gemm", numbers(36, 4), numbers(4)), ("Mul", numbers(4))],
    "batch norm": [("BatchNormalization", numbers(3), numbers(3), numbers(3), np.abs(numbers(3)))],
}  # fmt: skip


@pytest.mark.parametrize("steps", OLD.values(), ids=OLD.keys())
@pytest.mark.parametrize("opset", [7, 9])
def test_attributes_of_old_operator_sets(onnx_model, steps, opset: int) -> None:
    check(onnx_model(*steps, opset=opset))


@pytest.mark.parametrize("opset", [7, 11, 13, 17, 21, 23])
def test_operator_sets(onnx_model, opset: int) -> None:
    dense = numbers(40, 4), numbers(4)
    graph = check(onnx_model(("Conv", CONV, numbers(4)), ("Relu",), ("Flatten",), ("Gemm", *dense), opset=opset))
    assert [type(node).__name__ for node in graph.nodes] == ["Conv1d", "Relu", "Reshape", "Dense"]


@pytest.mark.parametrize("shape", [(40,), (1, 40), (40, 1), (1, 1, 40), (1, 40, 1)])
def test_axes_of_size_1_are_no_part_of_the_input_shape(onnx_model, shape) -> None:
    graph = check(onnx_model(("Flatten",), ("Gemm", numbers(40, 3)), shape=shape))
    assert graph.input_shape == (1, 40)


def test_channels_last_is_transposed_once(onnx_model) -> None:
    steps = [("Transpose", {"perm": [0, 2, 1]}), ("Conv", numbers(4, 40, 3))]
    graph = check(
        onnx_model(*steps, ("Transpose", {"perm": [0, 2, 1]}), ("Relu",), ("ReduceMean", ints(1)), shape=(9, 40))
    )
    assert graph.input_shape == (9, 40)
    assert sum(isinstance(node, Transpose) for node in graph.nodes) == 1


@pytest.mark.parametrize("batch", [1, 4])
def test_a_fixed_batch(onnx_model, batch: int) -> None:
    check(onnx_model(("Conv", CONV), ("Reshape", ints(batch, 40)), ("Gemm", numbers(40, 2)), batch=batch))
    check(
        onnx_model(
            ("Reshape", ints(batch * 3, 12)), ("MatMul", numbers(12, 2)), ("Reshape", ints(batch, 6)), batch=batch
        )
    )


@pytest.mark.parametrize("dtype", [TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE, TensorProto.FLOAT])
@pytest.mark.parametrize("raw", [False, True])
def test_types_and_storage_of_weights(onnx_model, dtype: int, raw: bool) -> None:
    model = onnx_model(("Flatten",), ("Gemm", numbers(36, 4)))
    values = (RNG.integers(-64, 64, (36, 4)) / 32).astype(np.float32)  # exact in every type
    tensor = helper.make_tensor("c1_0", dtype, values.shape, values.reshape(-1))
    if raw:
        tensor = numpy_helper.from_array(numpy_helper.to_array(tensor), "c1_0")
    model.graph.initializer[0].CopyFrom(tensor)
    graph = import_onnx(model.SerializeToString(), **BOX)
    assert np.array_equal(graph.nodes[-1].weight, values.T) and graph.nodes[-1].weight.dtype == np.float64


ENDS = {
    "softmax": [("Softmax",)],
    "log softmax": [("LogSoftmax", {"axis": 1})],
    "sigmoid": [("Sigmoid",)],
    "argmax": [("ArgMax", {"axis": 1})],
    "softmax, argmax, cast": [("Softmax",), ("ArgMax", {"axis": -1, "keepdims": 0}), ("Cast", {"to": TensorProto.INT32})],  # noqa: E501
}  # fmt: skip


@pytest.mark.parametrize("steps", ENDS.values(), ids=ENDS.keys())
@pytest.mark.parametrize("opset", [11, 18])
def test_the_end_is_left_out(onnx_model, steps, opset: int) -> None:
    body = [("Flatten",), ("Gemm", numbers(36, 4), numbers(4))]
    graph = import_onnx(onnx_model(*body, *steps, opset=opset, flat=False).SerializeToString(), **BOX)
    x = numbers(5, 3, 12)
    logits = run(onnx_model(*body, opset=opset), x)
    assert np.max(np.abs(evaluate(graph, x) - logits)) < BOUND
    assert graph.labels == ("LABEL_0", "LABEL_1", "LABEL_2", "LABEL_3")


def constant(name: str, *values: int) -> onnx.NodeProto:
    return helper.make_node("Constant", [], [name], value_ints=values)


VIEWS = {
    "x.view(x.size(0), -1)": [
        helper.make_node("Shape", ["v0"], ["dims"]),
        helper.make_node("Constant", [], ["zero"], value=numpy_helper.from_array(np.asarray(0))),
        helper.make_node("Gather", ["dims", "zero"], ["size"], axis=0),
        constant("axis", 0),
        helper.make_node("Unsqueeze", ["size", "axis"], ["first"]),
        constant("rest", -1),
    ],
    "x.view(-1, x.size(1) * x.size(2))": [
        helper.make_node("Shape", ["v0"], ["dims"]),
        *(constant(name, value) for name, value in (("start", 1), ("end", 2), ("all", 9), ("first", -1))),
        helper.make_node("Slice", ["dims", "start", "end"], ["channels"]),
        helper.make_node("Slice", ["dims", "end", "all"], ["time"]),
        helper.make_node("Mul", ["channels", "time"], ["rest"]),
    ],
    "x.view(x.size(0), x.size(1) * x.size(2)), newer": [
        helper.make_node("Shape", ["v0"], ["first"], start=0, end=1),
        helper.make_node("Shape", ["v0"], ["channels"], start=1, end=-1),
        helper.make_node("Shape", ["v0"], ["time"], start=-1),
        helper.make_node("Mul", ["channels", "time"], ["rest"]),
    ],
}


@pytest.mark.parametrize("nodes", VIEWS.values(), ids=VIEWS.keys())
@pytest.mark.parametrize("batch", ["clips", 2])
def test_shape_arithmetic(onnx_model, nodes, batch) -> None:
    model = onnx_model(("Relu",), ("Reshape", ints(0, 36)), ("Gemm", numbers(36, 4)), batch=batch)
    first, *others = model.graph.node
    others[0].input[1] = "shape"
    joined = helper.make_node("Concat", ["first", "rest"], ["shape"], axis=0)
    made = [onnx.NodeProto.FromString(node.SerializeToString()) for node in (first, *nodes, joined, *others)]
    del model.graph.node[:]
    model.graph.node.extend(made)
    check(model)


def test_constants_are_computed(onnx_model) -> None:
    """A weight that is quantised, transposed, scaled and cut in the file is one weight in the graph."""
    model = onnx_model(("Flatten",), ("MatMul", numbers(36, 4)))
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["w0"], axis=0),
        helper.make_node("Transpose", ["w0"], ["w1"]),
        helper.make_node("Sqrt", ["var"], ["std"]),
        helper.make_node("Div", ["w1", "std"], ["w2"]),
        helper.make_node("Slice", ["w2", "from", "to"], ["w3"]),
        helper.make_node("Cast", ["w3"], ["w4"], to=TensorProto.FLOAT),
    ]
    arrays = {
        "q": RNG.integers(-128, 128, (4, 40)).astype(np.int8),
        "scale": np.abs(numbers(4)) / 64,
        "zero": RNG.integers(-9, 9, 4).astype(np.int8),
        "var": np.abs(numbers(4)) + 1,
        "from": ints(2),
        "to": ints(38),
    }
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), k) for k, v in arrays.items())
    model.graph.node[1].input[1] = "w4"
    kept = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *kept])
    check(model)


def test_nodes_of_the_ir(onnx_model) -> None:
    """Biases and batch norms go where a reader of the model expects them."""
    graph = check(
        onnx_model(
            ("Conv", CONV),
            ("Add", numbers(4, 1)),
            ("BatchNormalization", *numbers(3, 4), np.abs(numbers(4))),
            ("Clip", np.float32(0)),
            ("PRelu", np.full(1, 0.5, np.float32)),
            ("Flatten",),
            ("MatMul", numbers(40, 2)),
            ("Add", numbers(2)),
        )
    )
    kinds = [type(node) for node in graph.nodes if type(node).__name__ != "Reshape"]
    assert kinds == [Conv1d, BatchNorm, Relu, LeakyRelu, Dense]
    assert graph.nodes[0].bias.shape == (4,) and graph.nodes[0].bias.any()


def test_names(onnx_model) -> None:
    model = onnx_model(
        ("Conv", CONV), ("Relu",), ("Conv", numbers(2, 4, 1)), ("Relu",), ("Flatten",), ("Gemm", numbers(20, 2))
    )
    for old, new in (("c0_0", "features.conv1.weight"), ("c5_0", "1.weight")):
        for tensor in model.graph.initializer:
            tensor.name = new if tensor.name == old else tensor.name
        for node in model.graph.node:
            node.input[:] = [new if name == old else name for name in node.input]
    names = ["", "sequential_1/a b/Relu", "/é%/2nd/Conv", "sequential_1/a b/Relu", "", "x" * 300]
    for node, name in zip(model.graph.node, names, strict=False):
        node.name = name
    graph = import_onnx(model.SerializeToString(), **BOX)
    assert [node.name for node in graph.nodes] == [
        "features.conv1", "a_b", "conv__.2nd", "a_b.Relu", "gemm_1_flatten", "gemm_1"
    ]  # fmt: skip
    assert graph.name == "made"


def test_the_chosen_name_the_file_s_and_the_graph_s(onnx_model, tmp_path) -> None:
    data = onnx_model(("Relu",)).SerializeToString()
    path = tmp_path / "my 1st model.onnx"
    path.write_bytes(data)
    assert import_onnx(data, **BOX).name == "made"
    assert import_onnx(path, **BOX).name == import_onnx(str(path), **BOX).name == "my_1st_model"
    assert import_onnx(path, name="chosen", **BOX).name == "chosen"


def test_what_the_output_does_not_need_is_passed_over(onnx_model) -> None:
    model = onnx_model(("Relu",))
    model.graph.node.insert(1, helper.make_node("Tanh", ["v0"], ["unused"]))
    check(model)


def test_labels_features_and_box(onnx_model) -> None:
    data = onnx_model(("Flatten",), ("Gemm", numbers(40, 2)), shape=(40,)).SerializeToString()
    graph = import_onnx(data, labels=["calm", "angry"], features="mfcc40-mean")
    assert graph.labels == ("calm", "angry") and graph.features == "mfcc40-mean"
    assert len(graph.input_low) == len(graph.input_high) == 40
    narrow = import_onnx(data, features="mfcc40-mean", input_low=-1, input_high=range(1, 41))
    assert narrow.input_low == (-1.0,) and narrow.input_high[39] == 40.0


def test_features_of_a_model_that_takes_time_first(onnx_model) -> None:
    """Keras: (151, 40). The graph takes the feature set's (40, 151), and the transposition is its first layer."""
    model = onnx_model(
        ("Transpose", {"perm": [0, 2, 1]}), ("Conv", numbers(2, 40, 3)), ("GlobalMaxPool",), shape=(151, 40)
    )
    graph = import_onnx(model.SerializeToString(), features="mfcc40-frames151")
    x = numbers(2, 40, 151)
    expected = run(model, np.ascontiguousarray(x.transpose(0, 2, 1)))
    assert graph.input_shape == (40, 151) and not any(isinstance(node, Transpose) for node in graph.nodes)
    assert np.max(np.abs(evaluate(graph, x) - expected)) < BOUND
