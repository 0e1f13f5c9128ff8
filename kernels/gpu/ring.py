"""Launchers of `cuda/ring.cu`: elementwise arithmetic mod 2^64. Same names, arguments and meaning as kernels.cpu.ring.

Every array is of the same number of elements, C-contiguous, uint64 unless a docstring says otherwise; `out` may be one
of the inputs of its type.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sottovoce.kernels.gpu.device import (
    THREADS,
    WORDS_PER_THREAD,
    Array,
    Device,
    Keystream,
    blocks_for,
    check,
    words_of,
)

Launcher = Callable[..., None]
BLOCK = (THREADS, 1, 1)


def _elementwise(name: str, inputs: int) -> Launcher:
    def launcher(device: Device, *arrays: Array) -> None:
        if len(arrays) != inputs + 1:
            raise TypeError(f"{name}: expected {inputs + 1} arrays, got {len(arrays)}")
        n = arrays[-1].size
        for array in arrays:
            check(name, array, n)
        if n:
            device.launch("ring", f"ring_{name}", blocks_for(n, 2 * THREADS), BLOCK, (*arrays, np.int64(n)))

    launcher.__name__ = name
    return launcher


add = _elementwise("add", 2)
sub = _elementwise("sub", 2)
neg = _elementwise("neg", 1)
mul = _elementwise("mul", 2)
mul_add = _elementwise("mul_add", 3)
mul_cross = _elementwise("mul_cross", 4)
xor = _elementwise("xor", 2)
sum3 = _elementwise("sum3", 3)


def scale(device: Device, x: Array, c: np.uint64, out: Array) -> None:
    """out = c * x for one scalar c."""
    check("scale", x, out.size)
    check("scale", out, out.size)
    if out.size:
        grid = blocks_for(out.size, 2 * THREADS)
        device.launch("ring", "ring_scale", grid, BLOCK, (x, np.uint64(c), out, np.int64(out.size)))


def mask_zero(device: Device, x: Array, plus: Array | Keystream, minus: Array | Keystream, out: Array) -> None:
    """out = x + plus - minus."""
    n = out.size
    check("mask_zero", x, n)
    check("mask_zero", out, n)
    if n:
        masks = (*words_of("mask_zero", plus, n), *words_of("mask_zero", minus, n))
        grid = blocks_for(n, THREADS * WORDS_PER_THREAD)
        device.launch("ring", "ring_mask_zero", grid, BLOCK, (x, *masks, out, np.int64(n)))


def remask_pair(
    device: Device, x: Array, mine: Array | Keystream, theirs: Array | Keystream, kept: Array, total: Array
) -> None:
    """kept = x - mine, total = mine + theirs."""
    n = kept.size
    for array in (x, kept, total):
        check("remask_pair", array, n)
    if n:
        masks = (*words_of("remask_pair", mine, n), *words_of("remask_pair", theirs, n))
        grid = blocks_for(n, THREADS * WORDS_PER_THREAD)
        device.launch("ring", "ring_remask_pair", grid, BLOCK, (x, *masks, kept, total, np.int64(n)))


def take_half(device: Device, x: Array, which: int, out: Array) -> None:
    """out = the low (which = 0) or high (1) 32 bits of each word. out: (n,) uint32."""
    n = out.size
    check("take_half", x, n)
    check("take_half", out, n, np.uint32)
    if which not in (0, 1):
        raise ValueError(f"take_half: expected 0 for the low or 1 for the high half, got {which}")
    if n:
        arguments = (x, np.int32(32 * which), out, np.int64(n))
        device.launch("ring", "ring_take_half", blocks_for(n, 2 * THREADS), BLOCK, arguments)


def join_halves(device: Device, low: Array, high: Array, out: Array) -> None:
    """out = low + 2^32 high. low, high: (n,) uint32."""
    n = out.size
    check("join_halves", low, n, np.uint32)
    check("join_halves", high, n, np.uint32)
    check("join_halves", out, n)
    if n:
        device.launch("ring", "ring_join_halves", blocks_for(n, 2 * THREADS), BLOCK, (low, high, out, np.int64(n)))
