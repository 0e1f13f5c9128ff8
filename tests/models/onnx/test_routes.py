"""The code of docs/import-models.md: from PyTorch and from Keras to a Classifier. Each needs its framework."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sottovoce.models.evaluate import evaluate
from sottovoce.models.onnx import import_onnx
from sottovoce.models.onnx.arithmetic import ARITHMETIC
from sottovoce.models.onnx.layers import LAYERS
from sottovoce.models.onnx.layout import LAYOUT
from sottovoce.models.onnx.pooling import POOLING


def page(repository: Path) -> str:
    return (repository / "docs" / "import-models.md").read_text(encoding="utf-8")


def route(repository: Path, name: str, **variables: Any) -> None:
    """Run the lines of a route where the working directory is."""
    found = re.search(rf"<!-- route: {name} -->\n```python\n(.*?)```", page(repository), re.DOTALL)
    assert found is not None
    lines = [line for line in found[1].splitlines() if line]
    assert len(lines) <= 5
    exec("\n".join(lines), variables)


@pytest.mark.filterwarnings("default")
def test_from_pytorch(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    monkeypatch.chdir(tmp_path)
    model = torch.nn.Sequential(
        torch.nn.Conv1d(1, 4, 5, padding="same"), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(160, 3)
    )
    route(repository, "torch", model=model)
    graph = import_onnx("model.onnx", features="mfcc40-mean")
    assert (graph.input_shape, graph.labels) == ((1, 40), ("LABEL_0", "LABEL_1", "LABEL_2"))
    with torch.no_grad():
        x = torch.randn(5, 1, 40)
        np.testing.assert_allclose(evaluate(graph, x.numpy()), model(x).numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("default")
def test_from_keras(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keras = pytest.importorskip("keras")
    pytest.importorskip("tf2onnx")
    monkeypatch.chdir(tmp_path)
    layers = keras.layers
    std, mean = np.full((40, 1), 5.0), np.ones((40, 1))
    model = keras.Sequential(
        [
            keras.Input((40, 1)),
            layers.Rescaling(1 / std, -mean / std),
            layers.Conv1D(4, 5, padding="same", activation="relu"),
            layers.Flatten(),
            layers.Dense(3, activation="softmax"),
        ]
    )
    route(repository, "keras", model=model)
    graph = import_onnx("model.onnx", features="mfcc40-mean")
    assert (graph.input_shape, len(graph.labels)) == ((1, 40), 3)


def test_the_table_lists_the_operators_that_are_read(repository: Path) -> None:
    table = page(repository).split("<!-- operators: begin -->")[1].split("<!-- operators: end -->")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    listed = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert len(listed) == len(set(listed))
    assert set(listed) == {*LAYOUT, *LAYERS, *POOLING, *ARITHMETIC}
