"""Words that every protocol needs for tensors over Z_2^64 and for tensors of bits."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sottovoce.engine.program import Shape

U64 = NDArray[np.uint64]


def words(bits: int) -> int:
    """How many uint64 hold that many bits."""
    return -(-bits // 64)


def size(shape: Shape) -> int:
    """Number of elements."""
    return math.prod(shape)


def contiguous(array: NDArray[Any]) -> NDArray[Any]:
    """The array, C-contiguous: itself or a copy, on the device that it is on."""
    return array if array.flags.c_contiguous else array.copy()


def pack_bits(bits: NDArray[Any]) -> U64:
    """A tensor of 0/1, row-major -> packed words, zero padded."""
    packed = np.packbits(bits.reshape(-1), bitorder="little")
    out = np.zeros_like(packed, shape=(-(-packed.size // 8) * 8,))
    out[: packed.size] = packed
    return out.view(np.uint64)


def unpack_bits(packed: U64, shape: Shape) -> NDArray[np.uint8]:
    """Packed words -> a tensor of 0/1."""
    return np.unpackbits(packed.view(np.uint8), bitorder="little")[: size(shape)].reshape(shape)
