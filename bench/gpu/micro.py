"""Launchers of `micro.cu`: kernels that only measure. They are no part of the catalog."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np

from sottovoce.kernels.gpu.device import THREADS, UINT64, Array, Device
from sottovoce.kernels.gpu.sources import FOLDER, source

UNIT = "micro"
CHAINS = 8
"""As in micro.cu."""
BLOCKS_PER_MULTIPROCESSOR = 8
BLOCK_BYTES = 64
"""Of ChaCha20's keystream."""
FACTOR = np.uint64(0x9E3779B97F4A7C15)
KEY = (np.uint64(1), np.uint64(2), np.uint64(3), np.uint64(4))


@lru_cache
def text(unit: str) -> str:
    """The source of a unit of the kernels', or of this one's."""
    if unit != UNIT:
        return source(unit)
    prelude, own = FOLDER / "prelude.cuh", Path(__file__).with_name("micro.cu")
    return f'{prelude.read_text()}\n#line 1 "{own.name}"\n{own.read_text()}'


def results(device: Device) -> Array:
    """Room for what every thread stores."""
    return device.empty((BLOCKS_PER_MULTIPROCESSOR * device.multiprocessors * THREADS,), UINT64)


def multiply_add(device: Device, rounds: int, out: Array) -> int:
    """Start the kernel; how many ring multiplications with an addition it makes."""
    _launch(device, "multiply_add_rate", out, FACTOR, np.int64(rounds))
    return int(out.size) * CHAINS * rounds


def chacha20(device: Device, rounds: int, out: Array) -> int:
    """Start the kernel; how many bytes of keystream it generates."""
    _launch(device, "chacha_rate", out, *KEY, np.uint64(5), np.int64(rounds))
    return int(out.size) * BLOCK_BYTES * rounds


def _launch(device: Device, kernel: str, out: Array, *arguments: np.generic) -> None:
    device.launch(UNIT, kernel, (out.size // THREADS, 1, 1), (THREADS, 1, 1), (*arguments, out))
