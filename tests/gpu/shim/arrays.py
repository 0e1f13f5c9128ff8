"""Device memory on the host, as strict as CuPy's: it never becomes a numpy array by itself."""

from __future__ import annotations

import ctypes
import operator
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

ALIGNMENT = 256
"""As CUDA allocates."""
MARGIN = 256
"""Bytes beside an array that a kernel must leave alone."""
GARBAGE = 0xA5

_libc = ctypes.CDLL(None)
_libc.posix_memalign.argtypes = [ctypes.POINTER(ctypes.c_void_p), ctypes.c_size_t, ctypes.c_size_t]
_libc.free.argtypes = [ctypes.c_void_p]


@dataclass
class Memory:
    """A device's memory. With `exact`, the allocator's redzones begin right beside an array; else margins do."""

    exact: bool
    capacity_bytes: int
    used_bytes: int = 0

    def give(self, nbytes: int) -> None:
        """Count an array that is gone."""
        self.used_bytes -= nbytes


class Allocation:
    """Device memory full of garbage. MemoryError beyond the capacity, as CuPy's is one."""

    def __init__(self, memory: Memory, nbytes: int) -> None:
        if memory.used_bytes + nbytes > memory.capacity_bytes:
            raise MemoryError(f"{nbytes} bytes: {memory.used_bytes} of {memory.capacity_bytes} are in use")
        self.memory = memory
        self.margin = 0 if memory.exact else MARGIN
        whole = nbytes + 2 * self.margin
        pointer = ctypes.c_void_p()
        if _libc.posix_memalign(ctypes.byref(pointer), ALIGNMENT, whole):
            raise MemoryError(f"no {whole} bytes for an array of the host device")
        weakref.finalize(self, _free, memory, pointer.value, nbytes)
        memory.used_bytes += nbytes
        block = (ctypes.c_uint8 * whole).from_address(pointer.value or 0)
        self.whole = np.frombuffer(block, np.uint8) if whole else np.empty(0, np.uint8)
        self.whole.fill(GARBAGE)
        self.bytes = self.whole[self.margin : self.margin + nbytes]

    def intact(self) -> bool:
        """Whether nothing was written beside the array."""
        if not self.margin:
            return True
        return bool((self.whole[: self.margin] == GARBAGE).all() and (self.whole[-self.margin :] == GARBAGE).all())


def _free(memory: Memory, pointer: int | None, nbytes: int) -> None:
    memory.give(nbytes)
    _libc.free(pointer)


class Flags:
    """`flags.c_contiguous`."""

    def __init__(self, c_contiguous: bool) -> None:
        self.c_contiguous = c_contiguous


class DeviceArray:
    """What the engine and the launchers use of a CuPy array."""

    __slots__ = ("_allocation", "_view")
    __array_ufunc__ = None  # numpy's operators give way to ours, which refuse
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, allocation: Allocation, view: NDArray[Any]) -> None:
        self._allocation = allocation
        self._view = view

    @classmethod
    def empty(cls, memory: Memory, shape: int | Sequence[int], dtype: Any) -> DeviceArray:
        shape = (int(shape),) if isinstance(shape, int | np.integer) else tuple(int(n) for n in shape)
        dtype = np.dtype(dtype)
        size = int(np.prod(shape, dtype=np.int64))
        allocation = Allocation(memory, size * dtype.itemsize)
        return cls(allocation, allocation.bytes.view(dtype).reshape(shape))

    def __array_function__(self, function: Any, types: Any, arguments: Any, keywords: Any) -> Any:
        """numpy's functions are CuPy's of the same name (NEP 18), as far as xp.py has them."""
        from tests.gpu.shim.xp import HostXp

        mine = getattr(HostXp(self._allocation.memory), function.__name__, None)
        if mine is None:
            raise TypeError(f"numpy.{function.__name__} of device memory: xp.py does not have it")
        return mine(*arguments, **keywords)

    # ---- what it is ----

    @property
    def shape(self) -> tuple[int, ...]:
        return self._view.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._view.dtype

    @property
    def ndim(self) -> int:
        return self._view.ndim

    @property
    def size(self) -> int:
        return self._view.size

    @property
    def nbytes(self) -> int:
        return self._view.nbytes

    @property
    def itemsize(self) -> int:
        return self._view.itemsize

    @property
    def strides(self) -> tuple[int, ...]:
        return self._view.strides

    @property
    def flags(self) -> Flags:
        return Flags(self._view.flags.c_contiguous)

    @property
    def T(self) -> DeviceArray:
        return self._of(self._view.T)

    @property
    def pointer(self) -> int:
        """The address of the first element."""
        return int(self._view.__array_interface__["data"][0])

    def intact(self) -> bool:
        """Whether nothing was written beside the allocation that this is part of."""
        return self._allocation.intact()

    def __repr__(self) -> str:
        return f"DeviceArray({self.shape}, {self.dtype})"

    def __len__(self) -> int:
        return len(self._view)

    # ---- views ----

    def _of(self, view: NDArray[Any]) -> DeviceArray:
        return DeviceArray(self._allocation, view)

    def reshape(self, *shape: Any) -> DeviceArray:
        view = self._view.reshape(*shape)
        return self._of(view) if np.shares_memory(view, self._view) or not view.size else self._fresh(view)

    def ravel(self) -> DeviceArray:
        return self.reshape(-1)

    def view(self, dtype: Any) -> DeviceArray:
        return self._of(self._view.view(dtype))

    def transpose(self, *axes: Any) -> DeviceArray:
        return self._of(self._view.transpose(*axes))

    def swapaxes(self, first: int, second: int) -> DeviceArray:
        return self._of(self._view.swapaxes(first, second))

    def __getitem__(self, key: Any) -> DeviceArray:
        """A view; with index arrays of the host, which CuPy copies without waiting, new memory."""
        if any(isinstance(k, np.ndarray) and k.dtype.kind == "i" for k in (key if isinstance(key, tuple) else (key,))):
            return self._fresh(self._view[key])
        return self._of(self._view[_basic(key)])  # a scalar too stays on the device: the key has an Ellipsis

    # ---- new arrays ----

    def _fresh(self, values: NDArray[Any]) -> DeviceArray:
        result = DeviceArray.empty(self._allocation.memory, values.shape, values.dtype)
        result._view[...] = values
        return result

    def copy(self) -> DeviceArray:
        return self._fresh(self._view)

    def astype(self, dtype: Any) -> DeviceArray:
        return self._fresh(self._view.astype(dtype))

    def get(self) -> NDArray[Any]:
        """A copy on the host."""
        return self._view.copy()

    # ---- in place ----

    def fill(self, value: Any) -> None:
        self._view.fill(_scalar(value))

    def __setitem__(self, key: Any, value: Any) -> None:
        if isinstance(value, DeviceArray):
            if value.dtype != self.dtype:
                raise TypeError(f"{value.dtype} assigned to {self.dtype}: convert it with astype or view")
            self._view[_basic(key)] = value._view
        else:
            self._view[_basic(key)] = _scalar(value)

    # ---- what CuPy refuses ----

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise TypeError("implicit conversion of device memory to the host: download it")

    __array__ = __iter__ = __bool__ = __float__ = __int__ = __index__ = __complex__ = __contains__ = _refuse
    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _refuse  # type: ignore[assignment]

    # ---- arithmetic on elements of one dtype ----

    def _with(self, function: Callable[[Any, Any], Any], other: Any, swapped: bool) -> DeviceArray:
        x, y = self._view, self._operand(other)
        return self._fresh(np.asarray(function(y, x) if swapped else function(x, y)))

    def _in_place(self, function: Callable[[Any, Any], Any], other: Any) -> DeviceArray:
        view = self._view
        view[...] = function(view, self._operand(other))
        return self

    def _operand(self, other: Any) -> Any:
        if not isinstance(other, DeviceArray | np.generic):
            raise TypeError(f"device memory and {type(other).__name__}: expected device memory or a numpy scalar")
        if other.dtype != self.dtype:
            raise TypeError(f"device memory of {self.dtype} and of {other.dtype}: the result would be another type")
        return other._view if isinstance(other, DeviceArray) else other

    def __invert__(self) -> DeviceArray:
        return self._fresh(~self._view)

    def __neg__(self) -> DeviceArray:
        return self._fresh(-self._view)


def _basic(key: Any) -> Any:
    """The key of a view: integers, slices, None and `...` only."""
    keys = key if isinstance(key, tuple) else (key,)
    for k in keys:
        if not (k is None or k is Ellipsis or isinstance(k, slice | int | np.integer)) or isinstance(k, bool):
            raise TypeError(f"only slices and integers index device memory here, not {type(k).__name__}")
    return keys if any(k is Ellipsis for k in keys) else (*keys, Ellipsis)


def _scalar(value: Any) -> Any:
    if not isinstance(value, int | float | np.generic):
        raise TypeError(f"device memory set from {type(value).__name__}: expected device memory or a scalar; upload it")
    return value


def _operators() -> None:
    for name in ("add", "sub", "mul", "xor", "and", "or", "lshift", "rshift"):
        function = getattr(operator, f"__{name}__")
        for prefix, method in (
            ("", lambda self, other, f=function: self._with(f, other, False)),
            ("r", lambda self, other, f=function: self._with(f, other, True)),
            ("i", lambda self, other, f=function: self._in_place(f, other)),
        ):
            setattr(DeviceArray, f"__{prefix}{name}__", method)


_operators()
