"""Networks that nobody here wrote: packages' own architectures, and what PyTorch's exporter gave the onnx project."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper, version_converter
from tests.models.onnx.exported import end_of_model, exported, labels_of, margins
from tests.models.onnx.fixtures.make_third_party import synthetic_rows

from sottovoce.engine.cost import predict_cost
from sottovoce.engine.protocols.table import PROTOCOLS
from sottovoce.models.compiler.compile import compile_graph
from sottovoce.models.evaluate import evaluate
from sottovoce.models.explain import explain
from sottovoce.models.onnx import export_onnx, import_onnx

# file: (what it becomes, parameters: of convolutions and dense layers; exporters fold batch-norms or write them out)
NETWORKS = {
    "sktime_cnn": (["Conv1d", "Relu", "AvgPool"] * 2 + ["Reshape", "Dense"], 956),
    "sktime_fcn": (["Conv1d", "Relu"] * 3 + ["AvgPool", "Reshape", "Dense"], 4424),
    "aeon_fcn": (["Conv1d", "Affine", "Relu"] * 3 + ["AvgPool", "Reshape", "Dense"], 4424),
    "mcfly_cnn": (
        ["Affine", *["Conv1d", "Affine", "Relu"] * 2, "Reshape", "Dense", "Relu", "Dense", "Affine"],
        16016,
    ),
}
ROWS = 64
BACKEND_DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"
BACKEND_NAMES = (
    "AvgPool1d AvgPool1d_stride BatchNorm1d_3d_input_eval Conv1d Conv1d_dilated Conv1d_groups Conv1d_pad1 "
    "Conv1d_pad1size1 Conv1d_pad2 Conv1d_pad2size1 Conv1d_stride LeakyReLU LeakyReLU_with_negval Linear Linear_no_bias "
    "LogSoftmax MaxPool1d MaxPool1d_stride PReLU_1d PReLU_1d_multiparam Softmax log_softmax_lastdim"
)


@pytest.mark.parametrize("name", NETWORKS)
def test_imported_explained_and_run_under_mpc(name: str) -> None:
    """The labels are onnxruntime's unless two logits are closer than the bound; predicted bytes are sent bytes."""
    fixture = exported(f"third_party/{name}.onnx")
    rows, classes = synthetic_rows()
    x = rows[:ROWS].reshape(ROWS, *fixture.shape)
    expected = fixture.run(x)
    assert (expected.argmax(axis=1) == classes[:ROWS]).mean() > 0.8, "it was trained on these rows"
    emotions = tuple(f"emotion {i}" for i in range(8))
    graph = fixture.graph(labels=emotions)
    kinds, parameters = NETWORKS[name]
    assert [type(node).__name__ for node in graph.nodes] == kinds
    assert (graph.input_shape, graph.labels, graph.name) == ((1, 40), emotions, name)
    features = x.reshape(ROWS, 1, 40)
    logits = evaluate(graph, features)
    assert np.abs(end_of_model(fixture.end, logits) - expected).max() < 3e-6 * (1 + np.abs(logits).max())
    compiled = compile_graph(graph)
    explanation = explain(compiled)
    assert explanation.model_parameters == parameters
    assert explanation.total.secret_elements >= explanation.total.parameters > 0
    clear = margins(logits) > compiled.report.margin_bound
    assert clear.mean() > 0.95
    labels, sent = labels_of(compiled, features, "rep3")
    np.testing.assert_array_equal(labels[clear], expected.argmax(axis=1)[clear])
    assert len(np.unique(labels)) == 8
    predicted = predict_cost(compiled.program, PROTOCOLS["rep3"], ROWS)
    assert sum(sum(step.bytes_sent) for step in predicted) == sent


@pytest.mark.parametrize("name", NETWORKS)
def test_survives_export(name: str, rng: np.random.Generator) -> None:
    graph = exported(f"third_party/{name}.onnx").graph()
    again = import_onnx(export_onnx(graph))
    x = rng.normal(0, 2, (4, 1, 40))
    np.testing.assert_allclose(evaluate(again, x), evaluate(graph, x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", BACKEND_NAMES.split())
def test_layers_exported_for_the_onnx_project(name: str) -> None:
    """The onnx package's own backend tests of one layer each: PyTorch wrote the file, the input and the output."""
    folder = BACKEND_DATA / "pytorch-converted" / f"test_{name}"
    if not folder.is_dir():
        pytest.skip("this onnx package has no backend test data")
    x, expected = (
        numpy_helper.to_array(onnx.load_tensor(str(folder / "test_data_set_0" / f"{end}_0.pb")))
        for end in ("input", "output")
    )
    model = version_converter.convert_version(onnx.load(str(folder / "model.onnx")), 17)  # the files are of 2017
    last = model.graph.node[-1].op_type
    model.graph.node.append(helper.make_node("Flatten", [model.graph.output[0].name], ["logits"]))
    model.graph.output[0].name = "logits"
    model.graph.output[0].type.tensor_type.ClearField("shape")
    graph = import_onnx(model.SerializeToString(), input_low=-100.0, input_high=100.0)
    logits = evaluate(graph, x.reshape(len(x), *graph.input_shape))
    end = last if last.endswith("Softmax") else ""
    np.testing.assert_allclose(end_of_model(end, logits), expected.reshape(logits.shape), rtol=1e-5, atol=1e-6)
