"""The two ways to split RAVDESS into training and test rows. A seed fixes each split; both need numpy only.

A *random* split has every speaker on both sides, as in the paper: it measures how well known speakers are recognised.
A *by-speaker* split keeps whole speakers apart: it measures what a stranger may expect. Always report both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]

TEST_SHARE = 0.33
MIXED_BLOCKS = (16, 18, 19, 20, 21)
"""Blocks of the feature file that hold rows of several actors: they stay together."""


@dataclass(frozen=True, slots=True)
class Split:
    """Row numbers, ascending, that a model is trained and tested on."""

    train: Indices
    test: Indices


def random_split(num_rows: int, seed: int) -> Split:
    """A random third of the rows for testing, whoever speaks."""
    order = np.random.default_rng([seed, 0]).permutation(num_rows)
    num_test = round(num_rows * TEST_SHARE)
    return Split(np.sort(order[num_test:]), np.sort(order[:num_test]))


def speaker_groups(blocks: npt.ArrayLike) -> Indices:
    """Group of each row: its block, or one common group for the blocks that mix actors."""
    groups = np.array(blocks, dtype=np.int64)
    groups[np.isin(groups, MIXED_BLOCKS)] = min(MIXED_BLOCKS)
    return groups


def speaker_split(blocks: npt.ArrayLike, seed: int) -> Split:
    """Whole groups of speakers for testing, drawn at random until they hold at least a third of the rows."""
    groups = speaker_groups(blocks)
    drawn: list[int] = []
    for group in np.random.default_rng([seed, 1]).permutation(np.unique(groups)):
        if np.isin(groups, drawn).mean() >= TEST_SHARE:
            break
        drawn.append(int(group))
    in_test = np.isin(groups, drawn)
    return Split(np.flatnonzero(~in_test), np.flatnonzero(in_test))
