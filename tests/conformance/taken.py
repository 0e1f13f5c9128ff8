"""Which items of preprocessing a session takes, chunk by chunk."""

from __future__ import annotations

from dataclasses import dataclass, field

from sottovoce.engine.preprocessing.base import Material, Preprocessing, Reserved
from sottovoce.engine.preprocessing.items import Fields, Item
from sottovoce.engine.session import Session
from sottovoce.engine.tensors import U64


@dataclass(slots=True)
class Taken:
    """What one party reserved (clips), and what it took, by chunk (first clip, last clip + 1)."""

    reserved: list[int] = field(default_factory=list)
    chunks: dict[tuple[int, int], list[Item]] = field(default_factory=dict)


def watch(session: Session) -> Taken:
    """Record what a session takes from now on."""
    taken = Taken()
    assert session.preprocessing is not None
    session.preprocessing = _Watched(session.preprocessing, taken)
    return taken


class _Watched(Preprocessing):
    """Passes everything on."""

    def __init__(self, inner: Preprocessing, taken: Taken) -> None:
        self._inner, self._taken = inner, taken

    @property
    def pair(self) -> bytes:
        return self._inner.pair

    @property
    def position(self) -> int:
        return self._inner.position

    @property
    def end(self) -> int:
        return self._inner.end

    def agree(self, position: int, end: int) -> None:
        self._inner.agree(position, end)

    def claim(self, weights: bytes) -> None:
        self._inner.claim(weights)

    def mask(self, step) -> U64:
        return self._inner.mask(step)

    def reserve(self, clips: int) -> Reserved:
        self._taken.reserved.append(clips)
        return _WatchedBatch(self._inner.reserve(clips), self._taken)

    def close(self) -> None:
        self._inner.close()


class _WatchedBatch(Reserved):
    def __init__(self, inner: Reserved, taken: Taken) -> None:
        self._inner, self._taken = inner, taken

    def part(self, start: int, stop: int) -> Material:
        return _WatchedMaterial(self._inner.part(start, stop), self._taken.chunks.setdefault((start, stop), []))


class _WatchedMaterial(Material):
    def __init__(self, inner: Material, items: list[Item]) -> None:
        self._inner, self._items = inner, items

    def take(self, item: Item) -> Fields:
        self._items.append(item)
        return self._inner.take(item)
