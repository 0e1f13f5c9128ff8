"""What cannot be imported: each refusal names the node or the layer, and what would work."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper
from tests.models.onnx.conftest import BOX, ints, ones, refused

from sottovoce.engine.errors import ConfigError, ModelError
from sottovoce.models.onnx import import_onnx, read_metadata
from sottovoce.models.onnx.call import BY_ROWS
from sottovoce.models.onnx.refusals import WORKS_INSTEAD
from sottovoce.models.onnx.walk import ON_DATA

LAYERS = {
    "conv over two axes": ([("Reshape", ints(0, 3, 4, 3)), ("Conv", ones(2, 3, 2, 2))], "Conv1d"),
    "conv of other channels": ([("Conv", ones(2, 4, 3))], "4 channels"),
    "conv longer than time": ([("Conv", ones(2, 3, 13))], "13 padded positions"),
    "conv of rank 1": ([("Flatten",), ("Conv", ones(2, 36))], "channels, time"),
    "conv, kernel_shape": ([("Conv", ones(2, 3, 3), {"kernel_shape": [2]})], "kernel_shape"),
    "conv, auto_pad": ([("Conv", ones(2, 3, 3), {"auto_pad": "SAME"})], "SAME_UPPER"),
    "conv, pads": ([("Conv", ones(2, 3, 3), {"pads": [1]})], "pads"),
    "conv, stride 0": ([("Conv", ones(2, 3, 3), {"strides": [0]})], "at least 1"),
    "conv, negative pads": ([("Conv", ones(2, 3, 3), {"pads": [-1, 0]})], "paddings"),
    "conv, wide pads": ([("Conv", ones(2, 3, 3), {"pads": [3, 0]})], "two paddings from 0 to 2"),
    "conv, groups": ([("Conv", ones(2, 3, 3), {"group": 2})], "groups"),
    "conv, integer weights": ([("Conv", np.ones((2, 3, 3), np.int32))], "floating-point"),
    "conv on a part": ([("Slice", ints(2), ints(9), ints(2)), ("Conv", ones(2, 3, 3))], "slice only before a dense"),
    "conv on a shuffle": (
        [("Reshape", ints(0, 3, 2, 6)), ("Transpose", {"perm": [0, 2, 1, 3]}), ("Reshape", ints(0, 6, 6)), ("Conv", ones(2, 6, 3))],  # noqa: E501
        "one transposition",
    ),
    "gemm before flatten": ([("Gemm", ones(12, 2))], "flatten before it"),
    "gemm, transA": ([("Flatten",), ("Gemm", ones(36, 2), {"transA": 1})], "transA"),
    "gemm, bias": ([("Flatten",), ("Gemm", ones(36, 2), ones(3))], "bias"),
    "matmul of other size": ([("MatMul", ones(3, 2))], "last axis"),
    "matmul, constant first": ([("MatMul", ones(2, 12), {"swap": True})], "channels, time"),
    "batch norm, sizes": ([("BatchNormalization", *[ones(4)] * 4)], "statistics"),
    "batch norm, variance": ([("BatchNormalization", ones(3), ones(3), ones(3), -ones(3))], "variances above 0"),
    "batch norm, training": ([("BatchNormalization", *[ones(3)] * 4, {"training_mode": 1})], r"model\.eval"),
    "reshape to data": ([("Reshape",)], "got none"),
    "pool, dilation": ([("MaxPool", {"kernel_shape": [2], "dilations": [2]})], "no gaps"),
    "pool without kernel": ([("MaxPool",)], "kernel_shape"),
    "pool, two axes": ([("Reshape", ints(0, 3, 4, 3)), ("MaxPool", {"kernel_shape": [2, 2]})], "over time only"),
    "pool longer than time": ([("MaxPool", {"kernel_shape": [13]})], "13 padded positions"),
    "pool of padding": ([("AveragePool", {"kernel_shape": [2], "pads": [2, 0]})], "nothing but padding"),
    "max of a pad": ([("Pad", ints(0, 0, 1, 0, 0, 0)), ("MaxPool", {"kernel_shape": [2]})], "padding of its own"),
    "mean of a pad": ([("Pad", ints(0, 0, 1, 0, 0, 0)), ("ReduceMean", ints(2))], "leave the Pad out"),
    "reduce the batch": ([("ReduceMean", ints(0))], "every clip stands for itself"),
    "reduce all": ([("ReduceMean",)], "name the axes"),
    "reduce, axis": ([("ReduceMean", ints(3))], "axes of a tensor of 3 dimensions"),
    "reduce, axis twice": ([("ReduceMean", ints(1, -2))], "different axes"),
    "add to a pad": ([("Pad", ints(0, 0, 1, 0, 0, 0)), ("Add", ones(1)), ("Conv", ones(2, 3, 2))], "adds to the padding"),  # noqa: E501
    "add what is too large": ([("Add", ones(2, 3, 12))], "broadcasts"),
    "add of more axes": ([("Add", ones(1, 1, 3, 12))], "at most 3 dimensions"),
    "matmul of more axes": ([("Flatten",), ("MatMul", ones(1, 36, 2))], "last axis"),
    "divide by data": ([("Div", ones(1), {"swap": True})], "BatchNorm"),
    "divide by zero": ([("Div", np.zeros(1, np.float32))], "finite real weights"),
    "power": ([("Pow", np.full(1, 2, np.float32))], "ReLU"),
    "prelu": ([("PRelu", np.asarray([[1], [2], [3]], np.float32))], "one slope"),
    "relu6": ([("Clip", np.float32(0), np.float32(6))], "ReLU6"),
    "max with 1": ([("Max", ones(1))], "maximum with 0"),
    "nan": ([("Conv", np.full((2, 3, 3), np.nan, np.float32))], "finite real weights"),
    "infinite shift": ([("Flatten",), ("MatMul", ones(36, 2)), ("Add", np.full(2, np.inf, np.float32))], "finite"),
    "softmax in the middle": ([("Flatten",), ("Softmax",), ("Gemm", ones(36, 2))], r"Softmax \(node 2\)"),
    "softmax over time": ([("Softmax",)], "one logit per label"),
    "argmax over time": ([("ArgMax", {"axis": 2})], "one logit per label"),
    "sigmoid in the middle": ([("Sigmoid",), ("Conv", ones(2, 3, 3))], "inside a model use ReLU"),
    "one sigmoid": ([("Flatten",), ("Gemm", ones(36, 1)), ("Sigmoid",)], "two outputs and Softmax"),
    "dropout in training": ([("Dropout", np.float32(0.5), np.asarray(True))], r"model\.eval"),
    "cast to integers": ([("Cast", {"to": TensorProto.INT64}), ("Relu",)], "keep the model in floating point"),
    "batch moved": ([("Transpose", {"perm": [1, 0, 2]}), ("Relu",)], "batch axis"),
    "batch reshaped": ([("Reshape", ints(1, -1)), ("Relu",)], "dynamic batch axis"),
    "batch squeezed": ([("Squeeze", ints(0))], "batch axis"),
    "batch unsqueezed": ([("Unsqueeze", ints(0))], "batch axis"),
    "batch sliced": ([("Slice", ints(0), ints(1), ints(0))], "batch axis"),
    "batch picked": ([("Gather", ints(0), {"axis": 0})], "batch axis"),
    "batch flattened": ([("Flatten", {"axis": 2})], "batch axis"),
    "batch kept joined": ([("Reshape", ints(-1, 6)), ("Unsqueeze", ints(1))], "batch axis is joined"),
    "reshape, size": ([("Reshape", ints(0, 5, 7))], "36 elements"),
    "squeeze, size": ([("Squeeze", ints(1))], "size 1"),
    "slice of nothing": ([("Slice", ints(3), ints(3), ints(2))], "keeps nothing"),
    "pick outside": ([("Gather", ints(12), {"axis": 2})], "outside"),
    "expand": ([("Expand", ints(1, 3, 24))], "repeats data"),
    "pad, reflect": ([("Pad", ints(0, 0, 1, 0, 0, 1), {"mode": "reflect"})], "zeros"),
    "pad with ones": ([("Pad", ints(0, 0, 1, 0, 0, 1), np.float32(1))], "zeros"),
    "pad, negative": ([("Pad", ints(0, 0, -1, 0, 0, 0))], "paddings >= 0"),
    "a foreign domain": ([("Relu", {"domain": "com.example"})], "custom operators"),
    "an unknown operator": ([("Frobnicate",)], "A model may hold"),
    "attribute of another type": ([("LeakyRelu", {"alpha": 1})], "another type"),
}  # fmt: skip


@pytest.mark.parametrize(("steps", "match"), LAYERS.values(), ids=LAYERS.keys())
def test_layers(onnx_model, steps, match: str) -> None:
    message = refused(onnx_model(*steps, flat=False), match)
    assert "node" in message or "layer" in message


@pytest.mark.parametrize("op", WORKS_INSTEAD)
def test_every_row_of_the_table_is_said(onnx_model, op: str) -> None:
    message = refused(onnx_model(("Relu",), (op,)), "^ONNX node 2, ")
    assert op in message and "'relu0'" in message and message.endswith(WORKS_INSTEAD[op])


def test_the_table_and_the_handlers_do_not_overlap() -> None:
    assert not set(WORKS_INSTEAD) & set(ON_DATA)
    assert set(ON_DATA) >= BY_ROWS


def test_the_operator_behind_a_layout_is_the_reason(onnx_model) -> None:
    refused(
        onnx_model(("Conv", ones(2, 3, 3)), ("Transpose", {"perm": [2, 0, 1]}), ("LSTM",)),
        r"node 3, LSTM.*'conv0'.*recurrent",
    )


def test_branches(onnx_model) -> None:
    model = onnx_model(("Relu",), ("Relu",), ("Add", ones(1)))
    model.graph.node[2].input[1] = "v0"
    refused(model, r"joins two tensors.*skip connections")
    model = onnx_model(("Relu",), ("Relu",), ("Concat", {"axis": 2}))
    model.graph.node[2].input.append("v0")
    refused(model, r"node 3.*used already.*skip connections")
    model = onnx_model(("Relu",), ("MatMul", ones(12, 2)))
    model.graph.node[1].input[1] = "v0"
    refused(model, r"input 1, got a tensor that depends on the clip.*attention")


def test_a_merged_affine_is_a_new_tensor(onnx_model) -> None:
    """x + 1, then 2 (x + 1) beside it: the first is gone, though no node was added."""
    model = onnx_model(("Add", ones(1)), ("Mul", ones(1) * 2), ("Relu",))
    model.graph.node[2].input[0] = "v0"
    model.graph.output[0].name = "y"
    model.graph.node[3].input[0] = "v2"
    model.graph.node.insert(2, helper.make_node("Identity", ["v1"], ["kept"]))
    model.graph.node[3].input.append("kept")
    refused(model, "used already")


def test_the_output(onnx_model) -> None:
    refused(onnx_model(("Relu",), flat=False), "one logit per label.*Linear layer")
    refused(onnx_model(("Reshape", ints(-1, 6)), ("MatMul", ones(6, 2)), flat=False), "one logit per label")
    refused(onnx_model(("Relu",), shape=(2, 600)), "at most 1024 logits")
    model = onnx_model(("Relu",))
    model.graph.output[0].name = "v0"
    model.graph.node[1].output[0] = "v0"
    refused(model, "made once, got twice")


def test_inputs_and_outputs_are_named(onnx_model) -> None:
    model = onnx_model(("Relu",))
    model.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, [1]))
    model.graph.output.append(helper.make_tensor_value_info("hidden", TensorProto.FLOAT, None))
    refused(model, r"inputs \['x', 'mask'\] and outputs \['y', 'hidden'\]")


@pytest.mark.parametrize(
    ("shape", "match"),
    [((3, "time"), "fixed channels and time"), ((), "clips"), ((4, 5, 6), "2-D"), ((0, 5), "got"), ((1 << 62, 5), "got"), ([2] * 70, "got")],  # noqa: E501
)  # fmt: skip
def test_the_input(onnx_model, shape, match: str) -> None:
    refused(onnx_model(("Relu",), shape=shape), match)


def test_the_type_of_the_input(onnx_model) -> None:
    model = onnx_model(("Relu",))
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT64
    refused(model, "floating-point features, got INT64")


@pytest.mark.parametrize("versions", [[6], [99], [], [18, 18], [-1]])
def test_operator_sets(onnx_model, versions: list[int]) -> None:
    model = onnx_model(("Relu",))
    del model.opset_import[:]
    model.opset_import.extend(helper.make_opsetid("", version) for version in versions)
    refused(model, "operators of one version")


def test_labels_features_and_box(onnx_model) -> None:
    data = onnx_model(("Relu",), shape=(40,)).SerializeToString()
    with pytest.raises(ModelError, match=r"pass features=.*mfcc40-mean.*input_low="):
        import_onnx(data)
    with pytest.raises(ModelError, match="both input_low and input_high"):
        import_onnx(data, input_low=0)
    with pytest.raises(ModelError, match=r"spectral162-mean.*got \(1, 40\)"):
        import_onnx(data, features="spectral162-mean")
    with pytest.raises(ConfigError, match="mfcc40-mean"):
        import_onnx(data, features="mfcc41", **BOX)
    with pytest.raises(ModelError, match="2 labels"):
        import_onnx(data, labels=["a", "b"], **BOX)
    with pytest.raises(ModelError, match="sequence of texts"):
        import_onnx(data, labels="ab", **BOX)
    with pytest.raises(ModelError, match="input box"):
        import_onnx(data, input_low="low", input_high=1)
    with pytest.raises(ModelError, match="low <= high"):
        import_onnx(data, input_low=2, input_high=1)


@pytest.mark.parametrize(
    ("key", "value"),
    [("labels", "angry,calm"), ("labels", "[1]"), ("box", '{"low": [1]}'), ("features", "[" * 9999), ("input_shape", "[1]")],  # noqa: E501
)  # fmt: skip
def test_metadata_of_another_make(onnx_model, key: str, value: str) -> None:
    model = onnx_model(("Relu",))
    model.metadata_props.add(key=key, value=value)  # of another program
    import_onnx(model.SerializeToString(), **BOX)
    model.metadata_props[0].key = f"sottovoce.{key}"
    refused(model, f"metadata 'sottovoce.{key}'")
    with pytest.raises(ModelError, match=f"metadata 'sottovoce.{key}'"):
        read_metadata(model.SerializeToString())
