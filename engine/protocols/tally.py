"""A protocol that computes nothing and adds up declared schedules: what a program will cost, before it runs.

Clocks follow the transport's rule: a message is stamped with one more than the largest stamp that its sender has
received; so rounds that overlap across operations are counted as the transport will measure them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from sottovoce.engine.program import Linear, Pool, Shape
from sottovoce.engine.protocols.base import U64, AShare, BShare, Protocol, Schedule, Structural, pooled, size
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
    """What was declared so far, by party: bytes (headers included), frames; the clocks."""

    parties: int
    rotation: int = 0
    bytes_sent: list[int] = field(init=False)
    frames_sent: list[int] = field(init=False)
    clocks: list[int] = field(init=False)

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
    """The protocol whose schedules are the functions of a module such as `rep3.schedule`."""

    name = "tally"
    parties = 0

    def __init__(self, schedules: ModuleType, totals: Totals) -> None:
        self.declared = schedules
        self.totals = totals

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
        """Free."""
        return ShapeShare((x.shape[0], *step.linear_shape), x.frac_bits + step.weight.frac_bits)

    def mul(self, x: ShapeShare, y: ShapeShare) -> ShapeShare:
        """Free."""
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
        return ShapeShare(z.shape, z.frac_bits - bits)

    def trunc_relu(self, z: ShapeShare, bits: int, compare_bits: int, pool: Pool | None, frac_bits: int) -> ShapeShare:
        """As declared."""
        out = pooled(z.shape, pool)
        self.totals.add(self.declared.trunc_relu(size(z.shape), compare_bits, size(out)))
        return ShapeShare(out, frac_bits)

    def and_(self, x: ShapeShare, y: ShapeShare) -> ShapeShare:
        """As declared."""
        self.totals.add(self.declared.and_(size(x.shape)))
        return x

    def msb(self, x: ShapeShare, compare_bits: int) -> ShapeShare:
        """As declared."""
        self.totals.add(self.declared.sign(size(x.shape), compare_bits))
        return x

    def bit_inject(self, b: ShapeShare, x: ShapeShare) -> ShapeShare:
        """As declared."""
        self.totals.add(self.declared.bit_inject(size(x.shape), size(x.shape)))
        return x

    def relu(self, x: ShapeShare, compare_bits: int, pool: Pool | None, frac_bits: int) -> ShapeShare:
        """As declared."""
        out = pooled(x.shape, pool)
        self.totals.add(self.declared.relu(size(x.shape), compare_bits, size(out)))
        return ShapeShare(out, frac_bits)

    def open(self, x: ShapeShare, to: Collection[int] | None = None) -> U64 | None:
        """As declared; nothing comes out."""
        ranks = range(self.totals.parties) if to is None else to
        roles = [(rank - self.totals.rotation) % self.totals.parties for rank in ranks]
        self.totals.add(self.declared.open(size(x.shape), roles))
        return None
