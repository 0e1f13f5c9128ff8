"""The paper's CNN with its default weights: 40 averaged MFCCs in, 8 emotions out.

Conv1D(1 -> 128, 5, same), ReLU, AvgPool(4), Conv1D(128 -> 128, 5, same), ReLU, Flatten 1280, Dense(8). Channels come
first; the flattening is row-major over (128 channels, 10 positions).

The architecture has 93,064 trained parameters, 128 of them the first layer's biases. The file stores that bias as
(128 channels, 40 positions), because the standardisation of the inputs is folded into the first layer: "same" padding
pads with zeros *after* standardisation and each position has its own mean, so the shift that folding adds to the bias
depends on the position. It is made of the 128 biases, the first layer's weights and the 40 means; nothing else is
learnt in it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from sottovoce.engine.errors import FeatureError
from sottovoce.models.speech.corpora.ravdess import LABELS
from sottovoce.models.speech.mfcc import FEATURE_HIGH, FEATURE_LOW, N_MFCC
from sottovoce.models.zoo.build import trained_weights
from sottovoce.models.zoo.weights import Weights
from sottovoce.models.zoo.weights import load_weights as _load

__all__ = [
    "FEATURE_HIGH",
    "FEATURE_LOW",
    "LABELS",
    "PARAMETERS",
    "SHAPES",
    "Weights",
    "forward_float",
    "load_weights",
    "weights_path",
]

SHAPES: Mapping[str, tuple[int, ...]] = MappingProxyType(
    {
        "conv1.weight": (128, 1, 5),
        "conv1.bias": (128, N_MFCC),
        "conv2.weight": (128, 128, 5),
        "conv2.bias": (128,),
        "dense.weight": (8, 1280),
        "dense.bias": (8,),
    }
)
PARAMETERS = 93_064


def weights_path() -> Path:
    """The default weights that the package ships (their licence is beside them: LICENSE-WEIGHTS)."""
    return trained_weights("paper")


def load_weights(path: str | os.PathLike[str] | None = None) -> Weights:
    """Read a weights file (default: the shipped one): the float32 arrays of SHAPES. Raises ModelError."""
    where = weights_path() if path is None else path
    return _load(where, {name: (shape,) for name, shape in SHAPES.items()})


def forward_float(
    weights: Mapping[str, npt.NDArray[Any]], features: npt.ArrayLike, dtype: npt.DTypeLike = np.float64
) -> npt.NDArray[Any]:
    """The network in the clear and in floating point: features (rows, 40), not standardised, to logits (rows, 8).

    `dtype` is the precision of every step, float64 or float32. The reference for the fixed-point and secret-shared
    runs; it is written for reading, not for speed.
    """
    kind = np.dtype(dtype)
    x = np.asarray(features)
    if x.ndim != 2 or x.shape[1] != N_MFCC:
        raise FeatureError(f"paper: expected features of shape (rows, {N_MFCC}), got {x.shape}")
    w = {name: np.asarray(array, dtype=kind) for name, array in weights.items()}
    hidden = np.maximum(_conv_same(x.astype(kind)[:, None, :], w["conv1.weight"]) + w["conv1.bias"], 0)
    pooled = hidden.reshape(x.shape[0], 128, N_MFCC // 4, 4).mean(axis=3, dtype=kind)
    hidden = np.maximum(_conv_same(pooled, w["conv2.weight"]) + w["conv2.bias"][:, None], 0)
    return np.asarray(hidden.reshape(x.shape[0], 1280) @ w["dense.weight"].T + w["dense.bias"])


def _conv_same(x: npt.NDArray[Any], weight: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Cross-correlation with zero padding: x (rows, c_in, time), weight (c_out, c_in, 5) to (rows, c_out, time)."""
    padded = np.pad(x, ((0, 0), (0, 0), (2, 2)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, 5, axis=2)  # (rows, c_in, time, 5)
    return np.asarray(np.tensordot(windows, weight, axes=([1, 3], [1, 2])).transpose(0, 2, 1))
