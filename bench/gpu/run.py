"""The parts of `sottovoce bench gpu` in their order, each with its part of the time; every step is written at once."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Final, get_args

import msgspec

from sottovoce.bench.gpu import end_to_end, micro, timings
from sottovoce.bench.gpu.budget import Budget, Clock
from sottovoce.bench.gpu.ceilings import Ceilings
from sottovoce.bench.gpu.check import command
from sottovoce.bench.gpu.correctness import check_all, workers
from sottovoce.bench.gpu.sanitizers import TOOLS, sanitize
from sottovoce.bench.gpu.schema import Gpu, GpuReport, Part, PartName
from sottovoce.bench.kernels.devices import CudaMeter, Meter
from sottovoce.bench.runner import Say, quiet
from sottovoce.bench.schema import Environment, Results, write_results
from sottovoce.engine.errors import SottovoceError

PARTS: Final[tuple[PartName, ...]] = get_args(PartName)
SECONDS: Final[Mapping[PartName, float]] = MappingProxyType(
    {"correctness": 1200.0, "kernels": 900.0, "end-to-end": 3600.0}
)
QUICK_SECONDS: Final[Mapping[PartName, float]] = MappingProxyType(
    {"correctness": 170.0, "kernels": 90.0, "end-to-end": 220.0}
)
"""480 s in all: what is under way when the time is up is still ended, within the ninth minute."""
SANITIZERS: Final = 0.3
"""Of the time of correctness, at most."""
MOST_SANITIZED: Final = 4
"""Processes of compute-sanitizer at a time: each keeps shadows of its memory on the device."""


@dataclass
class Report:
    """What is known so far. write: called after every change."""

    results: Results
    write: Callable[[Results], None]

    @property
    def gpu(self) -> GpuReport:
        """The part of the results that is not rows."""
        assert self.results.gpu is not None
        return self.results.gpu

    def add(self, **more: Sequence[object]) -> None:
        """Lengthen fields of the GPU's report; `rows` are the results' own."""
        rows = (*self.results.rows, *more.pop("rows", ()))
        longer = {name: (*getattr(self.gpu, name), *values) for name, values in more.items()}
        self._set(rows=rows, gpu=msgspec.structs.replace(self.gpu, **longer))

    def set_part(self, part: Part) -> None:
        """The last part's new state."""
        others = tuple(known for known in self.gpu.parts if known.name != part.name)
        self._set(gpu=msgspec.structs.replace(self.gpu, parts=(*others, part)))

    def wrong(self) -> list[str]:
        """What is not as it should be: kernels, what a sanitizer found, parts that ended early, rows that failed."""
        report = self.gpu
        found = [f"{row.kernel}: {row.problem}" for row in report.checked if row.status == "wrong"]
        found += [f"{row.tool}: {row.reason}" for row in report.sanitized if row.status == "errors"]
        found += [f"{part.name}: {part.reason}" for part in report.parts if part.reason]
        failed = [row for row in self.results.rows if row.system == "sottovoce" and row.status == "failed"]
        return [*found, *(f"{r.model} {r.protocol} on {r.device}, batch {r.batch}: {r.reason}" for r in failed)]

    def _set(self, **changed: object) -> None:
        self.results = msgspec.structs.replace(self.results, **changed)
        self.write(self.results)


Work = Callable[[Report, Budget], None]
"""A part: adds to the report what it finds, and to the budget's `cut` what it leaves out."""


def run_gpu(
    parts: Sequence[PartName],
    number: int,
    folder: Path,
    environment: Environment,
    words: str,
    *,
    quick: bool = False,
    say: Say = quiet,
    meter: Callable[[], Meter] | None = None,
) -> tuple[Report, Path]:
    """Measure the CUDA device of that number. The results, and the file in `folder` that has them. words: as typed.

    Exceptions of CUDA are RuntimeErrors. meter: makes what measures; tests have one without a GPU.
    """
    measuring = meter() if meter is not None else CudaMeter(number, micro.text)
    facts = measuring.facts()
    path = folder / file_name(facts, environment)
    environment = msgspec.structs.replace(environment, device=facts.name)
    results = Results(kind="gpu", command=words, environment=environment, gpu=GpuReport(gpu=facts))
    report = Report(results, partial(write_results, path))
    work: Mapping[PartName, Work] = {
        "correctness": partial(correctness, number=number, quick=quick, say=say),
        "kernels": partial(kernels, meter=measuring, quick=quick, say=say),
        "end-to-end": partial(requests, number=number, count=facts.devices, quick=quick, say=say),
    }
    run_parts(report, {name: work[name] for name in PARTS if name in parts}, QUICK_SECONDS if quick else SECONDS)
    return report, path


def run_parts(
    report: Report, parts: Mapping[PartName, Work], seconds: Mapping[PartName, float], clock: Clock | None = None
) -> None:
    """One part after the other; what one does not use is for those after it. A part that an error of the device ends
    is left unfinished, with the reason."""
    total = Budget(sum(seconds[name] for name in parts), *([clock] if clock else []))
    shares = [seconds[name] for name in parts]
    for done, (name, work) in enumerate(parts.items()):
        budget = total.part(total.left() * shares[done] / sum(shares[done:]))
        part = Part(name=name, budget_s=round(budget.seconds, 1), took_s=0.0, finished=False)
        report.set_part(part)
        finished, reason = False, ""
        try:
            work(report, budget)
            finished = True
        except (RuntimeError, MemoryError, ImportError, SottovoceError) as error:
            reason = f"{type(error).__name__}: {error}"
        finally:
            took_s, cut = round(budget.spent(), 1), tuple(budget.cut)
            report.set_part(msgspec.structs.replace(part, took_s=took_s, finished=finished, cut=cut, reason=reason))


def correctness(report: Report, budget: Budget, *, number: int, quick: bool, say: Say) -> None:
    """Every kernel against the CPU's, then under the sanitizers."""
    with tempfile.TemporaryDirectory(prefix="sottovoce-gpu-") as scratch:
        folder = Path(scratch)
        comparing = budget.part(budget.left() * (1 - SANITIZERS))
        with comparing.within(budget):
            for found in check_all(command(number, quick=quick), folder, comparing):
                say("kernels against the CPU's", f"{found.kernel}: {found.status}")
                report.add(checked=(found,))
        for tool, mine in budget.shared(TOOLS):
            say(f"compute-sanitizer {tool}")
            with mine.within(budget):
                many = min(workers(), MOST_SANITIZED)
                report.add(sanitized=(sanitize(tool, command(number, small=True), folder, mine, many),))


def kernels(report: Report, budget: Budget, *, meter: Meter, quick: bool, say: Say) -> None:
    """The device's ceilings, then every kernel beside them."""
    say("the device's ceilings")
    ceilings = Ceilings(meter)
    report.add(ceilings=ceilings.all)
    effort = timings.QUICK if quick else timings.Effort()
    for found in timings.time_kernels(meter, ceilings, effort, budget):
        if found:
            say("kernels on the device", found[0].kernel)
            report.add(kernels=found)
    meter.release()


def requests(report: Report, budget: Budget, *, number: int, count: int, quick: bool, say: Say) -> None:
    """Parties on the device, beside parties on the CPU."""
    grid = end_to_end.QUICK if quick else end_to_end.Grid()
    for rows in end_to_end.measure(grid, number, count, budget, say=say):
        report.add(rows=rows)


def file_name(facts: Gpu, environment: Environment) -> str:
    """By device and commit: `nvidia-h100-80gb-hbm3-1a2b3c4d5e.json`."""
    device = re.sub(r"[^a-z0-9]+", "-", facts.name.lower()).strip("-")
    commit = environment.commit[:10] or environment.sottovoce
    return f"{device}-{commit}{'-changed' if environment.dirty else ''}.json"
