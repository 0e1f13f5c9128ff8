"""Sample arguments for the catalog's kernels of oblivious transfer."""

from __future__ import annotations

from typing import Any

import numpy as np

from sottovoce.kernels.samples import ring_array

Arguments = tuple[Any, ...]

OPERATIONS = (np.uint64(0), np.uint64(2**64 - 1))
ROWS = ((3,), (1,), (0,), (0, 5, 1), (2, 0, 67), (513,), (1030,))
"""Lengths of the rows of a sample, on both sides of a block and of a tile."""


def _leaves(rng: np.random.Generator, values: int, trees: int) -> np.ndarray:
    return rng.integers(0, 256, (values, trees, 16), dtype=np.uint8)


def _offsets(lengths: tuple[int, ...]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def field_vole(rng: np.random.Generator) -> list[Arguments]:
    """Fields of 2 to 16 elements, widths on both sides of a block and of a tile."""
    return [
        (
            _leaves(rng, 1 << bits, trees),
            operation,
            ring_array(rng, (trees, width)),
            ring_array(rng, (trees * bits, width)),
        )
        for bits, trees, width in ((1, 1, 1), (1, 3, 0), (2, 2, 17), (4, 1, 513), (4, 2, 40))
        for operation in OPERATIONS
    ]


def leaf_sums(rng: np.random.Generator) -> list[Arguments]:
    """Trees of 2 to 16 leaves with and without a hole, at the ends and inside."""
    result: list[Arguments] = []
    for lengths in ROWS:
        for values in (2, 16):
            for narrow in (False, True):
                trees = len(lengths)
                holes = rng.choice(np.array([-1, 0, values - 1, values // 2]), trees)
                n = sum(lengths)
                result.append(
                    (
                        _leaves(rng, values, trees),
                        holes,
                        OPERATIONS[narrow],
                        _offsets(lengths),
                        narrow,
                        ring_array(rng, (n,)),
                        ring_array(rng, (n,)),
                    )
                )
    return result


def transpose_bits(rng: np.random.Generator) -> list[Arguments]:
    """No word, one and some."""
    return [(ring_array(rng, (128, w)), ring_array(rng, (64 * w, 2))) for w in (1, 0, 3)]


def vole_correct(rng: np.random.Generator) -> list[Arguments]:
    """Every kind of shift: none, within a word, across words, one bit left."""
    return [
        (
            *(ring_array(rng, (n,)) for _ in range(3)),
            shift,
            ring_array(rng, (n,)),
            ring_array(rng, (_packed(n, shift),)),
        )
        for n in (1, 0, 63, 64, 65)
        for shift in (0, 1, 6, 32, 48, 63)
    ]


def vole_join(rng: np.random.Generator) -> list[Arguments]:
    """The same shifts, rows of several lengths."""
    result: list[Arguments] = []
    for lengths in ((1,), (0,), (0, 5, 1), (2, 0, 67), (64, 64)):
        n = sum(lengths)
        for shift in (0, 1, 6, 32, 48, 63):
            digits = rng.integers(0, 256, len(lengths), dtype=np.uint64)
            packed, u, v, z = (ring_array(rng, (size,)) for size in (_packed(n, shift), n, n, n))
            result.append((packed, u, v, digits, _offsets(lengths), shift, z))
    return result


def add_runs(rng: np.random.Generator) -> list[Arguments]:
    """Runs apart, touching and on top of each other."""
    return [
        (ring_array(rng, (len(starts) * run,)), np.array(starts, np.int64), run, ring_array(rng, (40,)))
        for starts in ((0,), (), (3, 3, 3), (0, 1, 30), (7, 5))
        for run in (1, 0, 10)
    ]


def _packed(n: int, shift: int) -> int:
    return -(-n * (64 - shift) // 64)
