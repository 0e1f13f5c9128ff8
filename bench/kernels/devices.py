"""Where a kernel runs: how its arguments get there, and when a call has ended."""

from __future__ import annotations

import importlib.util
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sottovoce.kernels.catalog import Arguments, Kernel


@dataclass(frozen=True, slots=True)
class Device:
    """name: of the device for humans. place: arguments with their arrays there. wait: until all calls have ended."""

    name: str
    place: Callable[[Arguments], Arguments]
    wait: Callable[[], None] | None


CPU = Device("cpu", lambda arguments: arguments, None)


def device_names(kernel: Kernel) -> tuple[str, ...]:
    """The devices that the catalog has the kernel for."""
    return ("cpu",) if kernel.gpu is None else ("cpu", "gpu")


def function(kernel: Kernel, device: str) -> Callable[..., object]:
    """The kernel's function for a device."""
    if device == "cpu":
        return kernel.cpu
    assert kernel.gpu is not None
    found: Callable[..., object] = pkgutil.resolve_name(kernel.gpu)
    return found


def missing_gpu() -> str | None:
    """Why there is no GPU to run on, or None."""
    if importlib.util.find_spec("cupy") is None:
        return "needs a GPU: CuPy is not installed"
    import cupy

    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        return f"needs a GPU: {error}"
    return None if count else "needs a GPU: CUDA sees no device"


def gpu() -> Device:
    """The current CUDA device; its copies are made before anything is timed."""
    import cupy

    def place(arguments: Arguments) -> Arguments:
        return tuple(cupy.asarray(a) if isinstance(a, np.ndarray) else a for a in arguments)

    name = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)["name"].decode()
    return Device(name, place, cupy.cuda.get_current_stream().synchronize)
