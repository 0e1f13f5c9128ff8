"""A model of the zoo as a Graph, from its trained weights, from random ones or from others."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

import numpy as np

from sottovoce.engine.errors import ModelError
from sottovoce.models.graph import Graph
from sottovoce.models.zoo.layers import Array
from sottovoce.models.zoo.table import MODELS, ZooModel
from sottovoce.models.zoo.weights import Weights, check_weights, draw_weights, load_weights


def build(
    name: str,
    weights: Mapping[str, Array] | str | os.PathLike[str] | None = None,
    *,
    labels: Sequence[str] | None = None,
) -> Graph:
    """The model `name`.

    weights: arrays by name (`<layer>.weight`, `<layer>.bias`), an npz file of such float32 arrays, or None for the
    trained ones that the package ships. labels: what the last layer tells apart, in its order; default: RAVDESS's
    eight emotions. Raises ModelError, also where the package ships no weights for `name`.
    """
    model = _find(name)
    names = model.labels if labels is None else _checked_labels(name, labels)
    shapes = model.shapes(len(names))
    if isinstance(weights, Mapping):
        check_weights(f"model {name!r}", weights, shapes)
        return model.graph({key: np.asarray(values) for key, values in weights.items()}, names)
    if not isinstance(weights, str | os.PathLike | None):
        raise ModelError(f"weights: expected an npz file or arrays by name, got {type(weights).__name__}")
    if weights is None and names != model.labels:
        raise ModelError(f"model {name!r}: expected weights for these labels, got none. {_how_to(name)}")
    return model.graph(load_weights(trained_weights(name) if weights is None else weights, shapes), names)


def list_models() -> tuple[str, ...]:
    """Names that `build` knows."""
    return tuple(MODELS)


def random_weights(name: str, seed: int, *, labels: Sequence[str] | None = None) -> Weights:
    """Untrained weights for `build`: PyTorch's default initialisation, float32, the same for the same seed."""
    model = _find(name)
    return draw_weights(model, seed, len(model.labels if labels is None else _checked_labels(name, labels)))


def trained_weights(name: str) -> Path:
    """The file of trained weights that the package ships for `name`. Raises ModelError if there is none."""
    folder = _find(name).weights
    if folder is None:
        raise ModelError(f"model {name!r}: expected weights, got none, and the package ships none. {_how_to(name)}")
    return Path(str(files("sottovoce.models.zoo"))) / folder / "weights.npz"


def _find(name: str) -> ZooModel:
    if name not in MODELS:
        raise ModelError(f"model: expected one of {', '.join(MODELS)}, got {name!r}")
    return MODELS[name]


def _checked_labels(name: str, labels: Sequence[str]) -> tuple[str, ...]:
    names = tuple(labels)
    if isinstance(labels, str) or len(names) < 2 or len(set(names)) < len(names):
        raise ModelError(f"model {name!r}: expected at least two different labels, got {len(names)}")
    return names


def _how_to(name: str) -> str:
    return (
        f"Pass a file or arrays as weights: trained ones (`sottovoce train` makes them, or an ONNX file), or untrained "
        f"ones, random_weights({name!r}, seed)"
    )
