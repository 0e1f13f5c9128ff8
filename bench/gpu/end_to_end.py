"""Whole requests: parties on one GPU, on one each where there are several, and on the CPU, asked in turn.

CrypTen stands beside them where the Python that runs has it and sees the GPU. What would take longer than the time that
is left is not asked, and its row says so.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

from sottovoce.bench.gpu.budget import Budget
from sottovoce.bench.peers import crypten
from sottovoce.bench.runner import Effort, Plan, Say, quiet, run_plan
from sottovoce.bench.schema import Row
from sottovoce.bench.systems.base import Description, Job, Running, Sample, System
from sottovoce.engine.errors import ConfigError
from sottovoce.engine.protocols.table import PROTOCOLS, find

MODELS: Final = ("paper", "medium", "frames")
ANSWER_S: Final = 120.0
Runner = Callable[..., list[Row]]


FULL: Final = Effort(repeat=20, seconds=10.0, least=3, warm_ups=2)


@dataclass(frozen=True, slots=True)
class Grid:
    """What is asked. effort.seconds: of one batch size; a batch that is slow is asked `effort.least` times."""

    models: tuple[str, ...] = MODELS
    protocols: tuple[str, ...] = tuple(PROTOCOLS)
    batches: tuple[int, ...] = (1, 8, 64, 512, 2048, 8192)
    effort: Effort = FULL


QUICK: Final = Grid(batches=(1, 64, 1024, 8192), effort=Effort(repeat=10, seconds=1.5, least=2, warm_ups=1))


def devices_for(parties: int, number: int, count: int) -> tuple[str, ...]:
    """Where parties are put on a machine with `count` GPUs: all on one, one each if there are as many, on the CPU."""
    each = (",".join(f"cuda:{(number + rank) % count}" for rank in range(parties)),) if 1 < parties <= count else ()
    return (f"cuda:{number}", *each, "cpu")


def measure(
    grid: Grid, number: int, count: int, budget: Budget, *, say: Say = quiet, run: Runner = run_plan
) -> Iterator[list[Row]]:
    """The rows of one model and protocol after the other; each pair gets an even part of the time that is left."""
    plans = [(model, protocol) for protocol in grid.protocols for model in grid.models]
    for (model, protocol), mine in budget.shared(plans):
        if not mine.left():
            budget.cut.append(f"{model} {protocol}: no time left")
            continue
        parties = find(protocol).parties
        plan = Plan(model, grid.batches, (protocol,), devices=devices_for(parties, number, count))
        peers = [CrypTen(number)] if protocol == grid.protocols[0] else []
        with mine.within(budget):
            yield run(plan, grid.effort, peers=peers, say=say, wrap=lambda system, b=mine: Bounded(system, b))


class Bounded:
    """A `System` that refuses, with a ConfigError, a batch for which there is no time: see `Running.prepare`."""

    def __init__(self, system: System, budget: Budget) -> None:
        self._system = system
        self._budget = budget
        self.name = system.name

    def describe(self) -> Description:
        """See System."""
        return self._system.describe()

    @contextmanager
    def start(self, job: Job) -> Iterator[Running]:
        """See System. Material is prepared for one batch size at a time: a later one may never be asked."""
        job = replace(job, batches=()) if self.describe().preprocessing else job
        with self._system.start(job) as running:
            yield _Bounded(self.name, running, self._budget)


class _Bounded:
    """See Running. It expects a batch to take as long per clip as the last one did, material included, and
    preparation to begin as slowly as the last time."""

    def __init__(self, name: str, running: Running, budget: Budget) -> None:
        self._name = name
        self._running = running
        self._budget = budget
        self._clip_s = self._material_clip_s = self._prepared_s = 0.0
        self._prepared_clips = 0

    def prepare(self, batch: int, least: int, most: int) -> int:
        """See Running. Prepares for no more requests than there is time for."""
        left_s = self._budget.left()
        fixed_s = max(self._prepared_s - self._prepared_clips * self._material_clip_s, 0.0)
        request_s = batch * (self._clip_s + self._material_clip_s)
        if (expected_s := fixed_s + least * request_s) >= left_s:
            cut = f"batch {batch}: expected to take {expected_s:.0f} s, {left_s:.0f} s are left"
            self._budget.cut.append(f"{self._name}, {cut}")
            raise ConfigError(f"not measured from {cut}")
        affordable = max(least, min(most, int((left_s - fixed_s) / request_s))) if request_s else most
        before = self._budget.spent()
        ready = self._running.prepare(batch, least, affordable)
        self._prepared_s, self._prepared_clips = self._budget.spent() - before, batch * ready
        return ready

    def run(self, batch: int) -> Sample:
        """See Running."""
        before = self._budget.spent()
        sample = self._running.run(batch)
        self._clip_s = (self._budget.spent() - before) / batch
        self._material_clip_s = (sample.offline_ms or 0.0) / 1e3 / batch
        return sample

    def memory_mb(self) -> tuple[float, ...]:
        """See Running."""
        return self._running.memory_mb()


class CrypTen:
    """CrypTen on the same GPU, with the Python that runs; its `describe` says why not."""

    def __init__(self, number: int) -> None:
        self._peer = crypten.system(device=f"cuda:{number}", python=sys.executable)
        self.name = self._peer.name

    def describe(self) -> Description:
        """See System. Raises ConfigError where CrypTen or its GPU is missing."""
        try:
            found = self._peer.describe()
        except ConfigError:
            raise ConfigError("crypten: the Python that runs does not have it") from None
        code = "import torch; print(torch.cuda.is_available())"
        try:
            asked = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, timeout=ANSWER_S)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ConfigError(f"crypten: torch does not answer: {error}") from None
        if asked.stdout.strip() != "True":
            raise ConfigError("crypten: torch is not importable, or sees no GPU")
        return found

    @contextmanager
    def start(self, job: Job) -> Iterator[Running]:
        """See System."""
        with self._peer.start(job) as running:
            yield running
