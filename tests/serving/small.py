"""A model that compiles and runs in a moment."""

from __future__ import annotations

import numpy as np

from sottovoce.models.graph import Conv1d, Dense, Graph, Relu, Reshape

LABELS = ("x", "y", "z")


def small_graph(seed: int = 0, *, scale: float = 0.5) -> Graph:
    """Conv, ReLU, dense: 3 labels from 2 x 8 features in [-1, 1]."""
    rng = np.random.default_rng(seed)
    nodes = (
        Conv1d("conv", rng.normal(0, scale, (4, 2, 3)), rng.normal(0, scale, 4), padding=(1, 1)),
        Relu("relu"),
        Reshape("flatten"),
        Dense("dense", rng.normal(0, 0.5, (3, 32)), rng.normal(0, 0.5, 3)),
    )
    return Graph("small", (2, 8), nodes, LABELS, (-1.0,), (1.0,))


def small_features(clips: int, seed: int = 1) -> np.ndarray:
    """(clips, 2, 8) inside the box."""
    return np.random.default_rng(seed).uniform(-1, 1, (clips, 2, 8))
