"""From 128 base OTs to any number: SoftSpokenOT [Roy 2022/192], semi-honest; IKNP with `field_bits` = 1.

The chooser knows all leaves of 128 / k trees of depth k, the sender all but one each, numbered by k bits of its secret
delta. From leaf x comes a stream t_x. In each tree the chooser computes u = sum t_x and v = sum x t_x over GF(2)^k,
the sender sum (x ^ delta) t_x = v ^ delta u, in which the missing stream has weight 0. The chooser sends u ^ choices,
the sender adds that times delta: for every OT j they hold rows of 128 bits, T_j and Q_j = T_j ^ choice_j delta. Pads
are hashes of Q_j and Q_j ^ delta. A transfer costs 128 / k bits from the chooser, and 16 2^k / k bytes of keystream on
each side.

Both ends number their transfers alike; the number is the tweak of the hash and never comes again.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from sottovoce.engine.backend.cpu import CpuBackend
from sottovoce.engine.errors import ProtocolError
from sottovoce.engine.preprocessing.ot.hashing import TweakedHash
from sottovoce.engine.preprocessing.ot.trees import as_keys
from sottovoce.engine.tensors import U64

SECURITY_BITS = 128
FIELD_BITS = (1, 2, 4, 8)
WORD_BITS = 64
CHUNK_WORDS = 512
"""Choice words that are worked on at a time: all of it stays in a second-level cache."""
MAX_TRANSFERS = 1 << 56
"""Of one direction of a session: tweaks and tree numbers stay far from wrapping."""


def groups(field_bits: int) -> int:
    """Trees of one direction, and words that the chooser sends for 64 transfers."""
    if field_bits not in FIELD_BITS:
        raise ProtocolError(f"oblivious transfer: expected a field of one of {FIELD_BITS} bits, got {field_bits}")
    return SECURITY_BITS // field_bits


class _End:
    """What both ends of a direction have: their leaves (2^k, G, 2), a hash and the number of the next transfer."""

    def __init__(self, leaves: U64, hash: TweakedHash) -> None:
        self._leaves = as_keys(leaves)
        self._hash = hash
        self._kernels = CpuBackend().kernels
        self._chunk = 0
        self.next = 0

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.next} transfers)"

    def _expand(self, width: int) -> tuple[U64, U64]:
        """u (G, width) and v (128, width) for the next 64 width transfers."""
        if self.next + WORD_BITS * width > MAX_TRANSFERS:
            raise ProtocolError(f"oblivious transfer: a session ends after {MAX_TRANSFERS} transfers")
        u = np.empty((self._leaves.shape[1], width), np.uint64)
        v = np.empty((SECURITY_BITS, width), np.uint64)
        self._kernels.field_vole(self._leaves, np.uint64(self._chunk), u, v)
        self._chunk += 1
        return u, v

    def _rows(self, planes: U64) -> U64:
        rows = np.empty((WORD_BITS * planes.shape[1], 2), np.uint64)
        self._kernels.transpose_bits(planes, rows)
        return rows

    def _hashed(self, *rows: U64) -> tuple[U64, ...]:
        pads = self._hash(self.next, *rows)
        self.next += rows[0].shape[0]
        return pads


class Chooser(_End):
    """The end that chooses and gets one pad of each transfer."""

    def choose(self, choices: U64) -> tuple[U64, U64]:
        """choices: (W,) packed -> the message (G, W) and the chosen pads (64 W, 2)."""
        message = np.empty((self._leaves.shape[1], choices.size), np.uint64)
        pads = np.empty((WORD_BITS * choices.size, 2), np.uint64)
        for words, transfers in _chunks(choices.size):
            u, v = self._expand(choices[words].size)
            np.bitwise_xor(u, choices[words], out=message[:, words])
            (pads[transfers],) = self._hashed(self._rows(v))
        return message, pads


class Sender(_End):
    """The end that gets both pads. delta: (128,) of 0 and 1; leaves as `numbered` orders them."""

    def __init__(self, leaves: U64, hash: TweakedHash, delta: NDArray[np.uint8]) -> None:
        super().__init__(leaves, hash)
        self._planes = delta[:, None].astype(np.uint64)
        self._offset = np.packbits(delta, bitorder="little").view("<u8")

    def pads(self, message: U64) -> U64:
        """message: (G, W), the chooser's -> (2, 64 W, 2), the pads of choice 0 and of choice 1."""
        pads = np.empty((2, WORD_BITS * message.shape[1], 2), np.uint64)
        for words, transfers in _chunks(message.shape[1]):
            _, planes = self._expand(message[:, words].shape[1])
            planes ^= np.repeat(message[:, words], SECURITY_BITS // message.shape[0], axis=0) * self._planes
            rows = self._rows(planes)
            pads[0, transfers], pads[1, transfers] = self._hashed(rows, rows ^ self._offset)
        return pads


def _chunks(width: int) -> Iterator[tuple[slice, slice]]:
    """Slices of choice words and of the transfers that they stand for."""
    for first in range(0, width, CHUNK_WORDS):
        last = min(width, first + CHUNK_WORDS)
        yield slice(first, last), slice(WORD_BITS * first, WORD_BITS * last)


def numbered(leaves: U64, delta: NDArray[np.uint8]) -> U64:
    """The sender's leaves in the order of x ^ delta, x their own number: the missing one comes last.

    leaves: (2^k, G, 2) by position, see `trees`. delta: (128,), k bits for each tree, the least significant first.
    """
    values, count, _ = leaves.shape
    weights = 1 << np.arange(SECURITY_BITS // count)
    shift = (delta.reshape(count, -1) * weights).sum(axis=1)
    order = np.arange(values)[:, None] ^ shift
    # The number of position p is values - 1 - p = p ^ (values - 1), so that both are moved by the same XOR.
    return np.ascontiguousarray(leaves[order, np.arange(count)])
