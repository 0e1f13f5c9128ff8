"""The CPU backend: numpy arrays, the catalog's CPU kernels."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from sottovoce.engine.backend.base import Array, Backend
from sottovoce.kernels.catalog import CATALOG
from sottovoce.kernels.cpu.blocks import HAS_AES

AES_KEY_BYTES = 16


class CpuBackend(Backend):
    """Every array is numpy's: uploading and downloading do nothing. Shared by all lanes."""

    name = "cpu"
    ciphers = ("aes128ctr", "chacha20") if HAS_AES else ("chacha20", "aes128ctr")
    chunk_elements = 1 << 18  # beyond it caches are cold

    def __init__(self) -> None:
        self.kernels = SimpleNamespace(**{name: row.cpu for name, row in CATALOG.items()})

    def empty(self, shape: int | tuple[int, ...], dtype: DTypeLike = np.uint64) -> Array:
        return np.empty(shape, dtype)

    def upload(self, host: Array) -> Array:
        return host

    def download(self, array: Any) -> Array:
        same: Array = array
        return same

    def fill(self, cipher: str, key: bytes, operation: int, chunk: int, out: Any) -> None:
        if cipher == "chacha20":
            self.kernels.chacha20_fill(np.frombuffer(key, "<u4").copy(), operation, chunk, out)
        else:
            self.kernels.aes128_ctr_fill(np.frombuffer(key[:AES_KEY_BYTES], np.uint8).copy(), operation, chunk, out)
