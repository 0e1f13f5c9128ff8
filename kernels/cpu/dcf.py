"""Distributed comparison by function secret sharing: the sign of a masked number, n at a time.

Two keys for a secret r of m bits let two parties turn a public c = y + r mod 2^m into XOR shares of the sign of y, each
on its own. The construction, its proof and its sources: `docs/protocols/fss.md`.

A node is a block of 128 bits: a seed s (bits 2 … 127), the bit z that its children's control bits come from (bit 0),
and an unused bit. H(x) = AES(x) ^ x with a fixed public key; the children are H(s) and H(s | 1), a leaf is H(s | 2). A
correction word is a block of the same form, with the correction of the left control bit in bit 1. Blocks are stored as
two rows of n words, bits 0 … 63 first.
"""

from __future__ import annotations

import numpy as np

from sottovoce.kernels.cpu import dcf_portable
from sottovoce.kernels.cpu.blocks import HAS_AES, MMO_BLOCKS, aes128_expand, aes128_mmo_blocks
from sottovoce.kernels.cpu.dcf_portable import FIXED_KEY, LEAF_BITS, levels
from sottovoce.kernels.cpu.jit import Words, kernel

GROUP = 256
"""Comparisons that go through the tree together: their nodes stay in the L1 cache."""
WORD_BITS = 64

ZERO, ONE, TWO = np.uint64(0), np.uint64(1), np.uint64(2)
ALL = np.uint64(2**64 - 1)
SEED = np.uint64(2**64 - 4)
"""Bits of a block's low word that belong to its seed."""
LAST, WORD_SHIFT = np.uint64(63), np.uint64(6)
"""Position within a word, number of the word."""


def dcf_gen(r: Words, bits: int, root_0: Words, root_1: Words, correction: Words) -> None:
    """The correction words of the comparisons with r mod 2^bits.

    r: (n,); root_b: (2, n), the root node of party b; correction: (correction_rows(bits), n), two rows for each of
    the max(0, bits - 8) levels from the top bit - 1 down, then two for the leaf. 2 <= bits <= 64.
    """
    _check("dcf_gen", r, bits, correction)
    _dcf_gen(r, bits, root_0, root_1, correction)


def dcf_eval(c: Words, bits: int, one: np.uint64, root: Words, correction: Words, top: Words, out: Words) -> None:
    """One party's XOR share of the sign bit of c - r mod 2^bits: c_top ^ r_top ^ 1{c_low < r_low}.

    c: (n,), the same at both parties; one: all ones at party 0, 0 at party 1; root: (2, n), this party's; correction:
    from `dcf_gen`; top, out: (ceil(n / 64),) packed, top this party's share of r_top, bit `bits` - 1 of r.
    """
    _check("dcf_eval", c, bits, correction)
    _dcf_eval(c, bits, one, root, correction, top, out)


def correction_rows(bits: int) -> int:
    """Rows of uint64 words that the correction words of comparisons mod 2^bits take."""
    return 2 * (levels(bits) + 1)


def _check(name: str, numbers: Words, bits: int, correction: Words) -> None:
    if not 2 <= bits <= 64:
        raise ValueError(f"{name}: expected 2 to 64 bits, got {bits}")
    if (expected := (correction_rows(bits), numbers.size)) != correction.shape:
        raise ValueError(f"{name}: the correction words of {bits} bits must be {expected}, got {correction.shape}")


if HAS_AES:

    @kernel
    def _round_keys() -> Words:
        key, out = np.empty(16, np.uint8), np.empty(22, np.uint64)
        for i in range(16):
            key[i] = FIXED_KEY[i]
        aes128_expand(key, out)
        return out

    @kernel
    def _hash(round_keys: Words, low: Words, high: Words, count: int) -> None:
        """H of the first `count` of GROUP blocks, and of some more."""
        for at in range(0, count, MMO_BLOCKS):
            aes128_mmo_blocks(round_keys, low, high, at)

    @kernel
    def _dcf_gen(r: Words, bits: int, root_0: Words, root_1: Words, correction: Words) -> None:
        depth = correction.shape[0] // 2 - 1
        round_keys = _round_keys()
        # Rows: node (left child, later) of party 0 and of party 1, right child of party 0 and of party 1.
        low, high = np.empty((4, GROUP), np.uint64), np.empty((4, GROUP), np.uint64)
        control, held = np.empty((2, GROUP), np.uint64), np.empty((2, GROUP), np.uint64)
        right = np.empty(GROUP, np.uint64)
        for start in range(0, r.size, GROUP):
            count = min(GROUP, r.size - start)
            secret = r[start : start + count]
            for e in range(count):
                low[0, e], high[0, e] = root_0[0, start + e], root_0[1, start + e]
                low[1, e], high[1, e] = root_1[0, start + e], root_1[1, start + e]
                control[0, e], control[1, e] = ZERO, ALL
            for level in range(depth + 1):
                cw_low = correction[2 * level, start : start + count]
                cw_high = correction[2 * level + 1, start : start + count]
                leaf = level == depth
                if leaf:
                    for e in range(count):
                        low[0, e], low[1, e] = (low[0, e] & SEED) | TWO, (low[1, e] & SEED) | TWO
                else:
                    _controls(secret, np.uint64(bits - 2 - level), low, high, control, held, right, cw_low)
                for row in range(2 if leaf else 4):
                    _hash(round_keys, low[row], high[row], count)
                if leaf:
                    _leaves(secret, bits, low, high, cw_low, cw_high)
                else:
                    _correct(low, right, held, cw_low, SEED | ONE)
                    _correct(high, right, held, cw_high, ALL)

    @kernel
    def _controls(
        secret: Words,
        shift: np.uint64,
        low: Words,
        high: Words,
        control: Words,
        held: Words,
        right: Words,
        cw_low: Words,
    ) -> None:
        """The left child's control correction, new and old control bits, and the inputs of H for all four children."""
        for e in range(secret.size):
            side = (secret[e] >> shift) & ONE
            left = (low[0, e] ^ low[1, e] ^ side ^ ONE) & ONE
            right[e] = ZERO - side
            cw_low[e] = left << ONE
            held[0, e], held[1, e] = control[0, e], control[1, e]
            control[0, e] = ZERO - ((low[0, e] ^ (control[0, e] & (left ^ side))) & ONE)
            control[1, e] = ZERO - ((low[1, e] ^ (control[1, e] & (left ^ side))) & ONE)
            low[0, e], low[1, e] = low[0, e] & SEED, low[1, e] & SEED
            low[2, e], low[3, e] = low[0, e] | ONE, low[1, e] | ONE
            high[2, e], high[3, e] = high[0, e], high[1, e]

    @kernel
    def _correct(half: Words, right: Words, held: Words, cw: Words, kept: np.uint64) -> None:
        """One word of the correction (its `kept` bits are new), and of both nodes on the path. half: (4, GROUP)."""
        for e in range(cw.size):
            lost = half[2, e] ^ half[3, e]
            lost ^= right[e] & (lost ^ half[0, e] ^ half[1, e])
            word = (lost & kept) | (cw[e] & ~kept)
            cw[e] = word
            half[0, e] ^= (right[e] & (half[0, e] ^ half[2, e])) ^ (held[0, e] & word)
            half[1, e] ^= (right[e] & (half[1, e] ^ half[3, e])) ^ (held[1, e] & word)

    @kernel
    def _leaves(secret: Words, bits: int, low: Words, high: Words, leaf_low: Words, leaf_high: Words) -> None:
        """Both parties' leaves, apart by ones below the last bits of r."""
        within = np.uint64((1 << min(LEAF_BITS, bits - 1)) - 1)
        for e in range(secret.size):
            ones = secret[e] & within
            some, half = (ONE << (ones & LAST)) - ONE, ZERO - (ones >> WORD_SHIFT)
            leaf_low[e] = low[0, e] ^ low[1, e] ^ (some | half)
            leaf_high[e] = high[0, e] ^ high[1, e] ^ (some & half)

    @kernel
    def _dcf_eval(c: Words, bits: int, one: np.uint64, root: Words, correction: Words, top: Words, out: Words) -> None:
        depth = correction.shape[0] // 2 - 1
        round_keys = _round_keys()
        low, high = np.empty(GROUP, np.uint64), np.empty(GROUP, np.uint64)
        control, held, share = np.empty(GROUP, np.uint64), np.empty(GROUP, np.uint64), np.empty(GROUP, np.uint64)
        for start in range(0, c.size, GROUP):
            count = min(GROUP, c.size - start)
            point = c[start : start + count]
            for e in range(count):
                low[e], high[e], control[e] = root[0, start + e], root[1, start + e], ~one
                share[e] = (point[e] >> np.uint64(bits - 1)) & one
            for level in range(depth + 1):
                cw_low = correction[2 * level, start : start + count]
                cw_high = correction[2 * level + 1, start : start + count]
                if level < depth:
                    _descend(point, np.uint64(bits - 2 - level), cw_low, low, control, held, share)
                else:
                    for e in range(count):
                        low[e], held[e] = (low[e] & SEED) | TWO, control[e]
                _hash(round_keys, low, high, count)
                for e in range(count):
                    low[e] ^= held[e] & cw_low[e]
                    high[e] ^= held[e] & cw_high[e]
            _pick(point, bits, low, high, share)
            for first in range(0, count, WORD_BITS):
                packed = ZERO
                for e in range(min(WORD_BITS, count - first)):
                    packed |= (share[first + e] & ONE) << np.uint64(e)
                word = (start + first) // WORD_BITS
                out[word] = packed ^ top[word]

    @kernel
    def _descend(
        point: Words, shift: np.uint64, cw_low: Words, low: Words, control: Words, held: Words, share: Words
    ) -> None:
        """Control bits of the next nodes, the shares so far; low becomes the seed with its side."""
        for e in range(point.size):
            side = (point[e] >> shift) & ONE
            left = low[e] ^ (control[e] & (cw_low[e] >> ONE))
            share[e] ^= (left ^ control[e]) & (side ^ ONE)
            held[e] = control[e]
            control[e] = ZERO - ((left ^ (control[e] & side)) & ONE)
            low[e] = (low[e] & SEED) | side

    @kernel
    def _pick(point: Words, bits: int, low: Words, high: Words, share: Words) -> None:
        """XOR each leaf's bit at its point to the share."""
        within = np.uint64((1 << min(LEAF_BITS, bits - 1)) - 1)
        for e in range(point.size):
            at = point[e] & within
            second = ZERO - (at >> WORD_SHIFT)
            share[e] ^= (low[e] ^ (second & (low[e] ^ high[e]))) >> (at & LAST)

else:
    _dcf_gen, _dcf_eval = dcf_portable.dcf_gen, dcf_portable.dcf_eval
