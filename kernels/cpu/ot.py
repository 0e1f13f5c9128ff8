"""What oblivious transfer costs: expanding seeds into sums of streams, a bit transpose, and packing odd widths.

Trees have X leaves each; the leaf at position p stands for the number X - 1 - p, so that a running sum over ascending
positions weighs every leaf with its number. Streams are AES-128 in counter mode under the leaf as a key, with counter
blocks operation (8 bytes) || 0 (4) || block (4), big-endian, and are read as little-endian words.
"""

from __future__ import annotations

import numpy as np

from sottovoce.kernels.cpu.blocks import BLOCKS, HAS_AES, aes128_ctr_blocks, aes128_expand
from sottovoce.kernels.cpu.jit import Words, kernel
from sottovoce.kernels.cpu.ot_portable import portable_field_vole, portable_leaf_sums

ZERO = np.uint64(0)
ALL = np.uint64(2**64 - 1)
CHAIN = np.uint32(0)
STEP = 2 * BLOCKS
"""Words that one call of the block function writes."""
TILE = 32 * STEP
"""Words of a stream that are summed at a time: 4 KB, three of which stay in a first-level cache."""
PLANES = 128


if HAS_AES:

    @kernel
    def field_vole(leaves: Words, operation: np.uint64, u: Words, v: Words) -> None:
        """Sums over GF(2) of each tree's streams t_x: u = sum t_x, v_b = sum of the t_x with bit b of x set.

        leaves: (X, G, 16) uint8, X a power of two. u: (G, W), v: (G log2(X), W), tree after tree.
        """
        values, trees, _ = leaves.shape
        bits = v.shape[0] // max(trees, 1)
        words = u.shape[1]
        round_keys = np.empty(22, np.uint64)
        t = np.empty(TILE, np.uint64)
        u[:] = ZERO
        v[:] = ZERO
        for g in range(trees):
            for p in range(values):
                x = values - 1 - p
                aes128_expand(leaves[p, g], round_keys)
                for first in range(0, words, TILE):
                    count = min(TILE, words - first)
                    for at in range(0, count, STEP):
                        aes128_ctr_blocks(round_keys, operation, CHAIN, np.uint32((first + at) // 2), t, at)
                    for w in range(count):
                        u[g, first + w] ^= t[w]
                    for b in range(bits):
                        if x >> b & 1:
                            row = g * bits + b
                            for w in range(count):
                                v[row, first + w] ^= t[w]

    @kernel
    def leaf_sums(
        leaves: Words, holes: Words, operation: np.uint64, offsets: Words, narrow: bool, u: Words, v: Words
    ) -> None:
        """Sums over the integers of each tree's streams t_x: u = sum t_x, v = sum x t_x, mod 2^64, or 2^32 if `narrow`.

        leaves: (X, T, 16) uint8. holes: (T,) int64, the position of a leaf that is left out, -1 for none. Tree i makes
        the words offsets[i] … offsets[i + 1] - 1 of u and v (as uint64 also if narrow) with operation + i.
        """
        values, trees, _ = leaves.shape
        round_keys = np.empty(22, np.uint64)
        t, total, weighted = np.empty(TILE, np.uint64), np.empty(TILE, np.uint64), np.empty(TILE, np.uint64)
        t32, total32, weighted32 = t.view(np.uint32), total.view(np.uint32), weighted.view(np.uint32)
        per_word = 2 if narrow else 1
        for i in range(trees):
            for first in range(offsets[i], offsets[i + 1], per_word * TILE):
                count = min(per_word * TILE, offsets[i + 1] - first)
                words = -(-count // per_word)
                block = (first - offsets[i]) // (2 * per_word)
                total[:] = ZERO
                weighted[:] = ZERO
                for p in range(values):
                    if p == holes[i]:
                        t[:] = ZERO
                    else:
                        aes128_expand(leaves[p, i], round_keys)
                        for at in range(0, words, STEP):
                            aes128_ctr_blocks(
                                round_keys, operation + np.uint64(i), CHAIN, np.uint32(block + at // 2), t, at
                            )
                    # Every later position adds the sum so far once more, so that a leaf is counted X - 1 - p times.
                    last = p == values - 1
                    if narrow:
                        for w in range(count):
                            total32[w] += t32[w]
                            weighted32[w] += np.uint32(0) if last else total32[w]
                    else:
                        for w in range(count):
                            total[w] += t[w]
                            weighted[w] += ZERO if last else total[w]
                for w in range(count):
                    u[first + w] = np.uint64(total32[w]) if narrow else total[w]
                    v[first + w] = np.uint64(weighted32[w]) if narrow else weighted[w]

else:
    field_vole = portable_field_vole
    leaf_sums = portable_leaf_sums


@kernel
def transpose_bits(planes: Words, rows: Words) -> None:
    """planes: (128, W) -> rows: (64 W, 2): bit i of row n is bit n % 64 of planes[i, n // 64]."""
    square = np.empty(64, np.uint64)
    for w in range(planes.shape[1]):
        for half in range(2):
            for k in range(64):
                square[k] = planes[64 * half + k, w]
            mask = np.uint64(0x00000000FFFFFFFF)
            j = 32
            while j > 0:
                s = np.uint64(j)
                for start in range(0, 64, 2 * j):
                    for k in range(start, start + j):
                        t = ((square[k] >> s) ^ square[k + j]) & mask
                        square[k + j] ^= t
                        square[k] ^= t << s
                j >>= 1
                mask ^= mask << np.uint64(j)
            for k in range(64):
                rows[64 * w + k, half] = square[k]


@kernel
def vole_correct(y: Words, u: Words, v: Words, shift: int, z: Words, packed: Words) -> None:
    """z += v 2^shift, and the low 64 - shift bits of each y - u, one after the other, in packed.

    y, u, v, z: (n,). packed: (ceil(n (64 - shift) / 64),). What the party with the numbers y sends for one digit, and
    its share of the digit's products.
    """
    bits = 64 - shift
    mask = ALL >> np.uint64(shift)
    held = ZERO
    used = 0
    to = 0
    for i in range(y.size):
        z[i] += v[i] << np.uint64(shift)
        value = (y[i] - u[i]) & mask
        held |= value << np.uint64(used)
        used += bits
        if used >= 64:
            packed[to] = held
            to += 1
            used -= 64
            # With nothing left over the shift would be one by 64 at 64 bits, which is undefined.
            held = value >> np.uint64(bits - used) if used > 0 else ZERO
    if used > 0:
        packed[to] = held


@kernel
def vole_join(packed: Words, u: Words, v: Words, digits: Words, offsets: Words, shift: int, z: Words) -> None:
    """z += (digit (c + u) - v) 2^shift, c the corrections that `vole_correct` packed.

    u, v, z: (n,). digits: (T,), that of the products offsets[i] … offsets[i + 1] - 1.
    """
    bits = 64 - shift
    mask = ALL >> np.uint64(shift)
    for i in range(digits.size):
        digit = digits[i]
        for w in range(offsets[i], offsets[i + 1]):
            at = (w * bits) // 64
            low = (w * bits) % 64
            c = packed[at] >> np.uint64(low)
            if low + bits > 64:
                c |= packed[at + 1] << np.uint64(64 - low)
            z[w] += (digit * ((c & mask) + u[w]) - v[w]) << np.uint64(shift)


@kernel
def add_runs(x: Words, starts: Words, run: int, out: Words) -> None:
    """out[starts[r] + i] += x[r run + i] for each r and i < run. x: (R run,), starts: (R,) int64."""
    for r in range(starts.size):
        for i in range(run):
            out[starts[r] + i] += x[r * run + i]
