"""Signals at the edge of what `check_samples` accepts, for the boxes of the feature sets."""

from __future__ import annotations

import numpy as np

from sottovoce.models.speech.audio import MAX_PEAK, SAMPLE_RATE


def noise(seconds: float = 1.0, seed: int = 0) -> np.ndarray:
    """White noise, uniform in -1 … 1."""
    return np.random.default_rng(seed).uniform(-1, 1, round(SAMPLE_RATE * seconds))


def click(at: int, size: int = SAMPLE_RATE, height: float = MAX_PEAK) -> np.ndarray:
    """One sample of `height` in silence."""
    samples = np.zeros(size)
    samples[at] = height
    return samples


def tone(frequency: float) -> np.ndarray:
    """A second of a sine at full height."""
    return MAX_PEAK * np.sin(2 * np.pi * frequency * _T / SAMPLE_RATE)


_T = np.arange(SAMPLE_RATE)
ADVERSARIAL = {
    "click in silence": click(SAMPLE_RATE // 2),
    "click in a minute of silence": click(1_000_000, 60 * SAMPLE_RATE, 1.1e-4),
    "silence for 3.5 s, then a click": click(100_000, 5 * SAMPLE_RATE),
    "single sample in the shortest recording": click(0, 2_048),
    "faint click": click(7, height=1.1e-4),
    "DC": np.full(SAMPLE_RATE, MAX_PEAK),
    "DC step": np.where(_T < 9_000, -MAX_PEAK, MAX_PEAK),
    "slow square wave": MAX_PEAK * np.sign(tone(25.5) + 1e-9),
    "square wave": MAX_PEAK * np.sign(tone(440) + 1e-9),
    "square wave of a narrow band": MAX_PEAK * np.sign(tone(226.1) + 1e-9),
    "Nyquist": MAX_PEAK * np.where(_T % 2, 1.0, -1.0),
    "binary noise": MAX_PEAK * np.sign(noise()),
    "uniform noise": MAX_PEAK * noise(),
    "long noise": MAX_PEAK * noise(5.0),
    "impulse train": np.where(_T % 512 == 0, MAX_PEAK, 0.0),
    "low tone": tone(26),
    "tone in the middle": tone(1_507.3),
    "high tone": tone(10_900),
    "half the bands": MAX_PEAK * np.sinc((_T - SAMPLE_RATE / 2) / 8),
    "tone, then silence": np.where(_T < 2_048, MAX_PEAK * np.sin(_T / 9), 0.0),
    "sweep": MAX_PEAK * np.sin(2 * np.pi * (_T / 4) ** 2 / SAMPLE_RATE),
}
