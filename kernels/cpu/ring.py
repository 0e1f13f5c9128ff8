"""Elementwise arithmetic mod 2^64, one pass over memory each.

Every array is 1-D, C-contiguous, uint64 unless a docstring says otherwise, and of the same length (callers pass
`reshape(-1)` views); `out` may be one of the inputs of its type.
"""

from __future__ import annotations

import numpy as np

from sottovoce.kernels.cpu.jit import Words, kernel


@kernel
def add(x: Words, y: Words, out: Words) -> None:
    """out = x + y."""
    for i in range(out.size):
        out[i] = x[i] + y[i]


@kernel
def sub(x: Words, y: Words, out: Words) -> None:
    """out = x - y."""
    for i in range(out.size):
        out[i] = x[i] - y[i]


@kernel
def neg(x: Words, out: Words) -> None:
    """out = -x."""
    for i in range(out.size):
        out[i] = np.uint64(0) - x[i]


@kernel
def mul(x: Words, y: Words, out: Words) -> None:
    """out = x * y."""
    for i in range(out.size):
        out[i] = x[i] * y[i]


@kernel
def mul_add(x: Words, y: Words, z: Words, out: Words) -> None:
    """out = x * y + z."""
    for i in range(out.size):
        out[i] = x[i] * y[i] + z[i]


@kernel
def scale(x: Words, c: np.uint64, out: Words) -> None:
    """out = c * x for one scalar c, which must be a np.uint64 (a Python int would compile a signed variant)."""
    for i in range(out.size):
        out[i] = c * x[i]


@kernel
def mul_cross(x0: Words, x1: Words, y0: Words, y1: Words, out: Words) -> None:
    """out = x0 * (y0 + y1) + x1 * y0: three of the four cross products of (x0 + x1) * (y0 + y1)."""
    for i in range(out.size):
        out[i] = x0[i] * (y0[i] + y1[i]) + x1[i] * y0[i]


@kernel
def xor(x: Words, y: Words, out: Words) -> None:
    """out = x ^ y."""
    for i in range(out.size):
        out[i] = x[i] ^ y[i]


@kernel
def mask_zero(x: Words, plus: Words, minus: Words, out: Words) -> None:
    """out = x + plus - minus: x masked by this party's part of a sharing of zero."""
    for i in range(out.size):
        out[i] = x[i] + plus[i] - minus[i]


@kernel
def remask_pair(x: Words, mine: Words, theirs: Words, kept: Words, total: Words) -> None:
    """kept = x - mine, total = mine + theirs: a party's part of a sum of two, and what both parties subtract."""
    for i in range(kept.size):
        kept[i] = x[i] - mine[i]
        total[i] = mine[i] + theirs[i]


@kernel
def sum3(a: Words, b: Words, c: Words, out: Words) -> None:
    """out = a + b + c."""
    for i in range(out.size):
        out[i] = a[i] + b[i] + c[i]


@kernel
def take_half(x: Words, which: int, out: Words) -> None:
    """out = the low (which = 0) or high (1) 32 bits of each word. out: (n,) uint32."""
    shift = np.uint64(32 * which)
    for i in range(out.size):
        out[i] = np.uint32(x[i] >> shift)


@kernel
def join_halves(low: Words, high: Words, out: Words) -> None:
    """out = low + 2^32 high. low, high: (n,) uint32."""
    for i in range(out.size):
        out[i] = np.uint64(low[i]) | (np.uint64(high[i]) << np.uint64(32))
