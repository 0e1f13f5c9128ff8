"""A party's process, and the lines in which it says how long it took."""

from __future__ import annotations

import contextlib
import queue
import re
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from sottovoce.bench.systems.worker import WorkerFailed

STOP_S: Final = 3.0
LAST_CHARACTERS: Final = 200
_NUMBER: Final = r"([-+.\deE]+)"
_STOPPED: Final = re.compile(rf"Stopped timer 1 at {_NUMBER} \({_NUMBER} MB, (\d+) rounds\)")
_LABELS: Final = re.compile(r"^labels \[?([\d, ]+)\]?$")


@dataclass(frozen=True, slots=True)
class Spent:
    """What a party's timer says, summed since the start of its process."""

    seconds: float = 0.0
    megabytes: float = 0.0
    rounds: int = 0

    def since(self, before: Spent) -> Spent:
        """What was added after `before`."""
        return Spent(self.seconds - before.seconds, self.megabytes - before.megabytes, self.rounds - before.rounds)


def read_spent(line: str) -> Spent | None:
    """From the line of a timer that stops, which may follow a prompt for input; None for any other."""
    found = _STOPPED.search(line)
    return None if found is None else Spent(float(found[1]), float(found[2]), int(found[3]))


def read_labels(line: str) -> NDArray[np.int64] | None:
    """From the line of the opened labels, (batch,); None for any other."""
    found = _LABELS.match(line.rstrip())
    return None if found is None else np.array(found[1].replace(",", " ").split(), np.int64)


class Party:
    """One such process; leaving the context ends it. log: takes its standard error."""

    def __init__(self, name: str, command: Sequence[str], *, folder: Path, log: Path, env: Mapping[str, str]) -> None:
        self.spent = Spent()
        self._name = name
        self._log = log
        self._lines: queue.Queue[str | None] = queue.Queue()
        with open(log, "wb") as stderr:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                cwd=folder,
                env=env,
                text=True,
                encoding="utf-8",
                errors="replace",
                start_new_session=True,
            )
        self._reader = threading.Thread(target=self._read, name=f"read {name}", daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def tell(self, word: str) -> None:
        """A line on its standard input."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{word}\n")
            self._process.stdin.flush()
        except OSError:
            raise self._failure("the process is gone") from None

    def wait_ready(self, end: float) -> None:
        """Until its inputs are shared. end: of time.monotonic()."""
        while self._line(end).rstrip() != "ready":
            pass

    def wait_spent(self, end: float) -> Spent:
        """What the next run added."""
        while (spent := read_spent(self._line(end))) is None:
            pass
        added, self.spent = spent.since(self.spent), spent
        return added

    def wait_labels(self, end: float) -> NDArray[np.int64]:
        """The labels that the next run opened."""
        while (labels := read_labels(self._line(end))) is None:
            pass
        return labels

    def stop(self) -> None:
        """Tell it that no more inputs come, wait a little, then kill it. Idempotent."""
        assert self._process.stdin is not None and self._process.stdout is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        self._process.stdout.close()

    def _line(self, end: float) -> str:
        try:
            line = self._lines.get(timeout=max(end - time.monotonic(), 0.0))
        except queue.Empty:
            raise self._failure("no answer in time") from None
        if line is None:
            self._lines.put(None)
            raise self._failure("the process ended without an answer")
        return line

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def last_words(self) -> str:
        """The end of what it said of errors."""
        with contextlib.suppress(OSError):
            return self._log.read_text(encoding="utf-8", errors="replace").strip()[-LAST_CHARACTERS:]
        return ""

    def _failure(self, what: str) -> WorkerFailed:
        return WorkerFailed(f"{self._name}: {what}")
