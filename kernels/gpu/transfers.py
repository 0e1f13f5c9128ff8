"""Launchers of `cuda/transfers.cu`: the local work of oblivious transfer. Same names and meaning as kernels.cpu.ot.

Arrays are C-contiguous uint64 unless a docstring says otherwise; an output may not be an input. What offsets and starts
say is not looked at here, which would cost a copy to the host: the caller vouches for it.
"""

from __future__ import annotations

import numpy as np

from sottovoce.kernels.gpu.device import THREADS, Argument, Array, Device, blocks_for, check

UNIT = "transfers"
KEY_BYTES = 16
PER_THREAD = 2
"""Elements that a thread takes at a time: 16 bytes."""
WARP = 32
PLANES = 128
TILE_WORDS = 8
"""Words of each plane that a block of `transpose_bits` takes at a time: WARPS in the source."""
BLOCKS_PER_MULTIPROCESSOR = 4
"""Of the kernels with an AES table: a block fills its own, hence stays for many trees."""
MAX_FIELD_BITS = 8
MAX_STREAM_WORDS = 1 << 33
"""2^32 blocks of AES, which is what the counter has room for."""
RING_BITS = 64


def field_vole(device: Device, leaves: Array, operation: np.uint64, u: Array, v: Array) -> None:
    """Sums over GF(2) of each tree's streams t_x: u = sum t_x, v_b = sum of the t_x with bit b of x set.

    leaves: (X, G, 16) uint8, X a power of two up to 256. u: (G, W), v: (G log2(X), W), tree after tree.
    """
    values, trees = _leaves("field_vole", leaves)
    bits, words = values.bit_length() - 1, u.shape[1]
    if values != 1 << bits or bits > MAX_FIELD_BITS:
        raise ValueError(f"field_vole: expected a power of two of leaves, at most {1 << MAX_FIELD_BITS}, got {values}")
    _check_stream("field_vole", words)
    check("field_vole", u, trees * words)
    check("field_vole", v, trees * bits * words)
    arguments = (leaves, np.uint64(operation), u, v, np.int32(bits), np.int64(trees), np.int64(words))
    _launch_groups(device, "field_vole", values, trees * -(-words // 2), arguments)


def leaf_sums(
    device: Device,
    leaves: Array,
    holes: Array,
    operation: np.uint64,
    offsets: Array,
    narrow: bool,
    u: Array,
    v: Array,
) -> None:
    """Sums over the integers of each tree's streams t_x: u = sum t_x, v = sum x t_x, mod 2^64, or 2^32 if `narrow`.

    leaves: (X, T, 16) uint8. holes: (T,) int64, the position of a leaf that is left out, -1 for none. offsets: (T + 1,)
    int64: tree i makes the words offsets[i] … offsets[i + 1] - 1 of u and v (as uint64 also if narrow).
    """
    values, trees = _leaves("leaf_sums", leaves)
    n = u.size
    check("leaf_sums", holes, trees, np.int64)
    check("leaf_sums", offsets, trees + 1, np.int64)
    check("leaf_sums", u, n)
    check("leaf_sums", v, n)
    _check_stream("leaf_sums", n)
    if n and trees:
        arguments = (leaves, holes, np.uint64(operation), offsets, np.int32(narrow), u, v)
        sizes = (np.int32(values), np.int64(trees), np.int64(n))
        _launch_groups(device, "leaf_sums", values, n // (4 if narrow else 2) + trees, (*arguments, *sizes))


def transpose_bits(device: Device, planes: Array, rows: Array) -> None:
    """planes: (128, W) -> rows: (64 W, 2): bit i of row n is bit n % 64 of planes[i, n // 64]."""
    words = planes.size // PLANES
    check("transpose_bits", planes, PLANES * words)
    check("transpose_bits", rows, PLANES * words)
    if words:
        grid = blocks_for(words, TILE_WORDS)
        device.launch(UNIT, "transpose_bits", grid, (WARP * TILE_WORDS, 1, 1), (planes, rows, np.int64(words)))


def vole_correct(device: Device, y: Array, u: Array, v: Array, shift: int, z: Array, packed: Array) -> None:
    """z += v 2^shift, and the low 64 - shift bits of each y - u, one after the other, in packed.

    y, u, v, z: (n,). packed: (ceil(n (64 - shift) / 64),).
    """
    n = y.size
    _check_shift("vole_correct", shift)
    for array in (y, u, v, z):
        check("vole_correct", array, n)
    check("vole_correct", packed, _packed(n, shift))
    if n:
        arguments = (y, u, v, np.int32(shift), z, packed, np.int64(n))
        device.launch(UNIT, "vole_correct", blocks_for(n, PER_THREAD * THREADS), (THREADS, 1, 1), arguments)


def vole_join(
    device: Device, packed: Array, u: Array, v: Array, digits: Array, offsets: Array, shift: int, z: Array
) -> None:
    """z += (digit (c + u) - v) 2^shift, c the corrections that `vole_correct` packed.

    u, v, z: (n,). digits: (T,), that of the products offsets[i] … offsets[i + 1] - 1; offsets: (T + 1,) int64.
    """
    n, runs = z.size, digits.size
    _check_shift("vole_join", shift)
    for array in (u, v, z):
        check("vole_join", array, n)
    check("vole_join", packed, _packed(n, shift))
    check("vole_join", digits, runs)
    check("vole_join", offsets, runs + 1, np.int64)
    if n and runs:
        arguments = (packed, u, v, digits, offsets, np.int32(shift), z, np.int64(runs), np.int64(n))
        device.launch(UNIT, "vole_join", blocks_for(n, PER_THREAD * THREADS), (THREADS, 1, 1), arguments)


def add_runs(device: Device, x: Array, starts: Array, run: int, out: Array) -> None:
    """out[starts[r] + i] += x[r run + i] for each r and i < run. x: (R run,), starts: (R,) int64."""
    runs = starts.size
    check("add_runs", x, runs * run)
    check("add_runs", starts, runs, np.int64)
    check("add_runs", out, out.size)
    if runs and run:
        log_run = (run - 1).bit_length()
        arguments = (x, starts, np.int64(run), out, np.int64(runs), np.int32(log_run))
        device.launch(UNIT, "add_runs", blocks_for(runs << log_run, THREADS), (THREADS, 1, 1), arguments)


def _leaves(kernel: str, leaves: Array) -> tuple[int, int]:
    values, trees, size = leaves.shape
    if size != KEY_BYTES:
        raise ValueError(f"{kernel}: expected leaves of {KEY_BYTES} bytes, got {size}")
    check(kernel, leaves, values * trees * size, np.uint8)
    return values, trees


def _check_stream(kernel: str, words: int) -> None:
    if words > MAX_STREAM_WORDS:
        raise ValueError(f"{kernel}: expected streams of at most {MAX_STREAM_WORDS} words, got {words}")


def _check_shift(kernel: str, shift: int) -> None:
    if not 0 <= shift < RING_BITS:
        raise ValueError(f"{kernel}: expected a shift of 0 to {RING_BITS - 1}, got {shift}")


def _packed(n: int, shift: int) -> int:
    return -(-n * (RING_BITS - shift) // RING_BITS)


def _launch_groups(device: Device, kernel: str, values: int, items: int, arguments: tuple[Argument, ...]) -> None:
    """A group of up to 32 lanes for each item, one lane for each leaf or some."""
    log_lanes = min(max(values - 1, 0).bit_length(), WARP.bit_length() - 1)
    if items:
        needed, _, _ = blocks_for(items << log_lanes, THREADS)
        grid = (min(needed, BLOCKS_PER_MULTIPROCESSOR * device.multiprocessors), 1, 1)
        device.launch(UNIT, kernel, grid, (THREADS, 1, 1), (*arguments, np.int32(log_lanes)))
