"""The functions of the module cupy that the engine uses, on the host device's arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tests.gpu.shim.arrays import DeviceArray, Memory


class HostXp:
    """`cupy` as far as the engine needs it; numpy arrays are refused."""

    ndarray = DeviceArray

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    def empty(self, shape: Any, dtype: Any = float) -> DeviceArray:
        return DeviceArray.empty(self._memory, shape, dtype)

    def empty_like(self, x: DeviceArray) -> DeviceArray:
        return self.empty(_device(x).shape, x.dtype)

    def zeros(self, shape: Any, dtype: Any = float) -> DeviceArray:
        result = self.empty(shape, dtype)
        result.fill(0)
        return result

    def zeros_like(self, x: DeviceArray, shape: Any = None) -> DeviceArray:
        return self.zeros(_device(x).shape if shape is None else shape, x.dtype)

    def arange(self, *arguments: Any, dtype: Any = None) -> DeviceArray:
        return self._new(np.arange(*arguments, dtype=dtype))

    def concatenate(self, arrays: Sequence[DeviceArray], axis: int = 0) -> DeviceArray:
        return self._new(np.concatenate([_device(x)._view for x in arrays], axis))

    def stack(self, arrays: Sequence[DeviceArray], axis: int = 0) -> DeviceArray:
        return self._new(np.stack([_device(x)._view for x in arrays], axis))

    def ascontiguousarray(self, x: DeviceArray) -> DeviceArray:
        return x if _device(x).flags.c_contiguous else x.copy()

    def broadcast_to(self, x: DeviceArray, shape: tuple[int, ...]) -> DeviceArray:
        return _device(x)._of(np.broadcast_to(x._view, shape))

    def packbits(self, x: DeviceArray, axis: int | None = None, bitorder: str = "big") -> DeviceArray:
        if axis is not None:
            raise NotImplementedError("cupy.packbits packs the flattened array only")
        return self._new(np.packbits(_device(x)._view, bitorder=_order(bitorder)))

    def unpackbits(self, x: DeviceArray, axis: int | None = None, bitorder: str = "big") -> DeviceArray:
        if axis is not None:
            raise NotImplementedError("cupy.unpackbits unpacks the flattened array only")
        if x.dtype != np.uint8:
            raise TypeError(f"cupy.unpackbits: expected uint8, got {x.dtype}")
        return self._new(np.unpackbits(_device(x)._view, bitorder=_order(bitorder)))

    def _new(self, values: np.ndarray) -> DeviceArray:
        result = self.empty(values.shape, values.dtype)
        result._view[...] = values
        return result


def _device(x: Any) -> DeviceArray:
    if not isinstance(x, DeviceArray):
        raise TypeError(f"expected device memory, got {type(x).__name__}")
    return x


def _order(bitorder: str) -> Any:
    if bitorder not in ("big", "little"):
        raise ValueError(f"bitorder must be 'big' or 'little', got {bitorder!r}")
    return bitorder
