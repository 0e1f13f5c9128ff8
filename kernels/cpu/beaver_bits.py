"""Packed bits under two-party masks: carries of a + b, a known to P_0 and b to P_1, and ANDs of shared bits.

A bit x with a mask m is opened as o = x ^ m, hence x = o ^ m, and a product of such bits is a sum of products of masks
with public factors: prod x_j = sum over S of prod_(j not in S) o_j * prod_(j in S) m_j. Dealt shares of the mask
products make every AND of up to 8 bits local behind one opening [Beaver 91; for many factors ABY2.0, 2020/1225]. All
rows are (W,) words of 64 elements; `one` is this party's share of the constant 1: all ones at P_0, 0 at P_1.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np

from sottovoce.kernels.cpu.jit import Words, kernel

ZERO = np.uint64(0)
CHUNK = 64
"""Words of each row that are worked on at a time."""
TABLE_WORDS = 1 << 13
"""Words of the table of `ands_eval`: 64 KB, for the second-level cache."""
RADIX = 4
"""Blocks that one level of the carry tree merges."""
SUBSETS = 1 << (RADIX - 1)
"""Of the blocks of a group behind its first."""

LEAF_PRODUCTS = (((1, 1),), ((2, 1),), ((1, 2),), ((2, 2), (3, 1), (1, 3)))
"""What is dealt for a pair of bits, a row each: sums of products of two monomials, given by the subsets of (alpha_0,
alpha_1) and of (beta_0, beta_1) as binary numbers. The last three products are needed in one sum only."""
_P11, _P21, _P12, _SUM = range(4)
_PAIR_PRODUCTS = len(LEAF_PRODUCTS)


def leaf_product_rows(bits: int) -> int:
    """Rows of dealt products for the leaves of so many bits: LEAF_PRODUCTS for each pair, one for a last single bit."""
    return _PAIR_PRODUCTS * (bits // 2) + bits % 2


def _groups(blocks: int) -> list[int]:
    """Blocks in each group of a merge level."""
    return [min(RADIX, blocks - base) for base in range(0, blocks, RADIX)]


def merge_mask_rows(blocks: int) -> int:
    """Rows that a merge level over so many blocks opens.

    Group after group of s > 1 blocks: G of blocks 0 … s-2, then P of blocks 1 … s-1, and of block 0 behind the first
    group, in the order of the blocks.
    """
    return sum(2 * (size - 1) + (group > 0) for group, size in enumerate(_groups(blocks)) if size > 1)


def merge_monomials(blocks: int) -> tuple[tuple[int, ...], ...]:
    """The sets of mask rows whose products a merge level needs, in the order of its `products`.

    Group after group of s > 1 blocks, sets of P_1 … P_(s-1) in binary order: those of at least two; each G_i, i = 0 …
    s-2, with the non-empty ones of P_(i+1) …; behind the first group P_0 with the non-empty ones.
    """
    found: list[tuple[int, ...]] = []
    row = 0
    for group, size in enumerate(_groups(blocks)):
        if size == 1:
            continue
        last = size - 1
        first = row + last + (group > 0)
        found += [s for s in _subsets(first, last) if len(s) > 1]
        for i in range(last):
            found += [(row + i, *s) for s in _subsets(first + i, last - i)]
        if group > 0:
            found += [(row + last, *s) for s in _subsets(first, last)]
        row = first + last
    return tuple(found)


def _subsets(first: int, count: int) -> list[tuple[int, ...]]:
    """Non-empty subsets of first … first + count - 1, in binary order."""
    every = [s for size in range(1, count + 1) for s in combinations(range(first, first + count), size)]
    return sorted(every, key=lambda s: sum(1 << i for i in s))


@kernel
def leaf_eval(opened: Words, other: Words, mask: Words, products: Words, one: np.uint64, out: Words) -> None:
    """Carry generate G and propagate P of each pair of bits of a + b, as XOR shares.

    G = a_1 b_1 ^ (a_1 ^ b_1) a_0 b_0, P = (a_1 ^ b_1)(a_0 ^ b_0); of a last single bit G = a b, P = a ^ b. opened,
    other, mask: (bits, W), this party's bits XOR mask, the other party's, and the mask. products:
    (leaf_product_rows(bits), W). out: (2k - 1, W), k = ceil(bits / 2): G_0 … G_(k-1), P_1 … P_(k-1).
    With a = d ^ alpha and b = e ^ beta a product of an A and a B monomial is their dealt products times public bits,
    plus a part that P_0 knows (all with alpha only) and one that P_1 knows (the rest).
    """
    bits, words = opened.shape
    blocks = (bits + 1) // 2
    d, e = (opened, other) if one != ZERO else (other, opened)
    for block in range(blocks):
        low, high, row = 2 * block, 2 * block + 1, _PAIR_PRODUCTS * block
        if high == bits:
            for w in range(words):
                own = opened[low, w] ^ mask[low, w]
                out[block, w] = (other[low, w] & (own ^ (opened[low, w] & one))) ^ products[row, w]
                if block > 0:
                    out[blocks + block - 1, w] = own
            break
        for w in range(words):
            o0, o1, c0, c1 = opened[low, w], opened[high, w], other[low, w], other[high, w]
            x0, x1 = o0 ^ mask[low, w], o1 ^ mask[high, w]
            both = x0 & x1
            local0, local1 = x0 ^ (o0 & one), x1 ^ (o1 & one)
            local = (c1 & local1) ^ (c0 & (both ^ (o0 & o1 & one))) ^ (c0 & c1 & local0)
            mixed = (d[high, w] ^ e[high, w]) & products[row + _P11, w]
            mixed ^= (d[low, w] & products[row + _P21, w]) ^ (e[low, w] & products[row + _P12, w])
            out[block, w] = local ^ mixed ^ products[row + _SUM, w]
            if block > 0:
                crossed = (c0 & local1) ^ (c1 & local0) ^ products[row + _P21, w] ^ products[row + _P12, w]
                out[blocks + block - 1, w] = both ^ crossed


@kernel
def merge_open(rows: Words, mask: Words, opened: Words) -> None:
    """opened = the rows that a merge level multiplies XOR mask: what this party sends.

    rows: (2k - 1, W), this party's shares of G_0 … G_(k-1), P_1 … P_(k-1). mask, opened: (merge_mask_rows(k), W).
    """
    words = rows.shape[1]
    blocks = (rows.shape[0] + 1) // 2
    row = 0
    for base in range(0, blocks, RADIX):
        last = min(RADIX, blocks - base) - 1
        behind = 1 if base > 0 else 0
        for i in range(2 * last + behind if last > 0 else 0):
            source = base + i if i < last else blocks - behind + base + i - last
            for w in range(words):
                opened[row, w] = rows[source, w] ^ mask[row, w]
            row += 1


@kernel
def merge_eval(rows: Words, opened: Words, mask: Words, products: Words, one: np.uint64, out: Words) -> None:
    """One level of the radix-4 carry tree: each group of s <= 4 blocks becomes one, as XOR shares.

    G' = G_(s-1) ^ P_(s-1) (G_(s-2) ^ P_(s-2) (G_(s-3) ^ …)), P' = P_(s-1) … P_0. rows: (2k - 1, W) as in `merge_open`.
    opened: (merge_mask_rows(k), W), what both parties sent, joined by XOR. mask: the same shape. products:
    (len(merge_monomials(k)), W). out: (2k' - 1, W), k' = ceil(k / 4), in the order of rows. A group of one is copied.
    """
    words = rows.shape[1]
    blocks = (rows.shape[0] + 1) // 2
    merged = (blocks + RADIX - 1) // RADIX
    masks = np.empty((SUBSETS, CHUNK), np.uint64)  # products of the masks of P_1 … P_(s-1), by subset
    held = np.empty((SUBSETS, CHUNK), np.uint64)  # the part of G' or P' computed so far, times the same
    for w0 in range(0, words, CHUNK):
        count = min(CHUNK, words - w0)
        row, product = 0, 0
        for group in range(merged):
            base = RADIX * group
            last = min(RADIX, blocks - base) - 1
            subsets = 1 << last
            if last == 0:
                for w in range(w0, w0 + count):
                    out[group, w] = rows[base, w]
                if group > 0:
                    for w in range(w0, w0 + count):
                        out[merged + group - 1, w] = rows[blocks + base - 1, w]
                continue
            first = row + last + (1 if group > 0 else 0)
            product = _load_products(mask, first, last, products, product, w0, count, one, masks)
            _clear(held, subsets, count)
            for i in range(last):
                product = _add_products(opened, mask, row + i, products, product, w0, count, masks, i, subsets, held)
                _fold(opened, first + i, w0, count, subsets >> (i + 1), held)
            for w in range(count):
                out[group, w0 + w] = rows[base + last, w0 + w] ^ held[0, w]
            if group > 0:
                _clear(held, subsets, count)
                product = _add_products(opened, mask, row + last, products, product, w0, count, masks, 0, subsets, held)
                for i in range(last):
                    _fold(opened, first + i, w0, count, subsets >> (i + 1), held)
                for w in range(count):
                    out[merged + group - 1, w0 + w] = held[0, w]
            row = first + last


@kernel
def _clear(held: Words, subsets: int, count: int) -> None:
    for s in range(subsets):
        for w in range(count):
            held[s, w] = ZERO


@kernel
def _load_products(
    mask: Words, first: int, inputs: int, products: Words, product: int, w0: int, count: int, one: np.uint64, out: Words
) -> int:
    """out[s] = shares of the product of the masks first + i, i in s; those of two and more from products[product …].

    Returns the first unused row of products.
    """
    end = w0 + count
    for w in range(count):
        out[0, w] = one
    for i in range(inputs):
        half = 1 << i
        for s in range(half):
            source = mask[first + i, w0:end] if s == 0 else products[product, w0:end]
            for w in range(count):
                out[half + s, w] = source[w]
            product += 1 if s > 0 else 0
    return product


@kernel
def _add_products(
    opened: Words, mask: Words, row: int, products: Words, product: int, w0: int, count: int, masks: Words, skip: int,
    subsets: int, held: Words,
) -> int:  # fmt: skip
    """held[s] ^= x m for a bit x = opened ^ its mask, both in `row`, and m = masks[s << skip].

    x's mask times m is the next row of products. Returns the first unused one.
    """
    end = w0 + count
    bit, own = opened[row, w0:end], mask[row, w0:end]
    for w in range(count):
        held[0, w] ^= (bit[w] & masks[0, w]) ^ own[w]
    for s in range(1, subsets >> skip):
        factor = products[product, w0:end]
        for w in range(count):
            held[s, w] ^= (bit[w] & masks[s << skip, w]) ^ factor[w]
        product += 1
    return product


@kernel
def _fold(opened: Words, row: int, w0: int, count: int, subsets: int, held: Words) -> None:
    """Multiply by a bit x = opened[row] ^ m: of held[s] = y m_s, m the lowest in the sets, make held[s] = y x m_s."""
    bit = opened[row, w0 : w0 + count]
    for s in range(subsets):
        for w in range(count):
            held[s, w] = held[2 * s + 1, w] ^ (bit[w] & held[2 * s, w])


@kernel
def ands_eval(opened: Words, mask: Words, products: Words, one: np.uint64, out: Words) -> None:
    """out = x_0 AND x_1 AND …, as XOR shares, for x_j = opened_j ^ mask_j.

    opened: (inputs, W), what both parties sent, joined by XOR. mask: (inputs, W). products: (2^inputs - 1 - inputs, W),
    shares of the ANDs of at least two masks, sets as binary numbers in ascending order. out: (W,). 2 <= inputs <= 8.
    """
    inputs, words = opened.shape
    subsets = 1 << inputs
    chunk = TABLE_WORDS >> inputs
    table = np.empty((subsets, chunk), np.uint64)
    for w0 in range(0, words, chunk):
        count = min(chunk, words - w0)
        _load_products(mask, 0, inputs, products, 0, w0, count, one, table)
        for i in range(inputs):
            _fold(opened, i, w0, count, subsets >> (i + 1), table)
        for w in range(count):
            out[w0 + w] = table[0, w]
