"""Launchers of `cuda/streams.cu`: keystreams in device memory. Same names, arguments and meaning as kernels.cpu.prg.

A key is best given as a host array, as the engine does: it then goes with the launch and never lies in device memory.

What AES by look-up means on a GPU: a kernel's tables lie in shared memory, a copy for every lane in a bank of its own,
so that no look-up takes longer than another and no cache keeps a trace of it. The round keys of the stream's key lie
there too, and nobody clears shared memory when a kernel ends. Whoever shares a GPU with strangers should take ChaCha20,
which has neither tables nor a key schedule; a party on a GPU offers nothing else to the others.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sottovoce.kernels.cpu.prg import AES_BLOCK_WORDS, CHACHA20_BLOCK_WORDS, MAX_BLOCKS
from sottovoce.kernels.gpu.device import (
    NULL,
    THREADS,
    UINT64,
    Argument,
    Array,
    Device,
    Keystream,
    blocks_for,
    check,
)

BLOCK = (THREADS, 1, 1)
AES_BLOCKS_PER_MULTIPROCESSOR = 4
"""Blocks with AES tables that are worth it: each one fills 32 KiB of shared memory before it begins."""


def chacha20_fill(device: Device, key: Array, operation: int, chunk: int, out: Array) -> None:
    """As the CPU's."""
    key_arguments = _key("chacha20_fill", key, 8, np.uint32)
    _check_out("chacha20_fill", out, MAX_BLOCKS * CHACHA20_BLOCK_WORDS)
    _chacha20(device, key_arguments, np.uint64(operation), int(np.uint32(chunk)) << 32, 0, out)


def materialise(device: Device, keystream: Keystream) -> Array:
    """The words of a keystream as an array of its shape, for consumers that need them in memory."""
    out = device.empty(keystream.shape, UINT64)
    block, skip = divmod(keystream.first, CHACHA20_BLOCK_WORDS)
    key_arguments = (NULL, *map(np.uint64, keystream.key))
    _chacha20(device, key_arguments, np.uint64(keystream.operation), block, skip, out)
    return out


def aes128_ctr_fill(device: Device, key: Array, operation: int, chunk: int, out: Array) -> None:
    """As the CPU's."""
    key_arguments = _key("aes128_ctr_fill", key, 16, np.uint8)
    _check_out("aes128_ctr_fill", out, MAX_BLOCKS * AES_BLOCK_WORDS)
    arguments = (*key_arguments, np.uint64(operation), np.uint32(chunk), out, np.int64(out.size))
    if out.size:
        grid = aes_grid(device, -(-out.size // AES_BLOCK_WORDS))
        device.launch("streams", "aes128_ctr_fill", grid, BLOCK, arguments)


def aes_grid(device: Device, items: int) -> tuple[int, int, int]:
    """The grid for kernels that set up AES tables in each block; threads take several items each if there are many."""
    return (min(-(-items // THREADS), AES_BLOCKS_PER_MULTIPROCESSOR * device.multiprocessors), 1, 1)


def _chacha20(
    device: Device, key: tuple[Argument, ...], operation: np.uint64, block: int, skip: int, out: Array
) -> None:
    n = out.size
    if n:
        arguments = (*key, operation, np.uint64(block), np.int32(skip), out, np.int64(n))
        grid = blocks_for(-(-(n + skip) // CHACHA20_BLOCK_WORDS), THREADS)
        device.launch("streams", "chacha20_fill", grid, BLOCK, arguments)


def _key(kernel: str, key: Array, size: int, dtype: Any) -> tuple[Argument, ...]:
    """The arguments key_data, k0, k1 … of a key."""
    words = size * np.dtype(dtype).itemsize // UINT64.itemsize
    if key.shape != (size,) or key.dtype != dtype or not key.flags.c_contiguous:
        raise ValueError(f"{kernel}: the key must be ({size},) {np.dtype(dtype)}, got {key.shape} {key.dtype}")
    if isinstance(key, np.ndarray):
        return (NULL, *key.view(np.uint64))
    return (key, *[NULL] * words)


def _check_out(kernel: str, out: Array, most: int) -> None:
    check(kernel, out, out.size)
    if out.size > most:
        raise ValueError(f"{kernel}: at most 2^32 blocks to a stream ({most} words), got {out.size} words")
