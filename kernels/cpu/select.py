"""Selections b x for a bit b = c0 ^ c1 and x = x0 + X: side 0 knows (c0, x0), side 1 knows (c1, X).

b x = c0 x + (1 - 2 c0) c1 (X + x0): side 1 shares c1 X = v_0 + v_2 and c1 = k_0 + k_2 between two holders of side 0.
Bit vectors are packed, 64 to a word.
"""

from __future__ import annotations

import numpy as np

from sottovoce.kernels.cpu.jit import Words, kernel

ZERO = np.uint64(0)
ONE = np.uint64(1)


@kernel
def select_share(
    bit0: Words, bit1: Words, x0: Words, x1: Words, v_mask: Words, k_mask: Words, v: Words, k: Words
) -> None:
    """Side 1: with c = bit0 ^ bit1 and X = x0 + x1, v = c X - v_mask and k = c - k_mask. All (n,)."""
    n = v.shape[0]
    for w in range(bit0.shape[0]):
        word = bit0[w] ^ bit1[w]
        base = 64 * w
        for j in range(min(64, n - base)):
            i = base + j
            c = (word >> np.uint64(j)) & ONE
            v[i] = ((ZERO - c) & (x0[i] + x1[i])) - v_mask[i]
            k[i] = c - k_mask[i]


@kernel
def select_eval(bit: Words, x0: Words, rest: Words, include: np.uint64, v: Words, k: Words, out: Words) -> None:
    """A holder of side 0: out = c (rest + include x0) + (1 - 2c)(v + k x0), c = bit. All (n,).

    The two holders' outputs add up to b x when one passes include = 1 and their `rest` add up to X.
    """
    n = out.shape[0]
    every = ZERO - include
    for w in range(bit.shape[0]):
        word = bit[w]
        base = 64 * w
        for j in range(min(64, n - base)):
            i = base + j
            ones = ZERO - (
                (word >> np.uint64(j)) & ONE
            )  # all ones where c = 1: multiplications by 0, 1, -1 become masks
            inner = rest[i] + (x0[i] & every)
            out[i] = (inner & ones) + (((v[i] + k[i] * x0[i]) ^ ones) - ones)
