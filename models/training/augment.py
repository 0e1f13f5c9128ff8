"""Augmented versions of recordings: what a microphone, a room and another day would change, not the emotion."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import numpy as np

from sottovoce.models.speech.audio import SAMPLE_RATE, WINDOW, Samples, load_audio

MAX_GAIN_DB = 6.0
MAX_SHIFT_S = 0.2
MAX_SPEED = 0.06
SNR_DB = (15.0, 40.0)


def augmented(samples: Samples, rng: np.random.Generator) -> Samples:
    """Another version of a recording at 22,050 Hz: speed, start, loudness and noise are drawn anew.

    Speed by up to 6 %, pitch and tempo together (resampling, as in Ko et al., Interspeech 2015); the start up to 0.2 s
    earlier (cut) or later (silence); gain up to ±6 dB, never beyond full scale; white noise 15 to 40 dB under the
    signal.
    """
    import resampy  # here, because it compiles when loaded

    speed = 1 + rng.uniform(-MAX_SPEED, MAX_SPEED)
    moved = resampy.resample(samples, SAMPLE_RATE, round(SAMPLE_RATE / speed), filter="kaiser_fast")
    moved = _shifted(moved, round(rng.uniform(-MAX_SHIFT_S, MAX_SHIFT_S) * SAMPLE_RATE))
    level = float(np.sqrt(np.mean(np.square(moved, dtype=np.float64))))
    noisy = moved + rng.normal(scale=max(level, 1e-9) * 10 ** (-rng.uniform(*SNR_DB) / 20), size=moved.size)
    peak = float(np.abs(noisy).max())
    gain = min(10 ** (rng.uniform(-MAX_GAIN_DB, MAX_GAIN_DB) / 20), 1 / max(peak, 1e-9))
    return np.asarray(noisy * gain, dtype=np.float32)


def augmented_recordings(paths: Sequence[str | os.PathLike[str]], seed: Sequence[int]) -> Iterator[Samples]:
    """One augmented version of each file, one at a time in memory; the seed and the file's number fix it."""
    for index, path in enumerate(paths):
        yield augmented(load_audio(path), np.random.default_rng([*seed, index]))


def _shifted(samples: Samples, offset: int) -> Samples:
    """Later by `offset` samples of silence, or earlier by cutting; at least one analysis window is left."""
    if offset >= 0:
        return np.concatenate([np.zeros(offset, dtype=np.float32), samples])
    return samples[min(-offset, max(samples.size - WINDOW, 0)) :]
