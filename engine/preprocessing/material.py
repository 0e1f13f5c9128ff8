"""Material of a batch that lies in memory, clip by clip."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from sottovoce.engine.errors import MaskReuseError, ProtocolError
from sottovoce.engine.preprocessing.base import Material
from sottovoce.engine.preprocessing.items import Fields, Item, Layout, Part, views
from sottovoce.engine.tensors import U64


class BatchMaterial(Material):
    """own, derived, common: (clips, words of that part). Each item comes once and in order."""

    def __init__(self, layout: Layout, own: U64, derived: U64, common: U64) -> None:
        self._layout = layout
        self._clips = own.shape[0]
        self._words: dict[Part, U64] = {"own": own, "derived": derived, "common": common}
        self._at: dict[Part, int] = {"own": 0, "derived": 0, "common": 0}
        self._next = 0

    def __repr__(self) -> str:
        return f"BatchMaterial({self._clips} clips, item {self._next} of {len(self._layout.items)})"

    def take(self, item: Item) -> Fields:
        """This party's fields of `item`, which must be the next one."""
        items = self._layout.items
        if self._next >= len(items):
            raise MaskReuseError(f"preprocessing: expected at most {len(items)} items of a clip, got one more: {item}")
        clip = items[self._next]
        expected = clip.times(self._clips)
        if item != expected:
            raise ProtocolError(f"preprocessing: expected item {self._next} to be {expected}, got {item}")
        self._next += 1
        out: dict[str, NDArray[Any]] = {}
        for part, flat in self._words.items():
            at, count = self._at[part], clip.words(part)
            self._at[part] = at + count
            if count:
                out |= views(clip, part, flat[:, at : at + count])
        return out
