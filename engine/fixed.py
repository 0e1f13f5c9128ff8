"""Fixed point: real numbers as integers mod 2^64, and the only place with signed views of ring elements.

A ring element v with `frac_bits` f stands for the real number s / 2**f, where s is v read in two's complement.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sottovoce.engine.errors import InputError

RING_BITS = 64
MAX_FRAC_BITS = 62

_LIMIT = 2.0**63


def as_signed(values: NDArray[np.uint64]) -> NDArray[np.int64]:
    """The same bits read in two's complement; a view, no copy."""
    if values.dtype != np.uint64:
        raise InputError(f"fixed point: expected uint64, got {values.dtype}")
    return values.view(np.int64)


def as_ring(values: NDArray[np.int64]) -> NDArray[np.uint64]:
    """The same bits read as ring elements; a view, no copy."""
    if values.dtype != np.int64:
        raise InputError(f"fixed point: expected int64, got {values.dtype}")
    return values.view(np.uint64)


def ring_constant(value: int) -> np.uint64:
    """A public integer -2^63 <= value < 2^63 as a ring element. Raises InputError."""
    if not -(1 << 63) <= value < 1 << 63:
        raise InputError("fixed point: expected an integer of at most 64 bits, got a longer one")
    return np.uint64(value % (1 << RING_BITS))


def encode(values: ArrayLike, frac_bits: int) -> NDArray[np.uint64]:
    """round(values * 2**frac_bits) mod 2^64, ties to even.

    Raises InputError for NaN, infinity and what does not fit a signed 64-bit integer; the message holds no value.
    """
    _check_frac_bits(frac_bits)
    scaled: NDArray[np.float64] = np.rint(np.ldexp(np.asarray(values, dtype=np.float64), frac_bits))
    if not bool(np.all(np.abs(scaled) < _LIMIT)):  # also false for NaN
        raise InputError(f"fixed point: expected finite numbers below 2^{63 - frac_bits}, got one that is not")
    return as_ring(np.ascontiguousarray(scaled.astype(np.int64)).reshape(scaled.shape))


def decode(values: NDArray[np.uint64], frac_bits: int) -> NDArray[np.float64]:
    """The real numbers that the ring elements stand for, rounded to float64."""
    _check_frac_bits(frac_bits)
    signed: NDArray[Any] = as_signed(np.asarray(values)).astype(np.float64)
    return np.asarray(np.ldexp(signed, -frac_bits), dtype=np.float64)


def _check_frac_bits(frac_bits: int) -> None:
    if not 0 <= frac_bits <= MAX_FRAC_BITS:
        raise InputError(f"fixed point: expected 0 to {MAX_FRAC_BITS} fraction bits, got {frac_bits}")
