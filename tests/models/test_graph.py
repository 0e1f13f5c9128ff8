"""The IR: shapes, refusals, and evaluate against direct formulas."""

from __future__ import annotations

import numpy as np
import pytest

from sottovoce.engine.errors import ModelError
from sottovoce.models.evaluate import evaluate, evaluate_node
from sottovoce.models.graph import (
    Affine,
    AvgPool,
    BatchNorm,
    Conv1d,
    Dense,
    Graph,
    Identity,
    LeakyRelu,
    MaxPool,
    Relu,
    Reshape,
    SumPool,
    Transpose,
    output_shape,
    same_padding,
)

LABELS = ("a", "b")


def tiny(*nodes, shape=(1, 4), low=(-1.0,), high=(1.0,)) -> Graph:
    return Graph("tiny", shape, nodes, LABELS, low, high)


def dense(name: str = "out", inputs: int = 4) -> Dense:
    return Dense(name, np.ones((2, inputs)), np.zeros(2))


def slow_conv(node: Conv1d, x: np.ndarray) -> np.ndarray:
    """The definition, one product at a time."""
    c_out, c_group, kernel = node.weight.shape
    _, time = output_shape(node, x.shape[1:])
    bias = np.broadcast_to(node.bias[:, None] if node.bias.ndim == 1 else node.bias, (c_out, time))
    out = np.zeros((len(x), c_out, time))
    for b, o, t in np.ndindex(out.shape):
        total = bias[o, t]
        for c, k in np.ndindex(c_group, kernel):
            source = t * node.stride + k * node.dilation - node.padding[0]
            if 0 <= source < x.shape[2]:
                total += node.weight[o, c, k] * x[b, o // (c_out // node.groups) * c_group + c, source]
        out[b, o, t] = total
    return out


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize(("padding", "dilation"), [((0, 0), 1), ((1, 3), 2), ((2, 2), 1), ((0, 1), 2)])
@pytest.mark.parametrize("groups", [1, 2])
def test_conv_is_the_definition(rng, stride, padding, dilation, groups):
    weight = rng.normal(size=(4, 6 // groups, 3))
    node = Conv1d("c", weight, rng.normal(size=4), stride, padding, dilation, groups)
    x = rng.normal(size=(2, 6, 11))
    np.testing.assert_allclose(evaluate_node(node, x), slow_conv(node, x), rtol=0, atol=1e-12)


def test_conv_bias_may_depend_on_the_position(rng):
    node = Conv1d("c", rng.normal(size=(2, 1, 3)), rng.normal(size=(2, 5)), padding=(1, 1))
    x = rng.normal(size=(1, 1, 5))
    np.testing.assert_allclose(evaluate_node(node, x), slow_conv(node, x), rtol=0, atol=1e-12)


def test_pools_by_hand():
    x = np.array([[[-1.0, -2.0, -3.0, -4.0, -5.0]]])
    assert evaluate_node(MaxPool("m", 3, 2, (1, 1)), x).tolist() == [[[-1, -2, -4]]]  # padding left out, not 0
    assert evaluate_node(AvgPool("a", 4, 2, (1, 0)), x).tolist() == [[[-6 / 4, -14 / 4]]]  # padding counts as 0
    assert evaluate_node(SumPool("s", 2, 3, (0, 0), 2), x).tolist() == [[[-1.5, -4.5]]]


def test_leaky_relu_and_transpose_by_hand():
    x = np.array([[[1.0, -2.0, 0.0], [-3.0, 4.0, -0.5]]])
    assert evaluate_node(LeakyRelu("l", 0.5), x).tolist() == [[[1, -1, 0], [-1.5, 4, -0.25]]]
    assert evaluate_node(LeakyRelu("l", -2.0), x).tolist() == [[[1, 4, 0], [6, 4, 1]]]
    assert evaluate_node(Transpose("t"), x).tolist() == [[[1, -3], [-2, 4], [0, -0.5]]]
    assert output_shape(Transpose("t"), (2, 3)) == (3, 2)


def test_elementwise_nodes_by_hand():
    x = np.array([[[1.0, -2.0], [3.0, 4.0]]])
    norm = BatchNorm(
        "b", np.array([1.0, 0.0]), np.array([3.0, 0.0]), np.array([2.0, 1.0]), np.array([0.0, 5.0]), eps=1.0
    )
    assert evaluate_node(norm, x).tolist() == [[[0, -3], [8, 9]]]
    assert evaluate_node(Affine("a", np.array([[2.0], [1.0]]), np.array([[1.0, 0.0]])), x).tolist() == [
        [[3, -4], [4, 4]]
    ]
    assert evaluate_node(Relu("r"), x).tolist() == [[[1, 0], [3, 4]]]
    assert evaluate_node(Reshape("f"), x).tolist() == [[1, -2, 3, 4]]
    assert evaluate_node(Identity("i"), x).tolist() == x.tolist()


def test_evaluate_stays_in_its_dtype(random_graph, box_inputs, rng):
    graph = random_graph(3)
    x = box_inputs(graph, rng, 4)
    single, double = evaluate(graph, x, np.float32), evaluate(graph, x)
    assert (single.dtype, double.dtype) == (np.float32, np.float64)
    np.testing.assert_allclose(single, double, rtol=1e-3, atol=1e-3 * abs(double).max())


@pytest.mark.parametrize("kernel", [1, 2, 4, 5])
@pytest.mark.parametrize("dilation", [1, 2])
def test_same_padding_keeps_the_length(kernel, dilation):
    node = Conv1d("c", np.ones((1, 1, kernel)), np.zeros(1), padding=same_padding(kernel, dilation), dilation=dilation)
    assert output_shape(node, (1, 9)) == (1, 9)


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ((dense(inputs=4),), r"layer 'out': expected \(4,\) values"),
        ((Reshape("f"), dense(inputs=5)), r"layer 'out': expected \(5,\) values .*got \(4,\)"),
        ((Conv1d("c", np.ones((1, 2, 1)), np.zeros(1)), Reshape("f"), dense()), "layer 'c': expected 2 channels"),
        ((Conv1d("c", np.ones((1, 1, 5)), np.zeros(1)), Reshape("f"), dense()), "layer 'c': expected at least 5"),
        ((Conv1d("c", np.ones((2, 1, 1)), np.zeros(3)), Reshape("f"), dense()), "layer 'c': expected bias"),
        ((Conv1d("c", np.ones((1, 1, 1)), np.zeros(1), groups=2), Reshape("f"), dense()), "layer 'c': expected groups"),
        ((Conv1d("c", np.ones((1, 1, 2)), np.zeros(1), padding=(2, 0)), Reshape("f"), dense()), "layer 'c': .*padding"),
        ((Conv1d("c", np.ones((1, 1, 1)), np.zeros(1), stride=0), Reshape("f"), dense()), "layer 'c': .*stride"),
        ((MaxPool("m", 2, 1, (0, 2)), Reshape("f"), dense()), "layer 'm': .*padding"),
        ((SumPool("s", 2, 2, (0, 0), 0), Reshape("f"), dense()), "layer 's': expected a divisor >= 1"),
        ((LeakyRelu("l", float("nan")), Reshape("f"), dense()), "layer 'l': expected a finite slope"),
        ((Reshape("f"), Transpose("t"), dense()), r"layer 't': expected \(channels, time\)"),
        ((Reshape("f", (3,)), dense()), "layer 'f': expected 4 elements"),
        ((Reshape("f"), MaxPool("m", 2, 2), dense()), r"layer 'm': expected \(channels, time\)"),
        ((Reshape("f"), Dense("d", np.full((2, 4), np.nan), np.zeros(2))), "layer 'd': expected finite"),
        ((Affine("a", np.ones(3), np.zeros(1)), Reshape("f"), dense()), "layer 'a': expected numbers broadcastable"),
        ((Reshape("x"), dense("x")), "more than once"),
        ((Reshape("f"), Dense("d", np.ones((3, 4)), np.zeros(3))), "expected one logit for each of 2 labels"),
    ],
)
def test_a_wrong_model_is_refused_by_layer(nodes, words):
    with pytest.raises(ModelError, match=words):
        tiny(*nodes)


@pytest.mark.parametrize(
    ("low", "high"), [((1.0,), (0.0,)), ((0.0,), (float("inf"),)), ((float("nan"),), (1.0,)), ((0.0, 0.0), (1.0,))]
)
def test_a_wrong_box_is_refused(low, high):
    with pytest.raises(ModelError, match="input box"):
        tiny(Reshape("f"), dense(), low=low, high=high)


def test_weights_are_not_shown():
    graph = tiny(Reshape("f"), Dense("d", np.full((2, 4), 0.123456), np.full(2, 0.654321)))
    assert "0.12" not in repr(graph) and "0.65" not in repr(graph)
