"""Distributed comparison on a processor without AES instructions: numpy, and AES from the `cryptography` package.

The same bytes as `dcf`, where everything is explained.
"""

from __future__ import annotations

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from sottovoce.kernels.cpu.jit import Words

FIXED_KEY = bytes.fromhex("243f6a8885a308d313198a2e03707344")
"""The public AES key of H: the first 128 bits of the fractional part of pi."""
LEAF_BITS = 7
"""Last bits that are compared within one leaf of 2^7 bits."""

ZERO, ONE, TWO = np.uint64(0), np.uint64(1), np.uint64(2)
ALL = np.uint64(2**64 - 1)
SEED = np.uint64(2**64 - 4)


def levels(bits: int) -> int:
    """Levels of the tree above the leaves, for comparisons mod 2^bits."""
    return max(0, bits - 1 - LEAF_BITS)


def dcf_gen(r: Words, bits: int, root_0: Words, root_1: Words, correction: Words) -> None:
    """As `dcf.dcf_gen`."""
    nodes = [root_0.copy(), root_1.copy()]
    control = [np.zeros(r.size, np.uint64), np.full(r.size, ALL)]
    for level in range(levels(bits)):
        word = correction[2 * level : 2 * level + 2]
        right = (r >> np.uint64(bits - 2 - level)) & ONE
        left_control = (nodes[0][0] ^ nodes[1][0] ^ right ^ ONE) & ONE
        sides = [[node_hash(node, np.full(r.size, side)) for side in (ZERO, ONE)] for node in nodes]
        word[:] = np.where(right, sides[0][0] ^ sides[1][0], sides[0][1] ^ sides[1][1])
        word[0] = (word[0] & ~TWO) | (left_control << ONE)
        for b in range(2):
            now = (nodes[b][0] ^ (control[b] & (left_control ^ right))) & ONE
            nodes[b] = np.where(right, sides[b][1], sides[b][0]) ^ (control[b] & word)
            control[b] = ZERO - now
    ones = r & _within(bits)
    leaf = correction[2 * levels(bits) :]
    leaf[:] = node_hash(nodes[0], np.full(r.size, TWO)) ^ node_hash(nodes[1], np.full(r.size, TWO))
    some, half = (ONE << (ones & np.uint64(63))) - ONE, ZERO - (ones >> np.uint64(6))
    leaf[0] ^= some | half
    leaf[1] ^= some & half


def dcf_eval(c: Words, bits: int, one: np.uint64, root: Words, correction: Words, top: Words, out: Words) -> None:
    """As `dcf.dcf_eval`."""
    node, control = root, np.full(c.size, ~np.uint64(one))
    share = (c >> np.uint64(bits - 1)) & one
    for level in range(levels(bits)):
        word = correction[2 * level : 2 * level + 2]
        right = (c >> np.uint64(bits - 2 - level)) & ONE
        left_control = node[0] ^ (control & (word[0] >> ONE))
        share ^= (left_control ^ control) & (right ^ ONE)
        node = node_hash(node, right) ^ (control & word)
        control = ZERO - ((left_control ^ (control & right)) & ONE)
    leaf = node_hash(node, np.full(c.size, TWO)) ^ (control & correction[2 * levels(bits) :])
    at = c & _within(bits)
    share ^= np.where(at >> np.uint64(6), leaf[1], leaf[0]) >> (at & np.uint64(63))
    packed = np.zeros(8 * out.size, np.uint8)
    bytes_used = np.packbits((share & ONE).astype(np.uint8), bitorder="little")
    packed[: bytes_used.size] = bytes_used
    out[:] = packed.view("<u8") ^ top


def _within(bits: int) -> np.uint64:
    return np.uint64((1 << min(LEAF_BITS, bits - 1)) - 1)


def node_hash(node: Words, tweak: Words) -> Words:
    """H(seed | tweak) of nodes (2, n)."""
    blocks = np.stack([(node[0] & SEED) | tweak, node[1]], axis=1)
    # H is defined block by block, and its inputs are secret random seeds, not messages.
    encryptor = Cipher(algorithms.AES128(FIXED_KEY), modes.ECB()).encryptor()  # noqa: S305
    out = np.frombuffer(encryptor.update(blocks.astype("<u8").tobytes()), "<u8").reshape(blocks.shape)
    return np.ascontiguousarray((out ^ blocks).T)
