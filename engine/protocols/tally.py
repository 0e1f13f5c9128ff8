"""A protocol that computes nothing and adds up declared schedules: what a program will cost, before it runs.

Clocks follow the transport's rule: a message is stamped with one more than the largest stamp that its sender has
received; so rounds that overlap across operations are counted as the transport will measure them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from sottovoce.engine.preprocessing.items import Item
from sottovoce.engine.program import Linear, Pool, Shape
from sottovoce.engine.protocols.base import AShare, BShare, Declared, Demands, Protocol, Schedule, Structural, pooled
from sottovoce.engine.tensors import U64, size
from sottovoce.engine.transport.base import HEADER_BYTES


@dataclass(frozen=True, slots=True)
class ShapeShare(AShare, BShare):
    """A share that is only a shape."""

    tensor_shape: Shape
    frac_bits: int = 0

    @property
    def shape(self) -> Shape:
        """Shape of the tensor."""
        return self.tensor_shape

    def map(self, rearrange: Structural, frac_bits: int | None = None) -> Self:
        """The shape after a rearrangement (tried on an array without memory)."""
        probe = np.broadcast_to(np.zeros(1, np.uint8), self.tensor_shape)
        return type(self)(rearrange(probe).shape, self.frac_bits if frac_bits is None else frac_bits)


@dataclass(slots=True)
class Totals:
    """What was declared so far, by party: bytes (headers included), frames; the clocks; the items of preprocessing."""

    parties: int
    rotation: int = 0
    bytes_sent: list[int] = field(init=False)
    frames_sent: list[int] = field(init=False)
    clocks: list[int] = field(init=False)
    items: list[Item] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.bytes_sent = [0] * self.parties
        self.frames_sent = [0] * self.parties
        self.clocks = [0] * self.parties

    @property
    def rounds(self) -> int:
        """The longest chain of dependent messages."""
        return max(self.clocks)

    def add(self, schedule: Schedule) -> None:
        """Run one operation's schedule."""
        for number in sorted({m.round for m in schedule}):
            now = [m for m in schedule if m.round == number]
            stamps = [(self._rank(m.target), self.clocks[self._rank(m.source)] + 1) for m in now]
            for m in now:
                self.bytes_sent[self._rank(m.source)] += m.payload + HEADER_BYTES
                self.frames_sent[self._rank(m.source)] += 1
            for target, stamp in stamps:
                self.clocks[target] = max(self.clocks[target], stamp)

    def _rank(self, role: int) -> int:
        return (role + self.rotation) % self.parties


class Tally(Protocol[ShapeShare, ShapeShare, None, ShapeShare]):
    """The protocol whose declarations are given."""

    name = "tally"
    parties = 0

    def __init__(self, schedules: Declared, totals: Totals, demands: Demands | None = None) -> None:
        self.declared = schedules
        self.demands = demands
        self.totals = totals
        self.and_inputs = schedules.AND_INPUTS

    def _needs(self, items: Callable[[Demands], Sequence[Item]]) -> None:
        if self.demands is not None:
            self.totals.items += items(self.demands)

    def add(self, x: ShapeShare, y: ShapeShare) -> ShapeShare:
        """Free."""
        return x

    def sub(self, x: ShapeShare, y: ShapeShare) -> ShapeShare:
        """Free."""
        return x

    def mul_public(self, x: ShapeShare, factor: int, frac_bits: int) -> ShapeShare:
        """Free."""
        return ShapeShare(x.shape, frac_bits)

    def concat(self, parts: Sequence[ShapeShare], axis: int) -> ShapeShare:
        """Free."""
        shape = list(parts[0].shape)
        shape[axis] = sum(p.shape[axis] for p in parts)
        return ShapeShare(tuple(shape), parts[0].frac_bits)

    def concat_bits(self, parts: Sequence[ShapeShare], axis: int) -> ShapeShare:
        """Free."""
        return self.concat(parts, axis)

    def sum_pool(self, x: ShapeShare, pool: Pool, frac_bits: int) -> ShapeShare:
        """Free."""
        return ShapeShare(pooled(x.shape, pool), frac_bits)

    def xor_public(self, x: ShapeShare, bits: NDArray[np.bool_]) -> ShapeShare:
        """Free."""
        return x

    def load(self, step: Linear, tensors: Mapping[str, ShapeShare]) -> None:
        """Free."""
        return None

    def linear(self, x: ShapeShare, weights: None, step: Linear) -> ShapeShare:
        """As declared."""
        self.totals.add(self.declared.linear(size(x.shape)))
        self._needs(lambda d: d.linear(step, x.shape[0]))
        return ShapeShare((x.shape[0], *step.linear_shape), x.frac_bits + step.weight.frac_bits)

    def mul(self, x: ShapeShare, y: ShapeShare) -> ShapeShare:
        """As declared."""
        self.totals.add(self.declared.mul(size(x.shape)))
        self._needs(lambda d: d.mul(size(x.shape)))
        return ShapeShare(x.shape, x.frac_bits + y.frac_bits)

    def as_product(self, x: ShapeShare) -> ShapeShare:
        """Free."""
        return x

    def reshare(self, z: ShapeShare) -> ShapeShare:
        """As declared."""
        self.totals.add(self.declared.reshare(size(z.shape)))
        return z

    def trunc(self, z: ShapeShare, bits: int) -> ShapeShare:
        """As declared."""
        self.totals.add(self.declared.trunc(size(z.shape)))
        self._needs(lambda d: d.trunc(size(z.shape)))
        return ShapeShare(z.shape, z.frac_bits - bits)

    def trunc_relu(self, z: ShapeShare, bits: int, compare_bits: int, pool: Pool | None, frac_bits: int) -> ShapeShare:
        """As declared."""
        out = pooled(z.shape, pool)
        self.totals.add(self.declared.trunc_relu(size(z.shape), compare_bits, size(out)))
        self._needs(lambda d: d.trunc_relu(size(z.shape), compare_bits))
        return ShapeShare(out, frac_bits)

    def and_(self, *inputs: ShapeShare) -> ShapeShare:
        """As declared."""
        bits = size(inputs[0].shape)
        self.totals.add(self.declared.and_(bits, len(inputs)))
        self._needs(lambda d: d.and_(bits, len(inputs)))
        return inputs[0]

    def msb(self, x: ShapeShare, compare_bits: int) -> ShapeShare:
        """As declared."""
        self.totals.add(self.declared.sign(size(x.shape), compare_bits))
        self._needs(lambda d: d.sign(size(x.shape), compare_bits))
        return x

    def bit_inject(self, b: ShapeShare, x: ShapeShare) -> ShapeShare:
        """As declared."""
        self.totals.add(self.declared.bit_inject(size(x.shape), size(x.shape)))
        self._needs(lambda d: d.bit_inject(size(x.shape)))
        return x

    def relu(self, x: ShapeShare, compare_bits: int, pool: Pool | None, frac_bits: int) -> ShapeShare:
        """As declared."""
        out = pooled(x.shape, pool)
        self.totals.add(self.declared.relu(size(x.shape), compare_bits, size(out)))
        self._needs(lambda d: d.relu(size(x.shape), compare_bits))
        return ShapeShare(out, frac_bits)

    def refresh(self, x: ShapeShare) -> ShapeShare:
        """Free."""
        return x

    def open(self, x: ShapeShare, to: Collection[int] | None = None) -> U64 | None:
        """As declared; nothing comes out."""
        ranks = range(self.totals.parties) if to is None else to
        roles = [(rank - self.totals.rotation) % self.totals.parties for rank in ranks]
        self.totals.add(self.declared.open(size(x.shape), roles))
        return None
