"""Preprocessing from a store: the seeds expanded, the records beside them."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np

from sottovoce.engine.errors import MaskReuseError, PreprocessingError, ProtocolError
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
    """The clips of one batch. Their records are read part by part: memory holds those of one part."""

    def __init__(self, taken: Sequence[Taken], layout: Layout, fill: Fill, rank: int) -> None:
        self._taken = taken
        self._clips = range(taken[0].clips.start, taken[-1].clips.stop)
        self._left = set(self._clips)
        self._mutex = threading.Lock()
        self._layout = layout
        self._fill = fill
        self._me = f"party {rank}: preprocessing"

    def part(self, start: int, stop: int) -> Material:
        """The material of the batch's clips start … stop - 1, once. Raises ProtocolError for a range outside of it."""
        if not 0 <= start < stop <= len(self._clips):
            raise ProtocolError(
                f"{self._me}: expected at least one of the batch's {len(self._clips)} clips, got those from {start} "
                f"up to {stop}, exclusive"
            )
        wanted = self._clips[start:stop]
        with self._mutex:
            if not self._left.issuperset(wanted):
                raise MaskReuseError(
                    f"{self._me}: expected clips that were not asked for before, got {start} to {stop - 1} of the batch"
                )
            self._left.difference_update(wanted)
        runs = [
            self._run(taken, run)
            for taken in self._taken
            if (run := range(max(wanted.start, taken.clips.start), min(wanted.stop, taken.clips.stop)))
        ]
        own, derived, common = zip(*runs, strict=True)
        return BatchMaterial(self._layout, _joined(own), _joined(derived), _joined(common))

    def _run(self, taken: Taken, clips: range) -> tuple[U64, U64, U64]:
        """own, derived and common words, (clips, words of that part), of consecutive clips of one segment."""
        layout, segment = self._layout, taken.segment
        expected = (segment.derived_words and layout.derived, layout.common)
        if (segment.derived_words, segment.common_words) != expected:
            raise PreprocessingError(
                f"{self._me}: {segment}: expected {layout.derived} derived and {layout.common} common words, got "
                f"{segment.derived_words} and {segment.common_words}"
            )
        own = words_of("own", segment.seed, clips, layout.own, self._fill)
        derived, common = taken.read(clips)
        if not segment.derived_words:
            derived = words_of("derived", segment.seed, clips, layout.derived, self._fill)
        return own, derived, common


def _joined(parts: Sequence[U64]) -> U64:
    """Behind each other, (clips, words)."""
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
