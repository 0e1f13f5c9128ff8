"""A CUDA device through CuPy: modules compiled by NVRTC, memory from CuPy's pools, one stream."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import cupy
import numpy as np
from numpy.typing import NDArray

from sottovoce.kernels.gpu.device import Argument, Array
from sottovoce.kernels.gpu.sources import OPTIONS, source, units
from sottovoce.kernels.gpu.tensor.cublas import int8_gemm

STATIC_SHARED_BYTES = 48 << 10
"""What a block may use without asking."""
ERROR_MEMORY_ALLOCATION = 2
"""Of cudaError; CuPy has no public name for it."""


def count_devices() -> int:
    """How many devices CUDA sees. Raises RuntimeError (CuPy's) if there is no driver."""
    return int(cupy.cuda.runtime.getDeviceCount())


def _module(text: Callable[[str], str], unit: str) -> Any:
    """Of a unit, for the current device: CuPy compiles it once for a process, and keeps the binary on disk."""
    return cupy.RawModule(code=text(unit), options=OPTIONS)


@cache  # the kernels of all devices
def _function(number: int, text: Callable[[str], str], unit: str, kernel: str) -> Any:
    with cupy.cuda.Device(number):
        return _module(text, unit).get_function(kernel)


class CupyDownload:
    """A copy to pinned memory, with the event that tells its end."""

    def __init__(self, host: NDArray[Any], done: Any) -> None:
        self._host = host
        self._done = done

    def wait(self) -> NDArray[Any]:
        """The host's array."""
        self._done.synchronize()
        return self._host


class CupyDevice:
    """See `device.Device`. Arrays are cupy.ndarray, from CuPy's pool. Used by one thread at a time.

    What CuPy itself computes (operators, numpy's functions) runs on the thread's current stream: `active` makes it
    this one. Errors of CUDA are CuPy's, RuntimeErrors; memory that is not there, the host's pinned memory too, is a
    MemoryError. after: an event that the stream begins with. text: gives a unit's source.
    """

    def __init__(self, number: int = 0, after: Any = None, text: Callable[[str], str] = source) -> None:
        self._number = number
        self._text = text
        self._device = cupy.cuda.Device(number)
        self.name = f"cuda:{number}"
        with self._device:
            self.stream = cupy.cuda.Stream(non_blocking=True)
        if after is not None:
            self.stream.wait_event(after)
        properties = cupy.cuda.runtime.getDeviceProperties(number)
        self.model = f"{properties['name'].decode()} {properties['major']}.{properties['minor']}"
        self.multiprocessors = int(properties["multiProcessorCount"])
        self._staged: dict[int, NDArray[Any]] = {}
        self._copying: deque[tuple[Any, NDArray[Any]]] = deque()

    def __repr__(self) -> str:
        return f"CupyDevice({self.name})"

    @contextmanager
    def active(self) -> Iterator[None]:
        """While it lasts, CuPy uses this device and stream in this thread."""
        with self._device, self.stream:
            yield

    def prepare(self) -> None:
        """Compile every unit; takes seconds the first time on a machine, CuPy keeps the binaries."""
        with self._device:
            for unit in units():
                _module(self._text, unit).compile()

    def launch(
        self,
        unit: str,
        kernel: str,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        arguments: Sequence[Argument],
        shared_bytes: int = 0,
    ) -> None:
        function = _function(self._number, self._text, unit, kernel)
        if shared_bytes > STATIC_SHARED_BYTES:
            function.max_dynamic_shared_size_bytes = shared_bytes
        with self._device, self.stream:
            function(grid, block, tuple(arguments), shared_mem=shared_bytes)

    def int8_gemm(self, a: Array, b: Array, c: Array) -> None:
        with self._device, self.stream:
            int8_gemm(a, b, c)

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Array:
        with self._device, self.stream:
            return cupy.empty(shape, dtype)

    def upload(self, host: NDArray[Any]) -> Array:
        out = self.empty(host.shape, host.dtype)
        self.upload_into(host, out)
        return out

    def upload_into(self, host: NDArray[Any], out: Array) -> None:
        """Through pinned memory: a copy from pageable memory would wait for the stream."""
        if host.nbytes != out.nbytes or not out.flags.c_contiguous:
            raise ValueError(f"upload: expected {out.nbytes} contiguous bytes, got {host.nbytes}")
        pinned = self._staged.pop(id(host), None)
        if host.nbytes == 0:
            return
        if pinned is None:
            pinned = _pinned(host.shape, host.dtype)
            pinned[...] = host
        with self._device:
            out.data.copy_from_host_async(pinned.ctypes.data, pinned.nbytes, self.stream)
            self._keep_until_copied(pinned)

    def staging(self, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        array = _pinned(shape, np.dtype(dtype))
        self._staged[id(array)] = array
        return array

    def download(self, array: Array) -> CupyDownload:
        with self._device, self.stream:
            source_array = cupy.ascontiguousarray(array)
            host = _pinned(array.shape, array.dtype)
            if host.nbytes:
                source_array.data.copy_to_host_async(host.ctypes.data, host.nbytes, self.stream)
            return CupyDownload(host, self._keep_until_copied(host))

    def synchronize(self) -> None:
        self.stream.synchronize()

    def memory(self) -> tuple[int, int]:
        with self._device:
            free, total = self._device.mem_info
            return free + cupy.get_default_memory_pool().free_bytes(), total

    def another_stream(self) -> CupyDevice:
        with self._device:
            return CupyDevice(self._number, self._mark(), self._text)

    def _keep_until_copied(self, pinned: NDArray[Any]) -> Any:
        """The event behind its copy. CuPy's pool takes memory back when nobody refers to it any more, copied or not."""
        while self._copying and self._copying[0][0].done:
            self._copying.popleft()
        self._copying.append((self._mark(), pinned))
        return self._copying[-1][0]

    def _mark(self) -> Any:
        """An event at this point of the stream; the current device must be this one."""
        return self.stream.record(cupy.cuda.Event(disable_timing=True))


def _pinned(shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """Page-locked host memory, which copies run to and from without waiting. MemoryError if the system gives none.

    CuPy's pool reuses a block for its own size only, so sizes are powers of two: batches of many sizes share blocks.
    """
    count = math.prod(shape)
    room = 1 << max(count * dtype.itemsize - 1, 511).bit_length()
    try:
        memory = cupy.cuda.alloc_pinned_memory(room)
    except cupy.cuda.runtime.CUDARuntimeError as error:
        if error.status != ERROR_MEMORY_ALLOCATION:
            raise
        raise MemoryError(f"{room:,} bytes of pinned host memory: {error}") from None
    return np.frombuffer(memory, dtype, count).reshape(shape)
