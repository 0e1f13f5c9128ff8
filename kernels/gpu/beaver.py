"""Launchers of `cuda/beaver.cu`: numbers under two-party masks. Names, arguments and meaning of kernels.cpu.beaver.

Arrays of numbers are (n,) uint64, bits are packed (ceil(n / 64),), all C-contiguous. Unless a docstring says otherwise
an output may not be an input.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sottovoce.kernels.gpu.device import THREADS, Argument, Array, Device, blocks_for, check

UNIT = "beaver"
WORD_BITS = 64
PER_THREAD = 2
"""Elements that a thread takes at a time: 16 bytes."""
MAX_SHIFT = 32


def wrap_open(
    device: Device,
    z: Array,
    offset: np.uint64,
    correction: np.uint64,
    bits: int,
    mask: Array,
    top: Array,
    opened: Array,
    out: Array,
) -> None:
    """With a = z + offset: top = msb(a), opened = top ^ mask, out = (a >> bits) + correction; out may be z."""
    _check_shift("wrap_open", bits)
    _check("wrap_open", out.size, (z, out), (mask, top, opened))
    arguments = (z, np.uint64(offset), np.uint64(correction), np.int32(bits), mask, top, opened, out)
    _launch(device, "wrap_open", out.size, arguments)


def wrap_finish(
    device: Device,
    top: Array,
    opened: Array,
    other: Array,
    mask: Array,
    product: Array,
    one: np.uint64,
    bits: int,
    out: Array,
) -> None:
    """out -= w_i 2^(64-bits), w_i this party's share of the wrap bit. product: (n,) uint32."""
    _check_shift("wrap_finish", bits)
    _check("wrap_finish", out.size, (out,), (top, opened, other, mask))
    check("wrap_finish", product, out.size, np.uint32)
    arguments = (top, opened, other, mask, product, np.uint64(one), np.int32(bits), out)
    _launch(device, "wrap_finish", out.size, arguments)


def select_open(
    device: Device, bit: Array, x: Array, value: Array, mask: Array, opened_value: Array, opened_bit: Array
) -> None:
    """opened_value = (1 - 2 bit) x - value, opened_bit = bit ^ mask; opened_value may be x or value."""
    _check("select_open", x.size, (x, value, opened_value), (bit, mask, opened_bit))
    _launch(device, "select_open", x.size, (bit, x, value, mask, opened_value, opened_bit))


def select_finish(
    device: Device,
    bit: Array,
    x: Array,
    other_value: Array,
    opened_bit: Array,
    other_bit: Array,
    mask: Array,
    mine: Array,
    theirs: Array,
    out: Array,
) -> None:
    """out = a share of bit x, from what both parties opened; it may be any of the arrays of numbers."""
    _check("select_finish", out.size, (x, other_value, mine, theirs, out), (bit, opened_bit, other_bit, mask))
    arguments = (bit, x, other_value, opened_bit, other_bit, mask, mine, theirs, out)
    _launch(device, "select_finish", out.size, arguments)


def beaver_mul(device: Device, a: Array, b: Array, c: Array, d: Array, e: Array, one: np.uint64, out: Array) -> None:
    """out = c + e a + d b + one d e; it may be any of the arrays."""
    _check("beaver_mul", out.size, (a, b, c, d, e, out), ())
    _launch(device, "beaver_mul", out.size, (a, b, c, d, e, np.uint64(one), out))


def triple_mul(device: Device, a0: Array, a1: Array, b0: Array, b1: Array, c0: Array, out: Array) -> None:
    """out = (a0 + a1)(b0 + b1) - c0; it may be any of the arrays."""
    _check("triple_mul", out.size, (a0, a1, b0, b1, c0, out), ())
    _launch(device, "triple_mul", out.size, (a0, a1, b0, b1, c0, out))


def _check(kernel: str, n: int, numbers: Sequence[Array], bits: Sequence[Array]) -> None:
    for array in numbers:
        check(kernel, array, n)
    for array in bits:
        check(kernel, array, -(-n // WORD_BITS))


def _check_shift(kernel: str, bits: int) -> None:
    if not 1 <= bits <= MAX_SHIFT:
        raise ValueError(f"{kernel}: expected 1 to {MAX_SHIFT} bits to cut off, got {bits}")


def _launch(device: Device, kernel: str, n: int, arguments: Sequence[Argument]) -> None:
    if n:
        grid = blocks_for(n, PER_THREAD * THREADS)
        device.launch(UNIT, kernel, grid, (THREADS, 1, 1), (*arguments, np.int64(n)))
