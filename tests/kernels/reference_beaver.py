"""The kernels of two-party masks again in plain Python integers: same names, same arguments, no shared code."""

from __future__ import annotations

from functools import cache
from itertools import combinations
from typing import Any

import numpy as np

RING = 1 << 64
Terms = dict[frozenset[Any], int]
"""A polynomial over GF(2): monomials, as sets of names of masks, with their public factors (64 elements to a word)."""


def _bit(words: np.ndarray, element: int) -> int:
    return int(words[element // 64]) >> (element % 64) & 1


def _set_words(out: np.ndarray, bits: list[int]) -> None:
    for w in range(len(out)):
        out[w] = sum(bit << j for j, bit in enumerate(bits[64 * w : 64 * w + 64]))


def wrap_open(z, offset, correction, bits, mask, top, opened, out) -> None:  # type: ignore[no-untyped-def]
    a = [(int(x) + int(offset)) % RING for x in z]
    for i, value in enumerate(a):
        out[i] = (value // 2**bits + int(correction)) % RING
    _set_words(top, [value >> 63 for value in a])
    for w in range(len(opened)):
        opened[w] = int(top[w]) ^ int(mask[w])


def wrap_finish(top, opened, other, mask, product, one, bits, out) -> None:  # type: ignore[no-untyped-def]
    for i in range(len(out)):
        own, t = _bit(top, i), _bit(mask, i)
        if int(one) == 1:
            d, e = _bit(opened, i), _bit(other, i)
            share = e * (1 - 2 * d) * t + (1 - 2 * d) * (1 - 2 * e) * int(product[i])
        else:
            d, e = _bit(other, i), _bit(opened, i)
            share = d * e + d * (1 - 2 * e) * t + (1 - 2 * d) * (1 - 2 * e) * int(product[i])
        out[i] = (int(out[i]) - (own - share) * 2 ** (64 - bits)) % RING


def _opened(name: Any, factor: int) -> Terms:
    """factor ^ mask."""
    return {frozenset(): factor, frozenset([name]): RING - 1}


def _plus(*terms: Terms) -> Terms:
    out: Terms = {}
    for part in terms:
        for monomial, factor in part.items():
            out[monomial] = out.get(monomial, 0) ^ factor
    return out


def _times(x: Terms, *others: Terms) -> Terms:
    for y in others:
        out: Terms = {}
        for s, a in x.items():
            for t, b in y.items():
                out[s | t] = out.get(s | t, 0) ^ a & b
        x = out
    return x


def _value(terms: Terms, shares: dict[frozenset[Any], int]) -> int:
    out = 0
    for monomial, factor in terms.items():
        out ^= factor & shares[monomial]
    return out


@cache
def _leaf(count: int, propagate: bool) -> list[tuple[int, int]]:
    """Sets of a's and b's bits whose products add up to the carry (or all ones) of a + b: the Moebius transform."""
    inputs = [(a, b) for a in range(2**count) for b in range(2**count)]
    true = [(a, b) for a, b in inputs if (a + b == 2**count - 1 if propagate else a + b >> count)]
    return [(s, t) for s, t in inputs if sum(a & s == a and b & t == b for a, b in true) % 2]


def leaf_eval(opened, other, mask, products, one, out) -> None:  # type: ignore[no-untyped-def]
    bits, width = opened.shape
    blocks = -(-bits // 2)
    party = 0 if int(one) else 1
    for w, block in ((w, block) for w in range(width) for block in range(blocks)):
        low = 2 * block
        count = min(2, bits - low)
        d, e = (opened, other) if party == 0 else (other, opened)
        a = [_opened(("a", i), int(d[low + i, w])) for i in range(count)]
        b = [_opened(("b", i), int(e[low + i, w])) for i in range(count)]
        own = {("ab"[party], i): int(mask[low + i, w]) for i in range(count)}
        result = [0, 0]
        for propagate in (False, True):
            for s, t in _leaf(count, propagate):
                chosen = [a[i] for i in range(count) if s >> i & 1] + [b[i] for i in range(count) if t >> i & 1]
                for monomial, factor in _times(*chosen).items():
                    alpha, beta = (sum(1 << i for side, i in monomial if side == name) for name in "ab")
                    # A monomial of one party's bits is that party's. Of a mixed one P_0 has what holds masks of its own
                    # only, P_1 what holds no mask of P_0.
                    holder = (0 if t == 0 or alpha else 1) if s else 1
                    if alpha and beta:
                        # The last row is the sum of the products of two, which always come together.
                        assert alpha + beta < 4 or factor == RING - 1
                        row = {(1, 1): 0, (2, 1): 1, (1, 2): 2, (2, 2): 3}.get((alpha, beta))
                        value = 0 if row is None else int(products[4 * block + row, w])
                    elif holder == party:
                        value = RING - 1
                        for name in monomial:
                            value &= own[name]
                    else:
                        value = 0
                    result[propagate] ^= factor & value
        out[block, w] = result[False]
        if block > 0:
            out[blocks + block - 1, w] = result[True]


def _merged_rows(blocks: int) -> list[tuple[str, int]]:
    names: list[tuple[str, int]] = []
    for base in range(0, blocks, 4):
        end = min(base + 4, blocks)
        if end - base > 1:
            names += [("g", i) for i in range(base, end - 1)]
            names += [("p", i) for i in range(base if base else 1, end)]
    return names


def _row(blocks: int, kind: str, block: int) -> int:
    return block if kind == "g" else blocks + block - 1


def merge_open(rows, mask, opened) -> None:  # type: ignore[no-untyped-def]
    blocks = (len(rows) + 1) // 2
    for number, (kind, block) in enumerate(_merged_rows(blocks)):
        for w in range(rows.shape[1]):
            opened[number, w] = int(rows[_row(blocks, kind, block), w]) ^ int(mask[number, w])


def _monomials(blocks: int) -> list[frozenset[tuple[str, int]]]:
    found: list[frozenset[tuple[str, int]]] = []
    for base in range(0, blocks, 4):
        end = min(base + 4, blocks)
        through = [("p", i) for i in range(base + 1, end)]
        sets = [frozenset(s) for r in range(1, len(through) + 1) for s in combinations(through, r)]
        sets.sort(key=lambda s: sum(2**i for _, i in s))
        found += [s for s in sets if len(s) > 1]
        for i in range(base, end - 1):
            found += [s | {("g", i)} for s in sets if min(block for _, block in s) > i]
        if base:
            found += [s | {("p", base)} for s in sets]
    return found


def merge_eval(rows, opened, mask, products, one, out) -> None:  # type: ignore[no-untyped-def]
    blocks, width = (len(rows) + 1) // 2, rows.shape[1]
    names, monomials = _merged_rows(blocks), _monomials(blocks)
    assert (len(names), len(monomials)) == (len(mask), len(products))
    bases = list(range(0, blocks, 4))
    for w in range(width):
        shares: dict[frozenset[Any], int] = {frozenset(): int(one)}
        shares |= {frozenset([name]): int(mask[number, w]) for number, name in enumerate(names)}
        shares |= {monomial: int(products[number, w]) for number, monomial in enumerate(monomials)}
        value = {name: _opened(name, int(opened[number, w])) for number, name in enumerate(names)}
        for group, base in enumerate(bases):
            end = min(base + 4, blocks)
            g = int(rows[end - 1, w])
            for i in range(base, end - 1):
                g ^= _value(_times(value["g", i], *(value["p", j] for j in range(i + 1, end))), shares)
            out[group, w] = g
            if base == 0:
                continue
            if end - base == 1:
                p = int(rows[_row(blocks, "p", base), w])
            else:
                p = _value(_times(*(value["p", j] for j in range(base, end))), shares)
            out[len(bases) + group - 1, w] = p


def ands_eval(opened, mask, products, one, out) -> None:  # type: ignore[no-untyped-def]
    inputs, width = opened.shape
    sets = [frozenset(i for i in range(inputs) if s >> i & 1) for s in range(2**inputs)]
    many = [s for s in sets if len(s) > 1]
    for w in range(width):
        factors = [int(o) for o in opened[:, w]]
        shares = {frozenset([i]): int(mask[i, w]) for i in range(inputs)}
        shares |= {frozenset(): int(one)} | {s: int(products[row, w]) for row, s in enumerate(many)}
        total = 0
        for s in sets:
            term = shares[s]
            for i in range(inputs):
                if i not in s:
                    term &= factors[i]
            total ^= term
        out[w] = total


def select_open(bit, x, value, mask, opened_value, opened_bit) -> None:  # type: ignore[no-untyped-def]
    for i in range(len(x)):
        opened_value[i] = ((1 - 2 * _bit(bit, i)) * int(x[i]) - int(value[i])) % RING
    for w in range(len(bit)):
        opened_bit[w] = int(bit[w]) ^ int(mask[w])


def select_finish(bit, x, other_value, opened_bit, other_bit, mask, mine, theirs, out) -> None:  # type: ignore[no-untyped-def]
    for i in range(len(out)):
        b, e, c, m = (_bit(v, i) for v in (bit, opened_bit, other_bit, mask))
        u = (1 - 2 * b) * int(x[i])
        own = c * u + (1 - 2 * c) * int(mine[i])
        out[i] = (b * int(x[i]) + own + (1 - 2 * e) * (m * int(other_value[i]) + int(theirs[i]))) % RING


def beaver_mul(a, b, c, d, e, one, out) -> None:  # type: ignore[no-untyped-def]
    for i in range(len(out)):
        x, y, z, s, t = (int(v[i]) for v in (a, b, c, d, e))
        out[i] = (z + t * x + s * y + int(one) * s * t) % RING


def triple_mul(a0, a1, b0, b1, c0, out) -> None:  # type: ignore[no-untyped-def]
    for i in range(len(out)):
        out[i] = ((int(a0[i]) + int(a1[i])) * (int(b0[i]) + int(b1[i])) - int(c0[i])) % RING


def _convolution(x, w, shape, stride, pad_left, dilation, groups) -> list[int]:  # type: ignore[no-untyped-def]
    """w: [group][tap][channel][output] of Python integers, x: [clip][channel][time]; flat, of the shape given."""
    batch, c_out, time_out = shape
    values = []
    for b in range(batch):
        for o in range(c_out):
            group, column = divmod(o, c_out // groups)
            for t in range(time_out):
                total = 0
                for tap, channels in enumerate(w[group]):
                    at = t * stride + tap * dilation - pad_left
                    for i, row in enumerate(channels):
                        channel = x[b][group * len(channels) + i]
                        if 0 <= at < len(channel):
                            total += channel[at] * row[column]
                values.append(total)
    return values


def _product(x: list[list[int]], w: list[list[int]], columns: int) -> list[int]:
    return [sum(a * b[column] for a, b in zip(row, w, strict=True)) for row in x for column in range(columns)]


def _store(out: np.ndarray, values: list[int]) -> None:
    out.reshape(-1)[:] = np.array([value % RING for value in values], np.uint64)


def _sums(x: np.ndarray, y: np.ndarray) -> list[Any]:
    total: list[Any] = (x.astype(object) + y.astype(object)).tolist()
    return total


def beaver_conv1d(d, a, w, out, *geometry: int) -> None:  # type: ignore[no-untyped-def]
    half = w.shape[3] // 2
    parts = (w[0], w[1]) if len(w) == 2 else (w[0, :, :, :half], w[0, :, :, half:])
    left, right = (
        _convolution(x.tolist(), y.tolist(), out.shape, *geometry) for x, y in zip((d, a), parts, strict=True)
    )
    _store(out, [z + x + y for z, x, y in zip(out.reshape(-1).tolist(), left, right, strict=True)])


def beaver_matmul(d, a, w, out) -> None:  # type: ignore[no-untyped-def]
    left, right = (_product(x.tolist(), y.tolist(), w.shape[2]) for x, y in ((d, w[0]), (a, w[1])))
    _store(out, [z + x + y for z, x, y in zip(out.reshape(-1).tolist(), left, right, strict=True)])


def triple_products(layers, a0, a1, b, c0, out) -> None:  # type: ignore[no-untyped-def]
    for layer in layers:
        given, products = layer.c_in * layer.time, layer.c_out * layer.time_out
        mine = slice(layer.a_at, layer.a_at + given), slice(layer.c_at, layer.c_at + products)
        shape = (layer.groups, layer.taps, layer.c_in // layer.groups, layer.c_out // layer.groups)
        w = b[layer.b_at : layer.b_at + np.prod(shape, dtype=int)].reshape(shape).tolist()
        x = np.array(_sums(a0[:, mine[0]], a1[:, mine[0]]), object).reshape(len(a0), layer.c_in, layer.time).tolist()
        made = (len(a0), layer.c_out, layer.time_out)
        geometry = (layer.stride, layer.pad_left, layer.dilation, layer.groups)
        values = np.array(_convolution(x, w, made, *geometry), object).reshape(len(a0), products)
        out[:, mine[1]] = (values - c0[:, mine[1]].astype(object)) % RING
