"""Replicated shares in three slots: x = x_0 + x_1 + x_2 mod 2^64 (XOR for bits), P_i has (x_i, x_(i+1)) [AFLNO16]."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from sottovoce.engine.errors import FrameError
from sottovoce.engine.prg import KEY_BYTES, Fill
from sottovoce.engine.program import Shape
from sottovoce.engine.protocols.base import AShare, BShare, Structural
from sottovoce.engine.protocols.seeds import expand_seed
from sottovoce.engine.tensors import U64, contiguous, pack_bits, size, unpack_bits

PARTIES = 3


@dataclass(frozen=True, slots=True)
class Rep3AShare(AShare):
    """own: slot i, nxt: slot i + 1, both of the tensor's shape. Never shown."""

    own: U64 = field(repr=False)
    nxt: U64 = field(repr=False)
    frac_bits: int

    @property
    def shape(self) -> Shape:
        """Shape of the shared tensor."""
        return self.own.shape

    def map(self, rearrange: Structural, frac_bits: int | None = None) -> Self:
        """Apply a rearrangement to both slots."""
        f = self.frac_bits if frac_bits is None else frac_bits
        return type(self)(contiguous(rearrange(self.own)), contiguous(rearrange(self.nxt)), f)


@dataclass(frozen=True, slots=True)
class Rep3BShare(BShare):
    """own, nxt: slots i and i + 1 of the bits, flat, packed 64 to a uint64 word, padded at the end. Never shown."""

    own: U64 = field(repr=False)
    nxt: U64 = field(repr=False)
    bits_shape: Shape

    @property
    def shape(self) -> Shape:
        """Shape of the tensor of bits."""
        return self.bits_shape

    def map(self, rearrange: Structural) -> Self:
        """Apply a rearrangement to the bits of both slots."""
        own = rearrange(unpack_bits(self.own, self.bits_shape))
        nxt = rearrange(unpack_bits(self.nxt, self.bits_shape))
        return type(self)(pack_bits(own), pack_bits(nxt), own.shape)


@dataclass(frozen=True, slots=True)
class Rep3Weights:
    """A linear layer's parameters as the product kernel wants them: slot i, slot i + (i + 1), and the bias's slot i."""

    own: U64 = field(repr=False)
    both: U64 = field(repr=False)
    bias: U64 = field(repr=False)


@dataclass(frozen=True, slots=True)
class Rep3Product:
    """This party's additive part of a product, before any mask: local, never sent as it is."""

    z: U64 = field(repr=False)
    frac_bits: int


def split(values: NDArray[np.uint64], fill: Fill) -> tuple[tuple[NDArray[np.uint8], NDArray[np.uint8]], ...]:
    """Share a tensor whose plaintext the caller owns. Returns for each party the bytes of its two slots.

    Slots 0 and 1 are fresh 256-bit seeds that the parties expand, slot 2 is the difference: two tensors in all.
    Every seed is used for one tensor only.
    """
    flat = np.ascontiguousarray(values, np.uint64).reshape(-1)
    seeds = [secrets.token_bytes(KEY_BYTES) for _ in range(2)]
    rest = flat - expand_seed(seeds[0], flat.size, fill) - expand_seed(seeds[1], flat.size, fill)
    slots = [np.frombuffer(s, np.uint8) for s in seeds] + [rest.view(np.uint8)]
    return tuple((slots[i], slots[(i + 1) % PARTIES]) for i in range(PARTIES))


def slot_bytes(rank: int, elements: int) -> tuple[int, int]:
    """Lengths of the two slots that `split` makes for a party."""
    lengths = (KEY_BYTES, KEY_BYTES, 8 * elements)
    return lengths[rank], lengths[(rank + 1) % PARTIES]


def receive(rank: int, slots: Sequence[NDArray[np.uint8]], shape: Shape, frac_bits: int, fill: Fill) -> Rep3AShare:
    """A party's share from the bytes of its two slots; lengths are checked."""
    expected = slot_bytes(rank, size(shape))
    got = tuple(s.size for s in slots)
    if got != expected:
        raise FrameError(f"party {rank}: input share of shape {shape}: expected slots of {expected} bytes, got {got}")
    arrays = []
    for index, raw in zip((rank, (rank + 1) % PARTIES), slots, strict=True):
        flat = raw.view("<u8") if index == 2 else expand_seed(raw.tobytes(), size(shape), fill)
        arrays.append(np.array(flat, np.uint64).reshape(shape))
    return Rep3AShare(arrays[0], arrays[1], frac_bits)


def join(parts: Sequence[U64]) -> U64:
    """The tensor from all three slots."""
    return parts[0] + parts[1] + parts[2]


def join_bits(parts: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """The bytes of packed bits from all three slots."""
    return parts[0] ^ parts[1] ^ parts[2]


def export(share: Rep3AShare | Rep3BShare) -> NDArray[Any]:
    """A party's part of an output: slot i of numbers as they are, of bits packed into bytes."""
    if isinstance(share, Rep3BShare):
        return share.own.view(np.uint8)[: -(-size(share.shape) // 8)].copy()
    return share.own


def key_holders(rank: int) -> dict[int, int]:
    """The key of slot i is held by P_(i-1) and P_i: slot -> the peer that holds it too."""
    return {rank: (rank - 1) % PARTIES, (rank + 1) % PARTIES: (rank + 1) % PARTIES}
