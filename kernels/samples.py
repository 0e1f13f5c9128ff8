"""Sample arguments for the rows of the catalog: every mix of the ring's extreme values, then random ones."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

Arguments = tuple[Any, ...]
Sampler = Callable[[np.random.Generator], list[Arguments]]

EXTREMES = np.array([0, 1, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1], np.uint64)


def ring_array(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Uniform ring elements, about a fifth of them replaced by extreme ones."""
    values = rng.integers(0, 2**64, shape, dtype=np.uint64)
    return np.where(rng.random(shape) < 0.2, rng.choice(EXTREMES, shape), values)


def elementwise(arrays: int) -> Sampler:
    """Samples for `arrays` flat arrays of one length, the last of which is the output."""

    def sampler(rng: np.random.Generator) -> list[Arguments]:
        result: list[Arguments] = []
        for length in (1, 0, 3, 67, 1000):
            result.append(tuple(ring_array(rng, (length,)) for _ in range(arrays)))
        pairs = np.array(list(itertools.product(EXTREMES, repeat=2)), np.uint64)
        columns = [pairs[:, i % 2].copy() for i in range(arrays - 1)]
        result.append((*columns, np.zeros(len(pairs), np.uint64)))
        return result

    return sampler


def scaled(rng: np.random.Generator) -> list[Arguments]:
    return [(ring_array(rng, (n,)), c, ring_array(rng, (n,))) for n in (1, 0, 33) for c in EXTREMES]


def half(rng: np.random.Generator) -> list[Arguments]:
    lengths = itertools.product((1, 0, 2, 67, 1000), (0, 1))
    return [(ring_array(rng, (n,)), which, np.zeros(n, np.uint32)) for n, which in lengths]


def halves(rng: np.random.Generator) -> list[Arguments]:
    return [
        (ring_array(rng, (n,)).astype(np.uint32), ring_array(rng, (n,)).astype(np.uint32), ring_array(rng, (n,)))
        for n in (1, 0, 2, 67, 1000)
    ]


def matmul(rng: np.random.Generator) -> list[Arguments]:
    """Shapes on both sides of every tile and panel size, empty ones, and operands of extreme values only."""
    shapes = [
        (1, 1, 1),
        (0, 3, 2),
        (3, 0, 2),
        (2, 3, 0),
        (1, 40, 8),
        (2, 7, 9),
        (5, 3, 4),
        (9, 21, 33),
        (66, 5, 3),
        (4, 515, 2),
        (124, 18, 60),
        (62, 35, 61),
    ]
    result: list[Arguments] = []
    for (rows, inner, columns), accumulate in itertools.product(shapes, (False, True)):
        x, w, out = (ring_array(rng, shape) for shape in ((rows, inner), (inner, columns), (rows, columns)))
        result.append((x, w, out, accumulate))
    for value in EXTREMES:
        result.append((np.full((5, 6), value), np.full((6, 9), EXTREMES[-1]), np.zeros((5, 9), np.uint64), False))
    return result


def conv1d(rng: np.random.Generator) -> list[Arguments]:
    """Same-padding, strided, dilated, grouped, over-padded and all-padding convolutions."""
    # batch, groups, c_in / groups, c_out / groups, time, kernel, time_out, stride, pad_left, dilation
    cases = [
        (1, 1, 1, 1, 1, 1, 1, 1, 0, 1),
        (1, 1, 1, 16, 40, 5, 40, 1, 2, 1),
        (3, 1, 8, 16, 10, 5, 10, 1, 2, 1),
        (2, 2, 3, 5, 11, 3, 6, 2, 1, 1),
        (2, 1, 33, 9, 7, 3, 5, 2, 3, 2),
        (1, 2, 40, 3, 6, 5, 6, 1, 2, 1),
        (1, 3, 1, 1, 7, 2, 9, 1, 3, 2),
        (2, 1, 2, 9, 4, 5, 4, 3, 9, 1),
        (2, 1, 2, 3, 4, 3, 5, 1, 0, 3),
        (0, 1, 2, 3, 4, 3, 4, 1, 1, 1),
        (1, 1, 2, 3, 3, 2, 0, 1, 0, 1),
        (2, 2, 3, 60, 31, 3, 31, 1, 1, 1),
    ]
    result: list[Arguments] = []
    for case, accumulate in itertools.product(cases, (False, True)):
        batch, groups, c_in, c_out, time, kernel_size, time_out, stride, pad_left, dilation = case
        x = ring_array(rng, (batch, groups * c_in, time))
        w = ring_array(rng, (groups, kernel_size, c_in, c_out))
        out = ring_array(rng, (batch, groups * c_out, time_out))
        result.append((x, w, out, stride, pad_left, dilation, groups, accumulate))
    return result


def sum_pool(rng: np.random.Generator) -> list[Arguments]:
    # rows, time, time_out, kernel, stride, pad_left
    cases = [
        (1, 1, 1, 1, 1, 0),
        (5, 40, 10, 4, 4, 0),
        (3, 10, 5, 3, 2, 1),
        (2, 4, 4, 9, 1, 4),
        (2, 3, 4, 2, 2, 3),
        (0, 4, 1, 4, 4, 0),
    ]
    return [
        (ring_array(rng, (rows, time)), ring_array(rng, (rows, time_out)), kernel_size, stride, pad_left)
        for rows, time, time_out, kernel_size, stride, pad_left in cases
    ]


def _streams(rng: np.random.Generator, key: Callable[[], np.ndarray]) -> list[Arguments]:
    result: list[Arguments] = []
    for length, operation, chunk in itertools.product((1, 0, 7, 64, 65, 200), (0, 2**64 - 1), (0, 2**32 - 1)):
        result.append((key(), operation, chunk, ring_array(rng, (length,))))
    result.append(
        (key(), int(rng.integers(2**64, dtype=np.uint64)), int(rng.integers(2**32)), np.zeros(131, np.uint64))
    )
    return result


def chacha20(rng: np.random.Generator) -> list[Arguments]:
    return _streams(rng, lambda: rng.integers(0, 2**32, 8, dtype=np.uint32))


def aes128_ctr(rng: np.random.Generator) -> list[Arguments]:
    return _streams(rng, lambda: rng.integers(0, 256, 16, dtype=np.uint8))
