"""Bit-sliced words: plane b holds bit b of 64 consecutive elements per word (element e is bit e % 64 of word e // 64).

A carry tree over planes costs a few word operations per 64 elements; see docs/protocols/rep3.md for its radix-4 leaves.
"""

from __future__ import annotations

import numpy as np

from sottovoce.kernels.cpu.jit import Words, kernel

ZERO = np.uint64(0)
ONE = np.uint64(1)
LOW32 = np.uint64(0xFFFFFFFF)
CHUNK = 64
RADIX = 4


def leaf_rows(bits: int) -> int:
    """Rows of `monomials` for m = bits: every product in each radix-4 block of m - 1 bits, and the top bit."""
    full, rest = divmod(bits - 1, RADIX)
    return full * ((1 << RADIX) - 1) + (1 << rest)


@kernel
def _transpose(rows: Words) -> None:
    """Two 32 x 32 matrices of bits at once, one in each half of the words. rows: (32,), in place."""
    mask = np.uint64(0x0000FFFF0000FFFF)
    j = 16
    while j > 0:
        s = np.uint64(j)
        for start in range(0, 32, 2 * j):
            for k in range(start, start + j):
                t = ((rows[k] >> s) ^ rows[k + j]) & mask
                rows[k + j] ^= t
                rows[k] ^= t << s
        j >>= 1
        mask ^= mask << np.uint64(j)


@kernel
def slice_bits(x: Words, bits: int, planes: Words) -> None:
    """x: (n,) -> planes: (bits, ceil(n / 64)), the low `bits` bits; missing elements count as 0. 1 <= bits <= 64."""
    n = x.shape[0]
    low = np.empty(32, np.uint64)
    high = np.empty(32, np.uint64)
    for w in range(planes.shape[1]):
        base = 64 * w
        for k in range(32):
            a = x[base + k] if base + k < n else ZERO
            b = x[base + 32 + k] if base + 32 + k < n else ZERO
            low[k] = (a & LOW32) | (b << np.uint64(32))
            high[k] = (a >> np.uint64(32)) | (b & ~LOW32)
        for half in range(2):
            rows = low if half == 0 else high
            first = 32 * half
            if first >= bits:
                break
            _transpose(rows)
            for k in range(min(32, bits - first)):
                planes[first + k, w] = rows[k]


@kernel
def slice_halves(x: Words, bits: int, planes: Words) -> None:
    """The same for x: (n,) uint32. 1 <= bits <= 32."""
    n = x.shape[0]
    rows = np.empty(32, np.uint64)
    for w in range(planes.shape[1]):
        base = 64 * w
        for k in range(32):
            a = np.uint64(x[base + k]) if base + k < n else ZERO
            b = np.uint64(x[base + 32 + k]) if base + 32 + k < n else ZERO
            rows[k] = a | (b << np.uint64(32))
        _transpose(rows)
        for k in range(bits):
            planes[k, w] = rows[k]


@kernel
def monomials(planes: Words, masks: Words, out: Words) -> None:
    """All products of the bits of each radix-4 block, masked: what one party sends so that others can add to them.

    planes: (m, W). masks, out: (rows, W) with rows = leaf_rows(m): per block of s <= 4 bits of the low m - 1 planes
    the 2^s - 1 non-empty subsets in binary order, then the top plane. out = monomials ^ masks.
    """
    m = planes.shape[0]
    words = planes.shape[1]
    tmp = np.empty((1 << RADIX, CHUNK), np.uint64)
    for w0 in range(0, words, CHUNK):
        count = min(CHUNK, words - w0)
        row = 0
        for base in range(0, m - 1, RADIX):
            size = min(RADIX, m - 1 - base)
            for i in range(size):
                half = 1 << i
                for w in range(count):
                    tmp[half, w] = planes[base + i, w0 + w]
                for s in range(1, half):
                    for w in range(count):
                        tmp[half + s, w] = tmp[s, w] & tmp[half, w]
            for s in range(1, 1 << size):
                for w in range(count):
                    out[row, w0 + w] = tmp[s, w] ^ masks[row, w0 + w]
                row += 1
        for w in range(count):
            out[row, w0 + w] = planes[m - 1, w0 + w] ^ masks[row, w0 + w]


@kernel
def contract_leaves(planes: Words, leaves: Words, one: np.uint64, masks: Words, out: Words) -> None:
    """Carry generate and propagate of each radix-4 block of A + B, from A's planes and a XOR share of B's monomials.

    planes: (m, W), A in the clear. leaves: (leaf_rows(m), W), see `monomials`. one: this party's share of the constant
    1 (all ones or 0). masks, out: (2k - 1, W), k = ceil((m - 1) / 4): G_0 … G_(k-1), P_1 … P_(k-1), XOR masks.
    Both are linear in B's monomials, so XOR shares of the monomials give XOR shares of G and P. The top planes of A and
    B are added to G_(k-1), on which the carry out of all blocks depends linearly: it becomes bit m - 1 of A + B.
    """
    m = planes.shape[0]
    words = planes.shape[1]
    blocks = (m - 1 + RADIX - 1) // RADIX
    tmp = np.empty((1 << RADIX, CHUNK), np.uint64)
    gen = np.empty(CHUNK, np.uint64)
    for w0 in range(0, words, CHUNK):
        count = min(CHUNK, words - w0)
        row = 0
        for block in range(blocks):
            base = RADIX * block
            size = min(RADIX, m - 1 - base)
            for w in range(count):
                tmp[0, w] = one
                gen[w] = ZERO
            for s in range(1, 1 << size):
                for w in range(count):
                    tmp[s, w] = leaves[row, w0 + w]
                row += 1
            for i in range(size - 1, -1, -1):
                half = 1 << i
                for w in range(count):
                    gen[w] ^= planes[base + i, w0 + w] & tmp[half, w]
                for s in range(half):
                    for w in range(count):
                        tmp[s, w] = tmp[half + s, w] ^ (planes[base + i, w0 + w] & tmp[s, w])
            if block == blocks - 1:
                for w in range(count):
                    gen[w] ^= leaves[row, w0 + w] ^ (one & planes[m - 1, w0 + w])
            for w in range(count):
                out[block, w0 + w] = gen[w] ^ masks[block, w0 + w]
            if block > 0:
                for w in range(count):
                    out[blocks + block - 1, w0 + w] = tmp[0, w] ^ masks[blocks + block - 1, w0 + w]


@kernel
def and_cross(x0: Words, x1: Words, y0: Words, y1: Words, mask0: Words, mask1: Words, out: Words) -> None:
    """out = x0 y0 ^ x0 y1 ^ x1 y0 ^ mask0 ^ mask1, all (W,): a party's share of a replicated AND [AFLNO16, 2.2]."""
    for w in range(out.shape[0]):
        out[w] = (x0[w] & (y0[w] ^ y1[w])) ^ (x1[w] & y0[w]) ^ mask0[w] ^ mask1[w]


@kernel
def carry_level(own: Words, nxt: Words, mask0: Words, mask1: Words, out: Words) -> None:
    """One level of the carry tree on a replicated sharing: blocks 2j and 2j + 1 become one.

    own, nxt: (2k - 1, W), rows G_0 … G_(k-1), P_1 … P_(k-1). out: (2k' - 1, W), k' = ceil(k / 2), same order.
    G' = G_hi ^ P_hi G_lo, P' = P_hi P_lo; mask rows: pairs for G, then pairs - 1 for P. A block without a partner is
    copied. What is written is this party's new own share; its AND rows are also the message.
    """
    words = own.shape[1]
    k = (own.shape[0] + 1) // 2
    pairs = k // 2
    merged = (k + 1) // 2
    for j in range(pairs):
        lo = 2 * j
        hi = 2 * j + 1
        p_hi = k + hi - 1
        for w in range(words):
            p0 = own[p_hi, w]
            g0 = own[lo, w]
            z = (p0 & (g0 ^ nxt[lo, w])) ^ (nxt[p_hi, w] & g0)
            out[j, w] = z ^ own[hi, w] ^ mask0[j, w] ^ mask1[j, w]
        if j > 0:
            p_lo = k + lo - 1
            r = pairs + j - 1
            for w in range(words):
                p0 = own[p_hi, w]
                q0 = own[p_lo, w]
                z = (p0 & (q0 ^ nxt[p_lo, w])) ^ (nxt[p_hi, w] & q0)
                out[merged + j - 1, w] = z ^ mask0[r, w] ^ mask1[r, w]
    if merged > pairs:
        for w in range(words):
            out[pairs, w] = own[k - 1, w]
        if pairs > 0:
            for w in range(words):
                out[merged + pairs - 1, w] = own[2 * k - 2, w]
