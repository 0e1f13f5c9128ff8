"""Launchers of `cuda/bits.cu`: bit-sliced words. Same names, arguments and meaning as kernels.cpu.bits.

W is the number of words of a row of 64 W elements. Every array is C-contiguous.
"""

from __future__ import annotations

import numpy as np

from sottovoce.kernels.cpu.bits import RADIX, leaf_rows
from sottovoce.kernels.gpu.device import (
    THREADS,
    WORDS_PER_THREAD,
    Argument,
    Array,
    Device,
    Keystream,
    blocks_for,
    check,
    words_of,
)

UNIT = "bits"
WARP = 32
SLICE_THREADS = 128
"""As in the source, where it sizes shared memory."""
ELEMENTS_PER_THREAD = 32
"""Of a slice."""
WARP_WORDS = 31 * WORDS_PER_THREAD
"""What a warp takes of a row: a lane of the 32 makes keystream for its neighbour only."""
WORD_BITS = 64
HALF_BITS = 32


def slice_bits(device: Device, x: Array, bits: int, planes: Array) -> None:
    """x: (n,) -> planes: (bits, W), the low `bits` bits, 1 <= bits <= 64; missing elements count as 0."""
    check("slice_bits", x, x.size)
    _slice(device, "slice_bits", x, bits, WORD_BITS, planes)


def slice_halves(device: Device, x: Array, bits: int, planes: Array) -> None:
    """The same for x: (n,) uint32, 1 <= bits <= 32."""
    check("slice_halves", x, x.size, np.uint32)
    _slice(device, "slice_halves", x, bits, HALF_BITS, planes)


def monomials(device: Device, planes: Array, masks: Array | Keystream, out: Array) -> None:
    """planes: (m, W). masks, out: (leaf_rows(m), W), out = monomials of each radix-4 block, the top plane; ^ masks."""
    m, words = planes.shape
    rows = leaf_rows(m)
    check("monomials", planes, m * words)
    check("monomials", out, rows * words)
    _launch_rows(device, "monomials", rows, words, (planes, *words_of("monomials", masks, rows * words), out), m)


def contract_leaves(
    device: Device, planes: Array, leaves: Array | Keystream, one: np.uint64, masks: Array | Keystream, out: Array
) -> None:
    """planes: (m, W), leaves: (leaf_rows(m), W). masks, out: (2k - 1, W), k = ceil((m - 1) / 4): shares of G and P.

    The top planes are added to the last G.
    """
    m, words = planes.shape
    if m < 2:
        raise ValueError(f"contract_leaves: expected at least 2 planes, got {m}")
    blocks = -(-(m - 1) // RADIX)
    results = (2 * blocks - 1) * words
    check("contract_leaves", planes, m * words)
    check("contract_leaves", out, results)
    leaf_words = words_of("contract_leaves", leaves, leaf_rows(m) * words)
    arguments = (planes, *leaf_words, np.uint64(one), *words_of("contract_leaves", masks, results), out)
    _launch_rows(device, "contract_leaves", blocks, words, arguments, m)


def carry_level(
    device: Device, own: Array, nxt: Array, mask0: Array | Keystream, mask1: Array | Keystream, out: Array
) -> None:
    """own, nxt: (2k - 1, W) -> out: (2k' - 1, W), k' = ceil(k / 2). mask0, mask1: a row for each AND, G first."""
    rows, words = own.shape
    k = (rows + 1) // 2
    if rows != 2 * k - 1 or k < 2:
        raise ValueError(f"carry_level: expected 3, 5, 7, ... rows, got {rows}")
    merged, gates = (k + 1) // 2, 2 * (k // 2) - 1
    check("carry_level", own, rows * words)
    check("carry_level", nxt, rows * words)
    check("carry_level", out, (2 * merged - 1) * words)
    masks = (words_of("carry_level", mask, gates * words) for mask in (mask0, mask1))
    _launch_rows(device, "carry_level", 2 * merged - 1, words, (own, nxt, *next(masks), *next(masks), out), k)


def and_cross(
    device: Device,
    x0: Array,
    x1: Array,
    y0: Array,
    y1: Array,
    mask0: Array | Keystream,
    mask1: Array | Keystream,
    out: Array,
) -> None:
    """out = x0 y0 ^ x0 y1 ^ x1 y0 ^ mask0 ^ mask1, all (W,)."""
    n = out.size
    for array in (x0, x1, y0, y1, out):
        check("and_cross", array, n)
    masks = (*words_of("and_cross", mask0, n), *words_of("and_cross", mask1, n))
    if n:
        grid = blocks_for(n, THREADS * WORDS_PER_THREAD)
        device.launch(UNIT, "and_cross", grid, (THREADS, 1, 1), (x0, x1, y0, y1, *masks, out, np.int64(n)))


def _slice(device: Device, kernel: str, x: Array, bits: int, most: int, planes: Array) -> None:
    n, words = x.size, -(-x.size // WORD_BITS)
    if not 1 <= bits <= most:
        raise ValueError(f"{kernel}: expected 1 to {most} bits, got {bits}")
    check(kernel, planes, bits * words)
    if n:
        grid = blocks_for(n, SLICE_THREADS * ELEMENTS_PER_THREAD)
        arguments = (x, np.int32(bits), planes, np.int64(n), np.int64(words))
        device.launch(UNIT, kernel, grid, (SLICE_THREADS, 1, 1), arguments)


def _launch_rows(
    device: Device, kernel: str, rows: int, words: int, arguments: tuple[Argument, ...], number: int
) -> None:
    """A warp for every WARP_WORDS columns of every row; `number` is the kernel's count of planes or blocks."""
    if words:
        warps = -(-words // WARP_WORDS)
        threads = min(THREADS, WARP * warps)
        columns, _, _ = blocks_for(WARP * warps, threads)
        grid = (columns, rows, 1)
        device.launch(UNIT, kernel, grid, (threads, 1, 1), (*arguments, np.int32(number), np.int64(words)))
