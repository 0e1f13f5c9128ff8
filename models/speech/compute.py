"""Features of one recording, the same numbers however many cores there are.

A matrix product of float32 numbers is rounded in another order with two BLAS threads than with one: the 40 MFCCs of a
recording then differ in their last digits. Features are part of the model, so they are computed with one thread.
"""

from __future__ import annotations

import os
import threading

import numpy as np
import numpy.typing as npt
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped, unused-ignore]

from sottovoce.models.speech.audio import SAMPLE_RATE, check_samples, load_audio
from sottovoce.models.speech.features import FeatureSet

Recording = str | os.PathLike[str] | npt.NDArray[np.generic]
"""A sound file by its path, or an array of samples."""

Features = npt.NDArray[np.float64]

_ONE_AT_A_TIME = threading.Lock()  # the number of BLAS threads belongs to the process, not to the thread that sets it


def compute_features(
    recording: Recording,
    feature_set: FeatureSet,
    *,
    sample_rate: int = SAMPLE_RATE,
    name: str = "array",
) -> Features:
    """Features of a file, or of samples at `sample_rate` Hz that errors call `name`: float64 of `row_shape`.

    Raises AudioError for a recording that cannot be used.
    """
    if isinstance(recording, str | os.PathLike):
        samples = load_audio(recording)
    else:
        samples = check_samples(recording, sample_rate, name)
    with _ONE_AT_A_TIME, ThreadpoolController().limit(limits=1, user_api="blas"):
        row = feature_set.compute(samples)
    assert row.shape == feature_set.row_shape
    return np.ascontiguousarray(row, dtype=np.float64)
