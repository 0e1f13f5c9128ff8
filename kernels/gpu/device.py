"""What the launchers of the CUDA kernels need of a device. CuPy provides it (`cupy_device`); the tests have one that
executes the same sources on the CPU.

An *array* here is device memory: `shape`, `dtype`, `size`, `nbytes`, `flags.c_contiguous`, `reshape`, slicing, `view`.
It never turns into a numpy array by itself: that is `download`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = Any
"""Device memory."""
Argument = Any
"""A kernel's argument: an array, or a numpy scalar of exactly the parameter's type; `NULL` for no array."""
NULL = np.uint64(0)

THREADS = 256
"""Threads of a block, unless a kernel says otherwise."""
WORDS_PER_THREAD = 8
"""As in prelude.cuh: one 64-byte block of keystream."""
MAX_BLOCKS = (1 << 31) - 1
STREAM_WORDS = 8 << 32
"""Words of one operation's ChaCha20 keystream: beyond 2^32 blocks it would go on in another chunk's."""
UINT64 = np.dtype(np.uint64)


class Download(Protocol):
    """A copy to the host that is under way."""

    def wait(self) -> NDArray[Any]:
        """The host's array, once it is there; valid until the device's next download of that slot."""


class Device(Protocol):
    """One stream of one device. Launches and copies run in order, none of them waits for the host."""

    name: str
    """`cuda:0`."""
    model: str
    """`NVIDIA H100 80GB HBM3 9.0`: its name and compute capability."""
    multiprocessors: int

    def launch(
        self,
        unit: str,
        kernel: str,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        arguments: Sequence[Argument],
        shared_bytes: int = 0,
    ) -> None:
        """Start a kernel of the unit `cuda/<unit>.cu`. shared_bytes: dynamic shared memory of a block."""

    def int8_gemm(self, a: Array, b: Array, c: Array) -> None:
        """c[i] = b[i] @ a[i]^T on tensor cores. a: (batch, columns, depth), b: (batch, rows, depth) int8, c: (batch,
        rows, columns) int32; rows contiguous and 16 bytes aligned, as `tensor.cublas.gemm_layout` checks."""

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """Uninitialised device memory, C-contiguous."""

    def upload(self, host: NDArray[Any]) -> Array:
        """A copy on the device."""

    def upload_into(self, host: NDArray[Any], out: Array) -> None:
        """The same into existing device memory of the same number of bytes; `host` may be reused at once."""

    def download(self, array: Array) -> Download:
        """Start a copy to the host of what the array holds at this point of the stream."""

    def staging(self, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        """Host memory (pinned) to receive into, for one `upload_into`; not reused before that copy has ended."""

    def active(self) -> AbstractContextManager[None]:
        """While it lasts, what arrays compute by themselves (operators, numpy's functions) runs on this stream."""

    def prepare(self) -> None:
        """Compile every unit, which takes seconds the first time on a machine."""

    def synchronize(self) -> None:
        """Wait until everything on this stream is done."""

    def memory(self) -> tuple[int, int]:
        """Free and total bytes; free counts what the pool keeps for reuse."""

    def another_stream(self) -> Device:
        """The same device with a stream of its own, which begins after all that is on this one now."""


@dataclass(frozen=True, slots=True)
class Keystream:
    """Words of one operation's ChaCha20 keystream from word `first` on, generated where a kernel consumes them.

    It stands for an array of that shape, uint64, wherever a kernel's parameter is declared WORDS.
    """

    key: tuple[int, int, int, int] = field(repr=False)
    """The 256-bit key as little-endian words."""
    operation: int
    first: int
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        end = self.first + self.size
        if self.first < 0 or end > STREAM_WORDS:
            raise ValueError(
                f"keystream: an operation has {STREAM_WORDS} words, 2^32 blocks; expected an end up to that, "
                f"got word {end}"
            )

    @property
    def size(self) -> int:
        """Number of words."""
        return math.prod(self.shape)

    def reshape(self, *shape: int) -> Keystream:
        """The same words, as another shape of as many."""
        if math.prod(shape) != self.size:
            raise ValueError(f"keystream: expected a shape of {self.size} words, got {shape}")
        return replace(self, shape=shape)


def words_of(kernel: str, x: Array | Keystream, size: int) -> tuple[Argument, ...]:
    """The arguments for a parameter WORDS(x): an array of `size` words, of any shape, or a keystream of that size."""
    if isinstance(x, Keystream):
        if x.size != size:
            raise ValueError(f"{kernel}: expected a keystream of {size} words, got {x.size}")
        return (NULL, *map(np.uint64, x.key), np.uint64(x.operation), np.uint64(x.first))
    check(kernel, x, size)
    return (x, *[NULL] * 6)


def check(kernel: str, x: Array, size: int, dtype: Any = UINT64) -> None:
    """ValueError unless x is C-contiguous, of that dtype and number of elements: a kernel would read beyond it."""
    if x.size != size or x.dtype != dtype or not x.flags.c_contiguous:
        layout = "contiguous" if x.flags.c_contiguous else "strided"
        raise ValueError(f"{kernel}: expected {size} contiguous {np.dtype(dtype)}, got {layout} {x.shape} {x.dtype}")


def blocks_for(items: int, per_block: int) -> tuple[int, int, int]:
    """A one-dimensional grid with a thread for every item."""
    return (min(-(-items // per_block), MAX_BLOCKS), 1, 1)
