"""Models that an importer may easily get wrong: refused, or equal to onnxruntime. Each was once imported wrongly."""

from __future__ import annotations

import tracemalloc

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.models.onnx.conftest import BOX, MakeOnnx, ints, make_model, refused
from tests.models.onnx.test_import import check, numbers

from sottovoce.models.onnx import import_onnx


def with_constant(
    *nodes: onnx.NodeProto, op: str = "Add", shape: tuple[int, ...] = (3, 12), **tensors: np.ndarray
) -> onnx.ModelProto:
    """x, `op`, and the constant "k" that `nodes` compute from x's shape and from `tensors`."""
    graph = helper.make_graph(
        [*nodes, helper.make_node(op, ["x", "k"], ["v"]), helper.make_node("Flatten", ["v"], ["y"])],
        "made",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["clips", *shape])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(values), name) for name, values in tensors.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


BATCH = (helper.make_node("Shape", ["x"], ["s"]), helper.make_node("Gather", ["s", "zero"], ["n"], axis=0))
ZERO = np.int64(0)


def test_the_number_of_clips_is_no_number_to_compute_with() -> None:
    as_real = helper.make_node("Cast", ["n"], ["k"], to=TensorProto.FLOAT)
    refused(with_constant(*BATCH, as_real, op="Mul", zero=ZERO).SerializeToString(), "size of the batch")
    steps = helper.make_node("Range", ["zero", "n", "one"], ["r"])
    counted = helper.make_node("Cast", ["r"], ["k"], to=TensorProto.FLOAT)
    refused(with_constant(*BATCH, steps, counted, zero=ZERO, one=np.int64(1)).SerializeToString(), "size of the batch")


def test_a_slice_that_starts_at_the_number_of_clips_is_refused() -> None:
    model = with_constant(*BATCH[:1], helper.make_node("Gather", ["s", "zero"], ["k"], axis=0), zero=ints(0))
    for tensor in (numpy_helper.from_array(ints(99), "end"), numpy_helper.from_array(ints(2), "axis")):
        model.graph.initializer.append(tensor)
    model.graph.node[2].CopyFrom(helper.make_node("Slice", ["x", "k", "end", "axis"], ["v"]))
    refused(model, "size of the batch")


@pytest.mark.parametrize("op", ["Max", "Min"])
def test_the_largest_of_three_constants(op: str) -> None:
    low = helper.make_node("Neg", ["a"], ["b"])
    high = helper.make_node("Mul", ["a", "a"], ["c"])
    made = helper.make_node(op, ["a", "b", "c"], ["k"])
    check(with_constant(low, high, made, a=numbers(12) * 3))


@pytest.mark.parametrize("start", [-40, -12, -1, 5])
def test_a_constant_that_is_cut_backwards(start: int) -> None:
    cut = helper.make_node("Slice", ["a", "from", "to", "axis", "step"], ["b"])
    joined = helper.make_node("Concat", ["b", "a"], ["c"], axis=0)
    first = helper.make_node("Slice", ["c", "zero", "count"], ["k"])
    tensors = {"from": ints(start), "to": ints(-(1 << 62)), "axis": ints(0), "step": ints(-1)}
    check(with_constant(cut, joined, first, a=numbers(12), zero=ints(0), count=ints(12), **tensors))


def test_integers_stay_integers() -> None:
    power = helper.make_node("Pow", ["a", "one"], ["p"])
    half = helper.make_node("Div", ["p", "two"], ["h"])
    real = helper.make_node("Cast", ["h"], ["k"], to=TensorProto.FLOAT)
    check(with_constant(power, half, real, a=ints(*range(-5, 7)), one=np.int64(1), two=np.int64(2)))


def test_a_cast_that_does_not_hold_its_input_is_refused() -> None:
    small = helper.make_node("Cast", ["a"], ["b"], to=TensorProto.UINT8)
    real = helper.make_node("Cast", ["b"], ["k"], to=TensorProto.FLOAT)
    check(with_constant(small, real, a=ints(*range(12))))
    refused(with_constant(small, real, a=ints(*range(246, 258))), "can hold its input")
    refused(with_constant(small, real, a=np.full(12, np.nan, np.float32)), "can hold its input")


def test_expand_to_the_batch_s_size_along_another_axis_is_refused() -> None:
    refused(make_model(("Expand", ints(2, 1, 8)), shape=(1, 3, 8), batch=2), "repeats data")


def test_slopes_that_make_the_data_larger_are_refused(onnx_model: MakeOnnx) -> None:
    slopes = np.full((1, 10), 0.2, dtype=np.float32)
    refused(onnx_model(("PRelu", slopes), shape=(10, 1)), "slopes that broadcast")
    refused(onnx_model(("Pow", np.ones((1, 1, 1, 1), np.float32))), "powers")


@pytest.mark.parametrize("op", ["AveragePool", "MaxPool"])
def test_same_padding_of_a_pool_that_leaps_over_data_is_refused(onnx_model: MakeOnnx, op: str) -> None:
    attributes = {"auto_pad": "SAME_UPPER", "kernel_shape": [1], "strides": [3]}
    refused(onnx_model((op, attributes)), "name the pads")
    check(onnx_model((op, {**attributes, "kernel_shape": [3]})))


def test_rounded_probabilities_are_refused(onnx_model: MakeOnnx) -> None:
    steps = [("Flatten",), ("Softmax", {"axis": 1}), ("Cast", {"to": TensorProto.INT64})]
    refused(onnx_model(*steps, integers=True), "rounds the data")


def test_nothing_but_padding_is_refused(onnx_model: MakeOnnx) -> None:
    steps = [("Pad", ints(0, 0, 0, 0, 0, 1)), ("Slice", ints(1), ints(2), ints(2))]
    refused(onnx_model(*steps, shape=(1, 1)), "one logit per label")


def test_a_file_that_defines_standard_operators_anew_is_refused(onnx_model: MakeOnnx) -> None:
    model = onnx_model(("Relu",))
    body = [helper.make_node("Neg", ["a"], ["b"])]
    model.functions.append(helper.make_function("", "Relu", ["a"], ["b"], body, [helper.make_opsetid("", 18)]))
    refused(model, "standard operators anew")


def test_a_tensor_that_nobody_reads_any_more_takes_no_memory(onnx_model: MakeOnnx) -> None:
    width, layers = 1 << 14, 150
    steps = [("Conv", np.ones((1, 1, 1), np.float32))] * layers
    data = onnx_model(*steps, ("GlobalMaxPool",), shape=(1, width)).SerializeToString()
    tracemalloc.start()
    try:
        import_onnx(data, **BOX)
        assert tracemalloc.get_traced_memory()[1] < layers * width  # bytes: a quarter of all views
    finally:
        tracemalloc.stop()
