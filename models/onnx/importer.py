"""An ONNX file as a Graph: the network, and what is said about it by the caller or by the file."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from sottovoce.engine.errors import ModelError
from sottovoce.models.graph import Graph
from sottovoce.models.onnx.chain import clean_name
from sottovoce.models.onnx.external import ExternalData
from sottovoce.models.onnx.metadata import Metadata, parse_metadata
from sottovoce.models.onnx.source import Source, describe, read_model
from sottovoce.models.onnx.walk import Walk
from sottovoce.models.speech.features import FEATURE_SETS, FeatureSet, get_feature_set

Side = ArrayLike


def import_onnx(
    source: Source,
    *,
    name: str | None = None,
    labels: Sequence[str] | None = None,
    features: str | None = None,
    input_low: Side | None = None,
    input_high: Side | None = None,
) -> Graph:
    """The model in an ONNX file, or in its bytes, as a Graph.

    source: a path or bytes; the file is read as data, nothing in it is run. Weights that an exporter has put into a
    file beside it are read from there.
    name: of the model, else what `export_onnx` wrote, else the file's or the graph's.
    labels: one per logit, else the file's own, else LABEL_0, LABEL_1, …
    features: name of the feature set that the model was trained on, else the file's own, else "".
    input_low, input_high: the box that holds every input, one number or one per feature (row-major in the Graph's
    input shape), else the file's own, else the feature set's.

    The input is (clips, channels, time) or (clips, features); axes of size 1 are left out. A model that takes (clips,
    time, channels) has the input shape (time, channels), unless its feature set says otherwise.
    Raises ModelError that names the ONNX node, what was expected and got, and what would work instead; ConfigError for
    an unknown feature set.
    """
    where = describe(source)
    model = read_model(source)
    metadata = parse_metadata(model, where)
    known = get_feature_set(features) if features else FEATURE_SETS.get(metadata.features or "")
    path = Path(source) if isinstance(source, str | os.PathLike) else None
    walk = Walk(model, where, metadata, known, ExternalData(path and path.parent))
    chain = walk.run()
    title = name or metadata.name or (path.stem if path else str(model.graph.name))
    low, high = _box(where, metadata, known, input_low, input_high)
    return Graph(
        clean_name(title, 64) or "model",
        walk.input_shape,
        tuple(chain.nodes),
        _labels(math.prod(chain.shape), metadata, labels),
        low,
        high,
        metadata.features or "" if features is None else features,
    )


def _labels(count: int, metadata: Metadata, labels: Sequence[str] | None) -> tuple[str, ...]:
    if isinstance(labels, str):
        raise ModelError("labels: expected a sequence of texts, got one text")
    given = metadata.labels if labels is None else tuple(labels)
    return tuple(f"LABEL_{number}" for number in range(count)) if given is None else given


def _box(
    where: str, metadata: Metadata, known: FeatureSet | None, low: Side | None, high: Side | None
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The box of the inputs: what the caller says, else the file, else the feature set."""
    if (low is None) != (high is None):
        raise ModelError(f"{where}: expected both input_low and input_high, got one of them")
    if low is not None and high is not None:
        return _side(low), _side(high)
    if metadata.box is not None:
        return metadata.box.low, metadata.box.high
    if known is None:
        raise ModelError(
            f"{where}: it does not say which values its inputs take: pass features= (--features), one of "
            f"{', '.join(FEATURE_SETS)}, if it was trained on one of these, or the bounds of its inputs, input_low= "
            "and input_high= (--box LOW HIGH)"
        )
    return _side(known.low), _side(known.high)


def _side(values: Side) -> tuple[float, ...]:
    try:
        return tuple(np.asarray(values, dtype=np.float64).reshape(-1).tolist())
    except (TypeError, ValueError):
        raise ModelError("input box: expected a number or one for each feature, got something else") from None
