"""The zoo's table: each row is the architecture that its name stands for, and takes weights that fit and no others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sottovoce.engine.errors import ModelError
from sottovoce.models.evaluate import evaluate
from sottovoce.models.graph import AvgPool, Conv1d, Dense, MaxPool, Relu
from sottovoce.models.speech.corpora.ravdess import LABELS
from sottovoce.models.speech.features import FEATURE_SETS
from sottovoce.models.zoo import MODELS, ZooModel, build, list_models, paper, random_weights, trained_weights
from sottovoce.models.zoo.layers import Layers

Layer = tuple[str | int, ...]


def conv(channels: int, c_in: int, kernel: int) -> Layer:
    """A convolution that keeps the length."""
    return ("conv", channels, c_in, kernel, (kernel - 1) // 2, kernel // 2)


# Written down by hand from the models' descriptions; shapes after each layer in `SHAPES`.
LAYERS: dict[str, list[Layer]] = {
    "tiny": [conv(64, 1, 5), ("relu",), ("flatten",), ("dense", 8, 2560)],
    "paper": [
        *(conv(128, 1, 5), ("relu",), ("avg", 4, 4, 0, 0), conv(128, 128, 5), ("relu",), ("flatten",)),
        ("dense", 8, 1280),
    ],
    "max": [
        *(conv(128, 1, 5), ("relu",), ("max", 8, 8, 0, 0), conv(128, 128, 5), ("relu",), ("flatten",)),
        ("dense", 8, 640),
    ],
    "medium": [
        *(conv(256, 1, 5), ("relu",), ("max", 5, 2, 1, 2)),
        *(conv(256, 256, 5), ("relu",), ("max", 5, 2, 2, 2)),
        *(conv(128, 256, 5), ("relu",), ("max", 5, 2, 2, 2)),
        *(conv(64, 128, 5), ("relu",), ("max", 5, 2, 2, 2)),
        *(("flatten",), ("dense", 32, 704), ("relu",), ("dense", 8, 32)),
    ],
    "frames": [
        *(conv(256, 40, 5), ("relu",), ("avg", 2, 2, 0, 0)),
        *(conv(256, 256, 5), ("relu",), ("avg", 2, 2, 0, 0)) * 3,
        *(("flatten",), ("dense", 128, 2304), ("relu",), ("dense", 8, 128)),
    ],
}
TIMES = {
    "tiny": [40],
    "paper": [40, 10],
    "max": [40, 5],
    "medium": [162, 81, 41, 21, 11],
    "frames": [151, 75, 37, 18, 9],
}
PARAMETERS = {"tiny": 20_872, "paper": 93_064, "max": 87_944, "medium": 557_288, "frames": 1_331_336}


def layer(node: object) -> Layer:
    """A node in the words of LAYERS."""
    if isinstance(node, Conv1d):
        assert (node.stride, node.dilation, node.groups) == (1, 1, 1)
        return ("conv", *node.weight.shape, *node.padding)
    if isinstance(node, Dense):
        return ("dense", *node.weight.shape)
    if isinstance(node, AvgPool | MaxPool):
        return ("avg" if isinstance(node, AvgPool) else "max", node.kernel, node.stride, *node.padding)
    return ("relu",) if isinstance(node, Relu) else ("flatten",)


@pytest.mark.parametrize("name", list_models())
def test_a_model_has_the_layers_that_its_name_stands_for(name: str) -> None:
    graph = build(name, random_weights(name, 0))
    assert [layer(node) for node in graph.nodes] == LAYERS[name]
    times = [shape[1] for shape in graph.shapes if len(shape) == 2]
    assert sorted(set(times), reverse=True) == TIMES[name]
    assert graph.parameters == PARAMETERS[name]
    assert graph.name == name and graph.labels == LABELS


@pytest.mark.parametrize("name", list_models())
def test_a_model_declares_the_box_of_its_features(name: str) -> None:
    graph, features = build(name, random_weights(name, 0)), FEATURE_SETS[MODELS[name].features]
    assert graph.features == features.name and graph.input_shape == features.input_shape
    np.testing.assert_array_equal(graph.box(), (features.low, features.high))


def test_the_zoo_holds_these_models() -> None:
    assert list_models() == tuple(LAYERS)
    with pytest.raises(ModelError, match="expected one of tiny, paper, max, medium, frames, got 'x'"):
        build("x")


# ---- trained weights ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list_models())
def test_a_model_with_shipped_weights_has_a_card_and_a_licence_and_the_others_say_where_to_get_some(name: str) -> None:
    if MODELS[name].weights is None:
        with pytest.raises(ModelError, match=rf"(?s)the package ships none.*sottovoce train.*random_weights\('{name}'"):
            build(name)
        return
    folder = trained_weights(name).parent
    assert {"weights.npz", "MODEL_CARD.md", "LICENSE-WEIGHTS"} <= {path.name for path in folder.iterdir()}
    assert build(name).labels == MODELS[name].labels
    with pytest.raises(ModelError, match=r"expected weights for these labels, got none.*random_weights"):
        build(name, labels=("yes", "no"))


def test_paper_takes_the_arrays_that_it_was_trained_with() -> None:
    shapes = MODELS["paper"].shapes(8)
    assert set(shapes) == set(paper.SHAPES)
    assert all(paper.SHAPES[name] in allowed for name, allowed in shapes.items())


# ---- other weights ------------------------------------------------------------------------------------------------


def test_weights_come_from_arrays_or_from_a_file(tmp_path: Path) -> None:
    weights = random_weights("tiny", 3)
    np.savez(tmp_path / "tiny.npz", **weights)  # type: ignore[arg-type]
    x = np.random.default_rng(0).normal(size=(2, 1, 40))
    np.testing.assert_array_equal(
        evaluate(build("tiny", tmp_path / "tiny.npz"), x), evaluate(build("tiny", weights), x)
    )


def test_only_the_first_layers_bias_may_depend_on_the_position() -> None:
    weights = random_weights("max", 0)
    shifts = np.arange(128 * 40, dtype=np.float32).reshape(128, 40) / 1000
    graph = build("max", weights | {"conv1.bias": shifts})
    assert graph.parameters == PARAMETERS["max"]
    np.testing.assert_array_equal(graph.nodes[0].bias, shifts)  # type: ignore[union-attr]
    with pytest.raises(ModelError, match=r"conv2\.bias of shape \(128,\), got \(128, 5\)"):
        build("max", weights | {"conv2.bias": np.zeros((128, 5))})
    with pytest.raises(ModelError, match=r"conv1\.bias of shape \(128,\) or \(128, 40\), got \(128, 1\)"):
        build("max", weights | {"conv1.bias": np.zeros((128, 1))})


def test_weights_of_another_model_are_refused() -> None:
    weights = random_weights("paper", 0)
    with pytest.raises(ModelError, match=r"got none named conv2\.bias$"):
        build("paper", {key: array for key, array in weights.items() if key != "conv2.bias"})
    with pytest.raises(ModelError, match=r"dense\.bias of shape \(8,\), got \(7,\)"):
        build("paper", weights | {"dense.bias": np.zeros(7)})
    with pytest.raises(ModelError, match=r"model 'tiny': expected arrays .*, got also 2 of other names"):
        build("tiny", weights)
    with pytest.raises(ModelError, match=r"dense\.weight of shape \(8, 640\), got \(8, 1280\)"):
        build("max", weights)
    with pytest.raises(ModelError, match="finite"):
        build("paper", weights | {"dense.bias": np.full(8, np.nan)})


@pytest.mark.parametrize("name", list_models())
def test_the_last_layer_follows_the_labels(name: str) -> None:
    labels = ("angry", "calm", "sad")
    weights = random_weights(name, 0, labels=labels)
    graph = build(name, weights, labels=labels)
    assert graph.labels == labels and graph.shapes[-1] == (3,)
    assert graph.parameters < PARAMETERS[name]
    with pytest.raises(ModelError, match=r"of shape \(8, \d+\), got \(3, \d+\)"):
        build(name, weights)


@pytest.mark.parametrize("labels", ["angry", ("angry",), ("angry", "angry")])
def test_labels_that_tell_nothing_apart_are_refused(labels: tuple[str, ...]) -> None:
    with pytest.raises(ModelError, match="at least two different labels"):
        build("paper", random_weights("paper", 0), labels=labels)


# ---- random weights -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list_models())
def test_random_weights_are_pytorchs_default_initialisation(name: str) -> None:
    """Uniform in ±1/sqrt(fan-in), weights and biases alike (kaiming_uniform with a = sqrt(5))."""
    weights = random_weights(name, 7)
    assert set(weights) == set(MODELS[name].shapes(8))
    for key, array in weights.items():
        bound = 1 / np.sqrt(np.prod(weights[key.replace("bias", "weight")].shape[1:]))
        assert array.dtype == np.float32
        assert 0.7 * bound < np.abs(array).max() <= bound * (1 + 1e-6)
        if array.size > 10_000:
            assert array.std() == pytest.approx(bound / np.sqrt(3), rel=0.02)
            assert abs(array.mean()) < 0.02 * bound


def test_random_weights_depend_on_the_seed_and_on_nothing_else() -> None:
    first, again, other = (random_weights("paper", seed) for seed in (1, 1, 2))
    for key, array in first.items():
        np.testing.assert_array_equal(array, again[key])
        assert not np.array_equal(array, other[key])


# ---- a sixth model ------------------------------------------------------------------------------------------------


def test_a_new_model_is_a_row_and_a_function() -> None:
    def stack(net: Layers) -> None:
        net.conv("conv1", 4, 3).relu().max_pool_same(3, 2).avg_pool(2).flatten().dense("dense", net.classes)

    row = ZooModel("small", "…", "spectral162-mean", stack)
    shapes = row.shapes(2)
    assert shapes == {
        "conv1.weight": ((4, 1, 3),),
        "conv1.bias": ((4,), (4, 162)),
        "dense.weight": ((2, 160),),
        "dense.bias": ((2,),),
    }
    graph = row.graph({name: np.zeros(allowed[0]) for name, allowed in shapes.items()}, ("a", "b"))
    assert [node.name for node in graph.nodes] == ["conv1", "relu1", "pool1", "pool2", "flatten", "dense"]
    assert graph.input_shape == (1, 162)
