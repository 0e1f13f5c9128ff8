"""Additive shares of two parties: x = x_0 + x_1 mod 2^64 (XOR for bits), P_i has x_i."""

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

PARTIES = 2


@dataclass(frozen=True, slots=True)
class Beaver2AShare(AShare):
    """part: x_i, of the tensor's shape. Never shown."""

    part: U64 = field(repr=False)
    frac_bits: int

    @property
    def shape(self) -> Shape:
        """Shape of the shared tensor."""
        return self.part.shape

    def map(self, rearrange: Structural, frac_bits: int | None = None) -> Self:
        """Apply a rearrangement."""
        part = contiguous(rearrange(self.part))
        return type(self)(part, self.frac_bits if frac_bits is None else frac_bits)


@dataclass(frozen=True, slots=True)
class Beaver2BShare(BShare):
    """part: this party's share of the bits, flat, packed 64 to a uint64 word, padded at the end. Never shown."""

    part: U64 = field(repr=False)
    bits_shape: Shape

    @property
    def shape(self) -> Shape:
        """Shape of the tensor of bits."""
        return self.bits_shape

    def map(self, rearrange: Structural) -> Self:
        """Apply a rearrangement to the bits."""
        bits = rearrange(unpack_bits(self.part, self.bits_shape))
        return type(self)(pack_bits(bits), bits.shape)


@dataclass(frozen=True, slots=True)
class Beaver2Weights:
    """A linear layer's parameters: packed for the product kernel are B_i (with E added at P_0) and E = W - B, which is
    public to both parties; bias is this party's share, of the product's shape per clip."""

    packed: U64 = field(repr=False)
    bias: U64 = field(repr=False)


def split(values: NDArray[np.uint64], fill: Fill) -> tuple[tuple[NDArray[np.uint8]], ...]:
    """Share a tensor whose plaintext the caller owns: a fresh seed for P_0, the difference for P_1."""
    flat = np.ascontiguousarray(values, np.uint64).reshape(-1)
    seed = secrets.token_bytes(KEY_BYTES)
    rest = flat - expand_seed(seed, flat.size, fill)
    return (np.frombuffer(seed, np.uint8),), (rest.view(np.uint8),)


def slot_bytes(rank: int, elements: int) -> tuple[int]:
    """Length of what `split` makes for a party."""
    return (KEY_BYTES if rank == 0 else 8 * elements,)


def receive(rank: int, slots: Sequence[NDArray[np.uint8]], shape: Shape, frac_bits: int, fill: Fill) -> Beaver2AShare:
    """A party's share from its bytes; the length is checked."""
    expected, got = slot_bytes(rank, size(shape)), tuple(s.size for s in slots)
    if got != expected:
        raise FrameError(f"party {rank}: input share of shape {shape}: expected {expected} bytes, got {got}")
    flat = expand_seed(slots[0].tobytes(), size(shape), fill) if rank == 0 else slots[0].view("<u8")
    return Beaver2AShare(np.array(flat, np.uint64).reshape(shape), frac_bits)


def join(parts: Sequence[U64]) -> U64:
    """The tensor from both parts."""
    return parts[0] + parts[1]


def join_bits(parts: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """The bytes of packed bits from both parts."""
    return parts[0] ^ parts[1]


def export(share: Beaver2AShare | Beaver2BShare) -> NDArray[Any]:
    """A party's part of an output: numbers as they are, bits packed into bytes."""
    if isinstance(share, Beaver2BShare):
        return share.part.view(np.uint8)[: -(-size(share.shape) // 8)].copy()
    return share.part


def key_holders(rank: int) -> dict[int, int]:
    """One key, of both parties and nobody else: slot -> the peer. Masks of the computation come from preprocessing."""
    return {0: 1 - rank}
