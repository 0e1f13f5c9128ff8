"""The source of preprocessing without a third party: what the parties' own words imply, computed by the two alone."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np

from sottovoce.engine.backend.cpu import CpuBackend
from sottovoce.engine.errors import PreprocessingError
from sottovoce.engine.preprocessing.expand import mask_words, words_of
from sottovoce.engine.preprocessing.items import Item, Layout
from sottovoce.engine.preprocessing.kinds import Mul, Product
from sottovoce.engine.preprocessing.ot import ring
from sottovoce.engine.preprocessing.ot.bits import run
from sottovoce.engine.preprocessing.ot.extension import groups
from sottovoce.engine.preprocessing.ot.link import FIELD_BITS, Link
from sottovoce.engine.preprocessing.ot.pieces import Piece, grouped
from sottovoce.engine.prg import Fill
from sottovoce.engine.program import Linear
from sottovoce.engine.tensors import U64
from sottovoce.engine.transport.base import Transport

TRANSFERS_AT_ONCE = 1 << 18
"""Of products with bits, about: their pads take 12 MB."""

Progress = Callable[[float], None]
"""progress(clips done, with a fraction)."""


class OtSource:
    """One party's side: derived words by oblivious transfer with the other, over one lane. Semi-honest.

    width: bits of the digits of ring products, 1 to 8; more take fewer bytes and more time. field_bits: of
    SoftSpokenOT. Both parties call `generate` at once and with the same layout and clips. Not thread-safe.
    """

    def __init__(
        self, transport: Transport, layout: Layout, fill: Fill, *, width: int = ring.WIDTH, field_bits: int = FIELD_BITS
    ) -> None:
        dealt = next((item for item in layout.items if item.words("common")), None)
        if dealt is not None:
            raise PreprocessingError(
                f"oblivious transfer: expected items without common words, got {type(dealt).__name__}: keys of "
                "function secret sharing need the dealer; use --source dealer or --comparison boolean"
            )
        self._transport = transport
        self._layout = layout
        self._fill = fill
        ring.digits(width)  # raises if there are no such digits
        self._width = width
        self._field_bits = field_bits
        self._transfer_bits = groups(field_bits)
        self._link: Link | None = None

    def __repr__(self) -> str:
        return f"OtSource(P{self._transport.rank}, digits of {self._width} bits, {self._layout})"

    def generate(self, seed: bytes, mask_seed: bytes, start: int, stop: int, progress: Progress | None = None) -> U64:
        """This party's derived words of the clips start … stop - 1: (clips, layout.derived).

        All clips are worked on together: more at once take fewer bytes a clip, and memory. Raises PreprocessingError
        if the other party makes something else, TransportError.
        """
        link = self._opened()
        self._agree(link, start, stop)
        clips = stop - start
        own = words_of("own", seed, range(start, stop), self._layout.own, self._fill)
        tell = _Telling(self._layout, clips, progress)
        found: list[U64 | Piece] = []
        for item, fields in zip(self._layout.items, self._layout.split("own", own), strict=True):
            if isinstance(item, Product):
                b = mask_words(mask_seed, item.step, self._fill)
                found.append(self._product(link, item.step, fields["a"].reshape(clips, -1), b, tell))
            elif isinstance(item, Mul):
                c = fields["a"] * fields["b"] + ring.multiply(link, fields["a"], fields["b"], tell)
                found.append(c.reshape(clips, -1))
            else:
                found.append(Piece(item, link.rank, fields, clips))
        for group in grouped([piece for piece in found if isinstance(piece, Piece)], TRANSFERS_AT_ONCE):
            run(link, group)
        if progress is not None:
            progress(float(clips))
        parts = [part.stored() if isinstance(part, Piece) else part for part in found]
        return np.concatenate([np.empty((clips, 0), np.uint64), *parts], axis=1)

    def _opened(self) -> Link:
        if self._link is None:
            self._link = Link(self._transport, self._field_bits)
        return self._link

    def _agree(self, link: Link, start: int, stop: int) -> None:
        """Both make the same, in the same way."""
        if not 0 <= start < stop:
            raise PreprocessingError(f"P{link.rank}: oblivious transfer: expected clips, got {start} to {stop}")
        used = (link.chosen, link.sent) if link.rank == 0 else (link.sent, link.chosen)
        text = f"{self._width} {self._field_bits} {used} {start} {stop} {self._layout.items!r}"
        mine = np.frombuffer(hashlib.sha256(text.encode()).digest(), np.uint8)
        theirs = np.empty_like(mine)
        link.swap([mine], [theirs])
        if not np.array_equal(mine, theirs):
            raise PreprocessingError(
                f"P{link.rank}: oblivious transfer of clips {start} to {stop}: expected the other party to make "
                "the same items for the same clips in the same way after as many transfers, got something else; start "
                "both alike and anew"
            )

    def _product(self, link: Link, step: Linear, a: U64, b: U64, tell: ring.Progress) -> U64:
        """This party's share of C: (clips, outputs). a: (clips, inputs)."""
        clips = a.shape[0]
        local = np.empty((clips, *step.linear_shape), np.uint64)
        backend = CpuBackend()
        backend.linear(step, a.reshape(clips, *step.in_shape), backend.pack_linear(step, b), local, False)
        way = ring.cheapest(step, clips, self._width, self._transfer_bits)
        crossed = np.zeros(local.size, np.uint64)
        ring.add_products(link, way.plan, way.width, *way.layer.arrange(a, b), crossed, tell)
        return way.layer.restore(crossed) + local.reshape(clips, -1)


class _Telling:
    """Progress in clips: by ring products, which are nearly all of the work."""

    def __init__(self, layout: Layout, clips: int, progress: Progress | None) -> None:
        self._total = max(1, clips * sum(_multiplications(item) for item in layout.items))
        self._clips = clips
        self._done = 0
        self._progress = progress

    def __call__(self, products: int) -> None:
        self._done += products
        if self._progress is not None:
            self._progress(min(1.0, self._done / self._total) * self._clips)


def _multiplications(item: Item) -> int:
    if isinstance(item, Product):
        return item.step.multiplications
    return item.n if isinstance(item, Mul) else 0
