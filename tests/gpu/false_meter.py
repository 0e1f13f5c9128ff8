"""A device and a clock for the tests of `bench gpu`: the sources run here, and the times are made up."""

from __future__ import annotations

from sottovoce.bench.gpu import micro
from sottovoce.bench.gpu.ceilings import Sizes
from sottovoce.bench.gpu.schema import Gpu
from sottovoce.bench.kernels.devices import Call
from tests.gpu.shim.host import HostDevice

GPU = Gpu(name="NVIDIA Test 1", compute_capability="9.0", multiprocessors=4, memory_bytes=80, devices=1, cuda="13.0",
          cupy="14.2.0", driver="580.1", clocks={"clocks.sm": "1980 MHz"})  # fmt: skip
SMALL = Sizes(copy_bytes=1 << 12, side=16, rounds=2, behind=1, tries=2)


class Clock:
    """Stands still until it is told."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class FalseMeter:
    """A device here; a call takes 2, 4, 6 … microseconds there and always 1 on the host."""

    def __init__(self) -> None:
        self.device = HostDevice(text=micro.text)
        self.calls = 0

    def time(self, call: Call, behind: Call) -> tuple[float, float]:
        behind()
        call()
        self.calls += 1
        return 2.0 * self.calls, 1.0

    def copy(self, source: object, target: object) -> None:
        assert source is not target

    def facts(self) -> Gpu:
        return GPU

    def release(self) -> None:
        """Nothing is kept."""
