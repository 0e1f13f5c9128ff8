"""Elementwise arithmetic mod 2^64, one pass over memory each.

Every array is 1-D, C-contiguous uint64 and of the same length (callers pass `reshape(-1)` views); `out` may be one of
the inputs.
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
def mul_cross(x0: Words, x1: Words, y0: Words, y1: Words, mask: Words, out: Words) -> None:
    """out = x0 * (y0 + y1) + x1 * y0 + mask: three of the four cross products of (x0 + x1) * (y0 + y1), masked."""
    for i in range(out.size):
        out[i] = x0[i] * (y0[i] + y1[i]) + x1[i] * y0[i] + mask[i]


@kernel
def xor(x: Words, y: Words, out: Words) -> None:
    """out = x ^ y."""
    for i in range(out.size):
        out[i] = x[i] ^ y[i]


@kernel
def sum3(a: Words, b: Words, c: Words, out: Words) -> None:
    """out = a + b + c."""
    for i in range(out.size):
        out[i] = a[i] + b[i] + c[i]
