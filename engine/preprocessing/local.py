"""Preprocessing inside one process: both parties' material from one dealer, for tests, measuring, and `LocalCluster`.

Whoever runs it knows all secrets; parties that must not trust each other use stores.
"""

from __future__ import annotations

import secrets
import threading

import numpy as np

from sottovoce.engine.errors import MaskReuseError, PreprocessingError, ProtocolError
from sottovoce.engine.preprocessing.base import Material, Preprocessing, Reserved
from sottovoce.engine.preprocessing.dealer import deal, weight_masks
from sottovoce.engine.preprocessing.expand import mask_words, words_of
from sottovoce.engine.preprocessing.items import Fields, Item, Layout
from sottovoce.engine.preprocessing.material import BatchMaterial
from sottovoce.engine.prg import KEY_BYTES, Fill
from sottovoce.engine.program import Linear
from sottovoce.engine.tensors import U64

PARTIES = 2
CLIPS_AT_ONCE = 16


class LocalDealer:
    """Seeds of both parties, and what was made from them so far. `parties[i]` is what P_i gets to see."""

    def __init__(self, layout: Layout, fill: Fill) -> None:
        self.layout = layout
        self.fill = fill
        self.pair = secrets.token_bytes(16)
        self.seeds = (secrets.token_bytes(KEY_BYTES), secrets.token_bytes(KEY_BYTES))
        self.mask_seeds = (secrets.token_bytes(KEY_BYTES), secrets.token_bytes(KEY_BYTES))
        self._made: dict[int, tuple[tuple[U64, U64], bool]] = {}
        self._lock = threading.Lock()
        self.end = 0
        self._masks = weight_masks(layout, self.mask_seeds, fill)
        self.parties = [LocalPreprocessing(self, rank) for rank in range(PARTIES)]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.layout!r}, {self.end} clips)"

    def prepare(self, clips: int) -> None:
        """Make the material of so many more clips."""
        for start in range(self.end, self.end + clips, CLIPS_AT_ONCE):
            numbers = range(start, min(start + CLIPS_AT_ONCE, self.end + clips))
            derived_1, common = deal(self.layout, self._masks, self.seeds, numbers, self.fill)
            for row, index in enumerate(numbers):
                self._made[index] = (derived_1[row], common[row]), False
        self.end += clips

    def take(self, index: int) -> tuple[U64, U64]:
        """P_1's derived words and the common words of a clip, for one party; dropped when both have had them."""
        with self._lock:
            made, asked = self._made[index]
            if asked:
                del self._made[index]
            else:
                self._made[index] = made, True
        return made


class LocalPreprocessing(Preprocessing):
    """One party's side of a LocalDealer."""

    def __init__(self, dealer: LocalDealer, rank: int) -> None:
        self._dealer = dealer
        self._rank = rank
        self._position = 0
        self._claimed: bytes | None = None

    @property
    def pair(self) -> bytes:
        """Names the dealer."""
        return self._dealer.pair

    @property
    def position(self) -> int:
        """The next unused clip."""
        return self._position

    @property
    def end(self) -> int:
        """One behind the last clip there is."""
        return self._dealer.end

    def agree(self, position: int, end: int) -> None:
        """Parties of one process always agree, also on clips that are made later."""
        self._position = max(self._position, position)

    def claim(self, weights: bytes) -> None:
        """Bind the masks of weights to one model."""
        if self._claimed not in (None, weights):
            raise PreprocessingError(f"party {self._rank}: preprocessing: its weight masks were used for another model")
        self._claimed = weights

    def mask(self, step: Linear) -> U64:
        """This party's share of B."""
        return mask_words(self._dealer.mask_seeds[self._rank], step, self._dealer.fill)

    def reserve(self, clips: int) -> Reserved:
        """The next clips."""
        left = self.end - self._position
        if clips > left:
            raise PreprocessingError(f"party {self._rank}: preprocessing: expected {clips} clips, {left} are left")
        first = self._position
        self._position += clips
        return _LocalReserved(self._dealer, self._rank, range(first, first + clips))

    def close(self) -> None:
        """Nothing is open."""


class _LocalReserved(Reserved):
    def __init__(self, dealer: LocalDealer, rank: int, clips: range) -> None:
        self._dealer = dealer
        self._rank = rank
        self._left = set(clips)
        self._first = clips.start

    def part(self, start: int, stop: int) -> Material:
        """The material of the clips start … stop - 1, once."""
        if start >= stop:
            raise ProtocolError(f"party {self._rank}: preprocessing: expected clips, got {start} to {stop}")
        wanted = range(self._first + start, self._first + stop)
        if not self._left.issuperset(wanted):
            raise MaskReuseError(f"party {self._rank}: preprocessing: clips {start} to {stop - 1} were taken before")
        self._left.difference_update(wanted)
        dealer, layout = self._dealer, self._dealer.layout
        seed = dealer.seeds[self._rank]
        made = [dealer.take(i) for i in wanted]
        own = words_of("own", seed, wanted, layout.own, dealer.fill)
        if self._rank == 0:
            derived = words_of("derived", seed, wanted, layout.derived, dealer.fill)
        else:
            derived = np.stack([m[0] for m in made])
        return BatchMaterial(layout, own, derived, np.stack([m[1] for m in made]))


class LiveDealer(LocalDealer):
    """Material item by item as it is asked for, without a demand stated beforehand: for trying single operations.

    It never has clips: a batch is refused. items: what was asked for so far.
    """

    def __init__(self, fill: Fill) -> None:
        super().__init__(Layout([]), fill)
        self.items: list[Item] = []
        self._fields: list[tuple[Fields, Fields]] = []
        self.materials = [_LiveMaterial(self, rank) for rank in range(PARTIES)]

    def fields(self, number: int, item: Item, rank: int) -> Fields:
        """A party's fields of the `number`-th item."""
        with self._lock:
            if number == len(self._fields):
                self.items.append(item)
                self._fields.append(self._make(item))
            if self.items[number] != item:
                raise PreprocessingError(
                    f"party {rank}: preprocessing: expected {self.items[number]} as the other party, got {item}"
                )
            return self._fields[number][rank]

    def _make(self, item: Item) -> tuple[Fields, Fields]:
        layout = Layout([item])
        seeds = (secrets.token_bytes(KEY_BYTES), secrets.token_bytes(KEY_BYTES))
        masks = weight_masks(layout, self.mask_seeds, self.fill)
        clip = range(1)
        derived_1, common = deal(layout, masks, seeds, clip, self.fill)
        derived = (words_of("derived", seeds[0], clip, layout.derived, self.fill), derived_1)
        left, right = (
            BatchMaterial(layout, words_of("own", seeds[i], clip, layout.own, self.fill), derived[i], common).take(item)
            for i in range(PARTIES)
        )
        return left, right


class _LiveMaterial(Material):
    def __init__(self, dealer: LiveDealer, rank: int) -> None:
        self._dealer = dealer
        self._rank = rank
        self._next = 0

    def take(self, item: Item) -> Fields:
        """The next item, made now."""
        self._next += 1
        return self._dealer.fields(self._next - 1, item, self._rank)
