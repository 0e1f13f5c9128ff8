"""Tests of uniformity, each with a stated probability of rejecting uniform bytes."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Z_LIMIT = 7.0
"""Two-sided false alarm of a normal statistic: 2.6e-12. A hundred thousand of them: 2.6e-7. The data are fixed."""
POSITIONS = 64


def as_bytes(data: bytes | NDArray[np.generic]) -> NDArray[np.uint8]:
    """Flat bytes."""
    if isinstance(data, bytes):
        return np.frombuffer(data, np.uint8)
    return np.ascontiguousarray(data).reshape(-1).view(np.uint8)


def bit_balance(data: NDArray[np.uint8]) -> float:
    """|z| of the count of ones."""
    ones, bits = int(np.bitwise_count(data).sum()), 8 * data.size
    return abs(2.0 * ones - bits) / math.sqrt(bits)


def position_balance(data: NDArray[np.uint8]) -> float:
    """Largest |z| of the counts of ones at each bit position of the 64-bit words; needs 64 words."""
    words = 8 * data.size // POSITIONS
    if words < 64:
        return 0.0
    bits = np.unpackbits(data[: words * POSITIONS // 8], bitorder="little")
    ones = bits.reshape(words, POSITIONS).sum(axis=0)
    return float(np.abs(2.0 * ones - words).max()) / math.sqrt(words)


def chi_square(data: NDArray[np.uint8]) -> float:
    """z of the chi-square of byte values against uniform (Wilson-Hilferty); nibbles where there are few bytes."""
    data, cells = _cells(data)
    if data.size < 10 * cells:
        return 0.0
    expected = data.size / cells
    statistic = float(((np.bincount(data, minlength=cells) - expected) ** 2).sum() / expected)
    return wilson_hilferty(statistic, cells - 1)


def _cells(data: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], int]:
    """Bytes, or nibbles where there are few, so that each value is expected ten times or more."""
    return (np.concatenate([data & 15, data >> 4]), 16) if data.size < 2560 else (data, 256)


def two_sample(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    """z of the chi-square of homogeneity of two equally large samples of bytes; only a large z speaks against it."""
    a, b = (np.bincount(_cells(s)[0], minlength=256).astype(float) for s in (first, second))
    ka, kb = math.sqrt(b.sum() / a.sum()), math.sqrt(a.sum() / b.sum())
    total = a + b
    used = total > 0
    statistic = float(((ka * a - kb * b)[used] ** 2 / total[used]).sum())
    return wilson_hilferty(statistic, int(used.sum()) - 1)


def wilson_hilferty(statistic: float, degrees: int) -> float:
    """A chi-square as an about standard normal z; conservative in the upper tail at these degrees of freedom."""
    if degrees < 1:
        return 0.0
    spread = 2.0 / (9.0 * degrees)
    return ((statistic / degrees) ** (1.0 / 3.0) - (1.0 - spread)) / math.sqrt(spread)


def non_uniform(data: bytes | NDArray[np.generic], *, positions: bool = True) -> str:
    """Why the bytes cannot be uniform, or "" if nothing speaks against it."""
    raw = as_bytes(data)
    if not raw.size:
        return ""
    checks = {"bit balance": bit_balance, "chi-square": chi_square}
    if positions:
        checks["bit positions"] = position_balance
    for name, check in checks.items():
        if (z := check(raw)) > Z_LIMIT:
            return f"{name}: z = {z:.1f} in {raw.size} bytes"
    return ""


def related(first: bytes | NDArray[np.generic], second: bytes | NDArray[np.generic]) -> str:
    """Why two equally long strings are not independent and uniform: their XOR and difference are looked at."""
    a, b = as_bytes(first), as_bytes(second)
    if why := non_uniform(a ^ b, positions=False):
        return f"XOR: {why}"
    word = "<u8" if a.size % 8 == 0 else "<u4"
    why = non_uniform(a.copy().view(word) - b.copy().view(word), positions=False)
    return f"difference: {why}" if why else ""


def repeated(messages: Iterable[bytes]) -> bool:
    """Whether one of the messages occurs twice."""
    seen = list(messages)
    return len(set(seen)) < len(seen)
