"""What each `beaver2` operation sends and which correlated randomness it uses: the declarations that tests hold it to.

Everything is symmetric: both parties send the same number of bytes in each round.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from sottovoce.engine.preprocessing.fss import Dcf
from sottovoce.engine.preprocessing.items import Item
from sottovoce.engine.preprocessing.kinds import MAX_AND_INPUTS, Ands, Leaves, Merge, Mul, Product, Select, Wrap
from sottovoce.engine.program import Linear
from sottovoce.engine.protocols.base import Message
from sottovoce.engine.tensors import words
from sottovoce.kernels.cpu.beaver_bits import merge_mask_rows

Comparison = Literal["boolean", "fss"]
PIPELINED_BITS = 32
"""Comparison widths up to this start beside the truncation: the low 64 - f >= 32 bits do not wait for the wrap bit."""
HALF_BITS = 32
"""Masked numbers of at most so many bits travel in four bytes."""
FANOUT = 4
"""Blocks that one level of the carry tree makes one of."""


def leaf_blocks(compare_bits: int) -> int:
    """Pairs of the low m - 1 bits."""
    return compare_bits // 2


def levels(compare_bits: int) -> list[int]:
    """Blocks at the beginning of each level of the carry tree."""
    out, blocks = [], leaf_blocks(compare_bits)
    while blocks > 1:
        out.append(blocks)
        blocks = -(-blocks // FANOUT)
    return out


def _both(round: int, payload: int) -> list[Message]:
    return [Message(round, 0, 1, payload), Message(round, 1, 0, payload)]


@dataclass(frozen=True, slots=True)
class Schedules:
    """Messages by operation."""

    comparison: Comparison
    AND_INPUTS: int = MAX_AND_INPUTS

    def load(self, elements: int) -> list[Message]:
        """W - B, once per model: 8 bytes per weight and party, 1 round."""
        return _both(1, 8 * elements)

    def linear(self, elements: int) -> list[Message]:
        """X - A: 8 bytes per input and party, 1 round."""
        return _both(1, 8 * elements)

    def mul(self, elements: int) -> list[Message]:
        """Both factors: 16 bytes per product and party, 1 round."""
        return _both(1, 16 * elements)

    def reshare(self, elements: int) -> list[Message]:
        """Nothing: a product is a share."""
        return []

    def open(self, elements: int, to: Collection[int] = (0, 1)) -> list[Message]:
        """Each receiver gets the other's part: 8 bytes, 1 round."""
        return [Message(1, 1 - rank, rank, 8 * elements) for rank in sorted(to)]

    def trunc(self, elements: int) -> list[Message]:
        """1 bit per element and party, 1 round."""
        return _both(1, 8 * words(elements))

    def and_(self, bits: int, inputs: int = 2) -> list[Message]:
        """1 bit per input and party, 1 round."""
        return _both(1, 8 * inputs * words(bits))

    def sign(self, elements: int, compare_bits: int, ride: int = 0) -> list[Message]:
        """Boolean: m - 1 bits, then the tree, 1 + ceil(log4 ceil((m-1)/2)) rounds. FSS: 4 or 8 bytes, 1 round.

        ride: bytes that go with the first message.
        """
        if self.comparison == "fss":
            return _both(1, ride + (4 if compare_bits <= HALF_BITS else 8) * elements)
        w = 8 * words(elements)
        out = _both(1, ride + (compare_bits - 1) * w)
        for round, blocks in enumerate(levels(compare_bits), 2):
            out += _both(round, merge_mask_rows(blocks) * w)
        return out

    def bit_inject(self, elements: int, pooled: int, round: int = 1) -> list[Message]:
        """8 bytes and 1 bit per element and party, 1 round."""
        return _both(round, 8 * elements + 8 * words(elements))

    def relu(self, elements: int, compare_bits: int, pooled: int) -> list[Message]:
        """Sign, then selection."""
        return self._then_select(self.sign(elements, compare_bits), elements, pooled)

    def trunc_relu(self, elements: int, compare_bits: int, pooled: int) -> list[Message]:
        """Truncation beside the sign's first round (m <= 32) or before it, then selection."""
        if compare_bits <= PIPELINED_BITS:
            head = self.sign(elements, compare_bits, ride=8 * words(elements))
            return self._then_select(head, elements, pooled)
        tail = [Message(1 + m.round, m.source, m.target, m.payload) for m in self.relu(elements, compare_bits, pooled)]
        return self.trunc(elements) + tail

    def _then_select(self, head: list[Message], elements: int, pooled: int) -> list[Message]:
        return head + self.bit_inject(elements, pooled, 1 + max(m.round for m in head))


@dataclass(frozen=True, slots=True)
class Demands:
    """Correlated randomness by operation, in the order of use."""

    comparison: Comparison

    def linear(self, step: Linear, batch: int) -> list[Item]:
        """A triple of the layer's shape."""
        return [Product(step, batch)]

    def mul(self, elements: int) -> list[Item]:
        """Elementwise triples."""
        return [Mul(elements)]

    def trunc(self, elements: int) -> list[Item]:
        """Wrap bits."""
        return [Wrap(elements)]

    def and_(self, bits: int, inputs: int) -> list[Item]:
        """Monomials of mask bits."""
        return [Ands(bits, inputs)]

    def sign(self, elements: int, compare_bits: int) -> list[Item]:
        """Leaves and the tree's levels, or keys of distributed comparison functions."""
        if self.comparison == "fss":
            return [Dcf(elements, compare_bits)]
        tree = [Merge(elements, blocks) for blocks in levels(compare_bits)]
        return [Leaves(elements, compare_bits - 1), *tree]

    def bit_inject(self, elements: int) -> list[Item]:
        """Products of bits and numbers."""
        return [Select(elements)]

    def relu(self, elements: int, compare_bits: int) -> list[Item]:
        """Those of the sign and of the selection."""
        return [*self.sign(elements, compare_bits), *self.bit_inject(elements)]

    def trunc_relu(self, elements: int, compare_bits: int) -> list[Item]:
        """Those of the truncation and of the ReLU."""
        return [*self.trunc(elements), *self.relu(elements, compare_bits)]
