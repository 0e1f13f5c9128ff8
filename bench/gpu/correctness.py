"""Every kernel on the device against the CPU's, in several processes: one that crashes loses one kernel."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from queue import SimpleQueue
from typing import Final

import msgspec

from sottovoce.bench.gpu.budget import Budget
from sottovoce.bench.gpu.compare import ROWS
from sottovoce.bench.gpu.schema import Checked
from sottovoce.bench.systems.process import WorkerFailed
from sottovoce.bench.systems.worker import Worker
from sottovoce.engine.structs import convert

HANG_S: Final = 180.0
"""A kernel that takes longer hangs: its checks take seconds, and compiling it for the first time some more."""
MOST_WORKERS: Final = 12


def workers() -> int:
    """Processes at a time: each compiles kernels for CPU and GPU on a core of its own."""
    return max(1, min(len(os.sched_getaffinity(0)) * 3 // 4, MOST_WORKERS))


def check_all(
    command: Sequence[str], folder: Path, budget: Budget, names: Sequence[str] = tuple(ROWS), count: int | None = None
) -> Iterator[Checked]:
    """The verdicts, in the order in which they come. command: see `check.command`; folder: takes logs."""
    pool: SimpleQueue[_Slot] = SimpleQueue()
    slots = [_Slot(command, folder, number) for number in range(min(count or workers(), len(names)))]
    for slot in slots:
        pool.put(slot)

    def check(name: str) -> Checked:
        slot = pool.get()
        try:
            return slot.check(name, budget)
        finally:
            pool.put(slot)

    executor = ThreadPoolExecutor(len(slots) or 1)
    try:
        for future in as_completed([executor.submit(check, name) for name in names]):
            found = future.result()
            if found.status == "skipped":
                budget.cut.append(f"{found.kernel}: not checked")
            yield found
    finally:
        executor.shutdown(cancel_futures=True)
        for slot in slots:
            slot.stop()


class _Slot:
    """One process at a time, started anew after a failure."""

    def __init__(self, command: Sequence[str], folder: Path, number: int) -> None:
        self._command = list(command)
        self._folder = folder
        self._name = f"checker {number}"
        self._log = folder / f"checker{number}.log"
        self._worker: Worker | None = None

    def check(self, name: str, budget: Budget) -> Checked:
        """One kernel; skipped without time."""
        limit = min(HANG_S, budget.left())
        if not limit:
            return Checked(kernel=name, status="skipped")
        try:
            if self._worker is None:
                self._worker = Worker(self._name, self._command, folder=self._folder, log=self._log)
            return convert(self._worker.ask({"kernel": name}, limit), Checked)
        except (WorkerFailed, msgspec.ValidationError, OSError) as error:
            self.stop()
            if limit < HANG_S and not budget.left():
                return Checked(kernel=name, status="skipped")
            return Checked(kernel=name, status="wrong", problem=str(error))

    def stop(self) -> None:
        """End the process."""
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.stop()
