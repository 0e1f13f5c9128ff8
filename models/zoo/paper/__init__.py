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
import zipfile
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from sottovoce.engine.errors import FeatureError, ModelError
from sottovoce.models.speech.features import FEATURE_HIGH, FEATURE_LOW, N_MFCC
from sottovoce.models.speech.ravdess import LABELS

__all__ = [
    "FEATURE_HIGH",
    "FEATURE_LOW",
    "LABELS",
    "MAX_FILE_BYTES",
    "PARAMETERS",
    "SHAPES",
    "forward_float",
    "load_weights",
    "weights_path",
]

Weights = dict[str, npt.NDArray[np.float32]]

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
MAX_FILE_BYTES = 1 << 20


def weights_path() -> Path:
    """The default weights that the package ships (their licence is beside them: LICENSE-WEIGHTS)."""
    return Path(str(files(__name__) / "weights.npz"))


def load_weights(path: str | os.PathLike[str] | None = None) -> Weights:
    """Read a weights file (default: the shipped one): the float32 arrays named in SHAPES.

    Raises ModelError for a file that is missing, larger than `MAX_FILE_BYTES`, no npz, or that holds another set of
    arrays, another shape or dtype, or a value that is not finite. Nothing in the file is unpickled.
    """
    where = weights_path() if path is None else Path(path)
    try:
        size = where.stat().st_size
        if size > MAX_FILE_BYTES:
            raise ModelError(f"weights {where}: expected at most {MAX_FILE_BYTES} bytes, got {size}")
        with open(where, "rb") as file, np.load(file, allow_pickle=False) as archive:
            unpacked = sum(entry.file_size for entry in archive.zip.infolist())
            if unpacked > MAX_FILE_BYTES:  # a small file can unpack to a thousand times its size
                raise ModelError(f"weights {where}: expected at most {MAX_FILE_BYTES} bytes unpacked, got {unpacked}")
            if sorted(archive.files) != sorted(SHAPES):
                raise ModelError(f"weights {where}: expected arrays {sorted(SHAPES)}, got {sorted(archive.files)}")
            arrays = {name: archive[name] for name in SHAPES}
    except ModelError:
        raise
    except OSError as problem:
        raise ModelError(
            f"weights {where}: expected an npz file of arrays, got: {problem.strerror or problem}"
        ) from None
    except (ValueError, EOFError, AttributeError, TypeError, zipfile.BadZipFile):
        raise ModelError(f"weights {where}: expected an npz file of arrays, got something else") from None
    for name, shape in SHAPES.items():
        array = arrays[name]
        if array.dtype != np.float32 or array.shape != shape:
            raise ModelError(f"weights {where}: expected {name} float32 {shape}, got {array.dtype} {array.shape}")
        if not np.isfinite(array).all():
            raise ModelError(f"weights {where}: expected finite numbers in {name}, got NaN or infinity")
    return arrays


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
