"""One way to a model, whatever it comes as: a name of the zoo, an ONNX file, its bytes, or a Graph."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sottovoce.engine.errors import ModelError
from sottovoce.models.graph import Graph
from sottovoce.models.zoo import MODELS, build

ModelSource = str | os.PathLike[str] | bytes | Graph
WeightsSource = Mapping[str, NDArray[np.floating[Any]]] | str | os.PathLike[str]
Side = float | Sequence[float]
"""One side of the declared box: one number for all features, or one each (row-major)."""

ONNX_SUFFIX = ".onnx"


def load_model(
    source: ModelSource,
    *,
    weights: WeightsSource | None = None,
    labels: Sequence[str] | None = None,
    features: str | None = None,
    input_low: Side | None = None,
    input_high: Side | None = None,
) -> Graph:
    """The model as a Graph.

    source: a name of the zoo (`models.zoo.MODELS`), the path of an .onnx file, the bytes of one, or a Graph.
    weights: for a name of the zoo, an npz file or arrays by name; None takes those that the package ships.
    labels, features, input_low, input_high: replace what the model says about itself, and complete an ONNX file that
    says nothing: its labels, the feature set that it was trained on, the box that every input lies in.
    Raises ModelError, or ConfigError for an unknown feature set.
    """
    labels = None if labels is None else _labels(labels)
    if isinstance(source, str) and source in MODELS:
        built = build(source, weights, labels=None if weights is None else labels)
        return _with(built, labels, features, input_low, input_high)
    if weights is not None:
        raise ModelError(f"weights: expected them with a name of the zoo ({_zoo()}); other models hold their own")
    if isinstance(source, Graph):
        return _with(source, labels, features, input_low, input_high)
    content = source if isinstance(source, bytes) else _onnx_path(source)
    from sottovoce.models.onnx import import_onnx  # here: who loads no ONNX file need not wait for its reader

    graph = import_onnx(
        content,
        labels=labels,
        features=features,
        input_low=input_low,
        input_high=input_high,
    )
    _check_features(graph, features)
    return graph


def sample_features(samples: ArrayLike, graph: Graph, where: str = "calibrate") -> NDArray[np.float64]:
    """Sample features for `compile_graph(calibrate=)`: (clips, *input_shape), from these or from flat rows.

    Raises ModelError that starts with `where`.
    """
    try:
        values = np.asarray(samples)
    except ValueError:
        raise ModelError(f"{where}: expected an array of features, got rows of different lengths") from None
    width = int(np.prod(graph.input_shape))
    shapes = f"(clips, {width}) or (clips, {', '.join(map(str, graph.input_shape))})"
    if values.dtype.kind not in "fiu":
        raise ModelError(f"{where}: expected real numbers of shape {shapes}, got dtype {values.dtype}")
    if values.ndim == 2 and values.shape[1] == width:
        values = values.reshape(-1, *graph.input_shape)
    if values.ndim != 3 or values.shape[1:] != graph.input_shape or not len(values):
        raise ModelError(f"{where}: expected at least one row, {shapes}, got shape {values.shape}")
    return values.astype(np.float64)


def _onnx_path(source: object) -> Path:
    """`source` as the path of a file that may be ONNX; the error says what else a model can be."""
    if not isinstance(source, str | os.PathLike):
        raise ModelError(f"model: expected {_accepted()}, got {type(source).__name__}")
    path = Path(source)
    if path.suffix.lower() != ONNX_SUFFIX:
        raise ModelError(f"model: expected {_accepted()}, got {os.fspath(source)!r}")
    if not path.is_file():
        raise ModelError(f"model {path}: no such file")
    return path


def _accepted() -> str:
    return f"one of {_zoo()}, the path or the bytes of an {ONNX_SUFFIX} file, or a Graph"


def _zoo() -> str:
    return ", ".join(MODELS)


def _with(
    graph: Graph, labels: Sequence[str] | None, features: str | None, low: Side | None, high: Side | None
) -> Graph:
    """`graph` with what the caller says about it; a Graph checks itself when it is made."""
    _check_features(graph, features)
    return replace(
        graph,
        labels=graph.labels if labels is None else tuple(labels),
        features=graph.features if features is None else features,
        input_low=graph.input_low if low is None else _side(low),
        input_high=graph.input_high if high is None else _side(high),
    )


def _check_features(graph: Graph, name: str | None) -> None:
    """Whether the feature set that the caller names, if any, has the model's input shape."""
    if not name:
        return
    from sottovoce.models.speech.features import get_feature_set

    shape = get_feature_set(name).input_shape
    if shape != graph.input_shape:
        raise ModelError(
            f"model {graph.name!r}: features {name}: expected features of its input shape {graph.input_shape}, "
            f"got {shape}"
        )


def _labels(labels: Sequence[str]) -> tuple[str, ...]:
    if isinstance(labels, str):
        raise ModelError(f"labels: expected a sequence of texts, got one text {labels!r}")
    if not isinstance(labels, Iterable):
        raise ModelError(f"labels: expected a sequence of texts, got {type(labels).__name__}")
    return tuple(str(label) for label in labels)


def _side(side: Side) -> tuple[float, ...]:
    try:
        values = np.asarray(side)
    except ValueError:  # rows of different lengths
        values = np.asarray(None)
    if values.dtype.kind not in "fiu":
        raise ModelError(f"input box: expected a number or one for each feature, got {type(side).__name__}")
    return tuple(float(value) for value in values.reshape(-1))
