"""The kinds of correlated randomness: what the parties draw, what follows from it, and how it lies in memory.

A protocol states its demand as a sequence of items. Each item has fields of three parts:

    own      uniform words that each of the two parties expands from a seed of its own
    derived  a function of both parties' own fields, as two shares that are uniform on their own
    common   a function of both parties' own fields that both hold (correction words of function secret sharing)

`derive` is the functionality that a source of preprocessing realises: a dealer evaluates it, two parties alone compute
it from oblivious transfer. Words are added mod 2^64, halves mod 2^32, bits by XOR.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from sottovoce.engine.tensors import U64, words

Part = Literal["own", "derived", "common"]
FORMAT = 1
"""Of items: a change of what one means is another format."""
CIPHER = "aes128ctr"
"""Of the words that seeds stand for. Dealer, stores and both parties depend on it: another cipher is another format."""
Fields = Mapping[str, NDArray[Any]]


class Unit(Enum):
    """How a row of a field is stored in uint64 words.

    WORDS: a word per element. HALVES: a uint32 per element. FLAGS: a bit per element. BITS: bits of no particular
    element, so that rows may be cut at any word when batches are put together.
    """

    WORDS = "words"
    HALVES = "halves"
    FLAGS = "flags"
    BITS = "bits"

    def words(self, count: int) -> int:
        """Words of one row of `count` elements."""
        if self is Unit.WORDS:
            return count
        return -(-count // 2) if self is Unit.HALVES else words(count)


@dataclass(frozen=True, slots=True)
class Field:
    """One array of an item: `rows` rows of `count` elements. Bits are (rows, W); of the others one row is 1-D."""

    name: str
    part: Part
    unit: Unit
    count: int
    rows: int = 1

    @property
    def words(self) -> int:
        """uint64 words of storage."""
        return self.rows * self.unit.words(self.count)


class Item(ABC):
    """One operation's correlated randomness. `n`: elements, over all clips of a batch."""

    __slots__ = ()

    @property
    @abstractmethod
    def fields(self) -> tuple[Field, ...]:
        """What it consists of."""

    @abstractmethod
    def times(self, clips: int) -> Self:
        """The same for a batch of so many clips."""

    @abstractmethod
    def derive(self, own: tuple[Fields, Fields], mask: U64 | None) -> Fields:
        """The derived fields, joined, and the common ones, from both parties' own. mask: B of a `Product`'s layer."""

    def correct(self, own: tuple[Fields, Fields], drawn: Fields, mask: U64 | None) -> Fields:
        """P_1's derived fields, what `derive` gives minus P_0's `drawn` ones, and the common ones."""
        joined = self.derive(own, mask)
        out = dict(joined)
        for field in self.fields:
            if field.part == "derived":
                whole, part = joined[field.name], drawn[field.name]
                out[field.name] = whole ^ part if field.unit in (Unit.BITS, Unit.FLAGS) else whole - part
        return out

    def words(self, part: Part) -> int:
        """uint64 words of one part."""
        return sum(f.words for f in self.fields if f.part == part)


@dataclass(frozen=True, slots=True)
class Scaled(Item):
    """An item that is given by a number of elements."""

    n: int

    def times(self, clips: int) -> Self:
        """Elements of all clips."""
        return replace(self, n=self.n * clips)


class Layout:
    """The items of one clip, in the order in which a program takes them, and how many words each part has."""

    def __init__(self, items: Sequence[Item]) -> None:
        self.items = tuple(items)
        self.own = sum(i.words("own") for i in self.items)
        self.derived = sum(i.words("derived") for i in self.items)
        self.common = sum(i.words("common") for i in self.items)

    @property
    def digest(self) -> bytes:
        """32 bytes that name the items with all their sizes and the stream that own words come from: the format."""
        text = f"{FORMAT} {CIPHER} {[(item, item.fields) for item in self.items]!r}"
        return hashlib.sha256(text.encode()).digest()

    def split(self, part: Part, flat: U64) -> Iterator[dict[str, NDArray[Any]]]:
        """Each item's fields of one part, of all clips, bits not cut. flat: (clips, words of the part)."""
        offset = 0
        for item in self.items:
            count = item.words(part)
            yield views(item, part, flat[:, offset : offset + count], cut=False)
            offset += count

    def __repr__(self) -> str:
        return f"Layout({len(self.items)} items: {self.own} own, {self.derived} derived, {self.common} common words)"


def plus(own: tuple[Fields, Fields], name: str) -> U64:
    """A field of words, joined."""
    total: U64 = own[0][name] + own[1][name]
    return total


def xor(own: tuple[Fields, Fields], name: str) -> U64:
    """A field of bits, joined."""
    total: U64 = np.bitwise_xor(own[0][name], own[1][name])
    return total


def views(clip: Item, part: Part, flat: U64, *, cut: bool = True) -> dict[str, NDArray[Any]]:
    """The fields of one part of `clip.times(clips)`, from the clips' words.

    flat: (clips, clip.words(part)), row after row as `clip.fields` says. Words, halves and flags keep the clips' order
    element by element; bits are the clips' words one after the other, cut to what the batch needs unless cut=False.
    """
    out: dict[str, NDArray[Any]] = {}
    offset = 0
    for field in clip.fields:
        if field.part == part:
            stored = flat[:, offset : offset + field.words].reshape(flat.shape[0], field.rows, -1)
            offset += field.words
            out[field.name] = _joined(field, stored, cut)
    return out


def _joined(field: Field, stored: U64, cut: bool) -> NDArray[Any]:
    """stored: (clips, rows, words of a row)."""
    rows = stored.swapaxes(0, 1)
    if field.unit is Unit.HALVES:
        joined: NDArray[Any] = np.ascontiguousarray(rows).view("<u4")[..., : field.count].reshape(field.rows, -1)
    elif field.unit is Unit.FLAGS and field.count % 64 and stored.shape[0] > 1:
        bits = np.unpackbits(np.ascontiguousarray(rows).view(np.uint8), axis=-1, bitorder="little")
        joined = pack_rows(bits[..., : field.count].reshape(field.rows, -1))
    else:
        joined = rows.reshape(field.rows, -1)
        if field.unit is Unit.BITS and cut:
            joined = joined[:, : words(stored.shape[0] * field.count)]
    return np.ascontiguousarray(joined[0] if field.rows == 1 and field.unit is not Unit.BITS else joined)


def pack_rows(bits: NDArray[np.uint8]) -> U64:
    """(rows, n) of 0 and 1 -> (rows, ceil(n / 64)) packed words, zero padded."""
    packed = np.packbits(bits, axis=-1, bitorder="little")
    out = np.zeros((bits.shape[0], 8 * words(bits.shape[1])), np.uint8)
    out[:, : packed.shape[1]] = packed
    return out.view("<u8")


def stored(clip: Item, part: Part, values: Fields, clips: int = 1) -> U64:
    """The clips' words of one part, (clips, clip.words(part)), from the batch's fields, bits not cut."""
    out = np.zeros((clips, clip.words(part)), np.uint64)
    offset = 0
    for field in clip.fields:
        if field.part != part:
            continue
        room = out[:, offset : offset + field.words].reshape(clips, field.rows, -1)
        value = values[field.name].reshape(field.rows, -1)
        if field.unit is Unit.HALVES:
            room.view("<u4")[..., : field.count] = value.reshape(field.rows, clips, -1).swapaxes(0, 1)
        elif field.unit is Unit.FLAGS and field.count % 64 and clips > 1:
            bits = np.unpackbits(value.view(np.uint8), axis=-1, count=clips * field.count, bitorder="little")
            by_clip = bits.reshape(field.rows, clips, field.count).swapaxes(0, 1)
            room[:] = pack_rows(by_clip.reshape(-1, field.count)).reshape(room.shape)
        else:
            room[:] = value.reshape(field.rows, clips, -1).swapaxes(0, 1)
        offset += field.words
    return out
