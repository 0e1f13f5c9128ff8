"""Ring products by vector OLE over small digits [Gilboa 99 with digits of k bits; all-but-one OT as in 2022/192].

P has numbers x, the other Q a row of numbers y for each. x is cut into digits of k bits. For a digit d Q knows 2^k
seeds, numbered 0 … 2^k - 1, and P all of them but number d; both expand them to streams t_0, t_1, … as long as the row.
Q sends c = y - sum t_x and keeps v = sum x t_x; P computes d c + sum (d - x) t_x = d y - v, in which the stream that it
does not know has weight 0. Together that is d y, and the sum over the digits, times 2^(k j), is x y mod 2^64. For digit
j only 64 - k j bits count, and only so many are sent.

Both parties are P for one half of a product and Q for the other, at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from sottovoce.engine.backend.cpu import CpuBackend
from sottovoce.engine.errors import ProtocolError
from sottovoce.engine.preprocessing.ot.link import Link
from sottovoce.engine.preprocessing.ot.plan import LayerPlan, Plan, Side, elementwise
from sottovoce.engine.preprocessing.ot.trees import as_keys, correction_words, grow, puncture
from sottovoce.engine.program import Linear
from sottovoce.engine.tensors import U64, words

RING_BITS = 64
NARROW_BITS = 32
MAX_WIDTH = 8
WIDTH = 6
"""k: 374 bits a product, 64 leaves a digit. With 8 it would be 288 bits and about twice the time."""
CHUNK_BYTES = 8 << 20
"""Of corrections in one message, about."""
CHUNK_ELEMENTS = 1 << 10
"""Elements worked on at a time, at most: their leaves and pads take a few MB."""
SIDES: tuple[Side, ...] = ("inputs", "weights")

Progress = Callable[[int], None]
"""progress(products done since the last call)."""


def digits(width: int) -> Iterator[tuple[int, int]]:
    """(lowest bit, bits) of every digit."""
    if not 1 <= width <= MAX_WIDTH:
        raise ProtocolError(f"oblivious transfer: expected digits of 1 to {MAX_WIDTH} bits, got {width}")
    return ((low, min(width, RING_BITS - low)) for low in range(0, RING_BITS, width))


def product_bits(width: int) -> int:
    """Bits that a product takes, in each direction."""
    return sum(RING_BITS - low for low, _ in digits(width))


def element_bits(width: int, transfer_bits: int) -> int:
    """Bits that an element takes whatever the length of its row, `transfer_bits` for a transfer, in both directions."""
    return sum(transfer_bits * bits + RING_BITS * correction_words(bits) for _, bits in digits(width))


@dataclass(frozen=True, slots=True)
class Cheapest:
    """The way of the fewest bytes: one direction's, of all elements and products."""

    bits: int
    layer: LayerPlan
    plan: Plan
    width: int


def cheapest(step: Linear, clips: int, width: int, transfer_bits: int) -> Cheapest:
    """Digits from A or from B, of `width` bits or of one."""
    found: list[Cheapest] = []
    for side in SIDES:
        layer = LayerPlan(step, clips, side)
        plan = layer.plan()
        for k in (width, 1):
            bits = plan.elements * element_bits(k, transfer_bits) + plan.products * product_bits(k)
            found.append(Cheapest(bits, layer, plan, k))
    return min(found, key=lambda way: way.bits)


def multiply(link: Link, x: U64, y: U64, progress: Progress | None = None) -> U64:
    """Shares of x_0 y_1 + x_1 y_0, elementwise, (n,)."""
    out = np.zeros(x.size, np.uint64)
    add_products(link, elementwise(x.size), 1, x, y, out, progress)
    return out


def add_products(
    link: Link, plan: Plan, width: int, x: U64, y: U64, out: U64, progress: Progress | None = None
) -> None:
    """Add this party's share of plan(x_0, y_1) + plan(x_1, y_0) to `out`. x, y, out: flat, as the plan counts."""
    x = plan.digits_of(x)
    row = max(plan.products // max(plan.elements, 1), 1)
    step = max(1, min(CHUNK_ELEMENTS, 8 * CHUNK_BYTES // (row * product_bits(width))))
    for first in range(0, plan.elements, step):
        last = min(plan.elements, first + step)
        _Chunk(link, plan, width, first, last).run(x[first:last], y, out)
        if progress is not None:
            progress(row * (last - first))


class _Chunk:
    """The elements first … last - 1 of a plan."""

    def __init__(self, link: Link, plan: Plan, width: int, first: int, last: int) -> None:
        self._link = link
        self._kernels = CpuBackend().kernels
        self._width = width
        self._elements = last - first
        self._run = plan.run
        self._offsets, self._y_at, self._out_at = plan.rows(first, last)
        self._products = int(self._offsets[-1])

    def run(self, x: U64, y: U64, out: U64) -> None:
        """Both halves. x: (elements,)."""
        link, z = self._link, np.zeros(self._products, np.uint64)
        operations = link.chosen, link.sent
        chosen, pads = link.transfers(x, x.size)
        outgoing = self._as_holder(pads, operations[1], y, z)
        incoming = [self._room(bits, low) for low, bits in digits(self._width)]
        link.swap([part for pair in outgoing for part in pair], [part for pair in incoming for part in pair])
        self._as_chooser(chosen, operations[0], x, incoming, z)
        self._kernels.add_runs(z, self._out_at, self._run, out)

    def _room(self, bits: int, low: int) -> tuple[U64, U64]:
        """Arrays for the tree corrections and the corrections of a digit."""
        return (
            np.empty((self._elements, correction_words(bits)), np.uint64),
            np.empty(words(self._products * (RING_BITS - low)), np.uint64),
        )

    def _as_holder(self, pads: U64, operation: int, y: U64, z: U64) -> list[tuple[U64, U64]]:
        """Q's part: what to send; its share goes into z. pads: (2, 64 elements, 2)."""
        keys = self._link.tree_keys(1 - self._link.rank, operation)
        pads = pads.reshape(2, self._elements, RING_BITS, 2)
        row = np.ascontiguousarray(y[(self._y_at[:, None] + np.arange(self._run)).reshape(-1)])
        out = []
        for low, bits in digits(self._width):
            leaves, tree = grow(keys, pads[:, :, low : low + bits][:, :, ::-1])
            u, v = self._sums(leaves, np.full(self._elements, -1), operation, low)
            _, packed = self._room(bits, low)
            self._kernels.vole_correct(row, u, v, low, z, packed)
            out.append((tree, packed))
        return out

    def _as_chooser(self, pads: U64, operation: int, x: U64, incoming: list[tuple[U64, U64]], z: U64) -> None:
        """P's part; its share goes into z. pads: (64 elements, 2)."""
        keys = self._link.tree_keys(self._link.rank, operation)
        pads = pads.reshape(self._elements, RING_BITS, 2)
        choices = np.unpackbits(x.view(np.uint8), bitorder="little").reshape(-1, RING_BITS)
        for (low, bits), (tree, packed) in zip(digits(self._width), incoming, strict=True):
            digit = slice(low, low + bits)
            leaves, holes = puncture(keys, choices[:, digit][:, ::-1], pads[:, digit][:, ::-1], tree)
            u, v = self._sums(leaves, holes, operation, low)
            values = (x >> np.uint64(low)) & np.uint64((1 << bits) - 1)
            self._kernels.vole_join(packed, u, v, values, self._offsets, low, z)

    def _sums(
        self, leaves: U64, holes: np.ndarray[tuple[int, ...], np.dtype[np.int64]], operation: int, low: int
    ) -> tuple[U64, U64]:
        u, v = np.empty(self._products, np.uint64), np.empty(self._products, np.uint64)
        # A tree's number is that of one of its transfers: element e, digit from bit `low`, hence never twice.
        number = np.uint64(operation + low * self._elements)
        narrow = RING_BITS - low <= NARROW_BITS
        self._kernels.leaf_sums(as_keys(leaves), holes, number, self._offsets, narrow, u, v)
        return u, v
