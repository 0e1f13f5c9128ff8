"""`plain`: fixed point in the clear, the oracle of the conformance suite. One party, no messages, no secrecy.

The same integers mod 2^64 as under MPC, with truncation to nearest (halves up), which lies within one unit of what
any protocol's truncation gives. Written with numpy only, independent of the kernels.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from sottovoce.engine.fixed import ring_constant
from sottovoce.engine.program import Linear, Pool, Shape
from sottovoce.engine.protocols.base import AShare, BShare, Protocol, Structural, broadcast_bias
from sottovoce.engine.tensors import U64

I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class PlainAShare(AShare):
    """The tensor itself. Never shown."""

    values: U64 = field(repr=False)
    frac_bits: int

    @property
    def shape(self) -> Shape:
        """Shape of the tensor."""
        return self.values.shape

    def map(self, rearrange: Structural, frac_bits: int | None = None) -> Self:
        """Apply a rearrangement."""
        return type(self)(rearrange(self.values), self.frac_bits if frac_bits is None else frac_bits)


@dataclass(frozen=True, slots=True)
class PlainBShare(BShare):
    """The bits themselves, uint8. Never shown."""

    bits: NDArray[np.uint8] = field(repr=False)

    @property
    def shape(self) -> Shape:
        """Shape of the tensor of bits."""
        return self.bits.shape

    def map(self, rearrange: Structural) -> Self:
        """Apply a rearrangement."""
        return type(self)(rearrange(self.bits))


@dataclass(frozen=True, slots=True)
class PlainWeights:
    """A linear layer's parameters. Never shown."""

    weight: U64 = field(repr=False)
    bias: U64 = field(repr=False)


class Plain(Protocol[PlainAShare, PlainBShare, PlainWeights, PlainAShare]):
    """Everything in the clear; see Protocol for what each operation computes."""

    name = "plain"
    parties = 1

    def add(self, x: PlainAShare, y: PlainAShare) -> PlainAShare:
        """x + y."""
        return PlainAShare(x.values + y.values, x.frac_bits)

    def sub(self, x: PlainAShare, y: PlainAShare) -> PlainAShare:
        """x - y."""
        return PlainAShare(x.values - y.values, x.frac_bits)

    def mul_public(self, x: PlainAShare, factor: int, frac_bits: int) -> PlainAShare:
        """factor * x."""
        return PlainAShare(x.values * ring_constant(factor), frac_bits)

    def concat(self, parts: Sequence[PlainAShare], axis: int) -> PlainAShare:
        """The parts, one after the other."""
        return PlainAShare(np.concatenate([p.values for p in parts], axis), parts[0].frac_bits)

    def concat_bits(self, parts: Sequence[PlainBShare], axis: int) -> PlainBShare:
        """The tensors of bits, one after the other."""
        return PlainBShare(np.concatenate([p.bits for p in parts], axis))

    def sum_pool(self, x: PlainAShare, pool: Pool, frac_bits: int) -> PlainAShare:
        """Window sums over the last axis."""
        left, right = pool.padding
        padded = np.pad(x.values, [(0, 0)] * (x.values.ndim - 1) + [(left, right)])
        windows = np.lib.stride_tricks.sliding_window_view(padded, pool.kernel, axis=-1)[..., :: pool.stride, :]
        return PlainAShare(windows.sum(axis=-1, dtype=np.uint64), frac_bits)

    def xor_public(self, x: PlainBShare, bits: NDArray[np.bool_]) -> PlainBShare:
        """x XOR public bits."""
        return PlainBShare(x.bits ^ np.broadcast_to(bits, x.shape).astype(np.uint8))

    def load(self, step: Linear, tensors: Mapping[str, PlainAShare]) -> PlainWeights:
        """A layer's weights and bias."""
        return PlainWeights(tensors[step.weight.name].values, broadcast_bias(step, tensors[step.bias.name].values))

    def linear(self, x: PlainAShare, weights: PlainWeights, step: Linear) -> PlainAShare:
        """conv1d or dense product plus bias."""
        frac_bits = x.frac_bits + step.weight.frac_bits
        if step.kind == "dense":
            return PlainAShare(x.values @ weights.weight.T + weights.bias, frac_bits)
        w, groups = weights.weight, step.groups
        padded = np.pad(x.values, ((0, 0), (0, 0), step.padding))
        span = step.dilation * (w.shape[2] - 1) + 1
        windows = np.lib.stride_tricks.sliding_window_view(padded, span, axis=2)[:, :, :: step.stride, :: step.dilation]
        parts = []
        for g in range(groups):
            cin, cout = w.shape[1], w.shape[0] // groups
            part = windows[:, g * cin : (g + 1) * cin].transpose(0, 2, 1, 3)
            flat = part.reshape(part.shape[0], part.shape[1], -1)
            parts.append((flat @ w[g * cout : (g + 1) * cout].reshape(cout, -1).T).transpose(0, 2, 1))
        return PlainAShare(np.concatenate(parts, axis=1) + weights.bias, frac_bits)

    def mul(self, x: PlainAShare, y: PlainAShare) -> PlainAShare:
        """x y, elementwise."""
        return PlainAShare(x.values * y.values, x.frac_bits + y.frac_bits)

    def as_product(self, x: PlainAShare) -> PlainAShare:
        """x."""
        return x

    def reshare(self, z: PlainAShare) -> PlainAShare:
        """The product as it is."""
        return z

    def trunc(self, z: PlainAShare, bits: int) -> PlainAShare:
        """The nearest integer to product / 2^bits, halves up."""
        signed = z.values.view(np.int64)
        rounded = (signed >> bits) + ((signed >> (bits - 1)) & 1)
        return PlainAShare(rounded.view(np.uint64), z.frac_bits - bits)

    def trunc_relu(
        self, z: PlainAShare, bits: int, compare_bits: int, pool: Pool | None, frac_bits: int
    ) -> PlainAShare:
        """Truncation, ReLU, window sums."""
        return self.relu(self.trunc(z, bits), compare_bits, pool, frac_bits)

    def and_(self, *inputs: PlainBShare) -> PlainBShare:
        """The AND of all."""
        return PlainBShare(np.bitwise_and.reduce([x.bits for x in inputs]))

    def msb(self, x: PlainAShare, compare_bits: int) -> PlainBShare:
        """Bit compare_bits - 1."""
        return PlainBShare(((x.values >> np.uint64(compare_bits - 1)) & np.uint64(1)).astype(np.uint8))

    def bit_inject(self, b: PlainBShare, x: PlainAShare) -> PlainAShare:
        """b x, elementwise."""
        return PlainAShare(b.bits.astype(np.uint64) * x.values, x.frac_bits)

    def relu(self, x: PlainAShare, compare_bits: int, pool: Pool | None, frac_bits: int) -> PlainAShare:
        """max(x, 0), then window sums."""
        positive = PlainAShare(np.where(self.msb(x, compare_bits).bits == 1, np.uint64(0), x.values), x.frac_bits)
        return positive.map(lambda v: v, frac_bits) if pool is None else self.sum_pool(positive, pool, frac_bits)

    def refresh(self, x: PlainAShare | PlainBShare) -> PlainAShare | PlainBShare:
        """x."""
        return x

    def open(self, x: PlainAShare, to: Collection[int] | None = None) -> U64 | None:
        """The tensor, if the only party, 0, is to have it."""
        return x.values if to is None or 0 in to else None
