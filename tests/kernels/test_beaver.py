"""Both parties' kernels together: what they join to is the true function, whatever the masks."""

from __future__ import annotations

import numpy as np
import pytest

from sottovoce.kernels.cpu.beaver import (
    beaver_mul,
    select_finish,
    select_open,
    triple_mul,
    wrap_finish,
    wrap_open,
)
from sottovoce.kernels.cpu.beaver_bits import (
    LEAF_PRODUCTS,
    ands_eval,
    leaf_eval,
    leaf_product_rows,
    merge_eval,
    merge_mask_rows,
    merge_monomials,
    merge_open,
)
from sottovoce.kernels.samples import ring_array

ALL = np.uint64(2**64 - 1)
BIT_ONES = (ALL, np.uint64(0))
ONES = (np.uint64(1), np.uint64(0))
Pair = tuple[np.ndarray, np.ndarray]


def words(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.integers(0, 2**64, shape, dtype=np.uint64)


def xor_shares(rng: np.random.Generator, x: np.ndarray) -> Pair:
    first = words(rng, *x.shape)
    return first, x ^ first


def shares(rng: np.random.Generator, x: np.ndarray) -> Pair:
    first = words(rng, *x.shape)
    return first, x - first


def planes(values: list[int], bits: int) -> np.ndarray:
    """Bit i of every value, packed: (bits, ceil(n / 64))."""
    rows = np.array([[v >> i & 1 for v in values] for i in range(bits)], np.uint8)
    padded = np.zeros((bits, -(-len(values) // 64) * 64), np.uint8)
    padded[:, : len(values)] = rows
    return np.packbits(padded, axis=1, bitorder="little").view(np.uint64)


def unpacked(x: np.ndarray, n: int) -> np.ndarray:
    return np.unpackbits(x.view(np.uint8), count=n, bitorder="little").astype(np.uint64)


def conjunction(rows: np.ndarray, chosen: tuple[int, ...]) -> np.ndarray:
    out: np.ndarray = np.bitwise_and.reduce(rows[list(chosen)])
    return out


def members(number: int) -> tuple[int, ...]:
    return tuple(i for i in range(number.bit_length()) if number >> i & 1)


def leaves(rng: np.random.Generator, a: np.ndarray, b: np.ndarray) -> Pair:
    """Both parties' shares of G and P, from bit planes (bits, W)."""
    bits = len(a)
    masks = [words(rng, *a.shape) for _ in range(2)]
    products = []
    for low in range(0, bits, 2):
        for terms in LEAF_PRODUCTS if low + 1 < bits else (((1, 1),),):
            both = [[conjunction(m[low : low + 2], members(u)) for m, u in zip(masks, t, strict=True)] for t in terms]
            products.append(np.bitwise_xor.reduce([alpha & beta for alpha, beta in both]))
    assert len(products) == leaf_product_rows(bits)
    dealt = xor_shares(rng, np.stack(products))
    opened = [a ^ masks[0], b ^ masks[1]]
    out = [np.empty((2 * ((bits + 1) // 2) - 1, a.shape[1]), np.uint64) for _ in range(2)]
    for i in range(2):
        leaf_eval(opened[i], opened[1 - i], masks[i], dealt[i], BIT_ONES[i], out[i])
    return out[0], out[1]


def merge(rng: np.random.Generator, rows: Pair) -> Pair:
    """One level, both parties."""
    blocks, width = (len(rows[0]) + 1) // 2, rows[0].shape[1]
    merged = -(-blocks // 4)
    masks = [words(rng, merge_mask_rows(blocks), width) for _ in range(2)]
    joined = masks[0] ^ masks[1]
    dealt = xor_shares(rng, np.stack([conjunction(joined, chosen) for chosen in merge_monomials(blocks)]))
    opened = [np.empty_like(mask) for mask in masks]
    for i in range(2):
        merge_open(rows[i], masks[i], opened[i])
    both = opened[0] ^ opened[1]
    out = [np.empty((2 * merged - 1, width), np.uint64) for _ in range(2)]
    for i in range(2):
        merge_eval(rows[i], both, masks[i], dealt[i], BIT_ONES[i], out[i])
    return out[0], out[1]


@pytest.mark.parametrize("n", [1, 191])
@pytest.mark.parametrize("bits", [1, 2, 3, 4, 31, 32, 47, 63])
def test_leaves_and_merges_join_to_the_carry(rng: np.random.Generator, bits: int, n: int) -> None:
    top = 2**bits - 1
    a, b = ([int(v) & top for v in ring_array(rng, (n,))] for _ in range(2))
    for i in range(0, n, 2):
        b[i] = top - a[i] + (i % 4 == 0)  # a carry through every block, and none
    rows = leaves(rng, planes(a, bits), planes([v & top for v in b], bits))
    while len(rows[0]) > 1:
        rows = merge(rng, rows)
    expected = [x + (y & top) >> bits for x, y in zip(a, b, strict=True)]
    np.testing.assert_array_equal(unpacked(rows[0][0] ^ rows[1][0], n), expected)


def test_every_pair_of_two_bit_leaves(rng: np.random.Generator) -> None:
    """Generate and propagate of both pairs of all four-bit summands."""
    a, b = [i % 16 for i in range(256)], [i // 16 for i in range(256)]
    rows = leaves(rng, planes(a, 4), planes(b, 4))
    g0, g1, p1 = (unpacked(row, 256).tolist() for row in rows[0] ^ rows[1])
    for i, (x, y) in enumerate(zip(a, b, strict=True)):
        assert g0[i] == (x % 4 + y % 4) >> 2
        assert g1[i] == (x // 4 + y // 4) >> 2
        assert p1[i] == (x // 4 + y // 4 == 3)


@pytest.mark.parametrize("width", [1, 3, 131])
@pytest.mark.parametrize("blocks", [*range(2, 14), 16, 17, 32, 33])
def test_merge_joins_to_the_merged_blocks(rng: np.random.Generator, blocks: int, width: int) -> None:
    """Every size of a last group, with G and P independent of each other."""
    g, p = (ring_array(rng, (blocks, width)) for _ in range(2))
    out = merge(rng, xor_shares(rng, np.concatenate([g, p[1:]])))
    expected_g, expected_p = [], []
    for base in range(0, blocks, 4):
        carry, through = g[base], p[base]
        for block in range(base + 1, min(base + 4, blocks)):
            carry, through = g[block] ^ (p[block] & carry), through & p[block]
        expected_g.append(carry)
        expected_p.append(through)
    np.testing.assert_array_equal(out[0] ^ out[1], np.stack(expected_g + expected_p[1:]))


@pytest.mark.parametrize("width", [1, 5, 600])
@pytest.mark.parametrize("inputs", range(2, 9))
def test_ands_join_to_the_and(rng: np.random.Generator, inputs: int, width: int) -> None:
    x = words(rng, inputs, width) | words(rng, inputs, width) | words(rng, inputs, width)
    masks = [words(rng, inputs, width) for _ in range(2)]
    joined = masks[0] ^ masks[1]
    sets = [s for s in range(1 << inputs) if s.bit_count() > 1]
    dealt = xor_shares(rng, np.stack([conjunction(joined, members(s)) for s in sets]))
    out = [np.empty(width, np.uint64) for _ in range(2)]
    for i in range(2):
        ands_eval(x ^ joined, masks[i], dealt[i], BIT_ONES[i], out[i])
    np.testing.assert_array_equal(out[0] ^ out[1], np.bitwise_and.reduce(x))


@pytest.mark.parametrize("n", [1, 64, 333])
@pytest.mark.parametrize("bits", [1, 2, 16, 31, 32])
def test_truncation_is_floor_or_one_more(rng: np.random.Generator, bits: int, n: int) -> None:
    x = (ring_array(rng, (n,)) >> np.uint64(2)) - np.uint64(2**61)
    x[::5] = rng.choice(np.array([0, -1, 1, 2**61 - 1, -(2**61)], np.int64), len(x[::5])).view(np.uint64)
    z = shares(rng, x)
    masks = [words(rng, -(-n // 64)) for _ in range(2)]
    dealt = [rng.integers(0, 2**32, n, dtype=np.uint32)]
    dealt.append(unpacked(masks[0] & masks[1], n).astype(np.uint32) - dealt[0])
    top, opened, out = ([np.empty(s, np.uint64) for _ in range(2)] for s in (-(-n // 64), -(-n // 64), n))
    offset = (np.uint64(2**62), np.uint64(0))
    correction = (np.uint64((1 - 2 ** (62 - bits)) % 2**64), np.uint64(0))
    for i in range(2):
        wrap_open(z[i], offset[i], correction[i], bits, masks[i], top[i], opened[i], out[i])
    early = out[0] + out[1]
    for i in range(2):
        wrap_finish(top[i], opened[i], opened[1 - i], masks[i], dealt[i], ONES[i], bits, out[i])
    got = (out[0] + out[1]).view(np.int64)
    floor = x.view(np.int64) >> bits
    assert ((got == floor) | (got == floor + 1)).all()
    low = np.uint64(2 ** (64 - bits) - 1)
    np.testing.assert_array_equal(early & low, got.view(np.uint64) & low)  # final before anything is exchanged


@pytest.mark.parametrize("n", [1, 64, 333])
def test_selection_joins_to_the_product(rng: np.random.Generator, n: int) -> None:
    x = ring_array(rng, (n,))
    flags = words(rng, -(-n // 64))
    b, xs = xor_shares(rng, flags), shares(rng, x)
    value = [words(rng, n) for _ in range(2)]
    mask = [words(rng, -(-n // 64)) for _ in range(2)]
    left, right = shares(rng, value[0] * unpacked(mask[1], n)), shares(rng, value[1] * unpacked(mask[0], n))
    opened_value = [np.empty(n, np.uint64) for _ in range(2)]
    opened_bit = [np.empty(len(flags), np.uint64) for _ in range(2)]
    out = [np.empty(n, np.uint64) for _ in range(2)]
    for i in range(2):
        select_open(b[i], xs[i], value[i], mask[i], opened_value[i], opened_bit[i])
    for i in range(2):
        mine, theirs = (left[i], right[i]) if i == 0 else (right[i], left[i])
        select_finish(b[i], xs[i], opened_value[1 - i], opened_bit[i], opened_bit[1 - i], mask[i], mine, theirs, out[i])
    np.testing.assert_array_equal(out[0] + out[1], unpacked(flags, n) * x)


def test_products_join_to_the_product(rng: np.random.Generator) -> None:
    x, y = ring_array(rng, (500,)), ring_array(rng, (500,))
    a, b = (shares(rng, words(rng, 500)) for _ in range(2))
    c0, c1 = words(rng, 500), np.empty(500, np.uint64)
    triple_mul(*a, *b, c0, c1)
    d, e = x - a[0] - a[1], y - b[0] - b[1]
    out = [np.empty(500, np.uint64) for _ in range(2)]
    for i in range(2):
        beaver_mul(a[i], b[i], (c0, c1)[i], d, e, ONES[i], out[i])
    np.testing.assert_array_equal(out[0] + out[1], x * y)
