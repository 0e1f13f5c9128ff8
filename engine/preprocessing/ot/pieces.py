"""The words of an item for many clips as columns of 64 elements, which products with bits work on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sottovoce.engine.preprocessing.items import Field, Fields, Item, Unit, stored
from sottovoce.engine.preprocessing.ot.bits import WORD_BITS, Columns, Job, job_of
from sottovoce.engine.tensors import U64

NUMBERS: Mapping[Unit, type[np.unsignedinteger[Any]]] = MappingProxyType(
    {Unit.WORDS: np.uint64, Unit.HALVES: np.uint32}
)
Work = tuple[Job, Columns, Columns]
"""A job with its own and its derived columns."""


class Piece:
    """One item, for all clips. item: of one clip. own: its fields for all clips, bits not cut (see `items.views`)."""

    def __init__(self, item: Item, rank: int, own: Fields, clips: int) -> None:
        self.job = job_of(item, rank)
        self._item = item
        self._clips = clips
        bits = [np.atleast_2d(own[f.name]) for f in item.fields if f.part == "own" and f.unit is not Unit.WORDS]
        self.columns = bits[0].shape[1]
        """Of all clips."""
        self._own = {f.name: self._padded(f, own[f.name]) for f in item.fields if f.part == "own"}
        self._derived = {f.name: self._empty(f) for f in item.fields if f.part == "derived"}

    @property
    def transfers(self) -> int:
        """Transfers of a column, in the direction that has more of them."""
        return WORD_BITS * max(len(self.job.chosen(rank)[1]) for rank in range(2))

    def work(self, first: int, last: int) -> Work:
        """The columns first … last - 1, as views."""
        return self.job, _cut(self._own, first, last), _cut(self._derived, first, last)

    def stored(self) -> U64:
        """The derived words, (clips, words of an item)."""
        fields = [field for field in self._item.fields if field.part == "derived"]
        cut = {
            field.name: self._derived[field.name][: self._clips * field.count]
            if field.unit in NUMBERS
            else self._derived[field.name]
            for field in fields
        }
        return stored(self._item, "derived", cut, self._clips)

    def _padded(self, field: Field, value: NDArray[Any]) -> NDArray[Any]:
        if field.unit is not Unit.WORDS:
            return np.atleast_2d(value)
        out = np.zeros(WORD_BITS * self.columns, np.uint64)
        out[: value.size] = value
        return out

    def _empty(self, field: Field) -> NDArray[Any]:
        if field.unit in NUMBERS:
            return np.empty(WORD_BITS * self.columns, NUMBERS[field.unit])
        return np.empty((field.rows, self.columns), np.uint64)


def _cut(fields: Columns, first: int, last: int) -> Columns:
    return {
        name: value[:, first:last] if value.ndim == 2 else value[WORD_BITS * first : WORD_BITS * last]
        for name, value in fields.items()
    }


def grouped(pieces: Sequence[Piece], limit: int) -> Iterator[list[Work]]:
    """All columns of all pieces, put together so that no group has many more than `limit` transfers."""
    group: list[Work] = []
    held = 0
    for piece in pieces:
        step = max(1, limit // piece.transfers)
        for first in range(0, piece.columns, step):
            last = min(piece.columns, first + step)
            if held and held + (last - first) * piece.transfers > limit:
                yield group
                group, held = [], 0
            group.append(piece.work(first, last))
            held += (last - first) * piece.transfers
    if group:
        yield group
