"""What is timed: for each kernel of the catalog, arguments of the sizes that matter."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from sottovoce.bench.kernels.beaver import BEAVER
from sottovoce.bench.kernels.fss import FSS
from sottovoce.bench.kernels.ot import OT
from sottovoce.bench.kernels.sizes import (
    ADDITIONS,
    ALL_ONES,
    ANDS,
    COMPARE_BITS,
    FRAC_BITS,
    MULTIPLICATIONS,
    XORS,
    Workload,
    ands,
    convolutions,
    elements,
    elementwise,
    halves,
    keystream,
    matrix_products,
    random_words,
    scale,
    sum_pools,
)
from sottovoce.kernels.catalog import Arguments
from sottovoce.kernels.cpu.bits import leaf_rows
from sottovoce.models.graph import Shape

BLOCKS = [min(4, COMPARE_BITS - 1 - base) for base in range(0, COMPARE_BITS - 1, 4)]
"""Bits of each radix-4 block below the top bit."""
LEAVES = leaf_rows(COMPARE_BITS)
PAIRS = 2 * len(BLOCKS) - 1
GATES = 2 * (len(BLOCKS) // 2) - 1
MERGED = 2 * ((len(BLOCKS) + 1) // 2) - 1


def _arrays(rng: np.random.Generator, *shapes: Shape) -> Arguments:
    return tuple(random_words(rng, *shape) for shape in shapes)


WORKLOADS: Mapping[str, Callable[[], list[Workload]]] = MappingProxyType(
    {
        "add": lambda: elementwise(3, 1, ADDITIONS),
        "sub": lambda: elementwise(3, 1, ADDITIONS),
        "neg": lambda: elementwise(2, 1, ADDITIONS),
        "mul": lambda: elementwise(3, 1, MULTIPLICATIONS),
        "mul_add": lambda: elementwise(4, 1, MULTIPLICATIONS),
        "scale": scale,
        "mul_cross": lambda: elementwise(5, 2, MULTIPLICATIONS),
        "mask_zero": lambda: elementwise(4, 2, ADDITIONS),
        "remask_pair": lambda: elementwise(5, 2, ADDITIONS),
        "xor": lambda: elementwise(3, 1, XORS),
        "sum3": lambda: elementwise(4, 2, ADDITIONS),
        "take_half": lambda: elements(lambda rng, n, w: (random_words(rng, n), 0, halves(rng, n))),
        "join_halves": lambda: elements(lambda rng, n, w: (halves(rng, n), halves(rng, n), random_words(rng, n))),
        "matmul": lambda: matrix_products(_arrays, True, updates=True),
        "conv1d": lambda: convolutions(_arrays, True, updates=True),
        "sum_pool": sum_pools,
        "chacha20_fill": lambda: keystream(8, np.uint32),
        "aes128_ctr_fill": lambda: keystream(16, np.uint8),
        "slice_bits": lambda: elements(
            lambda rng, n, w: (random_words(rng, n), COMPARE_BITS, random_words(rng, COMPARE_BITS, w))
        ),
        "slice_halves": lambda: elements(
            lambda rng, n, w: (halves(rng, n), COMPARE_BITS, random_words(rng, COMPARE_BITS, w))
        ),
        "monomials": lambda: ands(
            sum(2**size - 1 - size for size in BLOCKS),
            lambda rng, n, w: (
                random_words(rng, COMPARE_BITS, w),
                *(random_words(rng, LEAVES, w) for _ in range(2)),
            ),
        ),
        "contract_leaves": lambda: ands(
            sum(2**size - 1 + size for size in BLOCKS),
            lambda rng, n, w: (
                *(random_words(rng, rows, w) for rows in (COMPARE_BITS, LEAVES)),
                ALL_ONES,
                *(random_words(rng, PAIRS, w) for _ in range(2)),
            ),
        ),
        "and_cross": lambda: elementwise(7, 2, ANDS),
        "carry_level": lambda: ands(
            2 * GATES,
            lambda rng, n, w: tuple(random_words(rng, rows, w) for rows in (PAIRS, PAIRS, GATES, GATES, MERGED)),
        ),
        "trunc_left": lambda: elements(
            lambda rng, n, w: (
                *(random_words(rng, n) for _ in range(4)),
                random_words(rng, w),
                FRAC_BITS,
                *(random_words(rng, w) for _ in range(2)),
                *(random_words(rng, n) for _ in range(2)),
            )
        ),
        "trunc_left_finish": lambda: elements(
            lambda rng, n, w: (
                *(random_words(rng, w) for _ in range(4)),
                halves(rng, n),
                FRAC_BITS,
                random_words(rng, n),
            ),
            updates=True,
        ),
        "trunc_right": lambda: elements(
            lambda rng, n, w: (
                *(random_words(rng, n) for _ in range(4)),
                random_words(rng, w),
                halves(rng, n),
                random_words(rng, w),
                FRAC_BITS,
                random_words(rng, w),
                halves(rng, n),
                *(random_words(rng, n) for _ in range(2)),
            )
        ),
        "trunc_deal": lambda: elements(
            lambda rng, n, w: (
                *(random_words(rng, n) for _ in range(2)),
                *(random_words(rng, w) for _ in range(2)),
                halves(rng, n),
                random_words(rng, n),
                halves(rng, n),
            )
        ),
        "select_share": lambda: elements(
            lambda rng, n, w: (
                *(random_words(rng, w) for _ in range(2)),
                *(random_words(rng, n) for _ in range(6)),
            )
        ),
        "select_eval": lambda: elements(
            lambda rng, n, w: (
                random_words(rng, w),
                *(random_words(rng, n) for _ in range(2)),
                np.uint64(1),
                *(random_words(rng, n) for _ in range(3)),
            )
        ),
        **BEAVER,
        **FSS,
        **OT,
    }
)
"""The sizes of each kernel of the catalog. A kernel without a row here fails a test."""
