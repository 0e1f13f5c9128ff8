"""The feature sets that models are trained on: how a recording becomes numbers, and the box that holds them.

The boxes are proven, not observed: every recording that `check_samples` accepts lies in them, whatever it sounds like.
The proofs stand in the docstrings of `models.speech.mfcc` and `models.speech.spectral`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from sottovoce.engine.errors import ConfigError
from sottovoce.models.speech.audio import Samples
from sottovoce.models.speech.mfcc import (
    FEATURE_HIGH,
    FEATURE_LOW,
    FRAMES,
    N_MFCC,
    Features,
    mfcc40_frames,
    mfcc40_mean,
)
from sottovoce.models.speech.spectral import N_SPECTRAL, SPECTRAL_HIGH, SPECTRAL_LOW, spectral162_mean


@dataclass(frozen=True, slots=True)
class FeatureSet:
    """A way from a recording to a model's input, and the box that provably holds every result.

    low, high: `input_shape` = (channels, time), read-only. compute: mono float32 samples at 22,050 Hz, as `load_audio`
    and `check_samples` give them, to float64 features of `row_shape` within the box.
    """

    name: str
    input_shape: tuple[int, int]
    low: Features = field(repr=False)
    high: Features = field(repr=False)
    compute: Callable[[Samples], Features] = field(repr=False)

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of one recording's features: (n,) where the input is (1, n), else `input_shape`."""
        return self.input_shape[1:] if self.input_shape[0] == 1 else self.input_shape


FEATURE_SETS: Mapping[str, FeatureSet] = MappingProxyType(
    {
        row.name: row
        for row in (
            FeatureSet("mfcc40-mean", (1, N_MFCC), FEATURE_LOW[None], FEATURE_HIGH[None], mfcc40_mean),
            FeatureSet("spectral162-mean", (1, N_SPECTRAL), SPECTRAL_LOW[None], SPECTRAL_HIGH[None], spectral162_mean),
            FeatureSet(
                "mfcc40-frames151",
                (N_MFCC, FRAMES),
                np.broadcast_to(FEATURE_LOW[:, None], (N_MFCC, FRAMES)),
                np.broadcast_to(FEATURE_HIGH[:, None], (N_MFCC, FRAMES)),
                mfcc40_frames,
            ),
        )
    }
)


def get_feature_set(name: str) -> FeatureSet:
    """The feature set `name`. Raises ConfigError that lists the names there are."""
    if name not in FEATURE_SETS:
        raise ConfigError(f"features: expected one of {', '.join(FEATURE_SETS)}, got {name!r}")
    return FEATURE_SETS[name]
