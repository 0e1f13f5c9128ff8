"""Preprocessing from a store: the seeds expanded, the records beside them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import numpy as np

from sottovoce.engine.errors import MaskReuseError, PreprocessingError
from sottovoce.engine.preprocessing.base import Material, Preprocessing, Reserved
from sottovoce.engine.preprocessing.expand import mask_words, words_of
from sottovoce.engine.preprocessing.items import Layout
from sottovoce.engine.preprocessing.material import BatchMaterial
from sottovoce.engine.preprocessing.store import Store, Taken, too_few
from sottovoce.engine.prg import Fill
from sottovoce.engine.program import Linear
from sottovoce.engine.tensors import U64


class StorePreprocessing(Preprocessing):
    """One party's preprocessing, out of its store. layout: of the store's program under its protocol."""

    def __init__(self, store: Store, layout: Layout, fill: Fill) -> None:
        self._store = store
        self._layout = layout
        self._fill = fill
        self._agreed: int | None = None

    def __repr__(self) -> str:
        return f"StorePreprocessing({self._store!r})"

    @property
    def pair(self) -> bytes:
        """16 bytes that the parties' stores have in common."""
        return self._store.pair

    @property
    def position(self) -> int:
        """The next unused clip."""
        return self._store.position

    @property
    def end(self) -> int:
        """One behind the last clip that both parties have."""
        return self._store.end if self._agreed is None else min(self._store.end, self._agreed)

    def agree(self, position: int, end: int) -> None:
        """Skip what the partner has used, and use none from `end` on. Positions only move forward."""
        self._store.advance(min(max(position, self._store.position), self._store.end))
        self._agreed = end

    def claim(self, weights: bytes) -> None:
        """Bind the masks of weights to one model, on the disk."""
        self._store.claim(weights)

    def mask(self, step: Linear) -> U64:
        """This party's share of B."""
        return mask_words(self._store.mask_seed, step, self._fill)

    def reserve(self, clips: int) -> Reserved:
        """The next clips, marked as used on the disk."""
        left = max(0, self.end - self.position)
        if clips > left:
            raise PreprocessingError(f"party {self._store.identity.rank}: preprocessing: {too_few(clips, left)}")
        return _Batch(self._store.take(clips), self._layout, self._fill, self._store.identity.rank)

    def close(self) -> None:
        """Close the store."""
        self._store.close()


class _Batch(Reserved):
    """The records of one batch, each let go when its part is made."""

    def __init__(self, taken: Sequence[Taken], layout: Layout, fill: Fill, rank: int) -> None:
        self._taken: list[Taken | None] = list(taken)
        self._layout = layout
        self._fill = fill
        self._rank = rank

    def part(self, start: int, stop: int) -> Material:
        """The material of the batch's clips start … stop - 1, once."""
        clips = [clip for clip in self._taken[start:stop] if clip is not None]
        if not 0 <= start < stop <= len(self._taken) or len(clips) != stop - start:
            raise MaskReuseError(
                f"party {self._rank}: preprocessing: expected clips of {len(self._taken)} that were not asked for "
                f"before, got {start} to {stop - 1}"
            )
        self._taken[start:stop] = [None] * (stop - start)
        runs = [self._run(list(run)) for _, run in groupby(clips, key=lambda clip: clip.seed)]
        return BatchMaterial(self._layout, *(np.concatenate(parts) for parts in zip(*runs, strict=True)))

    def _run(self, clips: Sequence[Taken]) -> tuple[U64, U64, U64]:
        """own, derived and common words, (clips, words of that part), of consecutive clips under one seed."""
        layout, seed = self._layout, clips[0].seed
        numbers = range(clips[0].index, clips[-1].index + 1)
        own = words_of("own", seed, numbers, layout.own, self._fill)
        if clips[0].derived is None:
            derived = words_of("derived", seed, numbers, layout.derived, self._fill)
        else:
            derived = self._records([clip.derived for clip in clips], numbers, layout.derived)
        return own, derived, self._records([clip.common for clip in clips], numbers, layout.common)

    def _records(self, rows: Sequence[U64 | None], numbers: range, words: int) -> U64:
        """(clips, words); records of another size were made for another demand."""
        out = np.empty((len(rows), words), np.uint64)
        for row, clip, value in zip(out, numbers, rows, strict=True):
            got = 0 if value is None else value.size
            if got != words:
                raise PreprocessingError(
                    f"party {self._rank}: preprocessing: clip {clip}: expected {words} words, got {got}"
                )
            if value is not None:
                row[:] = value
        return out
