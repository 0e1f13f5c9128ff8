"""The variants of matmul and conv1d as rows of a catalog, with more samples.

`python -m tests.gpu.tensor_cases ROW...` runs rows under the sanitizers (see sanitizer.py).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

import numpy as np

from sottovoce.bench.gpu.compare import ROWS as TWINS
from sottovoce.kernels.catalog import Arguments, Kernel
from sottovoce.kernels.samples import ring_array
from tests.gpu.compare import compare, samples
from tests.gpu.sanitizer import report
from tests.gpu.shim.host import HostDevice, Launch

WORST_BYTES = np.uint64(2**64 - 1)
"""All limbs are 255."""
WORST_DIGITS = np.uint64(0x7F7F7F7F7F7F7F80)
"""All balanced digits are -128."""


def larger(kind: str, rng: np.random.Generator) -> list[Arguments]:
    """Shapes on both sides of the tiles of mma.cu (64 columns, 32 rows, 32 deep) and of the pieces of limbs.cu."""
    if kind == "matmul":
        shapes = [(33, 34, 66), (3, 640, 5), (17, 18, 16), (1, 257, 70)]
        operands = [[ring_array(rng, s) for s in ((n, k), (k, m), (n, m))] for n, k, m in shapes]
        return [(*arrays, accumulate) for arrays, accumulate in zip(operands, (True, False, True, False), strict=True)]
    x, w, out = (ring_array(rng, shape) for shape in ((3, 14, 21), (2, 5, 7, 66), (3, 132, 11)))
    same = [ring_array(rng, shape) for shape in ((2, 70, 17), (1, 5, 70, 3), (2, 3, 17))]
    return [(x, w, out, 2, 3, 2, 2, True), (*same, 1, 2, 1, 1, False)]


ROWS: Mapping[str, Kernel] = {name: row for name, row in TWINS.items() if row.name != name}


def run(name: str, device: HostDevice) -> None:
    """All samples of a row on a device. MismatchError, KernelError if a result differs or a launch is wrong."""
    row = ROWS[name]
    compare(row, device, [*samples(row), *larger(row.name, np.random.default_rng(5))])


def sanitized(name: str) -> list[Launch]:
    """For `sanitizer.report`: every second sample, and the larger ones."""
    row, device = ROWS[name], HostDevice("asan")
    compare(row, device, [*samples(row)[::2], *larger(row.name, np.random.default_rng(5))])
    return device.launches


if __name__ == "__main__":
    report(sys.argv[1:], sanitized)
