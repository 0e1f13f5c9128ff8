"""The two ways to split a corpus into training and test rows. A seed fixes each split; both need numpy only.

A *random* split has every speaker on both sides, as in the paper: it measures how well known speakers are recognised.
A *by-speaker* split keeps whole speakers apart: it measures what a stranger may expect. Always report both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np
import numpy.typing as npt

from sottovoce.engine.errors import InputError

Indices = npt.NDArray[np.int64]
SplitKind = Literal["random", "by_speaker"]
SPLIT_TITLES: Mapping[SplitKind, str] = MappingProxyType({"random": "random", "by_speaker": "by speaker"})

TEST_SHARE = 0.33
MIXED_BLOCKS = (16, 18, 19, 20, 21)
"""Blocks of the RAVDESS feature file that hold rows of several actors: they stay together."""


@dataclass(frozen=True, slots=True)
class Split:
    """Row numbers, ascending, that a model is trained and tested on."""

    train: Indices
    test: Indices


def random_split(num_rows: int, seed: int, share: float = TEST_SHARE) -> Split:
    """A random `share` of the rows for testing, whoever speaks."""
    return _shuffled(num_rows, share, np.random.default_rng([seed, 0]))


def speaker_groups(blocks: npt.ArrayLike) -> Indices:
    """Group of each row of the RAVDESS feature file: its block, or one for the blocks that mix actors."""
    groups = np.array(blocks, dtype=np.int64)
    groups[np.isin(groups, MIXED_BLOCKS)] = min(MIXED_BLOCKS)
    return groups


def speaker_split(groups: npt.ArrayLike, seed: int, share: float = TEST_SHARE) -> Split:
    """Whole speakers (equal numbers in `groups`) for testing, drawn at random until they hold `share` of the rows."""
    return _drawn_groups(np.asarray(groups, dtype=np.int64), share, np.random.default_rng([seed, 1]))


def split_rows(kind: SplitKind, groups: Indices, seed: int, share: float = TEST_SHARE) -> Split:
    """Training and test rows of a corpus. groups: (rows,), who speaks. InputError where a side is empty."""
    split = random_split(len(groups), seed, share) if kind == "random" else speaker_split(groups, seed, share)
    return _checked(split, f"{SPLIT_TITLES[kind]} split", groups)


def validation_split(kind: SplitKind, groups: Indices, train: Indices, seed: int, share: float) -> Split:
    """`train` again divided, in the same way as the test rows were split off: Split(train, test=validation)."""
    rng = np.random.default_rng([seed, 3])
    inner = _shuffled(len(train), share, rng) if kind == "random" else _drawn_groups(groups[train], share, rng)
    inner = _checked(inner, f"{SPLIT_TITLES[kind]} split of the training rows", groups[train])
    return Split(train[inner.train], train[inner.test])


def _shuffled(num_rows: int, share: float, rng: np.random.Generator) -> Split:
    order = rng.permutation(num_rows)
    num_test = round(num_rows * share)
    return Split(np.sort(order[num_test:]), np.sort(order[:num_test]))


def _drawn_groups(groups: Indices, share: float, rng: np.random.Generator) -> Split:
    drawn: list[int] = []
    for group in rng.permutation(np.unique(groups)):
        if np.isin(groups, drawn).mean() >= share:
            break
        drawn.append(int(group))
    in_test = np.isin(groups, drawn)
    return Split(np.flatnonzero(~in_test), np.flatnonzero(in_test))


def _checked(split: Split, what: str, groups: Indices) -> Split:
    if not len(split.train) or not len(split.test):
        got = f"{len(split.train)} and {len(split.test)} of {len(groups)} rows from {len(np.unique(groups))} speakers"
        raise InputError(
            f"{what}: expected rows on both sides, got {got}; more speakers, another split (--split random) or another "
            "share is needed"
        )
    return split
