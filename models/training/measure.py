"""What is reported about a trained network: accuracy, confusion, and what its fixed-point error depends on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

NUM_CLASSES = 8


def accuracy(logits: npt.NDArray[Any], labels: npt.NDArray[np.int64], rows: npt.NDArray[np.int64]) -> float:
    """Share of the given rows whose largest logit is the label's, rounded to 4 places."""
    return round(float(np.mean(logits[rows].argmax(axis=1) == labels[rows])), 4)


def confusion(logits: npt.NDArray[Any], labels: npt.NDArray[np.int64], rows: npt.NDArray[np.int64]) -> list[list[int]]:
    """Counts over the given rows: [true class][predicted class]."""
    table = np.zeros((NUM_CLASSES, NUM_CLASSES), dtype=np.int64)
    np.add.at(table, (labels[rows], logits[rows].argmax(axis=1)), 1)
    return [[int(count) for count in row] for row in table]


def margins(logits: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Largest minus second-largest logit of each row: (rows,)."""
    top = np.sort(logits, axis=1)
    return np.asarray(top[:, -1] - top[:, -2], dtype=np.float64)


def norms(weights: Mapping[str, npt.NDArray[Any]], logits: npt.NDArray[Any]) -> dict[str, float]:
    """The factors by which a rounding error can grow, and the margin that only 1 % of all rows stay below.

    An error e in each input of conv2 is at most e * conv2_l1 behind it, and at most dense_pair_l1 times that in the
    difference of two logits.
    """
    conv2 = np.abs(np.asarray(weights["conv2.weight"], dtype=np.float64)).sum(axis=(1, 2)).max()
    dense = np.asarray(weights["dense.weight"], dtype=np.float64)
    pairs = np.abs(dense[:, None, :] - dense[None, :, :]).sum(axis=2).max()
    return {
        "conv2_l1": round(float(conv2), 3),
        "dense_pair_l1": round(float(pairs), 2),
        "l1_product": round(float(conv2 * pairs), 1),
        "margin_1_percent": round(float(np.quantile(margins(logits), 0.01)), 5),
    }
