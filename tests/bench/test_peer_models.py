"""The model that peers get: files that, computed layer by layer, give the logits of the network in the clear."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sottovoce.bench.peers.model import neutral_layers, write_model
from sottovoce.engine.errors import ConfigError
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
    Node,
    Relu,
    Reshape,
    SumPool,
    Transpose,
)
from sottovoce.models.zoo import build, random_weights

Rng = np.random.Generator


def graph_of(nodes: list[Node], shape: tuple[int, int], labels: int) -> Graph:
    return Graph("test", shape, tuple(nodes), tuple(f"l{i}" for i in range(labels)), (-3.0,), (3.0,))


def standardised(rng: Rng) -> Graph:
    """A standardisation per feature before a padded convolution, batch-norm after one, padded pools, dropout."""
    bn = BatchNorm("bn", rng.normal(size=6), rng.uniform(0.5, 2, 6), rng.normal(size=6), rng.normal(size=6))
    return graph_of(
        [
            Affine("standardise", rng.uniform(0.5, 2, (2, 1)), rng.normal(size=(2, 21))),
            Conv1d("conv1", rng.normal(size=(4, 2, 5)), rng.normal(size=4), padding=(2, 2)),
            Relu("relu1"),
            MaxPool("max", 3, 2, (1, 1)),
            Conv1d("conv2", rng.normal(size=(6, 2, 3)), rng.normal(size=6), 2, (1, 3), 2, groups=2),
            bn,
            Relu("relu2"),
            AvgPool("mean", 3, 1, (1, 0)),
            Identity("dropout"),
            Reshape("flatten"),
            Dense("dense1", rng.normal(size=(5, 30)), rng.normal(size=5)),
            Relu("relu3"),
            Dense("dense2", rng.normal(size=(3, 5)), rng.normal(size=3)),
        ],
        (2, 21),
        3,
    )


def sums(rng: Rng) -> Graph:
    """Flatten before ReLU, a window sum, a bias for each position, a transpose into the dense layer."""
    return graph_of(
        [
            Conv1d("conv", rng.normal(size=(4, 1, 4)), rng.normal(size=(4, 9)), padding=(0, 0)),
            SumPool("sum", 3, 2, (0, 1), divisor=2),
            Transpose("transpose"),
            Reshape("flatten"),
            Relu("relu"),
            Dense("dense", rng.normal(size=(3, 16)), rng.normal(size=3)),
        ],
        (1, 12),
        3,
    )


def zoo(name: str) -> Graph:
    return build(name, random_weights(name, 1))


def computed(folder: Path, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The files' meaning, position by position, as their description says it."""
    weights = np.load(folder / "weights.npz")
    for number, layer in enumerate(json.loads((folder / "model.json").read_text())):
        assert x.shape[1:] == tuple(layer["before"])
        kind, kernel, stride = layer["kind"], layer["kernel"], layer["stride"]
        pad = ((0, 0), (0, 0), tuple(layer["padding"]))
        if kind == "dense":
            x = x @ weights[f"{number}.weight"].T + weights[f"{number}.bias"]
        elif kind == "relu":
            x = np.maximum(x, 0)
        elif kind == "flatten":
            x = x.reshape(len(x), -1)
        elif kind == "conv1d":
            weight, padded, groups = weights[f"{number}.weight"], np.pad(x, pad), layer["groups"]
            y = np.zeros((len(x), *layer["after"])) + weights[f"{number}.bias"]
            for c, t, i, k in np.ndindex(weight.shape[0], layer["after"][1], weight.shape[1], kernel):
                channel = c // (weight.shape[0] // groups) * weight.shape[1] + i
                y[:, c, t] += weight[c, i, k] * padded[:, channel, t * stride + k * layer["dilation"]]
            x = y
        else:
            padded = np.pad(x, pad, mode="edge" if kind == "maxpool" else "constant")
            windows = [padded[:, :, t * stride : t * stride + kernel] for t in range(layer["after"][1])]
            found = [w.max(2) if kind == "maxpool" else w.sum(2) / layer["divisor"] for w in windows]
            x = np.stack(found, axis=2)
    return x


@pytest.mark.parametrize("make", [standardised, sums, lambda rng: zoo("tiny")], ids=["standardised", "sums", "zoo"])
def test_the_files_give_the_logits_of_the_model(make: Any, tmp_path: Path, rng: Rng) -> None:
    graph = make(rng)
    write_model(tmp_path, neutral_layers(graph))
    x = rng.uniform(-3, 3, (2, *graph.input_shape))
    np.testing.assert_allclose(computed(tmp_path, x), evaluate(graph, x), rtol=1e-9, atol=1e-9)


def test_what_pays_under_any_protocol_is_done(rng: Rng) -> None:
    """No layer for a standardisation, a batch-norm or dropout; a maximum before its ReLU: fewer ReLUs."""
    kinds = [layer.kind for layer in neutral_layers(standardised(rng))]
    assert kinds[:5] == ["conv1d", "maxpool", "relu", "conv1d", "relu"]
    assert kinds[5:] == ["sumpool", "flatten", "dense", "relu", "dense"]


def test_the_public_file_has_no_weights(tmp_path: Path, rng: Rng) -> None:
    graph = standardised(rng)
    write_model(tmp_path, neutral_layers(graph))
    text = (tmp_path / "model.json").read_text()
    assert "." not in text and '"weight_shape":[4,2,5]' in text.replace(" ", "")
    assert all("array" not in repr(layer) for layer in neutral_layers(graph))


def test_a_layer_that_peers_are_not_given_is_named(rng: Rng) -> None:
    graph = sums(rng)
    nodes = tuple(LeakyRelu("leaky", 0.1) if node.name == "relu" else node for node in graph.nodes)
    with pytest.raises(ConfigError, match=r"'leaky'.*LeakyRelu"):
        neutral_layers(replace(graph, nodes=nodes))
