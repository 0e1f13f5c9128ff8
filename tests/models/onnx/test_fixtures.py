"""Models as PyTorch's and Keras's exporters write them: imported, they compute what onnxruntime computes."""

from __future__ import annotations

import re

import numpy as np
import pytest
from tests.models.onnx.exported import FIXTURES, end_of_model, exported, labels_of, margins

from sottovoce.engine.errors import ModelError
from sottovoce.models.compiler.compile import compile_graph
from sottovoce.models.evaluate import evaluate
from sottovoce.models.onnx import import_onnx

FILES = sorted(f"{folder}/{path.name}" for folder in ("torch", "keras") for path in FIXTURES.glob(f"{folder}/*.onnx"))
ROWS = 16
SINGLE, HALF = 3e-6, 3e-3  # what float32 and float16 round differently, relative to the largest logit

# What a message must say beside the node: the reason and what would work instead.
REFUSED = {
    "torch/refused_conv2d": r"Conv 'node_conv2d'.* over two axes.*Conv1d",
    "torch/refused_gelu": r"Gelu 'node_gelu', after layer 'conv_0': .*ReLU",
    "torch/refused_gelu_legacy": r"Erf '/1/Erf'.*ReLU",
    "torch/refused_group_norm": r"InstanceNormalization.*BatchNorm",
    "torch/refused_layer_norm": r"LayerNormalization.*BatchNorm",
    "torch/refused_lstm": r"LSTM '/0/lstm/LSTM'.*recurrent.*use convolutions",
    "torch/refused_max_dilation": r"MaxPool.*dilation",
    "torch/refused_prelu_per_channel": r"PRelu.*one slope",
    "torch/refused_sigmoid": r"Sigmoid.*ReLU",
    "torch/refused_skip_connection": r"Add.*skip connections.*only chains",
    "torch/refused_squeeze_excite": r"Mul.*only chains",
    "torch/refused_training_mode": r"BatchNormalization.*training mode.*model\.eval\(\)",
    "keras/refused_conv2d": r"1-D convolutions|Conv1d",
    "keras/refused_gelu": r"only chains|ReLU",
    "keras/refused_lstm": r"LSTM|batch axis",
    "keras/refused_normalization": r"one input.*Normalization.*Rescaling",
    "keras/refused_sigmoid": r"Sigmoid.*ReLU",
    "keras/refused_skip_connection": r"Add.*skip connections.*only chains",
    "keras/refused_swish": r"Mul.*only chains",
}
COMPILED = {
    "torch/paper_dynamo": "rep3",
    "torch/average_without_padding_legacy": "rep3",
    "torch/prelu_shared_dynamo": "rep3",
    "keras/max_pools": "rep3",
    "torch/argmax_legacy": "plain",
    "torch/even_kernels_dynamo": "plain",
    "torch/fully_convolutional_legacy": "plain",
    "torch/max_ceil_dynamo": "plain",
    "torch/norms_everywhere_legacy": "plain",
    "keras/causal_tf2onnx": "plain",
    "keras/global_average_tf2onnx": "plain",
    "keras/norms": "plain",
    "keras/reshaped": "plain",
    "keras/standardised_paper": "plain",
}
IMPORTED = [file for file in FILES if "refused" not in file]


@pytest.mark.parametrize("file", IMPORTED)
def test_computes_what_onnxruntime_computes(file: str, rng: np.random.Generator) -> None:
    fixture = exported(file)
    x = fixture.inputs(rng, ROWS)
    expected = fixture.run(x)
    graph = fixture.graph()
    features = x.reshape(ROWS, *graph.input_shape)
    logits = evaluate(graph, features)
    rounding = (HALF if fixture.half else SINGLE) * (1 + np.abs(logits).max())
    assert np.ptp(logits, axis=0).max() > 0.1 * np.abs(logits).max(), "the logits hardly depend on the inputs"
    clear = margins(logits) > 2 * rounding
    assert clear.mean() > 0.8
    if fixture.end == "ArgMax":
        assert len(np.unique(expected)) > 1
        np.testing.assert_array_equal(expected[clear], logits.argmax(axis=1)[clear])
    else:
        assert np.abs(end_of_model(fixture.end, logits) - expected).max() < rounding
        np.testing.assert_array_equal(expected.argmax(axis=1)[clear], logits.argmax(axis=1)[clear])


@pytest.mark.parametrize("file", COMPILED)
def test_same_labels_in_fixed_point(file: str, rng: np.random.Generator) -> None:
    """In the clear or under MPC: onnxruntime's label unless two logits are closer than the compiler's bound."""
    fixture = exported(f"{file}.onnx")
    x = fixture.inputs(rng, ROWS)
    expected = fixture.run(x)
    graph = fixture.graph()
    features = x.reshape(ROWS, *graph.input_shape)
    compiled = compile_graph(graph)
    clear = margins(evaluate(graph, features)) > compiled.report.margin_bound
    assert clear.mean() > 0.8
    labels, _ = labels_of(compiled, features, COMPILED[file])
    np.testing.assert_array_equal(labels[clear], (expected if expected.ndim == 1 else expected.argmax(axis=1))[clear])


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name_and_with_advice(name: str) -> None:
    with pytest.raises(ModelError, match=REFUSED[name]) as caught:
        import_onnx(FIXTURES / f"{name}.onnx", input_low=-8.0, input_high=8.0)
    assert len(str(caught.value)) < 600


def test_two_exports_of_one_network_give_the_same_layers() -> None:
    """PyTorch's two exporters write `paper` differently; the imported chains do not differ."""
    names = ["default_export", "paper_dynamo", "paper_dynamo_fixed", "paper_half", "paper_legacy_9", "paper_legacy_17"]
    kinds = [[type(node).__name__ for node in exported(f"torch/{name}.onnx").graph().nodes] for name in names]
    assert all(chain == kinds[0] for chain in kinds)
    assert kinds[0] == ["Affine", "Conv1d", "Relu", "AvgPool", "Conv1d", "Relu", "Reshape", "Dense"]


def test_the_scripts_that_make_them_name_every_fixture() -> None:
    for framework in ("torch", "keras"):
        script = (FIXTURES / f"make_{framework}.py").read_text(encoding="utf-8")
        made = set(re.findall(r'^    "(\w+)": Case\(', script, re.MULTILINE))
        assert made == {path.stem for path in (FIXTURES / framework).glob("*.onnx")}
    assert {f"{file.removesuffix('.onnx')}" for file in FILES if "refused" in file} == set(REFUSED)
