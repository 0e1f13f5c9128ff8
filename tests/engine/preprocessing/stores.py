"""Small stores with known content."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sottovoce.engine.preprocessing.store import Store, StoreIdentity, Taken

KEY = bytes(range(100, 132))
PAIR = b"p" * 4 + bytes(range(200, 212))
IDENTITY = StoreIdentity(program=bytes(range(32)), protocol="beaver2", rank=1, layout=bytes(range(64, 96)))
DERIVED, COMMON = 5, 3


def seed_of(start: int) -> bytes:
    """The seed of the segment that begins at `start`."""
    return bytes([start % 255 + 1]) * 16 + b"0123456789abcdef"


def words_of(index: int, words: int) -> np.ndarray:
    """What the record of a clip holds."""
    return np.arange(words, dtype=np.uint64) + np.uint64((index + 1) * 0x0102030405060708 % 2**64)


def fill(store: Store, clips: int, derived: int = DERIVED, common: int = COMMON) -> None:
    """Add a segment."""
    start = store.end
    rows = range(start, start + clips)
    with store.add(start, clips, seed_of(start), source="dealer", derived_words=derived, common_words=common) as writer:
        for part in (rows[: clips // 2], rows[clips // 2 :]):
            writer.write(
                np.array([words_of(i, derived) for i in part], np.uint64).reshape(-1, derived) if derived else None,
                np.array([words_of(i, common) for i in part], np.uint64).reshape(-1, common) if common else None,
            )


def make(folder: Path, segments: Sequence[int] = (3, 4)) -> Store:
    """A store with segments of so many clips."""
    store = Store.create(folder, key=KEY, identity=IDENTITY, pair=PAIR)
    for clips in segments:
        fill(store, clips)
    return store


def reopen(folder: Path) -> Store:
    """With the right key and identity."""
    return Store.open(folder, key=KEY, identity=IDENTITY)


def check_taken(taken: Sequence[Taken], wanted: range) -> None:
    """Each clip once, in order, with its own content."""
    assert [clip for part in taken for clip in part.clips] == list(wanted)
    for part in taken:
        derived, common = part.read(part.clips)
        np.testing.assert_array_equal(derived, [words_of(clip, DERIVED) for clip in part.clips])
        np.testing.assert_array_equal(common, [words_of(clip, COMMON) for clip in part.clips])
        assert part.done
