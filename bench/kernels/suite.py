"""The benchmarks that pytest collects: every kernel of the catalog, each size, on the device of --device."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from sottovoce.bench.kernels.ceilings import Bound, Ceilings
from sottovoce.bench.kernels.devices import CPU, gpu
from sottovoce.bench.kernels.sizes import KEYSTREAM, MULTIPLICATIONS, Workload, moved_bytes
from sottovoce.bench.kernels.workloads import WORKLOADS
from sottovoce.kernels import catalog
from sottovoce.kernels.catalog import Kernel

CALIBRATION_CALLS = 3
TIMERS = {
    # A kernel is serial, so its thread's CPU time is its time, and other processes cost it nothing but cache and clock.
    "cpu": pytest.mark.benchmark(timer=time.thread_time),
    "gpu": pytest.mark.benchmark(timer=time.perf_counter),
}


@dataclass(frozen=True, slots=True)
class Case:
    """One benchmark."""

    kernel: Kernel
    workload: Workload
    device: str

    @property
    def name(self) -> str:
        return f"{self.kernel.name}/{self.workload.size}/{self.device}"


def cases(glob: str, *, small: bool, device: str = "cpu") -> list[Case]:
    """All benchmarks whose kernel or name ("matmul/paper.dense-b1/cpu") matches; `small`: without the large sizes.
    device: "cpu" or "gpu"."""
    every = [
        Case(kernel, workload, device)
        for kernel in catalog.CATALOG.values()
        if fnmatchcase(kernel.name, glob.partition("/")[0])
        for workload in WORKLOADS[kernel.name]()
        if (workload.small or not small) and (device == "cpu" or kernel.gpu is not None)
    ]
    return [case for case in every if "/" not in glob or fnmatchcase(case.name, glob)]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    option = metafunc.config.getoption
    device = "cpu" if option("--device") == "cpu" else "gpu"
    chosen = cases(option("--kernels"), small=option("--small"), device=device)
    metafunc.parametrize("case", [pytest.param(case, id=case.name, marks=TIMERS[case.device]) for case in chosen])


def test_kernel(
    benchmark: BenchmarkFixture,
    case: Case,
    ceilings: Ceilings,
    rng: np.random.Generator,
    request: pytest.FixtureRequest,
) -> None:
    device = CPU if case.device == "cpu" else gpu(request.config.getoption("--device"))
    made = case.workload.make(rng)
    moved = moved_bytes(case.kernel, case.workload, made)
    arguments = device.place(made)
    call = device.function(case.kernel)

    def timed() -> None:
        call(*arguments)
        if device.wait is not None:
            device.wait()

    timed()  # compiles, or loads from the cache on disk
    benchmark.group = case.kernel.name
    benchmark.extra_info |= {
        "device": device.name,
        "bytes": moved,
        "operations": case.workload.operations,
        "unit": case.workload.unit,
    }
    repeat(benchmark, timed if device.wait is not None else partial(call, *arguments), request.config)
    if benchmark.stats is None or case.device != "cpu":  # --benchmark-disable; no ceiling of a GPU is measured
        return
    bound = least_time(case, moved, ceilings)
    fraction = bound.seconds / benchmark.stats.stats.median
    benchmark.extra_info |= {"ceiling": bound.reason, "fraction_of_ceiling": round(fraction, 4)}


def repeat(benchmark: BenchmarkFixture, timed: Callable[[], object], options: pytest.Config) -> None:
    """Rounds of pytest-benchmark's --benchmark-min-time, for --benchmark-max-time or --benchmark-min-rounds.

    How many calls make a round comes from the fastest of a few: pytest-benchmark's own calibration takes one slow
    round, on a busy machine, for a slow kernel.
    """
    seconds = min(_seconds(timed) for _ in range(CALIBRATION_CALLS))
    shortest, longest = (float(options.getoption(f"benchmark_{name}_time")) for name in ("min", "max"))
    iterations = max(1, round(shortest / seconds))
    rounds = max(int(longest / (seconds * iterations)), options.getoption("benchmark_min_rounds"))
    benchmark.pedantic(timed, rounds=rounds, iterations=iterations)  # type: ignore[no-untyped-call]  # not typed there


def _seconds(timed: Callable[[], object]) -> float:
    start = time.thread_time()
    timed()
    return time.thread_time() - start


def least_time(case: Case, moved: int, ceilings: Ceilings) -> Bound:
    """What the machine allows; for a keystream what the `cryptography` package needs, which may be beaten."""
    if case.workload.unit == KEYSTREAM:
        cipher = "ChaCha20" if case.kernel.name.startswith("chacha20") else "AES-128-CTR"
        size = case.workload.operations
        return Bound(size / ceilings.keystream(cipher, size), f"cryptography {cipher}")
    products = case.workload.operations if case.workload.unit == MULTIPLICATIONS else 0
    return ceilings.bound(moved, products)
