"""Sample arguments for the catalog's bit, truncation and selection kernels."""

from __future__ import annotations

from typing import Any

import numpy as np

from sottovoce.kernels.cpu.bits import leaf_rows
from sottovoce.kernels.samples import ring_array

Arguments = tuple[Any, ...]
ALL_ONES = np.uint64(2**64 - 1)
LENGTHS = (1, 0, 63, 64, 65, 300)
WIDTHS = (2, 32, 4, 5, 6, 7, 16, 17, 31, 33, 47, 48, 64)


def _words(bits: int) -> int:
    return -(-bits // 64)


def slice_bits(rng: np.random.Generator) -> list[Arguments]:
    """Every width that matters, with full and ragged last words."""
    return [
        (ring_array(rng, (n,)), m, ring_array(rng, (m, _words(n)))) for n in LENGTHS for m in (1, 31, 32, 33, 63, 64)
    ]


def slice_halves(rng: np.random.Generator) -> list[Arguments]:
    """The same of half words."""
    return [(x.astype(np.uint32), m, planes) for x, m, planes in slice_bits(rng) if m <= 32]


def monomials(rng: np.random.Generator) -> list[Arguments]:
    """Every kind of last block."""
    return [
        (ring_array(rng, (m, w)), ring_array(rng, (leaf_rows(m), w)), np.empty((leaf_rows(m), w), np.uint64))
        for m in WIDTHS
        for w in ((1, 3, 70) if m < 8 else (1, 3))
    ]


def contract_leaves(rng: np.random.Generator) -> list[Arguments]:
    """Every kind of last block, both shares of the constant."""
    result: list[Arguments] = []
    for m in WIDTHS:
        pairs = 2 * -(-(m - 1) // 4) - 1
        for w, one in ((1, ALL_ONES), (3, np.uint64(0)), (70 if m < 8 else 2, ALL_ONES)):
            planes, leaves, mask = (ring_array(rng, (rows, w)) for rows in (m, leaf_rows(m), pairs))
            result.append((planes, leaves, one, mask, np.empty((pairs, w), np.uint64)))
    return result


def carry_level(rng: np.random.Generator) -> list[Arguments]:
    """Even and odd numbers of blocks."""
    result: list[Arguments] = []
    for blocks in (2, 3, 4, 5, 8, 12, 16):
        for w in (1, 3, 70):
            gates, merged = 2 * (blocks // 2) - 1, (blocks + 1) // 2
            own, nxt = (ring_array(rng, (2 * blocks - 1, w)) for _ in range(2))
            mask0, mask1 = (ring_array(rng, (gates, w)) for _ in range(2))
            result.append((own, nxt, mask0, mask1, np.empty((2 * merged - 1, w), np.uint64)))
    return result


def _gamma(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.integers(0, 2**32, n, dtype=np.uint32)


def trunc_left(rng: np.random.Generator) -> list[Arguments]:
    """Every length, small and large shifts."""
    return [
        (
            *(ring_array(rng, (n,)) for _ in range(4)),
            ring_array(rng, (_words(n),)),
            f,
            *(np.zeros(_words(n), np.uint64) for _ in range(2)),
            *(np.zeros(n, np.uint64) for _ in range(2)),
        )
        for n in LENGTHS
        for f in (16, 1, 30, 32)
    ]


def trunc_left_finish(rng: np.random.Generator) -> list[Arguments]:
    """Every length, small and large shifts."""
    return [
        (*(ring_array(rng, (_words(n),)) for _ in range(4)), _gamma(rng, n), f, ring_array(rng, (n,)))
        for n in LENGTHS
        for f in (16, 1, 30, 32)
    ]


def trunc_right(rng: np.random.Generator) -> list[Arguments]:
    """Every length, small and large shifts."""
    return [
        (
            *(ring_array(rng, (n,)) for _ in range(4)),
            ring_array(rng, (_words(n),)),
            _gamma(rng, n),
            ring_array(rng, (_words(n),)),
            f,
            np.zeros(_words(n), np.uint64),
            np.zeros(n, np.uint32),
            *(np.zeros(n, np.uint64) for _ in range(2)),
        )
        for n in LENGTHS
        for f in (16, 1, 30, 32)
    ]


def trunc_deal(rng: np.random.Generator) -> list[Arguments]:
    """Every length."""
    return [
        (
            *(ring_array(rng, (n,)) for _ in range(2)),
            *(ring_array(rng, (_words(n),)) for _ in range(2)),
            _gamma(rng, n),
            np.zeros(n, np.uint64),
            np.zeros(n, np.uint32),
        )
        for n in LENGTHS
    ]


def select_share(rng: np.random.Generator) -> list[Arguments]:
    """Every length."""
    return [
        (
            *(ring_array(rng, (_words(n),)) for _ in range(2)),
            *(ring_array(rng, (n,)) for _ in range(4)),
            *(np.zeros(n, np.uint64) for _ in range(2)),
        )
        for n in LENGTHS
    ]


def select_eval(rng: np.random.Generator) -> list[Arguments]:
    """Every length, with and without the included part."""
    return [
        (
            ring_array(rng, (_words(n),)),
            *(ring_array(rng, (n,)) for _ in range(2)),
            include,
            *(ring_array(rng, (n,)) for _ in range(2)),
            np.zeros(n, np.uint64),
        )
        for n in LENGTHS
        for include in (np.uint64(1), np.uint64(0))
    ]
