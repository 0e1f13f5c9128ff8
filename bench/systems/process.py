"""A process under test that is told lines on its standard input and answers in lines on its standard output."""

from __future__ import annotations

import contextlib
import queue
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

from sottovoce.engine.errors import SottovoceError
from sottovoce.serving.processes import Supervised

STOP_S: Final = 3.0


class WorkerFailed(SottovoceError):
    """A process under test ended, froze, or answered something that it should not."""


class Process(Supervised):
    """One such process. It must end when its standard input does; leaving the context ends it in any case.

    log: takes its standard error, from the start of the file.
    """

    def __init__(
        self, name: str, command: Sequence[str], *, folder: Path, log: Path, env: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self._log = log
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._failed = False
        with open(log, "wb") as stderr:
            super().__init__(command, folder, stderr, env)
        self._read(self._process.stdout, self._queue)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def write_line(self, text: str) -> None:
        """One line on its standard input. Raises WorkerFailed if nobody reads it."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{text}\n")
            self._process.stdin.flush()
        except OSError:
            raise self.failure("the process is gone") from None

    def read_line(self, end: float, late: str = "no answer in time") -> str:
        """The next line. Raises WorkerFailed if none comes: `late` is said when `end`, of time.monotonic(), is past."""
        try:
            line = self._lines.get(timeout=max(end - time.monotonic(), 0.0))
        except queue.Empty:
            raise self.failure(late) from None
        if line is None:
            self._lines.put(None)
            raise self.failure("the process ended without an answer")
        return line

    def stop(self) -> None:
        """End its standard input, wait a little unless it has failed, then kill it. Idempotent."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self.join(0 if self._failed else STOP_S)

    def last_words(self, characters: int) -> str:
        """The end of what it wrote to its log."""
        with contextlib.suppress(OSError):
            return self._log.read_text(encoding="utf-8", errors="replace").strip()[-characters:]
        return ""

    def failure(self, what: str) -> WorkerFailed:
        """An error that names the process, which is then not waited for."""
        self._failed = True
        return WorkerFailed(f"{self.name}: {what}")

    def _queue(self, stream: IO[str]) -> None:
        for line in stream:
            self._lines.put(line)
        self._lines.put(None)
