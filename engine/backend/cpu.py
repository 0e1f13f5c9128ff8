"""The CPU backend: numpy arrays, the catalog's CPU kernels."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sottovoce.kernels.catalog import CATALOG
from sottovoce.kernels.cpu.conv import pack_conv1d

AES_KEY_BYTES = 16


class CpuBackend:
    """Kernels by name (`backend.kernels.matmul`), keystreams and weight layouts of this device."""

    name = "cpu"

    def __init__(self) -> None:
        self.kernels = SimpleNamespace(**{name: row.cpu for name, row in CATALOG.items()})

    def fill(self, cipher: str, key: bytes, operation: int, chunk: int, out: NDArray[Any]) -> None:
        """Write one operation's keystream, see engine/prg.py."""
        if cipher == "chacha20":
            self.kernels.chacha20_fill(np.frombuffer(key, "<u4").copy(), operation, chunk, out)
        else:
            self.kernels.aes128_ctr_fill(np.frombuffer(key[:AES_KEY_BYTES], np.uint8).copy(), operation, chunk, out)

    def pack_conv1d(self, weight: NDArray[np.uint64], groups: int) -> NDArray[np.uint64]:
        """(c_out, c_in / groups, kernel) -> the layout that `conv1d` takes."""
        return pack_conv1d(weight, groups)
