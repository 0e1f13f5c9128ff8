"""From the trained network to the shipped one: rounding, folding of the standardisation, balance of two layers.

Training sees z = (x - mean) / scale, with one mean per position and one scale for all. The shipped network sees x.
Only a common scale can be folded exactly: conv1.weight (128, 1, 5) is shared by all positions, so a scale per position
would need a weight per position. The means cost nothing, since they end in the bias:

    conv1(z)[c, t] = b[c] + sum_j W[c, j] (x[t + j - 2] - mean[t + j - 2]) / scale      over taps inside the input

so W' = W / scale and b'[c, t] = b[c] - (W' conv_same mean)[c, t]. The scale is a power of two: W / scale is exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sottovoce.models.zoo.paper import Weights

Arrays = Mapping[str, npt.NDArray[Any]]

GRID_BITS = 16
"""Shipped weights are multiples of 2**-16: fixed point with 16 fraction bits holds them without error."""


@dataclass(frozen=True, slots=True)
class Standardisation:
    """z = (x - mean) / scale. mean: (40,) float64; scale: a power of two."""

    mean: npt.NDArray[np.float64]
    scale: float

    def apply(self, features: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """features: (rows, 40) to the same shape, standardised."""
        return (np.asarray(features, dtype=np.float64) - self.mean) / self.scale


def balance_and_round(trained: Arrays, standardisation: Standardisation, shift: int) -> dict[str, npt.NDArray[Any]]:
    """The network for standardised inputs whose folded form lies on the grid, float64.

    conv1 is multiplied by 2**shift and conv2.weight divided by it: the same function, as ReLU and the mean commute
    with a positive factor, but rounding errors after conv1 count 2**shift times less. Then every weight is rounded so
    that it is a multiple of 2**-GRID_BITS after folding. Biases are not rounded: they are added in full precision.
    """
    gain = 2.0**shift
    out = {name: np.asarray(array, dtype=np.float64) for name, array in trained.items()}
    out["conv1.weight"] = _on_grid(out["conv1.weight"] * gain / standardisation.scale) * standardisation.scale
    out["conv1.bias"] = out["conv1.bias"] * gain
    out["conv2.weight"] = _on_grid(out["conv2.weight"] / gain)
    out["dense.weight"] = _on_grid(out["dense.weight"])
    return out


def fold(network: Arrays, standardisation: Standardisation) -> Weights:
    """Fold the standardisation into the first layer. network: as trained, conv1.bias (128,). Result: as shipped."""
    folded = {name: np.asarray(array, dtype=np.float64) for name, array in network.items()}
    weight = folded["conv1.weight"] / standardisation.scale
    padded = np.pad(standardisation.mean, 2)
    windows = np.lib.stride_tricks.sliding_window_view(padded, 5)  # (40, 5)
    folded["conv1.weight"] = weight
    folded["conv1.bias"] = folded["conv1.bias"][:, None] - weight[:, 0, :] @ windows.T
    return {name: array.astype(np.float32) for name, array in folded.items()}


def unfolded(network: Arrays) -> dict[str, npt.NDArray[Any]]:
    """The network for standardised inputs in the form that `forward_float` takes: conv1.bias repeated to (128, 40)."""
    spread = dict(network)
    spread["conv1.bias"] = np.repeat(np.asarray(network["conv1.bias"])[:, None], 40, axis=1)
    return spread


def _on_grid(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    step = 2.0**-GRID_BITS
    return np.asarray(np.round(array / step) * step)
