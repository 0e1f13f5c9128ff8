"""A kernel's CUDA twin against its CPU kernel on the samples of the catalog, bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from sottovoce.bench.gpu.twin import run_both, with_keystreams
from sottovoce.kernels.catalog import Arguments, Kernel
from sottovoce.kernels.gpu.sources import source
from tests.gpu.devices import Unaligned
from tests.gpu.shim.host import HostDevice, Launch, Mode

SEED = 17


def samples(row: Kernel) -> list[Arguments]:
    """Fresh samples of the row, the same every time."""
    return row.samples(np.random.default_rng(SEED))


def gate(row: Kernel, mode: Mode, text: Callable[[str], str] = source) -> list[Launch]:
    """All that a kernel must pass in one mode: arrays and keystreams; arrays aligned as allocated (plain), an element
    behind (reversed), or either (asan). Returns what was launched; raises MismatchError or KernelError.
    """
    kinds = {"plain": (HostDevice,), "reversed": (Unaligned,), "asan": (Unaligned, HostDevice)}[mode]
    devices = [kind(mode, text=text) for kind in kinds]
    for device in devices:
        compare(row, device)
    compare_streams(row, devices[0])
    return [launch for device in devices for launch in device.launches]


def compare(row: Kernel, device: HostDevice, cases: Sequence[Arguments] | None = None) -> None:
    """Run the twin and the CPU kernel on every sample. MismatchError names sample, argument and element."""
    for number, sample in enumerate(samples(row) if cases is None else cases):
        run_both(row, device, sample, f"{row.name} ({device.mode}), sample {number}")


def compare_streams(row: Kernel, device: HostDevice) -> None:
    """Run every sample with keystreams in place of the arrays that may be one: each alone, and all of them."""
    for number, sample in enumerate(samples(row)):
        for replaced, arguments, streams in with_keystreams(row, sample, number):
            run_both(row, device, arguments, f"{row.name} ({device.mode}), sample {number}, {replaced}", streams)
