"""What `sottovoce bench gpu` writes beside its rows: part of a file of results (bench/schema.py)."""

from __future__ import annotations

from typing import Literal

import msgspec

PartName = Literal["correctness", "kernels", "end-to-end"]
Masks = Literal["none", "memory", "keystream"]


class Gpu(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The device. cuda: the newest version of CUDA that the driver runs; driver: its own version, "" where nvidia-smi
    does not say. clocks: names and values as nvidia-smi gives them, read before the first measurement."""

    name: str
    compute_capability: str
    multiprocessors: int
    memory_bytes: int
    devices: int
    cuda: str
    driver: str = ""
    cupy: str
    clocks: dict[str, str] = {}


class Checked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One kernel, or one variant of a product ("mma_u8.matmul"), against the CPU's.

    calls: compared bit for bit; streams: those with a mask from a keystream; references: those whose expected result
    is also that of big integers. problem: what is wrong, "" if nothing; `status`: "skipped" was not run.
    """

    kernel: str
    status: Literal["equal", "wrong", "skipped"]
    calls: int = 0
    streams: int = 0
    references: int = 0
    problem: str = ""


class Sanitized(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A tool of compute-sanitizer over small samples of the kernels. reason: why it found errors, or did not run."""

    tool: Literal["memcheck", "racecheck"]
    status: Literal["clean", "errors", "unavailable"]
    kernels: tuple[str, ...] = ()
    reason: str = ""


class Ceiling(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What the device can do at best, measured in this run. per_s: of `unit`; None: `reason` says why not."""

    name: str
    unit: str
    per_s: float | None = None
    reason: str = ""


class KernelTime(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One size of one kernel, by CUDA events around calls that are queued behind other work.

    device_us: median and quartiles of a call, `n` measurements. host_us: what the host takes to launch it. masks:
    whether a uniform mask was read from memory or generated inside. moved_bytes: read and written, without
    generated masks. operations: of a call, in `unit`. fraction: of the ceiling that takes the longest.
    """

    kernel: str
    size: str
    masks: Masks = "none"
    n: int = 0
    device_us: float | None = None
    lower_us: float | None = None
    upper_us: float | None = None
    host_us: float | None = None
    moved_bytes: int = 0
    operations: int = 0
    unit: str = ""
    ceiling: str = ""
    fraction: float | None = None
    reason: str = ""


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A part of the run. finished: it came to its end, and did all but what `cut` names; reason: what stopped it."""

    name: PartName
    budget_s: float
    took_s: float
    finished: bool
    cut: tuple[str, ...] = ()
    reason: str = ""


class GpuReport(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Parts that were not asked for are absent."""

    gpu: Gpu
    parts: tuple[Part, ...] = ()
    checked: tuple[Checked, ...] = ()
    sanitized: tuple[Sanitized, ...] = ()
    ceilings: tuple[Ceiling, ...] = ()
    kernels: tuple[KernelTime, ...] = ()
