"""Keystreams as ring elements: ChaCha20 and AES-128-CTR, addressed by (operation, chunk), without state.

Element i of `out` is bytes 8i .. 8i + 7 of the keystream, little-endian. The same (key, operation, chunk) gives the
same stream, whatever the length asked for; never using one twice is the caller's business (`engine.prg`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from sottovoce.kernels.cpu.blocks import BLOCKS, HAS_AES, aes128_ctr_blocks, aes128_expand, chacha20_blocks
from sottovoce.kernels.cpu.jit import Words, kernel

CHACHA20_BLOCK_WORDS = 8
AES_BLOCK_WORDS = 2
MAX_BLOCKS = 1 << 32

DType = np.dtype[Any]
UINT8, UINT32, UINT64 = np.dtype(np.uint8), np.dtype(np.uint32), np.dtype(np.uint64)


def chacha20_fill(key: Words, operation: int, chunk: int, out: Words) -> None:
    """Fill out: (n,) uint64 with RFC 8439 ChaCha20 keystream under key: (8,) uint32.

    State words: 12 block counter from 0, 13 chunk, 14-15 operation (little-endian). ValueError for a key of another
    form or for more than 2^32 blocks; OverflowError for an operation outside 64 bits or a chunk outside 32.
    """
    _check("chacha20_fill", key, 8, UINT32, out, MAX_BLOCKS * CHACHA20_BLOCK_WORDS)
    _chacha20_fill(key, np.uint64(operation), np.uint32(chunk), out)


def aes128_ctr_fill(key: Words, operation: int, chunk: int, out: Words) -> None:
    """Fill out: (n,) uint64 with AES-128-CTR keystream under key: (16,) uint8.

    Counter block: operation (8 bytes) || chunk (4) || block counter from 0 (4), big-endian. Without AES instructions
    the same bytes come from the `cryptography` package. Errors as for `chacha20_fill`.
    """
    _check("aes128_ctr_fill", key, 16, UINT8, out, MAX_BLOCKS * AES_BLOCK_WORDS)
    _aes128_ctr_fill(key, np.uint64(operation), np.uint32(chunk), out)


def portable_aes128_ctr_fill(key: Words, operation: int | np.uint64, chunk: int | np.uint32, out: Words) -> None:
    """`aes128_ctr_fill` through the `cryptography` package."""
    counter = int(operation).to_bytes(8, "big") + int(chunk).to_bytes(4, "big") + bytes(4)
    encryptor = Cipher(algorithms.AES128(key.tobytes()), modes.CTR(counter)).encryptor()
    out[:] = np.frombuffer(encryptor.update(bytes(8 * out.size)), "<u8")


def _check(name: str, key: Words, size: int, dtype: DType, out: Words, most: int) -> None:
    # dtype objects compare in 0.1 us; their names would cost more than a kilobyte of keystream.
    if key.shape != (size,) or key.dtype != dtype:
        raise ValueError(f"{name}: the key must be ({size},) {dtype}, got {key.shape} {key.dtype}")
    if out.ndim != 1 or out.dtype != UINT64 or not out.flags.c_contiguous:
        raise ValueError(f"{name}: out must be 1-D contiguous uint64, got {out.ndim}-D {out.dtype}")
    if out.size > most:
        raise ValueError(f"{name}: at most 2^32 blocks to a stream ({most} words), got {out.size} words")


@kernel
def _chacha20_fill(key: Words, operation: np.uint64, chunk: np.uint32, out: Words) -> None:
    step = BLOCKS * CHACHA20_BLOCK_WORDS
    rest = np.empty(step, np.uint64)
    for start in range(0, out.size, step):
        # One call site: the block function is inlined, and compiling it twice would cost twice.
        whole = start + step <= out.size
        target, at = (out, start) if whole else (rest, 0)
        chacha20_blocks(key, operation, chunk, np.uint32(start // CHACHA20_BLOCK_WORDS), target, at)
        if not whole:
            for i in range(start, out.size):
                out[i] = rest[i - start]


if HAS_AES:

    @kernel
    def _aes128_ctr_fill(key: Words, operation: np.uint64, chunk: np.uint32, out: Words) -> None:
        round_keys = np.empty(22, np.uint64)
        aes128_expand(key, round_keys)
        step = BLOCKS * AES_BLOCK_WORDS
        rest = np.empty(step, np.uint64)
        for start in range(0, out.size, step):
            whole = start + step <= out.size
            target, at = (out, start) if whole else (rest, 0)
            aes128_ctr_blocks(round_keys, operation, chunk, np.uint32(start // AES_BLOCK_WORDS), target, at)
            if not whole:
                for i in range(start, out.size):
                    out[i] = rest[i - start]

else:
    _aes128_ctr_fill = portable_aes128_ctr_fill
