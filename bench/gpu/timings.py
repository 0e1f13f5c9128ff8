"""Every kernel's time on the device, at sizes that fill it, beside the ceiling that binds it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np

from sottovoce.bench.gpu.budget import Budget
from sottovoce.bench.gpu.ceilings import CHACHA20, COPY, INT8, INT8_PRODUCTS, MULTIPLY_ADD, Ceilings, measure
from sottovoce.bench.gpu.compare import ROWS
from sottovoce.bench.gpu.schema import KernelTime, Masks
from sottovoce.bench.gpu.twin import KEY, on_device, stream_positions
from sottovoce.bench.kernels.devices import Meter
from sottovoce.bench.kernels.sizes import KEYSTREAM, MULTIPLICATIONS, Workload, moved_bytes, random_words
from sottovoce.bench.kernels.workloads import WORKLOADS
from sottovoce.kernels.catalog import Arguments, Kernel
from sottovoce.kernels.gpu.device import Keystream

MODELS = ("paper", "medium", "frames")
CHOSEN = ("matmul", "conv1d")
"""Their variants are timed instead."""


@dataclass(frozen=True, slots=True)
class Effort:
    """target_bytes: of a call's arrays. most_clips: of a layer. side: of the square matrix product. every: also the
    sizes of `bench kernels`, which a launch takes longer to start than to run."""

    target_bytes: int = 1 << 29
    most_clips: int = 1024
    side: int = 4096
    tries: int = 15
    every: bool = True


QUICK = Effort(target_bytes=1 << 28, most_clips=512, tries=7, every=False)


def names() -> list[str]:
    """The rows that are timed: products first, they say the most."""
    variants = [name for name in ROWS if "." in name]
    return [*variants, *(name for name in ROWS if "." not in name and name not in CHOSEN)]


def time_kernels(
    meter: Meter, ceilings: Ceilings, effort: Effort, budget: Budget, chosen: Sequence[str] | None = None
) -> Iterator[list[KernelTime]]:
    """The timings of one kernel after the other, for as long as the budget lasts."""
    for name in names() if chosen is None else chosen:
        if not budget.left():
            budget.cut.append(f"{name}: no time left")
            continue
        row = ROWS[name]
        found = []
        for workload in workloads(row, effort):
            masks: tuple[Masks, ...] = ("memory", "keystream") if stream_positions(row) else ("none",)
            found += [_time(meter, ceilings, name, workload, which, effort.tries) for which in masks]
            if not budget.left():
                budget.cut.append(f"{name}: sizes after {workload.size}")
                break
        yield found


def workloads(row: Kernel, effort: Effort) -> list[Workload]:
    """Sizes that fill a device: elements to `target_bytes`, and the largest layer of each model."""
    known = WORKLOADS[row.name]() if row.name in WORKLOADS else []
    if not known or known[0].resize is None:
        return [workload for workload in known if _model(workload) in MODELS] or known
    if row.name.endswith(("matmul", "conv1d", "sum_pool")):
        largest: dict[str, Workload] = {}
        for workload in known:
            best = largest.setdefault(_model(workload), workload)
            if workload.operations > best.operations:
                largest[_model(workload)] = workload
        filled = [_filled(largest[model], effort, clips=True) for model in MODELS if model in largest]
    else:
        filled = [_filled(known[-1], effort, clips=False)]
    square = [_square(effort.side)] if row.name == "matmul" else []
    return [*square, *filled, *(known if effort.every else ())]


def _model(workload: Workload) -> str:
    """Of "paper.conv1-b128" and "paper-b128"."""
    return re.split("[.-]", workload.size)[0]


def demand(row: str, workload: Workload, moved: int, generated: int) -> Mapping[str, float]:
    """How much of each ceiling a call needs."""
    needs: dict[str, float] = {COPY: moved, CHACHA20: generated}
    if workload.unit == KEYSTREAM and row.startswith("chacha20"):
        needs[CHACHA20] = workload.operations
    if workload.unit == MULTIPLICATIONS:
        variant = row.partition(".")[0]
        if variant in INT8_PRODUCTS:
            needs[INT8] = INT8_PRODUCTS[variant] * workload.operations
        else:
            needs[MULTIPLY_ADD] = workload.operations
    return MappingProxyType({name: amount for name, amount in needs.items() if amount})


def _time(meter: Meter, ceilings: Ceilings, name: str, workload: Workload, masks: Masks, tries: int) -> KernelTime:
    row, device = ROWS[name], meter.device
    head = {"kernel": name, "size": workload.size, "masks": masks, "unit": workload.unit}
    try:
        made = workload.make(np.random.default_rng(0))
        moved, generated = moved_bytes(row, workload, made), 0
        arguments = on_device(device, made)
        if masks == "keystream":
            arguments, generated = _with_streams(row, made, arguments)
        assert row.gpu is not None
        call = partial(row.gpu, device, *arguments)
        call()
        device.synchronize()
        timed = measure(meter, call, ceilings.busy, tries)
    except (ImportError, MemoryError, RuntimeError, ValueError) as error:
        return KernelTime(**head, reason=f"{type(error).__name__}: {error}")  # type: ignore[arg-type]
    moved -= generated
    lower, median, upper = np.percentile([on for on, _ in timed], [25, 50, 75]).tolist()
    least_s, ceiling = ceilings.bound(demand(name, workload, moved, generated))
    return KernelTime(
        **head,  # type: ignore[arg-type]
        n=len(timed),
        device_us=median,
        lower_us=lower,
        upper_us=upper,
        host_us=float(np.median([host for _, host in timed])),
        moved_bytes=moved,
        operations=workload.operations,
        ceiling=ceiling,
        fraction=round(1e6 * least_s / median, 4) if ceiling else None,
    )


def _with_streams(row: Kernel, made: Arguments, arguments: list[Any]) -> tuple[list[Any], int]:
    """The arguments with a keystream in place of every mask, and its bytes."""
    changed, generated = list(arguments), 0
    for number, position in enumerate(stream_positions(row)):
        changed[position] = Keystream(KEY, number, 0, made[position].shape)
        generated += made[position].nbytes
    return changed, generated


def _filled(workload: Workload, effort: Effort, *, clips: bool) -> Workload:
    """With as many elements, or clips up to `most_clips`, as fill the target."""
    assert workload.resize is not None
    sample = workload.resize("", 64).make(np.random.default_rng(0))
    per_element = sum(a.nbytes for a in sample if isinstance(a, np.ndarray)) / 64
    n = max(int(effort.target_bytes / per_element), 1)
    if not clips:
        return workload.resize(f"{n} elements", n)
    n = min(n, effort.most_clips)
    return workload.resize(f"{workload.size.rpartition('-b')[0]}-b{n}", n)


def _square(side: int) -> Workload:
    """(side, side) by (side, side)."""

    def make(rng: np.random.Generator) -> Arguments:
        return *(random_words(rng, side, side) for _ in range(3)), False

    return Workload(f"{side}^3", side**3, MULTIPLICATIONS, make)
