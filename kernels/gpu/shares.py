"""Launchers of `cuda/shares.cu`: truncation and selection. Same names, arguments and meaning as kernels.cpu.trunc and
kernels.cpu.select.

(n,) elements are uint64, gammas uint32; bit vectors are packed into ceil(n / 64) words. Every array is C-contiguous.
"""

from __future__ import annotations

import numpy as np

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

UNIT = "shares"
WORD_BITS = 64
MAX_SHIFT = 32
"""A gamma has 32 bits."""


def trunc_left(
    device: Device,
    z: Array,
    mask: Array | Keystream,
    remask0: Array | Keystream,
    remask1: Array | Keystream,
    alpha: Array,
    bits: int,
    top: Array,
    opened: Array,
    out: Array,
    remasks: Array,
) -> None:
    """top = msb(A), A = z - mask + 2^62, opened = top ^ alpha, out = (A >> f) - 2^(62-f) + 1 - remask0.

    remasks = remask0 + remask1.
    """
    name, n = "trunc_left", out.size
    _check_all(name, n, elements=(z, out, remasks), packed=(alpha, top, opened))
    masks = (*words_of(name, mask, n), *words_of(name, remask0, n), *words_of(name, remask1, n))
    _launch(device, name, n, (z, *masks, alpha, _shift(name, bits), top, opened, out, remasks))


def trunc_left_finish(
    device: Device, top: Array, opened: Array, other: Array, alpha: Array, gamma: Array, bits: int, out: Array
) -> None:
    """out -= w_0 2^(64-f), w_0 = a - e (1-2d) alpha - (1-2d)(1-2e) gamma_0, d = opened, e = other."""
    name, n = "trunc_left_finish", out.size
    _check_all(name, n, elements=(out,), packed=(top, opened, other, alpha), halves=(gamma,))
    _launch(device, name, n, (top, opened, other, alpha, gamma, _shift(name, bits), out), per_thread=1)


def trunc_right(
    device: Device,
    z0: Array,
    z1: Array,
    remask0: Array | Keystream,
    remask1: Array | Keystream,
    beta: Array,
    gamma: Array,
    other: Array,
    bits: int,
    opened: Array,
    summand: Array,
    out: Array,
    remasks: Array,
) -> None:
    """B = z0 + z1: opened = msb(B) ^ beta, summand = (B >> f) + remask0, out = its share - remask1.

    summand: (n,) uint32. remasks = remask0 + remask1.
    """
    name, n = "trunc_right", out.size
    _check_all(name, n, elements=(z0, z1, out, remasks), packed=(beta, other, opened), halves=(gamma, summand))
    masks = (*words_of(name, remask0, n), *words_of(name, remask1, n))
    _launch(device, name, n, (z0, z1, *masks, beta, gamma, other, _shift(name, bits), opened, summand, out, remasks))


def trunc_deal(
    device: Device,
    z: Array,
    mask: Array | Keystream,
    alpha: Array,
    beta: Array,
    gamma: Array,
    out: Array,
    other_gamma: Array,
) -> None:
    """out = z + mask, other_gamma = alpha beta - gamma mod 2^32."""
    name, n = "trunc_deal", out.size
    _check_all(name, n, elements=(z, out), packed=(alpha, beta), halves=(gamma, other_gamma))
    _launch(device, name, n, (z, *words_of(name, mask, n), alpha, beta, gamma, out, other_gamma))


def select_share(
    device: Device,
    bit0: Array,
    bit1: Array,
    x0: Array,
    x1: Array,
    v_mask: Array | Keystream,
    k_mask: Array | Keystream,
    v: Array,
    k: Array,
) -> None:
    """With c = bit0 ^ bit1 and X = x0 + x1, v = c X - v_mask and k = c - k_mask."""
    name, n = "select_share", v.size
    _check_all(name, n, elements=(x0, x1, v, k), packed=(bit0, bit1))
    masks = (*words_of(name, v_mask, n), *words_of(name, k_mask, n))
    _launch(device, name, n, (bit0, bit1, x0, x1, *masks, v, k))


def select_eval(
    device: Device,
    bit: Array,
    x0: Array,
    rest: Array,
    include: np.uint64,
    v: Array | Keystream,
    k: Array | Keystream,
    out: Array,
) -> None:
    """out = c (rest + include x0) + (1 - 2c)(v + k x0), c = bit."""
    name, n = "select_eval", out.size
    _check_all(name, n, elements=(x0, rest, out), packed=(bit,))
    shared = (*words_of(name, v, n), *words_of(name, k, n))
    _launch(device, name, n, (bit, x0, rest, np.uint64(include), *shared, out))


def _check_all(
    kernel: str, n: int, elements: tuple[Array, ...], packed: tuple[Array, ...], halves: tuple[Array, ...] = ()
) -> None:
    for array in elements:
        check(kernel, array, n)
    for array in packed:
        check(kernel, array, -(-n // WORD_BITS))
    for array in halves:
        check(kernel, array, n, np.uint32)


def _shift(kernel: str, bits: int) -> np.int32:
    if not 1 <= bits <= MAX_SHIFT:
        raise ValueError(f"{kernel}: expected a shift by 1 to {MAX_SHIFT} bits, got {bits}")
    return np.int32(bits)


def _launch(
    device: Device, kernel: str, n: int, arguments: tuple[Argument, ...], per_thread: int = WORDS_PER_THREAD
) -> None:
    if n:
        device.launch(UNIT, kernel, blocks_for(n, THREADS * per_thread), (THREADS, 1, 1), (*arguments, np.int64(n)))
