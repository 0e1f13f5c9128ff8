"""The bit, truncation and selection kernels again in plain Python integers, one element at a time."""

from __future__ import annotations

from functools import cache
from itertools import combinations

import numpy as np

RING = 1 << 64


def _bit(words: np.ndarray, element: int) -> int:
    return int(words[element // 64]) >> (element % 64) & 1


def _set_words(out: np.ndarray, bits: list[int]) -> None:
    for w in range(len(out)):
        out[w] = sum(bit << j for j, bit in enumerate(bits[64 * w : 64 * w + 64]))


def slice_bits(x: np.ndarray, bits: int, planes: np.ndarray) -> None:
    values = x.tolist()
    for b in range(bits):
        _set_words(planes[b], [v >> b & 1 for v in values])


def slice_halves(x: np.ndarray, bits: int, planes: np.ndarray) -> None:
    slice_bits(x, bits, planes)


def _blocks(m: int) -> list[list[int]]:
    return [list(range(base, min(base + 4, m - 1))) for base in range(0, m - 1, 4)]


def _subsets(block: list[int]) -> list[tuple[int, ...]]:
    """Non-empty subsets in binary order."""
    every = [s for r in range(1, len(block) + 1) for s in combinations(block, r)]
    return sorted(every, key=lambda s: sum(1 << (i - block[0]) for i in s))


def monomials(planes: np.ndarray, masks: np.ndarray, out: np.ndarray) -> None:
    m, width = planes.shape
    for w in range(width):
        column = [int(planes[b, w]) for b in range(m)]
        row = 0
        for block in _blocks(m):
            for subset in _subsets(block):
                value = RING - 1
                for i in subset:
                    value &= column[i]
                out[row, w] = value ^ int(masks[row, w])
                row += 1
        out[row, w] = column[m - 1] ^ int(masks[row, w])


@cache
def _polynomial(size: int, a: int, propagate: bool) -> tuple[int, ...]:
    """Subsets of b's bits whose monomials add up to the carry out (or all ones) of a + b, by the Moebius transform."""
    truth = [int(a + b == 2**size - 1) if propagate else a + b >> size for b in range(2**size)]
    return tuple(s for s in range(2**size) if sum(truth[b] for b in range(2**size) if b & s == b) % 2)


def contract_leaves(planes: np.ndarray, leaves: np.ndarray, one: np.uint64, masks: np.ndarray, out: np.ndarray) -> None:
    m, width = planes.shape
    blocks = _blocks(m)
    for w in range(width):
        column = [int(planes[b, w]) for b in range(m)]
        shares = [int(leaf) for leaf in leaves[:, w]]
        result = [int(mask) for mask in masks[:, w]]
        row = 0
        for number, block in enumerate(blocks):
            share = [int(one), *shares[row : row + 2 ** len(block) - 1]]
            row += 2 ** len(block) - 1
            for bit in range(64):
                a = sum((column[b] >> bit & 1) << i for i, b in enumerate(block))
                for s in _polynomial(len(block), a, False):
                    result[number] ^= (share[s] >> bit & 1) << bit
                if number > 0:
                    for s in _polynomial(len(block), a, True):
                        result[len(blocks) + number - 1] ^= (share[s] >> bit & 1) << bit
        result[len(blocks) - 1] ^= shares[row] ^ int(one) & column[m - 1]
        for target, value in enumerate(result):
            out[target, w] = value


def and_cross(x0, x1, y0, y1, mask0, mask1, out) -> None:  # type: ignore[no-untyped-def]
    for w in range(len(out)):
        a, b, c, d, r, s = (int(v[w]) for v in (x0, x1, y0, y1, mask0, mask1))
        out[w] = a & c ^ a & d ^ b & c ^ r ^ s


def carry_level(own: np.ndarray, nxt: np.ndarray, mask0: np.ndarray, mask1: np.ndarray, out: np.ndarray) -> None:
    k, width = (len(own) + 1) // 2, own.shape[1]
    pairs, merged = k // 2, (k + 1) // 2
    for w in range(width):
        g = [(int(own[j, w]), int(nxt[j, w])) for j in range(k)]
        p = [(0, 0)] + [(int(own[k + j - 1, w]), int(nxt[k + j - 1, w])) for j in range(1, k)]

        def part(x: tuple[int, int], y: tuple[int, int], row: int, w: int = w) -> int:
            return x[0] & y[0] ^ x[0] & y[1] ^ x[1] & y[0] ^ int(mask0[row, w]) ^ int(mask1[row, w])

        new_g = [g[2 * j + 1][0] ^ part(p[2 * j + 1], g[2 * j], j) for j in range(pairs)]
        new_p = [part(p[2 * j + 1], p[2 * j], pairs + j - 1) for j in range(1, pairs)]
        if k % 2:
            new_g.append(g[-1][0])
            if pairs:
                new_p.append(p[-1][0])
        assert len(new_g) == merged
        for row, value in enumerate(new_g + new_p):
            out[row, w] = value


def trunc_left(z, mask, remask0, remask1, alpha, bits, top, opened, out, remasks) -> None:  # type: ignore[no-untyped-def]
    a = [(int(x) - int(r) + 2**62) % RING for x, r in zip(z, mask, strict=True)]
    for i, value in enumerate(a):
        out[i] = ((value >> bits) - 2 ** (62 - bits) + 1 - int(remask0[i])) % RING
        remasks[i] = (int(remask0[i]) + int(remask1[i])) % RING
    tops = [value >> 63 for value in a]
    _set_words(top, tops)
    for w in range(len(opened)):
        opened[w] = int(top[w]) ^ int(alpha[w])


def trunc_left_finish(top, opened, other, alpha, gamma, bits, out) -> None:  # type: ignore[no-untyped-def]
    for i in range(len(out)):
        a, d, e, t = (_bit(v, i) for v in (top, opened, other, alpha))
        share = e * (1 - 2 * d) * t + (1 - 2 * d) * (1 - 2 * e) * int(gamma[i])
        out[i] = (int(out[i]) - ((a - share) << (64 - bits))) % RING


def trunc_right(z0, z1, remask0, remask1, beta, gamma, other, bits, opened, summand, out, remasks) -> None:  # type: ignore[no-untyped-def]
    bits_opened = []
    for i in range(len(out)):
        value = (int(z0[i]) + int(z1[i])) % RING
        b, t, d = value >> 63, _bit(beta, i), _bit(other, i)
        e = b ^ t
        bits_opened.append(e)
        share = d * e + d * (1 - 2 * e) * t + (1 - 2 * d) * (1 - 2 * e) * int(gamma[i])
        summand[i] = ((value >> bits) + int(remask0[i])) % 2**32
        remasks[i] = (int(remask0[i]) + int(remask1[i])) % RING
        out[i] = ((value >> bits) - ((b - share) << (64 - bits)) - int(remask1[i])) % RING
    _set_words(opened, bits_opened)


def trunc_deal(z, mask, alpha, beta, gamma, out, other_gamma) -> None:  # type: ignore[no-untyped-def]
    for i in range(len(out)):
        out[i] = (int(z[i]) + int(mask[i])) % RING
        other_gamma[i] = (_bit(alpha, i) * _bit(beta, i) - int(gamma[i])) % 2**32


def select_share(bit0, bit1, x0, x1, v_mask, k_mask, v, k) -> None:  # type: ignore[no-untyped-def]
    for i in range(len(v)):
        c = _bit(bit0, i) ^ _bit(bit1, i)
        v[i] = (c * (int(x0[i]) + int(x1[i])) - int(v_mask[i])) % RING
        k[i] = (c - int(k_mask[i])) % RING


def select_eval(bit, x0, rest, include, v, k, out) -> None:  # type: ignore[no-untyped-def]
    for i in range(len(out)):
        c = _bit(bit, i)
        inner = int(rest[i]) + int(include) * int(x0[i])
        out[i] = (c * inner + (1 - 2 * c) * (int(v[i]) + int(k[i]) * int(x0[i]))) % RING
