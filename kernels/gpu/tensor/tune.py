"""Measures every variant on this machine's GPU: `python -m sottovoce.kernels.gpu.tensor.tune [--device N] [--quick]`.

Each variant must first give the same bits as the kernel without tensor cores, at every shape, with and without
accumulation. Then CUDA events time it, and the medians are written to the table from which `choose` reads.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from sottovoce.kernels.gpu.device import Array, Device
from sottovoce.kernels.gpu.linear import Convolution
from sottovoce.kernels.gpu.tensor.choose import VARIANTS, Launchers
from sottovoce.kernels.gpu.tensor.tables import FOLDER, Case, Kind, Table, Variant, write_table

WARM_UP, REPEATS = 3, 15
ROWS = (1, 8, 32, 128, 512, 2048, 8192)
QUICK_ROWS = (8, 512)
WEIGHTS = ((64, 64), (320, 128), (640, 320), (1024, 1024), (4096, 1024), (4096, 4096))
"""(inner, columns) of matrix products."""
FILTERS = ((1, 200, 5, 64), (40, 200, 5, 64), (64, 100, 5, 128), (128, 50, 5, 128), (256, 25, 3, 256))
"""(channels, time, taps, columns) of convolutions with the same padding on both sides; ROWS then counts clips."""

Call = Callable[[], None]
Timer = Callable[[Call], float]
"""Microseconds of a call, the median of some."""


@dataclass(frozen=True, slots=True)
class Product:
    """One product to measure."""

    kind: Kind
    shape: Convolution


def products(quick: bool) -> list[Product]:
    """Matrix products, then convolutions."""
    rows = QUICK_ROWS if quick else ROWS
    dense = [Product("matmul", Convolution(batch, inner, columns)) for inner, columns in WEIGHTS for batch in rows]
    filters = [
        Product("conv1d", Convolution(batch, channels, columns, 1, time, taps, time, 1, taps // 2))
        for channels, time, taps, columns in FILTERS
        for batch in rows
    ]
    return dense + filters


def measure(device: Device, todo: Iterable[Product], timer: Timer, rng: np.random.Generator) -> list[Case]:
    """A case for each product. Raises ValueError if a variant's result differs from that without tensor cores."""
    return [_measure(device, product, timer, rng) for product in todo]


def _measure(device: Device, product: Product, timer: Timer, rng: np.random.Generator) -> Case:
    shape, kind = product.shape, product.kind
    if kind == "matmul":
        sizes: tuple[tuple[int, ...], ...] = (
            (shape.batch, shape.channels),
            (shape.channels, shape.columns),
            (shape.batch, shape.columns),
        )
        options: tuple[int, ...] = ()
    else:
        sizes = (
            (shape.batch, shape.channels, shape.time),
            (1, shape.taps, shape.channels, shape.columns),
            (shape.batch, shape.columns, shape.time_out),
        )
        options = (shape.stride, shape.pad_left, shape.dilation, shape.groups)
    x, w, begin = (rng.integers(0, 2**64, size, dtype=np.uint64) for size in sizes)
    on_device = (device.upload(x), device.upload(w))
    expected = [_result(device, VARIANTS["imad"], kind, *on_device, begin, options, add) for add in (False, True)]
    medians: dict[Variant, float] = {}
    for variant, launchers in VARIANTS.items():
        for add in (False, True):
            if not np.array_equal(_result(device, launchers, kind, *on_device, begin, options, add), expected[add]):
                raise ValueError(f"{variant}: {kind} {sizes} differs from imad: do not use it on this device")
        out = device.upload(begin)
        medians[variant] = timer(_call(device, launchers, kind, *on_device, out, options, False))
    return Case(kind, shape.rows, shape.depth, shape.columns, medians)


def _call(
    device: Device,
    launchers: Launchers,
    kind: Kind,
    x: Array,
    w: Array,
    out: Array,
    options: tuple[int, ...],
    add: bool,
) -> Call:
    launcher = launchers.matmul if kind == "matmul" else launchers.conv1d
    return lambda: launcher(device, x, w, out, *options, add)


def _result(
    device: Device,
    launchers: Launchers,
    kind: Kind,
    x: Array,
    w: Array,
    begin: np.ndarray[Any, Any],
    options: tuple[int, ...],
    add: bool,
) -> np.ndarray[Any, Any]:
    out = device.upload(begin)
    _call(device, launchers, kind, x, w, out, options, add)()
    return device.download(out).wait()


def main(arguments: list[str] | None = None) -> int:
    """Tune the device and write its table."""
    parser = argparse.ArgumentParser(prog="python -m sottovoce.kernels.gpu.tensor.tune", description=__doc__)
    parser.add_argument("--device", type=int, default=0, help="number of the CUDA device")
    parser.add_argument("--quick", action="store_true", help="fewer shapes")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the table goes (default: into the package)")
    options = parser.parse_args(arguments)

    import cupy

    from sottovoce.kernels.gpu.cupy_device import CupyDevice

    device = CupyDevice(options.device)

    def timer(call: Call) -> float:
        for _ in range(WARM_UP):
            call()
        taken = []
        for _ in range(REPEATS):
            begin, end = cupy.cuda.Event(), cupy.cuda.Event()
            begin.record(device.stream)
            call()
            end.record(device.stream)
            end.synchronize()
            taken.append(cupy.cuda.get_elapsed_time(begin, end) * 1e3)
        return float(median(taken))

    cases = measure(device, products(options.quick), timer, np.random.default_rng(0))
    driver = str(cupy.cuda.runtime.driverGetVersion())
    path = write_table(Table(device.model, driver, cupy.__version__, tuple(cases)), options.folder)
    print(f"{len(cases)} products on {device.model}: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
