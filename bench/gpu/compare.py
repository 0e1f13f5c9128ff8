"""Kernels on a device against the CPU's, bit for bit: sizes, seeds and keystreams beyond the catalog's samples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from sottovoce.bench.gpu.schema import Checked
from sottovoce.bench.gpu.twin import NO_STREAMS, MismatchError, Reference, Streams, run_both, with_keystreams
from sottovoce.bench.kernels.workloads import WORKLOADS
from sottovoce.kernels.catalog import CATALOG, Arguments, Kernel
from sottovoce.kernels.gpu.device import Device
from sottovoce.kernels.gpu.tensor.choose import VARIANTS
from sottovoce.kernels.samples import ring_array

REFERENCE_SEED = 0
"""Big integers are slow: of one seed only."""


@dataclass(frozen=True, slots=True)
class Effort:
    """seeds: of the catalog's samples. sizes: random sizes of each workload's, `most_bytes` or less. step: every how
    many samples one is taken; above 1 random sizes and big integers are left out too, for slow tools."""

    seeds: int = 4
    sizes: int = 3
    most_bytes: int = 8 << 20
    step: int = 1


QUICK = Effort(seeds=2, sizes=2, most_bytes=2 << 20)
SMALL = Effort(seeds=1, sizes=0, step=4)


def _rows() -> Mapping[str, Kernel]:
    rows = {name: row for name, row in CATALOG.items() if row.gpu is not None}
    for variant, launchers in VARIANTS.items():
        rows[f"{variant}.matmul"] = replace(CATALOG["matmul"], gpu=launchers.matmul)
        rows[f"{variant}.conv1d"] = replace(CATALOG["conv1d"], gpu=launchers.conv1d)
    return MappingProxyType(rows)


ROWS = _rows()
"""Every kernel with a twin, and every variant of the products; by name."""


def check_row(
    name: str, device: Device, effort: Effort, references: Mapping[str, Reference] | None = None, seed: int = 0
) -> Checked:
    """All comparisons of a row, up to the first that fails. Errors of the device other than a wrong result pass."""
    row = ROWS[name]
    counted = _Counts(row, device)
    reference = (references or {}).get(row.name) if effort.step == 1 else None
    try:
        for number in range(effort.seeds):
            big = reference if number == REFERENCE_SEED else None
            for index, sample in enumerate(row.samples(np.random.default_rng(seed + number))[:: effort.step]):
                counted.check(sample, index, f"seed {seed + number}, sample {index}", big)
        for index, (where, sample) in enumerate(larger(row.name, effort, np.random.default_rng(seed))):
            counted.check(sample, index, where)
    except MismatchError as problem:
        return counted.checked(name, str(problem))
    return counted.checked(name)


def larger(name: str, effort: Effort, rng: np.random.Generator) -> Iterator[tuple[str, Arguments]]:
    """Arguments of random numbers of elements or clips, from 1 to as many as `most_bytes` hold, evenly by magnitude."""
    if name in ("matmul", "conv1d") and effort.sizes:
        for _ in range(effort.sizes):
            yield "random shape", (_random_matmul(rng) if name == "matmul" else _random_conv1d(rng))
    workloads = WORKLOADS[name]() if name in WORKLOADS else []
    for workload in workloads[:: max(len(workloads) // 4, 1)] if effort.sizes else ():
        if workload.resize is None:
            if workload.small:
                yield workload.size, workload.make(rng)
            continue
        per_element = _bytes(workload.resize("", 64).make(rng)) / 64
        most = max(effort.most_bytes / per_element, 1.0)
        for _ in range(effort.sizes):
            n = int(np.exp(rng.uniform(0, np.log(most))))
            yield f"{workload.size}, resized to {n}", workload.resize("", n).make(rng)


@dataclass
class _Counts:
    """Comparisons of a row on a device, counted."""

    row: Kernel
    device: Device
    calls: int = 0
    streams: int = 0
    references: int = 0

    def check(self, sample: Arguments, number: int, where: str, reference: Reference | None = None) -> None:
        """Arrays, then keystreams. Raises MismatchError."""
        self._run(sample, where, reference=reference)
        self.references += reference is not None
        for replaced, arguments, streams in with_keystreams(self.row, sample, number):
            self.streams += 1
            self._run(arguments, f"{where}, {replaced}", streams)

    def checked(self, kernel: str, problem: str = "") -> Checked:
        return Checked(
            kernel=kernel, status="wrong" if problem else "equal", calls=self.calls, streams=self.streams,
            references=self.references, problem=problem,
        )  # fmt: skip

    def _run(
        self, arguments: Arguments, where: str, streams: Streams = NO_STREAMS, reference: Reference | None = None
    ) -> None:
        self.calls += 1
        run_both(self.row, self.device, arguments, where, streams, reference)


def _bytes(arguments: Arguments) -> int:
    return sum(a.nbytes for a in arguments if isinstance(a, np.ndarray))


def _random_matmul(rng: np.random.Generator) -> Arguments:
    rows, inner, columns = (int(n) for n in np.exp(rng.uniform(0, np.log((300, 2000, 200)))))
    arrays = (ring_array(rng, shape) for shape in ((rows, inner), (inner, columns), (rows, columns)))
    return *arrays, bool(rng.integers(2))


def _random_conv1d(rng: np.random.Generator) -> Arguments:
    batch, channels, columns, time = (int(n) for n in np.exp(rng.uniform(0, np.log((9, 70, 70, 90)))))
    groups, taps, stride, dilation = (int(n) for n in rng.integers(1, (4, 8, 4, 4)))
    pad_left = int(rng.integers(0, taps * dilation))
    time_out = int(rng.integers(1, time + 2))
    shapes = ((batch, groups * channels, time), (groups, taps, channels, columns), (batch, groups * columns, time_out))
    return *(ring_array(rng, shape) for shape in shapes), stride, pad_left, dilation, groups, bool(rng.integers(2))
