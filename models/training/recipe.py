"""How a network is trained: the settings, and the presets of the models that come with the package."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np
import numpy.typing as npt

from sottovoce.engine.errors import ConfigError

Scaling = Literal["feature", "common"]
Weighting = Literal["none", "balanced"]
SCALINGS: tuple[Scaling, ...] = ("feature", "common")
WEIGHTINGS: tuple[Weighting, ...] = ("none", "balanced")


@dataclass(frozen=True, slots=True)
class Recipe:
    """Settings of one training run. Raises ConfigError for one that makes no sense.

    scaling: standardise with one scale per feature, or with `common_scale` for all. A common scale is folded into a
    convolution at no cost; a scale per feature is a layer of its own where positions share weights.
    epochs: at most; patience: epochs without a better validation score before training ends, 0 to run them all.
    validation: share of the *training* rows that are held out to choose the epoch; used only with patience.
    mixup: parameter of the beta distribution that mixes pairs of rows, 0 for none (Zhang et al., ICLR 2018).
    noise: standard deviation of Gaussian noise on standardised features.
    dropout_hidden: on the input of every convolution but the first; dropout_dense: on that of every dense layer.
    average: decay of the exponential moving average of the weights that is kept instead of the last ones, 0 for none.
    equalise: train the first dense layer divided by the initial size of what each position feeds it, so that loud
    positions are not all that is learnt early; needed with a common scale.
    balance_bits: the first layer times 2**bits, the next divided by it: the same function with less rounding error.
    grid_bits: weights are rounded to multiples of 2**-bits, which fixed point holds without error.
    """

    scaling: Scaling = "feature"
    common_scale: float = 4.0
    epochs: int = 150
    batch: int = 32
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    class_weights: Weighting = "none"
    label_smoothing: float = 0.0
    mixup: float = 0.4
    noise: float = 0.0
    dropout_hidden: float = 0.1
    dropout_dense: float = 0.3
    average: float = 0.0
    patience: int = 30
    validation: float = 0.15
    equalise: bool = False
    balance_bits: int = 0
    grid_bits: int = 16

    def __post_init__(self) -> None:
        for name, low, high in _LIMITS:
            value = getattr(self, name)
            if not (math.isfinite(value) and low <= value <= high):
                raise ConfigError(f"recipe: {name}: expected {low:g} to {high:g}, got {value:g}")
        for name, choices in (("scaling", SCALINGS), ("class_weights", WEIGHTINGS)):
            if getattr(self, name) not in choices:
                raise ConfigError(f"recipe: {name}: expected {' or '.join(choices)}, got {getattr(self, name)!r}")


_LIMITS: tuple[tuple[str, float, float], ...] = (
    ("common_scale", 1e-6, 1e6),
    ("epochs", 1, 100_000),
    ("batch", 1, 1_000_000),
    ("learning_rate", 1e-9, 10),
    ("weight_decay", 0, 10),
    ("label_smoothing", 0, 0.9),
    ("mixup", 0, 100),
    ("noise", 0, 10),
    ("dropout_hidden", 0, 0.95),
    ("dropout_dense", 0, 0.95),
    ("average", 0, 0.99999),
    ("patience", 0, 100_000),
    ("validation", 0.01, 0.9),
    ("balance_bits", 0, 12),
    ("grid_bits", 8, 24),
)

RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        "tiny": Recipe(
            scaling="common", epochs=80, learning_rate=6e-3, mixup=0, patience=0, equalise=True, balance_bits=0
        ),
        "paper": Recipe(scaling="common", epochs=200, patience=0, equalise=True, balance_bits=5),
        "max": Recipe(
            scaling="common",
            common_scale=32.0,
            epochs=160,
            batch=64,
            learning_rate=8e-3,
            mixup=0.2,
            patience=0,
            equalise=True,
            balance_bits=5,
        ),
    }
)
"""Presets by model; other models start from `Recipe()`."""

_CHOSEN = (
    "This preset was chosen on a fifth of the *training* rows of other RAVDESS splits (seeds {seeds}), which the "
    "networks tried were not trained on. As all RAVDESS splits are drawn from the same rows, such a row may be a test "
    "row of a seed above."
)
NOTES: Mapping[str, str] = MappingProxyType(
    {
        "tiny": f"{_CHOSEN.format(seeds='100 and 101')} Six settings were tried.",
        "paper": _CHOSEN.format(seeds="100 to 102"),
        "max": (
            f"{_CHOSEN.format(seeds='100 and 101')} Seventeen settings were tried, some with one of the two seeds; "
            "the one taken was then compared with the one before on another fifth for seed 100."
        ),
    }
)
"""What the cards of models trained by a preset say about its choice."""


def recipe_for(model: str) -> Recipe:
    """The preset of a model, or the defaults."""
    return RECIPES.get(model, Recipe())


def class_weights(labels: npt.NDArray[np.int64], classes: int, weighting: Weighting) -> npt.NDArray[np.float64]:
    """Factor of each class in the loss, (classes,): 1, or rows / (classes x rows of the class).

    A class without rows gets 1: it never enters the loss.
    """
    counts = np.bincount(labels, minlength=classes)
    if weighting == "none":
        return np.ones(classes)
    return np.where(counts > 0, len(labels) / (classes * np.maximum(counts, 1)), 1.0)


class EarlyStopping:
    """Remembers the best epoch: highest validation accuracy, lower loss where that is equal."""

    def __init__(self, patience: int) -> None:
        self._patience = patience
        self._best = (-math.inf, -math.inf)
        self._waited = 0

    def better(self, accuracy: float, loss: float) -> bool:
        """Whether this epoch is the best so far; call it once for each."""
        score = (accuracy, -loss)
        if score > self._best:
            self._best, self._waited = score, 0
            return True
        self._waited += 1
        return False

    @property
    def over(self) -> bool:
        """Whether training should end."""
        return self._waited >= self._patience
