"""From the name of a device to its backend: `cpu`, `cuda`, `cuda:1`, `auto`."""

from __future__ import annotations

import importlib.util
import re

from sottovoce.engine.backend.base import Backend
from sottovoce.engine.backend.cpu import CpuBackend
from sottovoce.engine.backend.gpu import GpuBackend
from sottovoce.engine.errors import ConfigError

DEVICES = "cpu, cuda, cuda:N or auto"
_CUDA = re.compile(r"cuda(?::(\d{1,3}))?")


def make_backend(device: str) -> Backend:
    """The backend of a device. auto: the first GPU if CuPy and a GPU are there, else the CPU.

    Raises ConfigError for another name, or for a GPU that cannot be used: why, and what to do.
    """
    if device == "cpu":
        return CpuBackend()
    if device == "auto":
        return CpuBackend() if missing_gpu() else _cuda(0)
    found = _CUDA.fullmatch(device)
    if found is None:
        raise ConfigError(f"device: expected {DEVICES}, got {device!r}")
    reason = missing_gpu()
    if reason:
        raise ConfigError(f"device {device}: {reason}")
    return _cuda(int(found[1] or 0))


def make_backends(devices: str, parties: int) -> list[Backend]:
    """For each party, from the name of one device for all of them, or from as many names with commas between.

    Parties on one GPU share its memory. Raises ConfigError.
    """
    return [make_backend(name) for name in device_names(devices, parties)]


def device_names(devices: str, parties: int) -> list[str]:
    """The same, as names. Raises ConfigError for another number of them."""
    names = [name.strip() for name in devices.split(",")]
    if len(names) not in (1, parties):
        raise ConfigError(f"device: expected one device, or {parties} with commas between, got {devices!r}")
    return names if len(names) == parties else names * parties


def missing_gpu() -> str:
    """Why no GPU can be used here; empty if one can."""
    if importlib.util.find_spec("cupy") is None:
        return "CuPy is not installed: pip install 'sottovoce[cuda13]', or [cuda12] for drivers of CUDA 12"
    try:
        from sottovoce.kernels.gpu.cupy_device import count_devices

        count = count_devices()
    except (ImportError, RuntimeError) as error:
        return f"CUDA cannot be used: {error}"
    return "" if count else "CUDA sees no device"


def _cuda(number: int) -> GpuBackend:
    from sottovoce.kernels.gpu.cupy_device import CupyDevice, count_devices

    count = count_devices()
    if number >= count:
        raise ConfigError(f"device cuda:{number}: expected a number below {count}, as many devices as CUDA sees")
    try:
        return GpuBackend(CupyDevice(number))
    except RuntimeError as error:  # it is full, or another process has it for itself
        raise ConfigError(f"device cuda:{number}: it cannot be used: {error}") from None
