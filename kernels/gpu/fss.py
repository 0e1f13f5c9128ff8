"""Launchers of `cuda/fss.cu`: distributed comparison functions. Same names, arguments and meaning as kernels.cpu.dcf.

A comparison is a thread's; its AES is done by look-up in shared memory (see `streams`), with a public key.
"""

from __future__ import annotations

import numpy as np

from sottovoce.kernels.cpu.dcf import correction_rows
from sottovoce.kernels.cpu.dcf_portable import FIXED_KEY
from sottovoce.kernels.gpu.device import THREADS, Array, Device, check
from sottovoce.kernels.gpu.streams import aes_grid

BLOCK = (THREADS, 1, 1)
WORD_BITS = 64


def dcf_gen(device: Device, r: Array, bits: int, root_0: Array, root_1: Array, correction: Array) -> None:
    """As the CPU's. r: (n,); root_b: (2, n); correction: (correction_rows(bits), n)."""
    n = r.size
    _check("dcf_gen", n, bits, correction)
    check("dcf_gen", r, n)
    for root in (root_0, root_1):
        check("dcf_gen", root, 2 * n)
    if n:
        arguments = (*_fixed_key(), r, np.int32(bits), root_0, root_1, correction, np.int64(n))
        device.launch("fss", "dcf_gen", aes_grid(device, n), BLOCK, arguments)


def dcf_eval(
    device: Device, c: Array, bits: int, one: np.uint64, root: Array, correction: Array, top: Array, out: Array
) -> None:
    """As the CPU's. c: (n,); root: (2, n); correction: (correction_rows(bits), n); top, out: (ceil(n / 64),)."""
    n, words = c.size, -(-c.size // WORD_BITS)
    _check("dcf_eval", n, bits, correction)
    check("dcf_eval", c, n)
    check("dcf_eval", root, 2 * n)
    for packed in (top, out):
        check("dcf_eval", packed, words)
    if n:
        halves = (top.view(np.uint32), out.view(np.uint32))
        arguments = (*_fixed_key(), c, np.int32(bits), np.uint64(one), root, correction, *halves, np.int64(n))
        device.launch("fss", "dcf_eval", aes_grid(device, words * WORD_BITS), BLOCK, arguments)


def _fixed_key() -> tuple[np.uint64, ...]:
    return tuple(np.frombuffer(FIXED_KEY, "<u8"))


def _check(kernel: str, n: int, bits: int, correction: Array) -> None:
    if not 2 <= bits <= WORD_BITS:
        raise ValueError(f"{kernel}: expected 2 to 64 bits, got {bits}")
    if (expected := (correction_rows(bits), n)) != correction.shape:
        raise ValueError(f"{kernel}: the correction words of {bits} bits must be {expected}, got {correction.shape}")
    check(kernel, correction, correction.size)
