"""The exporter: back through the importer, and through onnxruntime."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

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
from sottovoce.models.onnx import export_onnx, import_onnx, read_metadata

SEEDS = range(12)


def run(data: bytes, x: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return session.run(["logits"], {"features": x.astype(np.float32)})[0]


def in_float32(graph: Graph) -> Graph:
    """The graph with its weights rounded to float32, as a file stores them."""
    rounded = []
    for node in graph.nodes:
        made: Any = node
        for name in ("weight", "bias", "scale", "shift", "mean", "var", "gamma", "beta"):
            if hasattr(made, name):
                values = getattr(made, name).astype(np.float32).astype(np.float64)
                fields = {field: getattr(made, field) for field in made.__dataclass_fields__}
                made = type(made)(**{**fields, name: values})
        rounded.append(made)
    return Graph(graph.name, graph.input_shape, tuple(rounded), graph.labels, graph.input_low, graph.input_high)


def check(graph: Graph, x: np.ndarray) -> None:
    data = export_onnx(graph)
    expected = evaluate(graph, x, np.float32)
    size = max(1.0, float(np.max(np.abs(expected))))
    # float32 has 24 bits; the sums here have at most some hundred terms, some of which cancel
    assert np.max(np.abs(run(data, x) - expected)) < 1e-4 * size
    back = import_onnx(data)
    # what the importer merges (an Affine into the next bias, an eps) it merges in float64
    assert np.max(np.abs(evaluate(back, x) - evaluate(in_float32(graph), x))) < 1e-6 * size
    assert (back.labels, back.features, back.input_shape) == (graph.labels, graph.features, graph.input_shape)
    assert (back.input_low, back.input_high) == (graph.input_low, graph.input_high)


@pytest.mark.parametrize("seed", SEEDS)
def test_random_graphs(random_graph, box_inputs, seed: int) -> None:
    graph = random_graph(seed)
    check(graph, box_inputs(graph, np.random.default_rng(seed), 4))


def every_node(rng: np.random.Generator) -> list[Node]:
    return [
        Transpose("turn"),
        Affine("standardise", rng.uniform(0.5, 2, (5, 1)), rng.normal(size=(5, 9))),
        LeakyRelu("leaky", 0.25),
        Conv1d("conv", rng.normal(size=(4, 5, 3)), rng.normal(size=(4, 1)), 1, (2, 0), 1, 1),
        BatchNorm("norm", *rng.normal(size=(1, 4)), rng.uniform(0.5, 2, 4), *rng.normal(size=(2, 4)), 1e-3),
        Relu("relu"),
        MaxPool("max", 3, 2, (1, 1)),
        AvgPool("average", 2, 1, (1, 0)),
        SumPool("sum", 2, 2, (0, 1)),
        SumPool("third", 2, 1, (0, 1), 3),
        Affine("positions", rng.uniform(0.5, 2, (1, 3)), np.zeros((1, 1))),
        Conv1d("last.conv", rng.normal(size=(4, 1, 2)), rng.normal(size=(4, 4)), 1, (1, 1), 1, 4),
        Identity("dropout"),
        Reshape("wide", (2, 8)),
        Reshape("flat"),
        Affine("flat.affine", rng.normal(size=16), rng.normal(size=1)),
        Dense("hidden", rng.normal(size=(6, 16)), rng.normal(size=6)),
        BatchNorm("flat.norm", *rng.normal(size=(1, 6)), rng.uniform(0.5, 2, 6), *rng.normal(size=(2, 6))),
        Dense("out", rng.normal(size=(3, 6)), rng.normal(size=3)),
    ]


def test_every_node() -> None:
    rng = np.random.default_rng(3)
    low, high = rng.uniform(-3, -1, 45), rng.uniform(1, 3, 45)
    graph = Graph("all", (9, 5), tuple(every_node(rng)), ("a", "b", "ç"), tuple(low), tuple(high), "own features")
    check(graph, rng.uniform(-2, 2, (6, 9, 5)))
    assert {type(node) for node in graph.nodes} == set(Node.__args__)


@pytest.mark.parametrize("shape", [(1, 7), (7, 1), (1, 1), (2, 7)])
def test_the_input_shape_comes_back(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(5)
    size = shape[0] * shape[1]
    nodes = (Reshape("flat"), Dense("out", rng.normal(size=(2, size)), np.zeros(2)))
    check(Graph("small", shape, nodes, ("a", "b"), (-1.0,), (1.0,)), rng.uniform(-1, 1, (2, *shape)))


def test_the_file_is_plain_onnx(random_graph) -> None:
    """Valid for the official checker, any batch size, named tensors, JSON in the metadata."""
    graph = random_graph(4)
    model = onnx.load_from_string(export_onnx(graph))
    onnx.checker.check_model(model, full_check=True)
    assert [dim.dim_param or dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim] == [
        "clips",
        *graph.input_shape,
    ]
    assert (model.graph.input[0].name, model.graph.output[0].name) == ("features", "logits")
    props = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    assert props["sottovoce.labels"] == list(graph.labels) and props["sottovoce.box"]["low"] == list(graph.input_low)
    assert export_onnx(graph) == export_onnx(graph)
    for count in (1, 5):
        assert run(export_onnx(graph), np.zeros((count, *graph.input_shape))).shape == (count, len(graph.labels))


def test_layer_names_survive(random_graph) -> None:
    graph = random_graph(1)
    back = import_onnx(export_onnx(graph))
    layers = {node.name for node in graph.nodes if isinstance(node, Conv1d | Dense | MaxPool | AvgPool)}
    assert layers <= {node.name for node in back.nodes}
    assert back.name == graph.name


def test_read_metadata(random_graph, tmp_path) -> None:
    graph = random_graph(2)
    path = tmp_path / "model.onnx"
    path.write_bytes(export_onnx(graph))
    found = read_metadata(path)
    assert import_onnx(path).name == found.name == graph.name
    assert found.labels == graph.labels and found.features == "" and found.input_shape == graph.input_shape
    assert found.box is not None and found.box.high == graph.input_high


def test_an_argument_replaces_what_the_file_says(random_graph) -> None:
    graph = random_graph(2)
    labels = tuple(f"other {label}" for label in graph.labels)
    back = import_onnx(export_onnx(graph), labels=labels, input_low=-2, input_high=2, name="mine")
    assert (back.labels, back.input_low, back.input_high, back.name) == (labels, (-2.0,), (2.0,), "mine")
