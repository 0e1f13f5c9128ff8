"""Every rewrite leaves the logits what they were, and does what its name says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from sottovoce.models.compiler import rewrites
from sottovoce.models.evaluate import evaluate
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
)

SHAPE = (2, 12)


@pytest.fixture
def model(rng):
    """Nodes in the middle -> a graph that ends in flatten and dense, and a check that logits did not change."""

    def make(*nodes) -> Graph:
        shape = SHAPE
        for node in nodes:
            shape = output_shape(node, shape)
        tail = ()
        if len(shape) == 2:
            tail, shape = (Reshape("flatten"),), (shape[0] * shape[1],)
        tail += (Dense("out", rng.normal(size=(3, shape[0])), rng.normal(size=3)),)
        return Graph("m", SHAPE, (*nodes, *tail), ("a", "b", "c"), (-3.0,), (3.0,))

    return make


def conv(rng, name="conv", padding=(2, 1), **options) -> Conv1d:
    return Conv1d(
        name, rng.normal(size=(4, 2 // options.get("groups", 1), 3)), rng.normal(size=4), 1, padding, **options
    )


def norm(rng, name="norm", channels=4, sign=1.0) -> BatchNorm:
    values = rng.normal(size=(2, channels))
    return BatchNorm(name, values[0], rng.uniform(0.5, 2, channels), sign * rng.uniform(0.5, 2, channels), values[1])


def same(rng, before: Graph, after: Graph) -> None:
    x = rng.normal(size=(5, *SHAPE))
    np.testing.assert_allclose(evaluate(after, x), evaluate(before, x), rtol=0, atol=1e-9)


def kinds(graph: Graph) -> list[str]:
    return [type(node).__name__ for node in graph.nodes]


def test_dropout_goes(model, rng):
    before = model(Identity("drop"), conv(rng), Identity("drop2"))
    after = rewrites.drop_identity(before)
    assert "Identity" not in kinds(after)
    same(rng, before, after)


def test_batchnorm_becomes_affine(model, rng):
    before = model(conv(rng), norm(rng))
    after = rewrites.batchnorm_to_affine(before)
    assert "BatchNorm" not in kinds(after) and "Affine" in kinds(after)
    same(rng, before, after)


@pytest.mark.parametrize("shift", [(4, 1), (4, 13), (1, 13), (13,)])
def test_affine_folds_into_the_convolution_before_it(model, rng, shift):
    before = model(conv(rng), Affine("scale", rng.normal(size=(4, 1)), rng.normal(size=shift)))
    after = rewrites.fold_affine_back(before)
    assert kinds(after) == ["Conv1d", "Reshape", "Dense"]
    same(rng, before, after)


def test_affine_folds_into_the_dense_layer_before_it(model, rng):
    hidden = Dense("hidden", rng.normal(size=(5, 24)), rng.normal(size=5))
    before = model(Reshape("f"), hidden, Affine("scale", rng.normal(size=5), rng.normal(size=1)), Relu("r"))
    after = rewrites.fold_affine_back(before)
    assert kinds(after) == ["Reshape", "Dense", "Relu", "Dense"]
    same(rng, before, after)


@pytest.mark.parametrize("options", [{}, {"groups": 2}, {"dilation": 2}, {"padding": (0, 0)}])
@pytest.mark.parametrize("shift", [(2, 1), (2, 12)])
def test_standardisation_folds_into_the_convolution_after_it(model, rng, options, shift):
    """Exactly also at the padded edges, where the shift does not reach the padding."""
    before = model(Affine("std", rng.uniform(0.5, 2, (2, 1)), rng.normal(size=shift)), conv(rng, **options))
    after = rewrites.fold_affine_forward(before)
    assert kinds(after) == ["Conv1d", "Reshape", "Dense"]
    same(rng, before, after)
    depends_on_position = "padding" not in options or shift != (2, 1)
    assert (after.nodes[0].bias.shape[1] > 1) == depends_on_position


@pytest.mark.parametrize("pool", [AvgPool("p", 3, 2, (1, 2)), MaxPool("p", 3, 2, (1, 2))])
def test_affine_moves_over_a_pool_and_a_reshape_to_the_next_linear_layer(model, rng, pool):
    before = rewrites.batchnorm_to_affine(model(conv(rng), Relu("r"), norm(rng), pool))
    after = rewrites.fold_affine_forward(before)
    assert "Affine" not in kinds(after)
    same(rng, before, after)


def test_a_negative_factor_does_not_move_over_a_maximum(model, rng):
    before = model(conv(rng), Relu("r"), norm(rng, sign=-1.0), MaxPool("p", 2, 2))
    after, applied = rewrites.rewrite(before)
    assert kinds(after)[:4] == ["Conv1d", "Relu", "Conv1d", "MaxPool"]
    assert after.nodes[2].groups == 4 and after.nodes[2].weight.shape == (4, 1, 1)
    assert "an affine map that no layer absorbs becomes a depthwise convolution" in applied
    same(rng, before, after)


def test_a_factor_that_changes_along_time_has_a_channel_for_each_position(model, rng):
    before = model(Affine("std", rng.normal(size=(2, 12)), rng.normal(size=12)), conv(rng))
    after, _ = rewrites.rewrite(before)
    assert kinds(after)[:4] == ["Reshape", "Conv1d", "Reshape", "Conv1d"]
    assert after.nodes[1].groups == 24 and after.shapes[1:4] == ((24, 1), (24, 1), (2, 12))
    same(rng, before, after)


@pytest.mark.parametrize("nodes", [0, 1, 2])
def test_a_last_affine_map_is_a_layer(rng, nodes):
    """Alone, behind an activation, and behind a layer that takes it in."""
    dense = Dense("d", rng.normal(size=(24, 24)), rng.normal(size=24))
    head = ((), (LeakyRelu("r", -0.5),), (dense,))[nodes]
    affine = Affine("a", rng.normal(size=24), rng.normal(size=24))
    before = Graph("m", SHAPE, (Reshape("f"), *head, affine), tuple(map(str, range(24))), (-3.0,), (3.0,))
    after, _ = rewrites.rewrite(before)
    assert [isinstance(n, Conv1d) and n.groups == 24 for n in after.nodes].count(True) == (nodes < 2)
    assert Affine not in map(type, after.nodes)
    same(rng, before, after)


def test_a_long_name_leaves_room_for_what_is_put_beside_it(model, rng):
    before = model(Affine("a" * 64, rng.normal(size=(2, 12)), np.zeros(1)), conv(rng))
    after, _ = rewrites.rewrite(before)
    assert max(len(node.name) for node in after.nodes) == 64


def test_layers_that_are_put_in_get_new_names(rng):
    """Long names that are the same but for their ends, and a layer that has the name already."""
    long = "a" * 63
    maps = [Affine(name, rng.normal(size=SHAPE), np.zeros(1)) for name in (f"{long}x", f"{long}y", f"{long[:-2]}.in")]
    many = tuple(node for i, m in enumerate(maps) for node in (m, LeakyRelu(f"r{i}", 0.5)))
    for nodes, classes in ((many, 24), ((AvgPool("p", 3, 3), Relu("p.mean")), 8)):
        labels = tuple(f"class {i}" for i in range(classes))
        before = Graph("m", SHAPE, (*nodes, Reshape("f")), labels, (-3.0,), (3.0,))
        after, _ = rewrites.rewrite(before)
        assert max(len(node.name) for node in after.nodes) <= 64
        same(rng, before, after)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int8])
def test_folding_computes_in_double_precision_whatever_the_weights_are(rng, dtype):
    """As evaluate does: no product is rounded to single precision, none of bytes wraps."""

    def numbers(*shape):
        return (rng.normal(size=shape) * 40).astype(dtype)

    dense, conv = (Dense("d", numbers(5, 24), numbers(5)), Conv1d("c", numbers(2, 2, 3), numbers(2), padding=(1, 1)))
    maps = [
        Affine(name, numbers(*shape), numbers(*shape)) for name, shape in (("a", (2, 1)), ("b", SHAPE), ("e", (5,)))
    ]
    nodes = (
        conv,
        *maps[:2],
        Relu("r"),
        *(replace(m, name=m.name * 2) for m in maps[1::-1]),
        Reshape("f"),
        dense,
        maps[2],
    )
    before = Graph("m", SHAPE, nodes, tuple("abcde"), (-3.0,), (3.0,))
    x = rng.normal(size=(5, *SHAPE))
    expected = evaluate(before, x, np.longdouble)
    found = evaluate(rewrites.rewrite(before)[0], x, np.longdouble)
    assert abs(found - expected).max() <= 1e-13 * abs(expected).max()


def test_average_over_a_power_of_two_is_a_sum_with_a_divisor(model, rng):
    before = model(conv(rng), AvgPool("p", 4, 2, (1, 1)))
    after = rewrites.average_to_sum(before)
    assert after.nodes[1] == SumPool("p", 4, 2, (1, 1), 4)
    same(rng, before, after)


def test_average_over_another_length_goes_into_the_next_linear_layer(model, rng):
    before = model(conv(rng), AvgPool("p", 3, 3), Relu("r"), AvgPool("q", 3, 1))
    after = rewrites.average_to_sum(before)
    assert [n.divisor for n in after.nodes if isinstance(n, SumPool)] == [1, 1]
    np.testing.assert_allclose(after.nodes[-1].weight * 9, before.nodes[-1].weight, rtol=1e-12)
    same(rng, before, after)


@pytest.mark.parametrize(("kernel", "divisor", "left"), [(4, 4, 4), (4, 1, 1), (4, 2, 1), (3, 3, 1), (3, 2, 1)])
def test_only_a_divisor_that_is_fraction_bits_stays(model, rng, kernel, divisor, left):
    before = model(conv(rng), SumPool("p", kernel, 2, (1, 1), divisor))
    after = rewrites.average_to_sum(before)
    assert after.nodes[1].divisor == left
    same(rng, before, after)


def test_average_at_the_end_goes_into_the_linear_layer_before_it(rng):
    nodes = (
        Conv1d("c", rng.normal(size=(3, 2, 1)), rng.normal(size=3)),
        Relu("r"),
        AvgPool("gap", 12, 1),
        Reshape("f"),
    )
    before = Graph("m", SHAPE, nodes, ("a", "b", "c"), (-3.0,), (3.0,))
    after = rewrites.average_to_sum(before)
    assert after.nodes[2] == SumPool("gap", 12, 1)
    same(rng, before, after)


def test_average_without_a_linear_layer_becomes_one(rng):
    before = Graph("m", SHAPE, (AvgPool("gap", 12, 1), Reshape("f")), ("a", "b"), (0.0,), (1.0,))
    after = rewrites.average_to_sum(before)
    assert kinds(after) == ["SumPool", "Conv1d", "Reshape"] and after.nodes[1].groups == 2
    same(rng, before, after)


def test_an_average_that_leaves_padding_out_is_a_sum_with_a_factor_per_position(model, rng):
    """Before a dense layer the factor goes into its columns; before a convolution it is a layer."""
    pool = SumPool("p", 3, 1, (1, 1))
    factor = Affine("p.count", 1 / np.array([2.0, *[3.0] * 11, 2.0]), np.zeros(1))
    before = model(conv(rng), Relu("r"), pool, factor)
    after, _ = rewrites.rewrite(before)
    assert kinds(after) == ["Conv1d", "Relu", "SumPool", "Reshape", "Dense"]
    same(rng, before, after)
    before = model(conv(rng), Relu("r"), pool, factor, Conv1d("c2", rng.normal(size=(2, 4, 3)), np.zeros(2)))
    after, _ = rewrites.rewrite(before)
    assert kinds(after)[2:6] == ["SumPool", "Reshape", "Conv1d", "Reshape"]
    same(rng, before, after)


@pytest.mark.parametrize(("slope", "moves"), [(0.1, True), (1.5, True), (-0.1, False)])
def test_maxpool_goes_before_a_leaky_relu_that_never_falls(model, rng, slope, moves):
    before = model(conv(rng), LeakyRelu("r", slope), MaxPool("p", 3, 2, (1, 1)))
    after, _ = rewrites.rewrite(before)
    expected = ["MaxPool", "LeakyRelu"] if moves else ["LeakyRelu", "MaxPool"]
    assert kinds(after)[1:3] == expected
    same(rng, before, after)


@pytest.mark.parametrize(
    ("nodes", "left"),
    [
        ((Relu("r"), LeakyRelu("l", 0.1)), ["Relu"]),
        ((LeakyRelu("l", 0.1), Relu("r")), ["Relu"]),
        ((LeakyRelu("l", -0.1), Relu("r")), ["LeakyRelu", "Relu"]),
        ((LeakyRelu("l", 0.1), LeakyRelu("k", 0.1)), ["LeakyRelu", "LeakyRelu"]),
        ((LeakyRelu("l", 0.0),), ["Relu"]),
        ((LeakyRelu("l", 1.0),), []),
    ],
)
def test_only_equal_relus_are_merged(model, rng, nodes, left):
    before = model(conv(rng), *nodes)
    after, _ = rewrites.rewrite(before)
    assert [kind for kind in kinds(after) if kind.endswith("elu")] == left
    same(rng, before, after)


def test_an_average_s_factor_passes_a_leaky_relu_but_an_affine_map_stays_on_its_side(model, rng):
    norms = [Affine(name, rng.uniform(0.5, 2, (4, 1)), rng.normal(size=(4, 1))) for name in ("a", "b")]
    relus = [LeakyRelu(name, 0.3) for name in ("r", "s")]
    before = model(conv(rng), relus[0], norms[0], relus[1], AvgPool("p", 3, 3), Identity("i"))
    after, _ = rewrites.rewrite(before)
    assert kinds(after)[:5] == ["Conv1d", "LeakyRelu", "Conv1d", "LeakyRelu", "SumPool"]
    same(rng, before, after)


def test_a_transpose_before_a_dense_layer_permutes_its_columns(model, rng):
    before = model(conv(rng), Transpose("t"), LeakyRelu("r", 0.5), norm(rng, channels=13))
    after, applied = rewrites.rewrite(before)
    assert kinds(after) == ["Conv1d", "LeakyRelu", "Reshape", "Dense"]
    assert "transpose folded into the dense layer after it, or cancelled" in applied
    same(rng, before, after)


def test_transposes_cancel_or_stay(model, rng):
    before = model(Transpose("t"), Relu("r"), Transpose("u"), conv(rng))
    after, _ = rewrites.rewrite(before)
    assert kinds(after)[:2] == ["Relu", "Conv1d"]
    same(rng, before, after)
    before = model(Transpose("t"), Conv1d("c", rng.normal(size=(3, 12, 1)), np.zeros(3)), Transpose("u"))
    after, _ = rewrites.rewrite(before)
    assert kinds(after) == ["Transpose", "Conv1d", "Reshape", "Dense"]
    same(rng, before, after)
    before = model(Conv1d("c", rng.normal(size=(1, 2, 3)), np.zeros(1)), Transpose("t"), AvgPool("p", 1, 1))
    after, _ = rewrites.rewrite(before)
    assert "Transpose" not in kinds(after)
    same(rng, before, after)


def test_maxpool_goes_before_relu(model, rng):
    before = model(conv(rng), Relu("r"), MaxPool("p", 3, 2, (1, 1)), MaxPool("q", 2, 2))
    after = rewrites.maxpool_before_relu(before)
    assert kinds(after)[:4] == ["Conv1d", "MaxPool", "MaxPool", "Relu"]
    same(rng, before, after)


def test_relu_goes_before_reshape_and_doubles_go(model, rng):
    before = model(conv(rng), Reshape("f"), Relu("r"), Relu("r2"), Reshape("g", (2, 26)), Reshape("h"))
    after = rewrites.merge_reshape(rewrites.merge_relu(rewrites.relu_before_reshape(before)))
    assert kinds(after) == ["Conv1d", "Relu", "Reshape", "Dense"]
    same(rng, before, after)


@given(st.integers(0, 10**6))
@examples(max_examples=100)
def test_any_model_means_the_same_after_each_rewrite(random_graph, box_inputs, seed):
    graph = random_graph(seed)
    x = box_inputs(graph, np.random.default_rng(seed), 3)
    expected = evaluate(graph, x)
    for name, rewrite in rewrites.REWRITES:
        graph = rewrite(graph)
        error = abs(evaluate(graph, x) - expected).max()
        assert error <= 1e-9 * max(1.0, abs(expected).max()), name
    assert {type(n) for n in graph.nodes} <= {Conv1d, Dense, Relu, LeakyRelu, SumPool, MaxPool, Reshape, Transpose}


def test_applied_rewrites_are_listed_in_order(model, rng):
    graph = model(Identity("drop"), conv(rng), norm(rng), Relu("r"), MaxPool("p", 2, 2), AvgPool("q", 2, 2))
    _, applied = rewrites.rewrite(graph)
    expected = [0, 1, 2, 5, 6]
    assert applied == tuple(rewrites.REWRITES[i][0] for i in expected)
