"""The table of models that come with the package, each built as a Graph from its default weights or from others."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from sottovoce.engine.errors import ModelError
from sottovoce.models.graph import AvgPool, Conv1d, Dense, Graph, Relu, Reshape, same_padding

Weights = Mapping[str, NDArray[np.floating]]


def build(name: str, weights: Weights | str | os.PathLike[str] | None = None) -> Graph:
    """The model `name` with the weights that the package ships, those of a file, or given arrays. Raises ModelError."""
    if name not in _BUILDERS:
        raise ModelError(f"model: expected one of {', '.join(list_models())}, got {name!r}")
    return _BUILDERS[name](weights)


def list_models() -> tuple[str, ...]:
    """Names that `build` knows."""
    return tuple(sorted(_BUILDERS))


def _paper(weights: Weights | str | os.PathLike[str] | None) -> Graph:
    """Conv1D(128, 5, same), ReLU, AvgPool(4), Conv1D(128, 5, same), ReLU, Flatten, Dense(8) on 40 averaged MFCCs."""
    from sottovoce.models.zoo import paper  # it imports this package

    arrays = weights if isinstance(weights, Mapping) else paper.load_weights(weights)
    missing = sorted(set(paper.SHAPES) - set(arrays))
    if missing:
        raise ModelError(
            f"model 'paper': expected arrays {', '.join(paper.SHAPES)}, got none named {', '.join(missing)}"
        )
    for key, shape in paper.SHAPES.items():
        if arrays[key].shape != shape:
            raise ModelError(f"model 'paper': expected {key} of shape {shape}, got {arrays[key].shape}")
    same = same_padding(5)
    nodes = (
        Conv1d("conv1", arrays["conv1.weight"], arrays["conv1.bias"], padding=same),
        Relu("relu1"),
        AvgPool("pool1", 4, 4),
        Conv1d("conv2", arrays["conv2.weight"], arrays["conv2.bias"], padding=same),
        Relu("relu2"),
        Reshape("flatten"),
        Dense("dense", arrays["dense.weight"], arrays["dense.bias"]),
    )
    low, high = (tuple(float(v) for v in side) for side in (paper.FEATURE_LOW, paper.FEATURE_HIGH))
    return Graph("paper", (1, len(low)), nodes, tuple(paper.LABELS), low, high, features="mfcc40-mean")


_BUILDERS: Mapping[str, Callable[[Weights | str | os.PathLike[str] | None], Graph]] = MappingProxyType(
    {"paper": _paper}
)
