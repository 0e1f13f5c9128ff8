"""The GPU backend: arrays and kernels of a `kernels.gpu.device.Device`, shares resident for a whole inference."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from itertools import accumulate
from types import SimpleNamespace
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike

from sottovoce.engine.backend.base import Array, Backend
from sottovoce.engine.backend.cpu import AES_KEY_BYTES, CpuBackend
from sottovoce.engine.errors import DeviceMemoryError
from sottovoce.kernels.catalog import CATALOG
from sottovoce.kernels.gpu.device import Device, Keystream
from sottovoce.kernels.gpu.streams import materialise

CHUNK_ELEMENTS = 1 << 24
"""Largest layer of one chunk: enough to fill a large GPU many times over."""
BYTES_PER_ELEMENT = 512
"""Device memory that a chunk takes for each element of its largest layer: about 70 bytes of shares, bits and messages,
and with comparison by function secret sharing 400 bytes of keys."""
POOL_PART = 2
"""A chunk gets one part in so many of the memory: the rest is for weights, and for what CuPy's pool keeps."""
WEIGHTS_PART = 2
"""Weights are kept on the device as long as they take no more than one part in so many of its memory."""


class GpuBackend(Backend):
    """Kernels are launched on the device's one stream; nothing waits but `download` and what sends."""

    ciphers = ("chacha20",)  # a GPU has no AES instructions

    def __init__(self, device: Device) -> None:
        self.device = device
        self.name = device.name
        total = device.memory()[1]
        self.chunk_elements = max(1, min(CHUNK_ELEMENTS, total // (POOL_PART * BYTES_PER_ELEMENT)))
        self._host = CpuBackend()
        self._room = total // WEIGHTS_PART
        self.kernels = SimpleNamespace(
            **{name: partial(row.gpu, device) for name, row in CATALOG.items() if row.gpu is not None}
        )

    def __repr__(self) -> str:
        return f"GpuBackend({self.name})"

    def active(self) -> AbstractContextManager[None]:
        return self.device.active()

    def prepare(self) -> None:
        self.device.prepare()

    def for_lane(self) -> Self:
        return type(self)(self.device.another_stream())

    def empty(self, shape: int | tuple[int, ...], dtype: DTypeLike = np.uint64) -> Array:
        with self._counting():
            out: Array = self.device.empty((shape,) if isinstance(shape, int) else shape, np.dtype(dtype))
            return out

    def upload(self, host: Array) -> Array:
        with self._counting():
            out: Array = self.device.upload(np.ascontiguousarray(host))
            return out

    def download(self, array: Any) -> Array:
        out: Array = array if isinstance(array, np.ndarray) else self.device.download(array).wait()
        return out

    def hold(self, host: Array) -> Array:
        if host.nbytes > self._room:
            return host
        try:
            held = self.upload(host)
        except DeviceMemoryError:  # others are on this device too
            return host
        self._room -= host.nbytes
        self.device.synchronize()  # the other lanes have streams of their own
        return held

    def use(self, held: Any) -> Array:
        out: Array = self.upload(held) if isinstance(held, np.ndarray) else held
        return out

    def fill(self, cipher: str, key: bytes, operation: int, chunk: int, out: Any) -> None:
        """See Backend; numpy's arrays are filled on the host."""
        if isinstance(out, np.ndarray):
            self._host.fill(cipher, key, operation, chunk, out)
        elif cipher == "chacha20":
            self.kernels.chacha20_fill(np.frombuffer(key, "<u4").copy(), operation, chunk, out)
        else:
            self.kernels.aes128_ctr_fill(np.frombuffer(key[:AES_KEY_BYTES], np.uint8).copy(), operation, chunk, out)

    def words(self, cipher: str, key: bytes, operation: int, lengths: Sequence[int]) -> tuple[Any, ...]:
        """Each part in memory of its own: a slice need not begin where 16-byte accesses may."""
        if cipher != "chacha20":
            return super().words(cipher, key, operation, lengths)
        with self._counting():
            return tuple(materialise(self.device, k) for k in self.keystream(cipher, key, operation, lengths))

    def keystream(self, cipher: str, key: bytes, operation: int, lengths: Sequence[int]) -> tuple[Any, ...]:
        """ChaCha20 is generated inside the kernel that consumes it: no word of it ever lies in memory."""
        if cipher != "chacha20":
            return super().keystream(cipher, key, operation, lengths)
        k0, k1, k2, k3 = np.frombuffer(key, "<u8").tolist()
        return tuple(
            Keystream((k0, k1, k2, k3), operation, end - n, (n,))
            for n, end in zip(lengths, accumulate(lengths), strict=True)
        )

    @contextmanager
    def _counting(self) -> Iterator[None]:
        """A device that has no room says how much it has."""
        try:
            yield
        except MemoryError as error:
            free, total = self.device.memory()
            text = f"{self.name}: out of memory: {error}; {free:,} of {total:,} bytes are free"
            raise DeviceMemoryError(text) from None
