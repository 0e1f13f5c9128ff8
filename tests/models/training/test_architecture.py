"""From an architecture to an untrained graph, and from a trained one to the graph that is handed out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sottovoce.engine.errors import ModelError
from sottovoce.models.evaluate import evaluate
from sottovoce.models.graph import Affine, BatchNorm, Conv1d, Dense, Graph, Identity, LeakyRelu, MaxPool, Relu, Reshape
from sottovoce.models.training.architecture import arrays, balanced, finished, standardisation, untrained
from sottovoce.models.training.describe import describe
from sottovoce.models.training.recipe import Recipe
from sottovoce.models.zoo import build, list_models, random_weights

Rng = np.random.Generator
LABELS = ("a", "b", "c")


def _graph(channels: int = 1, time: int = 12) -> Graph:
    nodes = (
        Affine("old", np.array(0.5), np.array(1.0)),
        Conv1d("conv1", np.ones((4, channels, 3)), np.ones((4, time)), padding=(1, 1)),
        LeakyRelu("leaky", 0.2),
        MaxPool("pool", 2, 2),
        Conv1d("conv2", np.ones((3, 4, 3)), np.ones(3)),
        Reshape("flatten"),
        Dense("dense", np.ones((2, 3 * (time // 2 - 2))), np.ones(2)),
    )
    return Graph("small", (channels, time), nodes, ("x", "y"), (-50.0,), (50.0,))


def _features(rng: Rng, channels: int = 1, time: int = 12) -> np.ndarray:
    return rng.normal(loc=7, scale=rng.uniform(0.1, 9, (channels, time)), size=(40, channels, time)).clip(-50, 50)


def test_weights_are_drawn_anew_for_the_labels_and_the_old_standardisation_goes() -> None:
    graph = untrained(_graph(), LABELS, 3)
    assert [node.name for node in graph.nodes] == ["conv1", "leaky", "pool", "conv2", "flatten", "dense"]
    conv, dense = graph.nodes[0], graph.nodes[-1]
    assert isinstance(conv, Conv1d) and isinstance(dense, Dense)
    assert conv.bias.shape == (4,) and dense.weight.shape == (3, 12) and dense.bias.shape == (3,)
    assert 0.8 / np.sqrt(12) < np.abs(dense.weight).max() <= 1 / np.sqrt(12)
    np.testing.assert_array_equal(conv.weight, untrained(_graph(), LABELS, 3).nodes[0].weight)  # type: ignore[union-attr]
    assert not np.array_equal(conv.weight, untrained(_graph(), LABELS, 4).nodes[0].weight)  # type: ignore[union-attr]


def test_a_batch_norm_starts_as_the_identity() -> None:
    norm = BatchNorm("norm", np.ones(4), np.full(4, 9.0), np.full(4, 2.0), np.ones(4), 0.0)
    graph = replace(_graph(), nodes=(*_graph().nodes[:2], norm, *_graph().nodes[2:]))
    x = np.random.default_rng(0).normal(size=(2, 1, 12))
    without = replace(graph, nodes=tuple(node for node in graph.nodes if node is not norm))
    np.testing.assert_allclose(
        evaluate(untrained(graph, LABELS, 1), x), evaluate(untrained(without, LABELS, 1), x), atol=1e-12
    )


def test_a_graph_that_does_not_end_in_a_dense_layer_is_refused() -> None:
    graph = replace(_graph(), nodes=(*_graph().nodes, Relu("last")))
    with pytest.raises(ModelError, match="expected a dense layer at the end"):
        untrained(graph, LABELS, 0)


@pytest.mark.parametrize("name", list_models())
def test_every_model_of_the_zoo_can_be_trained_on_other_labels(name: str) -> None:
    graph = untrained(build(name, random_weights(name, 0)), LABELS, 0)
    assert graph.shapes[-1] == (3,) and graph.labels == LABELS


# ---- standardisation ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_standardised_training_rows_have_mean_0_and_deviation_1(rng: Rng, channels: int) -> None:
    x = _features(rng, channels)
    z = standardisation(x, Recipe(scaling="feature"))(x)
    axes = (0,) if channels == 1 else (0, 2)
    np.testing.assert_allclose(z.mean(axis=axes), 0, atol=1e-12)
    np.testing.assert_allclose(z.std(axis=axes), 1, atol=1e-12)


def test_a_feature_that_never_changes_is_not_divided_by_zero(rng: Rng) -> None:
    x = _features(rng)
    x[:, 0, 5] = 3.0
    z = standardisation(x, Recipe(scaling="feature"))(x)
    assert np.isfinite(z).all() and not z[:, 0, 5].any()


@pytest.mark.parametrize("scaling", ["feature", "common"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("bits", [0, 4])
def test_the_finished_graph_computes_on_raw_features_what_was_trained(
    rng: Rng, scaling: str, channels: int, bits: int
) -> None:
    recipe = Recipe(scaling=scaling, balance_bits=bits)  # type: ignore[arg-type]
    x = _features(rng, channels)
    standardise = standardisation(x, recipe)
    trained = untrained(_graph(channels), LABELS, 5)
    graph = finished(trained, standardise, recipe)
    np.testing.assert_allclose(evaluate(graph, x), evaluate(trained, standardise(x)), rtol=0, atol=2e-3)
    alone = scaling == "feature" and channels == 1  # positions that share weights cannot take a scale each
    assert isinstance(graph.nodes[0], Affine) == alone
    assert {array.dtype for array in arrays(graph).values()} == {np.dtype(np.float32)}


def test_weights_are_on_the_grid_after_the_common_scale_is_folded_in(rng: Rng) -> None:
    recipe = Recipe(scaling="common", balance_bits=5, grid_bits=16)
    graph = finished(untrained(_graph(), LABELS, 5), standardisation(_features(rng), recipe), recipe)
    for name, array in arrays(graph).items():
        scaled = array.astype(np.float64) * 2**16
        assert name.endswith("bias") or np.array_equal(scaled, np.round(scaled)), name
        assert np.abs(scaled).max() > 0


def test_folding_treats_the_edges_as_the_padding_does() -> None:
    """A constant mean: inner positions all get the same shift, the one at each end less, by its missing tap."""
    graph = _graph()
    ones = replace(graph.nodes[1], bias=np.zeros(4))  # type: ignore[type-var]
    trained = replace(graph, nodes=(ones, *graph.nodes[2:]))
    recipe = Recipe(scaling="common", common_scale=2.0)
    folded = finished(trained, standardisation(np.full((3, 1, 12), 6.0), recipe), recipe).nodes[0]
    assert isinstance(folded, Conv1d) and folded.bias[0].tolist() == [-6.0] + [-9.0] * 10 + [-6.0]


def test_balancing_changes_no_function_and_needs_layers_that_let_a_factor_through(rng: Rng) -> None:
    graph = untrained(_graph(), LABELS, 2)
    x = _features(rng)
    moved = balanced(graph, 5)
    np.testing.assert_allclose(evaluate(moved, x), evaluate(graph, x), rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(moved.nodes[0].weight, 32 * graph.nodes[0].weight)  # type: ignore[union-attr]
    norm = BatchNorm("norm", np.ones(4), np.ones(4), np.ones(4), np.ones(4))
    blocked = replace(graph, nodes=(graph.nodes[0], norm, *graph.nodes[1:]))
    assert balanced(blocked, 5) is blocked


def test_layers_in_words() -> None:
    graph = replace(_graph(), nodes=(*_graph().nodes[:4], Identity("dropout"), *_graph().nodes[4:]))
    assert describe(graph) == [
        "Affine",
        "Conv1D(4, 3, same)",
        "LeakyReLU(0.2)",
        "MaxPool(2)",
        "Conv1D(3, 3)",
        "Flatten",
        "Dense(2)",
    ]
    assert describe(build("medium", random_weights("medium", 0)))[2] == "MaxPool(5, stride 2, padding (1, 2))"
