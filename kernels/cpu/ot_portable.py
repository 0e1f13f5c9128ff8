"""`field_vole` and `leaf_sums` where there are no AES instructions: the same words, through the `cryptography` package.

Slow: a cipher object for every leaf.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sottovoce.kernels.cpu.jit import Words
from sottovoce.kernels.cpu.prg import portable_aes128_ctr_fill


def portable_field_vole(leaves: Words, operation: np.uint64, u: Words, v: Words) -> None:
    """See `field_vole`."""
    values, trees, _ = leaves.shape
    bits = v.shape[0] // max(trees, 1)
    t = np.empty(u.shape[1], np.uint64)
    u[:] = 0
    v[:] = 0
    for g in range(trees):
        for p in range(values):
            portable_aes128_ctr_fill(leaves[p, g], operation, 0, t)
            u[g] ^= t
            for b in range(bits):
                if (values - 1 - p) >> b & 1:
                    v[g * bits + b] ^= t


def portable_leaf_sums(
    leaves: Words, holes: Words, operation: np.uint64, offsets: Words, narrow: bool, u: Words, v: Words
) -> None:
    """See `leaf_sums`."""
    values, trees, _ = leaves.shape
    dtype: np.dtype[np.unsignedinteger[Any]] = np.dtype(np.uint32 if narrow else np.uint64)
    for i in range(trees):
        start, end = int(offsets[i]), int(offsets[i + 1])
        t = np.empty(-(-(end - start) * dtype.itemsize // 8), np.uint64)
        total, weighted = np.zeros(end - start, dtype), np.zeros(end - start, dtype)
        for p in range(values):
            weighted += total
            if p != holes[i]:
                portable_aes128_ctr_fill(leaves[p, i], (int(operation) + i) % (1 << 64), 0, t)
                total += t.view(dtype)[: end - start]
        u[start:end], v[start:end] = total, weighted
