"""A `kernels.gpu.device.Device` that executes the CUDA sources on the CPU (see shim.h)."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from sottovoce.kernels.gpu.sources import source
from sottovoce.kernels.gpu.tensor.cublas import gemm_layout
from tests.gpu.shim.arrays import GARBAGE, DeviceArray, Memory
from tests.gpu.shim.build import SANITIZERS, Entry, build, entries, load
from tests.gpu.shim.xp import HostXp

Mode = Literal["plain", "reversed", "asan"]
"""plain; with the schedule of threads and blocks reversed; under the sanitizers, in another process (sanitizer.py)."""
MODES: tuple[Mode, ...] = get_args(Mode)

MOST_THREADS = 1024
MOST_BLOCK = (1024, 1024, 64)
MOST_GRID = ((1 << 31) - 1, 65535, 65535)
MOST_SHARED_BYTES = 227 << 10
"""Dynamic shared memory of a block on an H100; an A100 has 163 KiB."""


class KernelError(RuntimeError):
    """What a GPU would answer with an error, or with undefined behaviour."""


@dataclass(frozen=True, slots=True)
class Launch:
    """A launch that took place. streams: the WORDS parameters that were keystreams, arrays: those that were not."""

    unit: str
    kernel: str
    streams: tuple[str, ...]
    arrays: tuple[str, ...]


class HostDownload:
    """A copy under way: its memory is garbage until somebody waits for it."""

    def __init__(self, values: NDArray[Any]) -> None:
        self._values: NDArray[Any] | None = values
        self.buffer = np.full(values.nbytes, GARBAGE, np.uint8).view(values.dtype).reshape(values.shape)

    def wait(self) -> NDArray[Any]:
        if self._values is not None:
            self.buffer[...] = self._values
            self._values = None
        return self.buffer


@dataclass(frozen=True, slots=True)
class _Unit:
    library: ctypes.CDLL
    index: dict[str, int]
    entries: tuple[Entry, ...]
    types: tuple[tuple[str, ...], ...]


@dataclass
class HostDevice:
    """Runs every launch at once and checks what CUDA demands of it; `launches` tells what ran.

    text: gives a unit's source; tests put other sources there. flags: more of the compiler's.
    """

    mode: Mode = "plain"
    text: Callable[[str], str] = source
    name: str = "host:0"
    model: str = "host"
    multiprocessors: int = 4
    launches: list[Launch] = field(default_factory=list, repr=False)
    capacity_bytes: int = 4 << 30
    flags: tuple[str, ...] = ()
    _units: dict[str, _Unit] = field(default_factory=dict, repr=False)
    _memory: Memory = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._memory = Memory(self.mode == "asan", self.capacity_bytes)

    @property
    def xp(self) -> HostXp:
        """The stand-in for the module cupy."""
        return HostXp(self._memory)

    def another_stream(self) -> HostDevice:
        """Nothing is ever under way, so every stream is this one; memory and launches are shared."""
        other = replace(self)
        other._memory = self._memory
        return other

    # ---- memory ----

    def memory(self) -> tuple[int, int]:
        return self._memory.capacity_bytes - self._memory.used_bytes, self._memory.capacity_bytes

    def empty(self, shape: tuple[int, ...], dtype: Any) -> DeviceArray:
        return DeviceArray.empty(self._memory, shape, dtype)

    def staging(self, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        return np.full(size, GARBAGE, np.uint8).view(dtype).reshape(shape)

    def upload(self, host: NDArray[Any]) -> DeviceArray:
        result = self.empty(host.shape, host.dtype)
        result._view[...] = host
        return result

    def upload_into(self, host: NDArray[Any], out: DeviceArray) -> None:
        if host.nbytes != out.nbytes or not out.flags.c_contiguous:
            raise ValueError(f"upload: {host.nbytes} bytes do not fit {out.nbytes} contiguous ones")
        out.reshape(-1).view(np.uint8)._view[...] = np.ascontiguousarray(host).reshape(-1).view(np.uint8)

    def download(self, array: DeviceArray) -> HostDownload:
        if not isinstance(array, DeviceArray):
            raise TypeError(f"download: expected device memory, got {type(array).__name__}")
        return HostDownload(array.get())

    def synchronize(self) -> None:
        """Nothing is ever under way."""

    # ---- matrix products of bytes ----

    def int8_gemm(self, a: DeviceArray, b: DeviceArray, c: DeviceArray) -> None:
        """KernelError if a sum does not fit s32: cuBLAS does not say whether it wraps or saturates."""
        gemm_layout(a, b, c)
        sums = b._view.astype(np.float64) @ a._view.astype(np.float64).swapaxes(1, 2)  # exact below 2^53
        if sums.size and np.abs(sums + 0.5).max() > 1 << 31:
            raise KernelError(f"int8_gemm: sums up to {np.abs(sums).max():.0f} do not fit s32")
        c._view[...] = sums

    def active(self) -> AbstractContextManager[None]:
        return nullcontext()

    def prepare(self) -> None:
        """Units are compiled when they are needed."""

    # ---- launches ----

    def launch(
        self,
        unit: str,
        kernel: str,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        arguments: Sequence[Any],
        shared_bytes: int = 0,
    ) -> None:
        """Run it. KernelError for what CUDA refuses, a deadlock, or a write beside an array."""
        loaded = self._load(unit)
        if kernel not in loaded.index:
            raise KernelError(f"{unit}.cu has no kernel {kernel}; it has {', '.join(loaded.index)}")
        index = loaded.index[kernel]
        entry, types = loaded.entries[index], loaded.types[index]
        _check_shape(entry, grid, block, shared_bytes)
        if len(arguments) != len(types):
            raise KernelError(f"{kernel}: expected {len(types)} arguments {entry.parameters}, got {len(arguments)}")
        values = [_value(entry, i, types[i], argument) for i, argument in enumerate(arguments)]
        pointers = (ctypes.c_void_p * len(values))(*[value.ctypes.data for value in values])
        shared = self.empty((shared_bytes,), np.uint8)
        message = ctypes.create_string_buffer(600)
        failure = loaded.library.shim_launch(
            index,
            pointers,
            (ctypes.c_uint * 3)(*grid),
            (ctypes.c_uint * 3)(*block),
            shared.pointer,
            shared_bytes,
            self.mode == "reversed",
            message,
            len(message),
        )
        if failure:
            raise KernelError(f"{kernel}: {failure.decode()}")
        for name, argument in zip(entry.parameters, arguments, strict=True):
            if isinstance(argument, DeviceArray) and not argument.intact():
                raise KernelError(f"{kernel}: wrote beside the array {name} {argument.shape}")
        if not shared.intact():
            raise KernelError(f"{kernel}: wrote beside its {shared_bytes} bytes of dynamic shared memory")
        self._record(unit, entry, arguments)

    def _record(self, unit: str, entry: Entry, arguments: Sequence[Any]) -> None:
        given = dict(zip(entry.parameters, arguments, strict=True))
        is_array = {name: isinstance(given[f"{name}_data"], DeviceArray) for name in entry.words}
        streams = tuple(name for name, array in is_array.items() if not array)
        self.launches.append(Launch(unit, entry.name, streams, tuple(name for name in is_array if is_array[name])))

    def _load(self, unit: str) -> _Unit:
        if unit not in self._units:
            text = self.text(unit)
            found = entries(text)
            library = load(build(unit, text, self.flags + (SANITIZERS if self.mode == "asan" else ())))
            types = tuple(tuple(library.shim_types(i).decode().split()) for i in range(len(found)))
            self._units[unit] = _Unit(library, {entry.name: i for i, entry in enumerate(found)}, found, types)
        return self._units[unit]


def _check_shape(entry: Entry, grid: tuple[int, int, int], block: tuple[int, int, int], shared_bytes: int) -> None:
    threads = int(np.prod(block))
    for what, shape, most in (("grid", grid, MOST_GRID), ("block", block, MOST_BLOCK)):
        if len(shape) != 3 or not all(1 <= n <= m for n, m in zip(shape, most, strict=True)):
            raise KernelError(f"{entry.name}: {what} {shape} is outside 1 to {most}")
    if threads > min(MOST_THREADS, entry.most_threads):
        raise KernelError(f"{entry.name}: {threads} threads in a block, at most {entry.most_threads} are allowed")
    if shared_bytes > MOST_SHARED_BYTES:
        raise KernelError(f"{entry.name}: {shared_bytes} bytes of shared memory, a block has {MOST_SHARED_BYTES}")


def _value(entry: Entry, position: int, expected: str, argument: Any) -> NDArray[Any]:
    """An argument as memory that holds its value, if it is of exactly the parameter's type."""
    where = f"{entry.name}: argument {position} ({entry.parameters[position]})"
    if not expected.endswith("*"):
        if not isinstance(argument, np.generic) or argument.dtype.name != expected:
            got = f"numpy {argument.dtype}" if isinstance(argument, np.generic) else type(argument).__name__
            raise KernelError(f"{where}: expected a numpy {expected}, got {got}")
        return np.array([argument])
    element = expected.removesuffix("*").removeprefix("const:")
    if isinstance(argument, DeviceArray):
        if argument.dtype.name != element:
            raise KernelError(f"{where}: expected an array of {element}, got {argument.dtype}")
        if not argument.flags.c_contiguous:
            raise KernelError(f"{where}: the array {argument.shape} is not contiguous")
        return np.array([argument.pointer], np.uint64)
    if isinstance(argument, np.uint64) and argument == 0:
        return np.array([argument])
    raise KernelError(f"{where}: expected device memory or NULL, got {type(argument).__name__}")
