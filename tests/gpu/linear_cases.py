"""Products of linear layers under the sanitizers: each array in turn begins behind 16 bytes, as a slice may.

The launchers load two words at once where every address allows it; so that each is asked for, one array at a time must
be the reason. `python -m tests.gpu.linear_cases ROW...` runs rows (see sanitizer.py).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from sottovoce.bench.gpu.twin import run_both
from sottovoce.kernels.catalog import CATALOG, Arguments, Kernel
from sottovoce.kernels.gpu import linear
from sottovoce.kernels.products import ProductLayer
from sottovoce.kernels.samples import ring_array
from tests.gpu.devices import Unaligned
from tests.gpu.sanitizer import report
from tests.gpu.shim.arrays import DeviceArray
from tests.gpu.shim.host import HostDevice, Launch

PRODUCTS = ("matmul", "conv1d", "beaver_matmul", "beaver_conv1d")
NAMES = (*PRODUCTS, "triple_products")
MATMUL = replace(CATALOG["matmul"], gpu=linear.matmul)
CONV1D = replace(CATALOG["conv1d"], gpu=linear.conv1d)
ROWS: Mapping[str, Kernel] = {**CATALOG, "matmul": MATMUL, "conv1d": CONV1D}


class OneSlice(Unaligned):
    """Of the arrays that are uploaded, only the one at `position` begins an element behind 16 bytes."""

    position = 0

    def upload(self, host: np.ndarray[Any, Any]) -> DeviceArray:
        self.position -= 1
        return super().upload(host) if self.position == -1 else HostDevice.upload(self, host)


def cases(name: str, rng: np.random.Generator) -> list[Arguments]:
    """Even sizes and the largest tile, where two words at once are possible; convolutions also of no channels, where
    every position that a thread might gather lies outside of the input."""

    def ring(*shape: int) -> np.ndarray[Any, Any]:
        return ring_array(rng, shape)

    match name:
        case "matmul":
            return [(ring(64, 18), ring(18, 64), ring(64, 64), False)]
        case "beaver_matmul":
            return [(ring(64, 18), ring(64, 18), ring(2, 18, 64), ring(64, 64))]
        case "conv1d":
            wide = (ring(1, 3, 64), ring(1, 5, 3, 64), ring(1, 64, 64), 1, 2, 1, 1, True)
            return [wide, (ring(2, 0, 5), ring(1, 3, 0, 4), ring(2, 4, 5), 1, 1, 1, 1, False)]
        case "beaver_conv1d":
            wide = (ring(1, 3, 64), ring(1, 3, 64), ring(2, 1, 5, 3, 64), ring(1, 64, 64), 1, 2, 1, 1)
            return [wide, (ring(2, 0, 5), ring(2, 0, 5), ring(2, 1, 3, 0, 4), ring(2, 4, 5), 1, 1, 1, 1)]
        case "triple_products":
            layer = ProductLayer(0, 0, 0, c_in=3, c_out=64, time=64, taps=5, time_out=64, pad_left=2)
            none = ProductLayer(192, 960, 4096, c_in=0, c_out=4, time=5, taps=3, time_out=5, pad_left=1)
            return [((layer, none), ring(1, 192), ring(1, 192), ring(960), ring(1, 4116), ring(1, 4116))]
    raise AssertionError(name)


def sanitized(name: str) -> list[Launch]:
    """For `sanitizer.report`."""
    launches: list[Launch] = []
    for sample in cases(name, np.random.default_rng(6)):
        for position in range(sum(isinstance(a, np.ndarray) for a in sample)):
            device = OneSlice("asan")
            device.position = position
            run_both(ROWS[name], device, sample, f"{name}, array {position} not aligned")
            launches += device.launches
    return launches


if __name__ == "__main__":
    report(sys.argv[1:], sanitized)
