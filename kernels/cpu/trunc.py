"""Exact truncation of z' = A + B mod 2^64, 0 <= z' < 2^63, by the wrap bit w = msb(A) OR msb(B) [Cheetah, 2022/207].

(A >> f) + (B >> f) - w 2^(64-f) is floor(z' / 2^f) or one less. w is needed mod 2^f only and comes from one product of
two private bits a = msb(A), b = msb(B) with dealt bits alpha, beta and gamma_0 + gamma_1 = alpha beta mod 2^f:
d = a ^ alpha and e = b ^ beta are exchanged. Bit vectors are packed, 64 to a word. 1 <= f <= 32.
"""

from __future__ import annotations

import numpy as np

from sottovoce.kernels.cpu.jit import Words, kernel

ZERO = np.uint64(0)
ONE = np.uint64(1)
OFFSET = np.uint64(1 << 62)


@kernel
def trunc_left(
    z: Words,
    mask: Words,
    remask0: Words,
    remask1: Words,
    alpha: Words,
    bits: int,
    top: Words,
    opened: Words,
    out: Words,
    remasks: Words,
) -> None:
    """The holder of A = z - mask + 2^62: top = msb(A), opened = top ^ alpha, out = (A >> f) - 2^(62-f) + 1 - remask0.

    All (n,), bit vectors (ceil(n / 64),). The + 1 makes the result floor or floor + 1, unbiased. Still to be
    subtracted: this side's share of w 2^(64-f), which `trunc_left_finish` does; the low 64 - f bits are final.
    remasks = remask0 + remask1, what both sides subtract.
    """
    n = z.shape[0]
    f = np.uint64(bits)
    correction = ONE - (OFFSET >> f)
    for w in range(top.shape[0]):
        word = ZERO
        base = 64 * w
        for j in range(min(64, n - base)):
            i = base + j
            a = z[i] - mask[i] + OFFSET
            word |= (a >> np.uint64(63)) << np.uint64(j)
            out[i] = (a >> f) + correction - remask0[i]
            remasks[i] = remask0[i] + remask1[i]
        top[w] = word
        opened[w] = word ^ alpha[w]


@kernel
def trunc_left_finish(
    top: Words, opened: Words, other: Words, alpha: Words, gamma: Words, bits: int, out: Words
) -> None:
    """out -= w_0 2^(64-f), w_0 = a - e (1-2d) alpha - (1-2d)(1-2e) gamma_0, d = opened, e = other."""
    n = out.shape[0]
    shift = np.uint64(64 - bits)
    for w in range(top.shape[0]):
        a = top[w]
        d = opened[w]
        e = other[w]
        t = alpha[w]
        base = 64 * w
        for j in range(min(64, n - base)):
            s = np.uint64(j)
            e_bit = (e >> s) & ONE
            sign_d = ONE - (((d >> s) & ONE) << ONE)
            sign_e = ONE - (e_bit << ONE)
            product = sign_d * (e_bit * ((t >> s) & ONE) + sign_e * np.uint64(gamma[base + j]))
            out[base + j] -= (((a >> s) & ONE) - product) << shift


@kernel
def trunc_right(
    z0: Words,
    z1: Words,
    remask0: Words,
    remask1: Words,
    beta: Words,
    gamma: Words,
    other: Words,
    bits: int,
    opened: Words,
    summand: Words,
    out: Words,
    remasks: Words,
) -> None:
    """The holder of B = z0 + z1: opened = msb(B) ^ beta, summand = (B >> f) + remask0, out = its share - remask1.

    out = (B >> f) - w_1 2^(64-f) - remask1,
    w_1 = b - d e - d (1-2e) beta - (1-2d)(1-2e) gamma_1; d = other, e = opened.
    summand: (n,) uint32, its low half. remasks = remask0 + remask1, what both sides subtract.
    """
    n = z0.shape[0]
    f = np.uint64(bits)
    shift = np.uint64(64 - bits)
    for w in range(opened.shape[0]):
        word = ZERO
        base = 64 * w
        for j in range(min(64, n - base)):
            i = base + j
            s = np.uint64(j)
            value = z0[i] + z1[i]
            b = value >> np.uint64(63)
            bt = (beta[w] >> s) & ONE
            e = b ^ bt
            word |= e << s
            d = (other[w] >> s) & ONE
            sign_d = ONE - (d << ONE)
            sign_e = ONE - (e << ONE)
            product = d * e + sign_e * (d * bt + sign_d * np.uint64(gamma[i]))
            quotient = value >> f
            summand[i] = np.uint32(quotient + remask0[i])
            out[i] = quotient - ((b - product) << shift) - remask1[i]
            remasks[i] = remask0[i] + remask1[i]
        opened[w] = word


@kernel
def trunc_deal(z: Words, mask: Words, alpha: Words, beta: Words, gamma: Words, out: Words, other_gamma: Words) -> None:
    """The dealer: out = z + mask for the holder of B, other_gamma = alpha beta - gamma (mod 2^32, hence mod 2^f)."""
    n = z.shape[0]
    for i in range(n):
        w = i >> 6
        j = np.uint64(i & 63)
        out[i] = z[i] + mask[i]
        other_gamma[i] = np.uint32((((alpha[w] & beta[w]) >> j) & ONE) - np.uint64(gamma[i]))
