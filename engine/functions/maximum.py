"""Maxima: max-pool as a tournament, argmax with all pairs compared at once."""

from __future__ import annotations

from typing import TypeVar

import numpy as np

from sottovoce.engine.program import MaxPool, Pool
from sottovoce.engine.protocols.base import AShare, BShare, Protocol, Structural

A = TypeVar("A", bound=AShare)
B = TypeVar("B", bound=BShare)
W = TypeVar("W")
Z = TypeVar("Z")


def max_pool(protocol: Protocol[A, B, W, Z], x: A, step: MaxPool) -> A:
    """Window maxima over the last axis, max(a, b) = b + ReLU(a - b), in ceil(log2(kernel)) levels.

    Where windows overlap, what they share is compared once: with kernel = n * stride + rest, the maxima of blocks of
    `stride` elements, then of n blocks in a row by doubling, then with the element behind them if there is one.
    A window position in the padding is replaced by the nearest one inside, which every such window also holds, so that
    the maximum stays. Only elements of one window are ever compared.
    """
    pool, time = step.pool, x.shape[-1]
    windows = pool.out_time(time)

    def gather(first: int, count: int, size: int) -> A:
        """`size` elements in a row at `count` places, one stride apart, from `first` on: (…, count, size)."""
        starts = np.arange(count) * pool.stride + first - pool.padding[0]
        index = np.clip(starts[:, None] + np.arange(size), 0, time - 1)
        return x.map(lambda v: v[..., index])

    if not _is_shared(pool, windows):
        return _maximum(protocol, gather(0, windows, pool.kernel), step)
    whole, rest = divmod(pool.kernel, pool.stride)
    runs = _maximum(protocol, gather(0, windows + whole - 1, pool.stride), step)
    for shift in _shifts(whole):
        count = runs.shape[-1] - shift
        runs = _larger(protocol, runs.map(_take(-1, 0, count)), runs.map(_take(-1, shift, shift + count)), step)
    if rest:
        behind = gather(whole * pool.stride, windows, 1).map(lambda v: v[..., 0])
        runs = _larger(protocol, runs, behind, step)
    return runs


def max_pool_comparisons(pool: Pool, time: int) -> int:
    """How many pairs `max_pool` compares in one channel of `time` positions."""
    windows = pool.out_time(time)
    return _shared_comparisons(pool, windows) if _is_shared(pool, windows) else windows * (pool.kernel - 1)


def _is_shared(pool: Pool, windows: int) -> bool:
    """Whether sharing saves comparisons and needs no more levels than each window alone."""
    whole, rest = divmod(pool.kernel, pool.stride)
    if whole < 2 or rest > 1 or _levels(pool.stride) + _levels(whole) + rest > _levels(pool.kernel):
        return False
    return _shared_comparisons(pool, windows) < windows * (pool.kernel - 1)


def _shared_comparisons(pool: Pool, windows: int) -> int:
    whole, rest = divmod(pool.kernel, pool.stride)
    runs = windows + whole - 1
    total = runs * (pool.stride - 1)
    for shift in _shifts(whole):
        runs -= shift
        total += runs
    return total + windows * rest


def _shifts(whole: int) -> list[int]:
    """How far apart the runs are whose maxima are joined, until each is `whole` blocks long: 1, 2, 4, …, the rest."""
    shifts, length = [], 1
    while length < whole:
        shifts.append(min(length, whole - length))
        length += shifts[-1]
    return shifts


def _levels(count: int) -> int:
    """ceil(log2(count))."""
    return (count - 1).bit_length()


def _maximum(protocol: Protocol[A, B, W, Z], x: A, step: MaxPool) -> A:
    """Maxima over the last axis, as a tournament."""
    while (count := x.shape[-1]) > 1:
        half = count // 2
        best = _larger(protocol, x.map(_take(-1, 0, half)), x.map(_take(-1, half, 2 * half)), step)
        rest = x.map(_take(-1, 2 * half, count))
        x = best if count % 2 == 0 else protocol.concat([best, rest], axis=-1)
    return x.map(lambda v: v[..., 0])


def _larger(protocol: Protocol[A, B, W, Z], a: A, b: A, step: MaxPool) -> A:
    """max(a, b), elementwise."""
    return protocol.add(b, protocol.relu(protocol.sub(a, b), step.compare_bits, None, a.frac_bits))


def argmax_one_hot(protocol: Protocol[A, B, W, Z], x: A, compare_bits: int) -> B:
    """x: (batch, classes) -> bits (classes, batch), 1 for the first largest of each row, 0 elsewhere.

    All pairs i < j are compared at once; class i wins if it loses to none, an AND over classes - 1 bits, as
    many at once as the protocol takes. Differences must stay below 2^(compare_bits - 1).
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
        inputs = min(count, protocol.and_inputs)
        part = count // inputs
        all_of = protocol.and_(*(wins.map(_take(1, i * part, (i + 1) * part)) for i in range(inputs)))
        rest = wins.map(_take(1, inputs * part, count))
        wins = all_of if count % inputs == 0 else protocol.concat_bits([all_of, rest], axis=1)
    return wins.map(lambda v: v[:, 0])


def _take(axis: int, start: int, stop: int) -> Structural:
    """The rearrangement v[start:stop] along the last axis (-1) or the second (1)."""
    return (lambda v: v[..., start:stop]) if axis == -1 else (lambda v: v[:, start:stop])
