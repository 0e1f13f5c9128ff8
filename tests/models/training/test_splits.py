"""Training, validation and test rows: every row once, and speakers apart where they must be."""

from __future__ import annotations

import numpy as np
import pytest

from sottovoce.engine.errors import InputError
from sottovoce.models.training.splits import (
    MIXED_BLOCKS,
    SPLIT_TITLES,
    SplitKind,
    random_split,
    speaker_groups,
    speaker_split,
    split_rows,
    validation_split,
)

BLOCKS = np.repeat(np.arange(24), 60)
GROUPS = speaker_groups(BLOCKS)


@pytest.mark.parametrize("seed", range(5))
def test_splits_cover_every_row_once_and_keep_speakers_apart(seed: int) -> None:
    for split in (random_split(1_440, seed), speaker_split(GROUPS, seed)):
        np.testing.assert_array_equal(np.sort(np.concatenate([split.train, split.test])), np.arange(1_440))
        assert 0.325 < len(split.test) / 1_440 < 0.55
    split = speaker_split(GROUPS, seed)
    assert not set(GROUPS[split.train]) & set(GROUPS[split.test])
    assert np.isin(BLOCKS, MIXED_BLOCKS)[split.train].sum() in (0, 300)


@pytest.mark.parametrize("kind", SPLIT_TITLES)
def test_splits_depend_on_the_seed_and_on_nothing_else(kind: SplitKind) -> None:
    first, again, other = (split_rows(kind, GROUPS, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.test, again.test)
    assert not np.array_equal(first.test, other.test)


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
@pytest.mark.parametrize("kind", SPLIT_TITLES)
def test_the_test_share_is_kept(kind: SplitKind, share: float) -> None:
    tested = len(split_rows(kind, GROUPS, 3, share).test) / 1_440
    assert share - 0.001 <= tested <= share + (0.001 if kind == "random" else 300 / 1_440)


@pytest.mark.parametrize("kind", SPLIT_TITLES)
@pytest.mark.parametrize("seed", range(3))
def test_validation_rows_are_training_rows_and_split_off_like_the_test_rows(kind: SplitKind, seed: int) -> None:
    outer = split_rows(kind, GROUPS, seed)
    inner = validation_split(kind, GROUPS, outer.train, seed, 0.15)
    np.testing.assert_array_equal(np.sort(np.concatenate([inner.train, inner.test])), outer.train)
    assert not set(inner.test) & set(outer.test) and 0.14 < len(inner.test) / len(outer.train) < 0.5
    shared = set(GROUPS[inner.train]) & set(GROUPS[inner.test])
    assert not shared if kind == "by_speaker" else len(shared) > 10


def test_one_speaker_cannot_be_split_by_speaker() -> None:
    with pytest.raises(InputError, match=r"by speaker split: expected rows on both sides, got 0 and 30 .* 1 speakers"):
        split_rows("by_speaker", np.zeros(30, dtype=np.int64), 0)
    assert len(split_rows("random", np.zeros(30, dtype=np.int64), 0).test) == 10


def test_two_speakers_leave_none_for_validation() -> None:
    groups = np.repeat([0, 1], 20)
    train = split_rows("by_speaker", groups, 0).train
    with pytest.raises(InputError, match="split of the training rows"):
        validation_split("by_speaker", groups, train, 0, 0.15)
