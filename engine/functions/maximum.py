"""Maxima: max-pool as a tournament, argmax with all pairs compared at once."""

from __future__ import annotations

from typing import TypeVar

import numpy as np

from sottovoce.engine.program import MaxPool
from sottovoce.engine.protocols.base import AShare, BShare, Protocol, Structural, pooled

A = TypeVar("A", bound=AShare)
B = TypeVar("B", bound=BShare)
W = TypeVar("W")
Z = TypeVar("Z")


def max_pool(protocol: Protocol[A, B, W, Z], x: A, step: MaxPool) -> A:
    """Window maxima over the last axis, max(a, b) = b + ReLU(a - b), ceil(log2(kernel)) levels.

    A window position in the padding is replaced by the nearest one inside the same window, which leaves the maximum.
    """
    pool = step.pool
    time = x.shape[-1]
    starts = np.arange(pooled(x.shape, pool)[-1]) * pool.stride - pool.padding[0]
    index = np.clip(starts[:, None] + np.arange(pool.kernel)[None, :], 0, time - 1)
    candidates = x.map(lambda v: v[..., index])
    while (count := candidates.shape[-1]) > 1:
        half, f = count // 2, candidates.frac_bits
        a, b = candidates.map(_take(-1, 0, half)), candidates.map(_take(-1, half, 2 * half))
        best = protocol.add(b, protocol.relu(protocol.sub(a, b), step.compare_bits, None, f))
        rest = candidates.map(_take(-1, 2 * half, count))
        candidates = best if count % 2 == 0 else protocol.concat([best, rest], axis=-1)
    return candidates.map(lambda v: v[..., 0])


def argmax_one_hot(protocol: Protocol[A, B, W, Z], x: A, compare_bits: int) -> B:
    """x: (batch, classes) -> bits (classes, batch), 1 for the first largest of each row, 0 elsewhere.

    All pairs i < j are compared at once; class i wins if it loses to none, an AND over classes - 1 bits in
    ceil(log2(classes - 1)) rounds. Differences must stay below 2^(compare_bits - 1).
    """
    classes = x.shape[1]
    left, right = np.triu_indices(classes, 1)
    difference = protocol.sub(x.map(lambda v: v[:, left].T), x.map(lambda v: v[:, right].T))
    smaller = protocol.msb(difference, compare_bits)
    position = np.zeros((classes, classes), np.intp)
    position[left, right] = position[right, left] = np.arange(left.size)
    others = ~np.eye(classes, dtype=bool)
    index = position[others].reshape(classes, classes - 1)
    flip = np.triu(others)[others].reshape(classes, classes - 1)
    wins = protocol.xor_public(smaller.map(lambda v: v[index]), flip[:, :, None])
    while (count := wins.shape[1]) > 1:
        half = count // 2
        both = protocol.and_(wins.map(_take(1, 0, half)), wins.map(_take(1, half, 2 * half)))
        rest = wins.map(_take(1, 2 * half, count))
        wins = both if count % 2 == 0 else protocol.concat_bits([both, rest], axis=1)
    return wins.map(lambda v: v[:, 0])


def _take(axis: int, start: int, stop: int) -> Structural:
    """The rearrangement v[start:stop] along an axis."""
    return lambda v: v.take(range(start, stop), axis=axis)
