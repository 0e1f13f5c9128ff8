"""Numbers under two-party masks: truncation, selection, products. `one` is 1 at P_0 and 0 at P_1.

P_i holds x_i of x = x_0 + x_1 mod 2^64. Arrays are (n,); bit vectors are packed, (ceil(n / 64),).
"""

from __future__ import annotations

import numpy as np

from sottovoce.kernels.cpu.jit import Words, kernel

ZERO = np.uint64(0)
ONE = np.uint64(1)


@kernel
def wrap_open(
    z: Words, offset: np.uint64, correction: np.uint64, bits: int, mask: Words, top: Words, opened: Words, out: Words
) -> None:
    """With a = z + offset: top = msb(a), opened = top ^ mask, out = (a >> bits) + correction.

    z_0 + 2^62 and z_1 are the summands of a number below 2^63, whose quotient by 2^bits is the sum of theirs, or one
    more, minus w 2^(64-bits), w = msb OR msb [Cheetah, 2022/207]. `wrap_finish` subtracts it; the low 64 - bits bits
    are final here. 1 <= bits <= 32.
    """
    n = z.shape[0]
    f = np.uint64(bits)
    for w in range(top.shape[0]):
        word = ZERO
        base = 64 * w
        for j in range(min(64, n - base)):
            a = z[base + j] + offset
            word |= (a >> np.uint64(63)) << np.uint64(j)
            out[base + j] = (a >> f) + correction
        top[w] = word
        opened[w] = word ^ mask[w]


@kernel
def wrap_finish(
    top: Words, opened: Words, other: Words, mask: Words, product: Words, one: np.uint64, bits: int, out: Words
) -> None:
    """out -= w_i 2^(64-bits), w_i = own - p_i: this party's share of w = a OR b = a + b - a b, own = a or b.

    d = a ^ alpha and e = b ^ beta are open, product_0 + product_1 = alpha beta mod 2^32:
    p_0 = e (1-2d) alpha + (1-2d)(1-2e) product_0, p_1 = d e + d (1-2e) beta + (1-2d)(1-2e) product_1.
    top, opened: own bit and d or e; other: the other party's; mask: alpha or beta. product: (n,) uint32.
    """
    n = out.shape[0]
    shift = np.uint64(64 - bits)
    constant = ONE - one
    for w in range(top.shape[0]):
        own, mine, theirs, hidden = top[w], opened[w], other[w], mask[w]
        base = 64 * w
        for j in range(min(64, n - base)):
            s = np.uint64(j)
            o = (mine >> s) & ONE
            c = (theirs >> s) & ONE
            o_ones = ZERO - o  # all ones where the bit is 1: x * (1 - 2 bit) is (x ^ ones) - ones
            c_ones = ZERO - c
            inner = (c & (hidden >> s)) + ((np.uint64(product[base + j]) ^ c_ones) - c_ones)
            share = ((inner ^ o_ones) - o_ones) + (constant & o & c)
            out[base + j] -= (((own >> s) & ONE) - share) << shift


@kernel
def select_open(bit: Words, x: Words, value: Words, mask: Words, opened_value: Words, opened_bit: Words) -> None:
    """opened_value = (1 - 2 bit) x - value, opened_bit = bit ^ mask: what this party sends for a selection.

    b x with b = b_0 ^ b_1 and x = x_0 + x_1 is b_0 x_0 + b_1 x_1 + b_1 u_0 + b_0 u_1, u_i = (1 - 2 b_i) x_i. Each of
    the last two is a product of one party's bit with the other's number, which are opened under (value, mask).
    """
    n = x.shape[0]
    for w in range(bit.shape[0]):
        word = bit[w]
        opened_bit[w] = word ^ mask[w]
        base = 64 * w
        for j in range(min(64, n - base)):
            i = base + j
            ones = ZERO - ((word >> np.uint64(j)) & ONE)
            opened_value[i] = ((x[i] ^ ones) - ones) - value[i]


@kernel
def select_finish(
    bit: Words,
    x: Words,
    other_value: Words,
    opened_bit: Words,
    other_bit: Words,
    mask: Words,
    mine: Words,
    theirs: Words,
    out: Words,
) -> None:
    """out = bit x + e' u + (1 - 2e') mine + (1 - 2e)(mask d' + theirs): a share of b x; u as in `select_open`.

    e = opened_bit; e' = other_bit and d' = other_value are what the other party sent. mine, theirs: shares of this
    party's value times the other's mask, and of the other's value times this party's mask.
    """
    n = out.shape[0]
    for w in range(bit.shape[0]):
        own, o, c, hidden = bit[w], opened_bit[w], other_bit[w], mask[w]
        base = 64 * w
        for j in range(min(64, n - base)):
            i = base + j
            s = np.uint64(j)
            b_ones = ZERO - ((own >> s) & ONE)
            o_ones = ZERO - ((o >> s) & ONE)
            c_ones = ZERO - ((c >> s) & ONE)
            m_ones = ZERO - ((hidden >> s) & ONE)
            u = (x[i] ^ b_ones) - b_ones
            crossed = ((mine[i] ^ c_ones) - c_ones) + (u & c_ones)
            rest = (other_value[i] & m_ones) + theirs[i]
            out[i] = (x[i] & b_ones) + crossed + ((rest ^ o_ones) - o_ones)


@kernel
def beaver_mul(a: Words, b: Words, c: Words, d: Words, e: Words, one: np.uint64, out: Words) -> None:
    """out = c + e a + d b + one d e: a share of x y, for d = x - a and e = y - b opened and c = a b [Beaver 91]."""
    for i in range(out.size):
        out[i] = c[i] + e[i] * (a[i] + one * d[i]) + d[i] * b[i]


@kernel
def triple_mul(a0: Words, a1: Words, b0: Words, b1: Words, c0: Words, out: Words) -> None:
    """out = (a0 + a1)(b0 + b1) - c0: the second share of the product of two shared vectors of masks."""
    for i in range(out.size):
        out[i] = (a0[i] + a1[i]) * (b0[i] + b1[i]) - c0[i]
