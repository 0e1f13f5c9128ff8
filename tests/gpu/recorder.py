"""What the launchers launch, without running it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sottovoce.bench.gpu.twin import stream_positions
from sottovoce.kernels.catalog import Arguments, Kernel
from sottovoce.kernels.gpu.device import Keystream
from sottovoce.kernels.gpu.sources import source
from tests.gpu.shim.arrays import DeviceArray
from tests.gpu.shim.build import entries
from tests.gpu.shim.host import HostDevice


@dataclass
class Recorder(HostDevice):
    """A host device that notes launches only."""

    def launch(
        self,
        unit: str,
        kernel: str,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        arguments: Sequence[Any],
        shared_bytes: int = 0,
    ) -> None:
        found = [entry for entry in entries(source(unit)) if entry.name == kernel]
        assert len(found) == 1, f"{unit}.cu has no kernel {kernel}"
        self._record(unit, found[0], arguments)

    def int8_gemm(self, a: DeviceArray, b: DeviceArray, c: DeviceArray) -> None:
        """Not one of our kernels."""


def call(row: Kernel, device: HostDevice, sample: Arguments, changes: dict[int, Any] | None = None) -> None:
    """Call a row's launcher with the sample on the device, and `changes` in place of some arguments."""
    assert row.gpu is not None
    uploaded = [device.upload(a) if isinstance(a, np.ndarray) else a for a in sample]
    row.gpu(device, *[(changes or {}).get(i, a) for i, a in enumerate(uploaded)])


def record(row: Kernel, device: HostDevice, cases: Sequence[Arguments]) -> None:
    """Call a row's launcher on every sample, also with each of its streams."""
    for sample in cases:
        call(row, device, sample)
        for position in stream_positions(row):
            call(row, device, sample, {position: Keystream((1, 2, 3, 4), 5, 6, sample[position].shape)})
