"""Sample arguments for the catalog's kernels of function secret sharing."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from sottovoce.kernels.cpu.dcf import correction_rows
from sottovoce.kernels.samples import ring_array

Arguments = tuple[Any, ...]
SIZES = ((1, 32), (0, 32), (65, 32), (63, 2), (64, 8), (64, 9), (7, 10), (130, 33), (3, 48), (65, 64))
"""(comparisons, bits): a leaf alone, one level, many, ragged last words."""
ALL_ONES = np.uint64(2**64 - 1)


def dcf_gen(rng: np.random.Generator) -> list[Arguments]:
    """Any root nodes, also with bits set that do not count."""
    return [
        (ring_array(rng, (n,)), bits, *(ring_array(rng, (2, n)) for _ in range(2)), _correction(rng, n, bits))
        for n, bits in SIZES
    ]


def dcf_eval(rng: np.random.Generator) -> list[Arguments]:
    """Both parties; correction words that belong to no secret show more than real ones."""
    result: list[Arguments] = []
    for (n, bits), one in itertools.product(SIZES, (ALL_ONES, np.uint64(0))):
        top, out = (ring_array(rng, (-(-n // 64),)) for _ in range(2))
        result.append((ring_array(rng, (n,)), bits, one, ring_array(rng, (2, n)), _correction(rng, n, bits), top, out))
    return result


def _correction(rng: np.random.Generator, n: int, bits: int) -> np.ndarray:
    return ring_array(rng, (correction_rows(bits), n))
