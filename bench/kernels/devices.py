"""Where a kernel runs: how its arguments get there, when a call has ended, and how long it took.

CuPy is imported when a GPU is asked for. What it measures is behind `Meter`, so that tests can put another one there.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np

from sottovoce.bench.gpu.schema import Gpu
from sottovoce.engine.backend.devices import missing_gpu
from sottovoce.engine.errors import ConfigError
from sottovoce.kernels.catalog import Arguments, Kernel
from sottovoce.kernels.gpu.device import Array
from sottovoce.kernels.gpu.device import Device as GpuDevice

Call = Callable[[], None]
ANSWER_S = 20.0
CLOCKS = ("clocks.sm", "clocks.mem", "clocks.max.sm", "clocks.max.mem", "power.limit")
"""What nvidia-smi is asked for."""


@dataclass(frozen=True, slots=True)
class Device:
    """name: of the device for humans. place: arguments with their arrays there. function: a kernel's for that device.
    wait: until all calls have ended; None: a call has ended when it returns."""

    name: str
    place: Callable[[Arguments], Arguments]
    function: Callable[[Kernel], Callable[..., object]]
    wait: Callable[[], None] | None


CPU = Device("cpu", lambda arguments: arguments, lambda kernel: kernel.cpu, None)


def gpu_number(name: str) -> int:
    """Which device `cuda` or `cuda:N` is. Raises ConfigError for another name and a device that CUDA does not see."""
    kind, colon, number = name.partition(":")
    if kind != "cuda" or (colon and not (number.isascii() and number.isdigit())):
        raise ConfigError(f"--device: expected cuda or cuda:N, got {name!r}")
    if reason := missing_gpu():
        raise ConfigError(f"--device {name}: {reason}")
    from sottovoce.kernels.gpu.cupy_device import count_devices

    if int(number or 0) >= (count := count_devices()):
        raise ConfigError(f"--device {name}: expected a number below {count}, as many devices as CUDA sees")
    return int(number or 0)


def gpu(name: str = "cuda") -> Device:
    """A CUDA device; its copies are made before anything is timed. Raises ConfigError as `gpu_number`."""
    number = gpu_number(name)
    from sottovoce.kernels.gpu.cupy_device import CupyDevice

    return launching(CupyDevice(number))


def launching(device: GpuDevice) -> Device:
    """A device of the kernels' launchers."""

    def place(arguments: Arguments) -> Arguments:
        return tuple(device.upload(a) if isinstance(a, np.ndarray) else a for a in arguments)

    def function(kernel: Kernel) -> Callable[..., object]:
        assert kernel.gpu is not None
        return partial(kernel.gpu, device)

    return Device(device.model, place, function, device.synchronize)


class Meter(Protocol):
    """A device, and a clock on it."""

    @property
    def device(self) -> GpuDevice:
        """Where the calls run; it takes units of `bench.gpu.micro` too."""

    def time(self, call: Call, behind: Call) -> tuple[float, float]:
        """Microseconds of a call on the device and on the host.

        behind: keeps the device busy meanwhile, so that the host's own time does not show in the device's.
        """

    def copy(self, source: Array, target: Array) -> None:
        """Start a copy on the device, of equal arrays."""

    def facts(self) -> Gpu:
        """What the device is."""

    def release(self) -> None:
        """Give memory that no array uses back to the device, for other processes."""


class CudaMeter:
    """See Meter: by CUDA events."""

    CALLS = 4
    """Between two events."""

    def __init__(self, number: int, text: Callable[[str], str]) -> None:
        from sottovoce.kernels.gpu.cupy_device import CupyDevice

        self._number = number
        self.device = CupyDevice(number, text=text)

    def time(self, call: Call, behind: Call) -> tuple[float, float]:
        import cupy

        device = self.device
        with device.active():
            begin, end = cupy.cuda.Event(), cupy.cuda.Event()
            behind()
            begin.record(device.stream)
            start = time.perf_counter()
            for _ in range(self.CALLS):
                call()
            host_s = time.perf_counter() - start
            end.record(device.stream)
            end.synchronize()
            elapsed_ms = cupy.cuda.get_elapsed_time(begin, end)
        return 1e3 * elapsed_ms / self.CALLS, 1e6 * host_s / self.CALLS

    def copy(self, source: Array, target: Array) -> None:
        with self.device.active():
            target.data.copy_from_device_async(source.data, source.nbytes, self.device.stream)

    def facts(self) -> Gpu:
        import cupy

        runtime = cupy.cuda.runtime
        properties = runtime.getDeviceProperties(self._number)
        version = runtime.driverGetVersion()
        answers = nvidia_smi(("driver_version", *CLOCKS), runtime.deviceGetPCIBusId(self._number))
        return Gpu(
            name=properties["name"].decode(),
            compute_capability=f"{properties['major']}.{properties['minor']}",
            multiprocessors=self.device.multiprocessors,
            memory_bytes=self.device.memory()[1],
            devices=runtime.getDeviceCount(),
            cuda=f"{version // 1000}.{version % 1000 // 10}",
            driver=answers.pop("driver_version", ""),
            cupy=cupy.__version__,
            clocks=answers,
        )

    def release(self) -> None:
        import cupy

        self.device.synchronize()
        with self.device.active():
            cupy.get_default_memory_pool().free_all_blocks()


def nvidia_smi(fields: tuple[str, ...], bus_id: str) -> dict[str, str]:
    """What nvidia-smi says of a device; without what it does not know, and empty where it is not there."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return {}
    command = [tool, f"--query-gpu={','.join(fields)}", "--format=csv,noheader", f"--id={bus_id}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return {}
    values = [value.strip() for value in done.stdout.strip().split(",")]
    if len(values) != len(fields):
        return {}
    return {name: value for name, value in zip(fields, values, strict=True) if value and not value.startswith("[")}


def without_pool() -> None:
    """Every array of this process gets memory of its own from CUDA: a sanitizer sees where one ends."""
    import cupy

    cupy.cuda.set_allocator(None)


def make_device(number: int) -> Any:
    """The device for the kernels' launchers, a CupyDevice."""
    from sottovoce.kernels.gpu.cupy_device import CupyDevice

    return CupyDevice(number)
