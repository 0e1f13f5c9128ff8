"""One way to a model: zoo name, ONNX file, its bytes, Graph."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sottovoce.engine.errors import ConfigError, ModelError
from sottovoce.models.evaluate import evaluate
from sottovoce.models.graph import Dense, Graph, Reshape
from sottovoce.models.load import load_model, sample_features
from sottovoce.models.onnx import export_onnx
from sottovoce.models.zoo import build, random_weights


def graph_of(shape: tuple[int, int] = (1, 40), labels: tuple[str, ...] = ("a", "b", "c")) -> Graph:
    rng = np.random.default_rng(0)
    size = shape[0] * shape[1]
    dense = Dense("dense", rng.normal(size=(len(labels), size)).astype(np.float32), np.zeros(len(labels), np.float32))
    return Graph("mine", shape, (Reshape("flat"), dense), labels, (-1.0,), (1.0,))


def test_a_name_of_the_zoo() -> None:
    loaded, built = load_model("paper"), build("paper")
    assert (loaded.name, loaded.labels, loaded.features) == ("paper", built.labels, "mfcc40-mean")
    assert loaded.input_low == built.input_low
    arrays = random_weights("tiny", 3)
    tiny = load_model("tiny", weights=arrays, input_low=-500, input_high=[500] * 40)
    assert tiny.input_low == (-500.0,) and tiny.input_high == (500.0,) * 40
    x = np.random.default_rng(0).normal(0, 50, (4, 1, 40))
    np.testing.assert_array_equal(evaluate(tiny, x, np.float64), evaluate(build("tiny", arrays), x, np.float64))
    two = load_model("tiny", weights=random_weights("tiny", 3, labels=["no", "yes"]), labels=["no", "yes"])
    assert two.labels == ("no", "yes")
    renamed = load_model("paper", labels=[label.upper() for label in built.labels])
    assert renamed.labels[0] == built.labels[0].upper()


def test_a_file_its_bytes_and_a_graph_are_the_same_model(tmp_path: Path) -> None:
    graph = graph_of()
    content = export_onnx(graph)
    path = tmp_path / "mine.ONNX"
    path.write_bytes(content)
    x = np.random.default_rng(0).uniform(-1, 1, (5, 1, 40))
    expected = evaluate(graph, x, np.float64)
    for source in (path, str(path), content, graph):
        loaded = load_model(source)
        assert loaded.labels == ("a", "b", "c") and loaded.input_shape == (1, 40)
        np.testing.assert_array_equal(evaluate(loaded, x, np.float64), expected)
        changed = load_model(source, labels=["x", "y", "z"], features="mfcc40-mean", input_low=-9, input_high=9.5)
        assert changed.labels == ("x", "y", "z") and changed.features == "mfcc40-mean"
        assert changed.box()[0].max() == -9 and changed.box()[1].min() == 9.5
    assert graph.labels == ("a", "b", "c")  # what was given stays as it was


def test_the_zoo_comes_before_a_file_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "paper").write_text("x")
    monkeypatch.chdir(tmp_path)
    assert load_model("paper").name == "paper"


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("nobody", {}, r"expected one of tiny, paper, .*, the path or the bytes of an \.onnx file, .* got 'nobody'"),
        ("model.pt", {}, r"the path or the bytes of an \.onnx file.*got 'model\.pt'"),
        ("missing.onnx", {}, r"model missing\.onnx: no such file"),
        (7, {}, "got int"),
        (graph_of(), {"weights": {}}, "expected them with a name of the zoo"),
        (b"junk", {"weights": "w.npz"}, "expected them with a name of the zoo"),
        (b"junk", {}, "ONNX"),
        ("paper", {"labels": "abc"}, "labels"),
        (graph_of(), {"labels": "abc"}, "a sequence of texts, got one text"),
        (graph_of(), {"labels": ["a", "b"]}, "one logit for each of 2 labels"),
        (
            graph_of(),
            {"features": "mfcc40-frames151"},
            r"expected features of its input shape \(1, 40\), got \(40, 151\)",
        ),
        (export_onnx(graph_of()), {"features": "spectral162-mean"}, r"expected features of its input shape \(1, 40\)"),
        (graph_of(), {"input_low": 2.0}, "finite low <= high"),
        (graph_of(), {"input_low": [0.0, 1.0]}, "expected 1 or 40 numbers, got 2"),
        (graph_of(), {"input_low": "low"}, "expected a number or one for each feature, got str"),
    ],
)
def test_what_is_no_model_is_named(source: object, options: dict, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        load_model(source, **options)  # type: ignore[arg-type]


def test_an_unknown_feature_set_lists_them() -> None:
    with pytest.raises(ConfigError, match=r"mfcc40-mean, .*got 'mfcc13'"):
        load_model(graph_of(), features="mfcc13")


def test_onnx_is_imported_only_for_an_onnx_file() -> None:
    code = "import sys; from sottovoce.models.load import load_model; load_model('paper'); print('onnx' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=True)
    assert ran.stdout == "False\n"


def test_sample_features_take_rows_and_clips() -> None:
    graph = graph_of((2, 3))
    x = np.arange(12.0).reshape(2, 2, 3)
    for form in (x, x.reshape(2, 6), x.tolist(), x.astype(np.float32)):
        np.testing.assert_array_equal(sample_features(form, graph), x)
    for bad, message in (
        (np.zeros((0, 6)), "at least one row"),
        (np.zeros((2, 5)), r"\(clips, 6\) or \(clips, 2, 3\), got shape \(2, 5\)"),
        (np.zeros(6), r"got shape \(6,\)"),
        ([["a"] * 6], "real numbers"),
        ([[1.0], [1.0, 2.0]], "different lengths"),
    ):
        with pytest.raises(ModelError, match=f"^here: .*{message}"):
            sample_features(bad, graph, where="here")


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"labels": 5}, "labels: expected a sequence of texts"),
        ({"weights": 5}, "weights: expected an npz file or arrays by name, got int"),
        ({"input_low": [[1.0, 2.0], [3.0]]}, "input box: expected a number"),
    ],
)
def test_what_is_of_another_kind_is_a_model_error(given: dict[str, Any], match: str) -> None:
    with pytest.raises(ModelError, match=match):
        load_model("tiny", **{"weights": random_weights("tiny", 0), **given})


def test_weights_may_be_lists() -> None:
    arrays = random_weights("tiny", 0)
    x = np.random.default_rng(0).normal(0, 50, (2, 1, 40))
    as_lists = load_model("tiny", weights={name: values.tolist() for name, values in arrays.items()})
    np.testing.assert_array_equal(evaluate(as_lists, x), evaluate(build("tiny", arrays), x))
