"""What this machine can do at best, measured in the same session as the kernels, on one core.

Each ceiling is the best of several tries in CPU time: other work on the machine makes a try slower, never faster.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numba
import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from sottovoce.bench.kernels.multiply import PRODUCTS, multiply_add

TRIES = 7
TRY_SECONDS = 0.004
"""A try repeats its work until it takes about this long."""
SMALLEST, LARGEST = 4 << 10, 128 << 20
CIPHERS = ("AES-128-CTR", "ChaCha20")


@dataclass(frozen=True, slots=True)
class Bound:
    """The least time that a call can take, and why: "memcpy at 16 KiB", "ring multiplications"."""

    seconds: float
    reason: str


@dataclass(frozen=True)
class Ceilings:
    """Measured when first asked for, then kept; make one for a session."""

    _known: dict[str, float] = field(default_factory=dict)

    def bandwidth(self, working_set: int) -> tuple[float, str]:
        """Bytes read plus bytes written per second by a copy whose two arrays take as much memory; and its name.

        working_set: bytes, rounded up to a power of two from 4 KiB to 128 MiB.
        """
        size = min(max(1 << (working_set - 1).bit_length(), SMALLEST), LARGEST)
        name = f"memcpy at {size >> 10} KiB" if size < 1 << 20 else f"memcpy at {size >> 20} MiB"
        return self._rate(name, lambda: _copy_rate(size)), name

    def multiplications(self) -> float:
        """Ring multiplications, each with an addition, per second."""
        return self._rate("ring multiplications", lambda: _rate(multiply_add, PRODUCTS))

    def keystream(self, cipher: str, size: int) -> float:
        """Bytes per second of a keystream of `size` bytes from the `cryptography` package (OpenSSL)."""
        return self._rate(f"cryptography {cipher} {size}", lambda: _keystream_rate(cipher, size))

    def bound(self, moved_bytes: int, multiplications: int) -> Bound:
        """The larger of the times for moving the bytes and for multiplying; `moved_bytes` is the working set too."""
        rate, name = self.bandwidth(moved_bytes)
        moving = Bound(moved_bytes / rate, name)
        if multiplications == 0:
            return moving
        multiplying = Bound(multiplications / self.multiplications(), "ring multiplications")
        return max(moving, multiplying, key=lambda bound: bound.seconds)

    def _rate(self, name: str, measure: Callable[[], float]) -> float:
        if name not in self._known:
            self._known[name] = measure()
        return self._known[name]


@numba.njit(nogil=True, cache=True)
def _copy(source: NDArray[np.uint64], target: NDArray[np.uint64], times: int) -> None:
    """The compiler makes a call of the C library's memcpy of it."""
    for _ in range(times):
        source[0] += np.uint64(1)  # a copy that differs from the last one cannot be left out
        for i in range(target.size):
            target[i] = source[i]


@numba.njit(nogil=True, cache=True)
def _copy_inline(source: NDArray[np.uint64], target: NDArray[np.uint64], times: int) -> None:
    """The compiler makes a vector loop of it, which is faster for small arrays."""
    for turn in range(times):
        for i in range(target.size):
            target[i] = source[i] ^ np.uint64(turn)


def _copy_rate(size: int) -> float:
    source, target = np.ones(size // 16, np.uint64), np.zeros(size // 16, np.uint64)
    return max(_rate(partial(copy, source, target), size) for copy in (_copy, _copy_inline))


def _keystream_rate(cipher: str, size: int) -> float:
    zeros, out = bytes(size), bytearray(size + 16)
    key = bytes(range(32))
    algorithm = algorithms.AES128(key[:16]) if cipher == "AES-128-CTR" else algorithms.ChaCha20(key, bytes(16))
    mode = modes.CTR(bytes(16)) if cipher == "AES-128-CTR" else None

    def work(times: int) -> None:
        for _ in range(times):
            Cipher(algorithm, mode).encryptor().update_into(zeros, out)

    return _rate(work, size)


def _rate(work: Callable[[int], object], units: int) -> float:
    """Units per second of `work(times)`, which does `units` each time."""

    def seconds(times: int) -> float:
        start = time.thread_time()
        work(times)
        return time.thread_time() - start

    work(1)
    times = 1
    while seconds(times) < TRY_SECONDS:
        times *= 2
    return units * times / min(seconds(times) for _ in range(TRIES))
