"""A process that answers JSON lines on its standard output, one for each on its standard input."""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from sottovoce.engine.errors import SottovoceError

STOP_S: Final = 3.0
LAST_CHARACTERS: Final = 400


class WorkerFailed(SottovoceError):
    """A process under test ended, froze, or answered something else than JSON."""


class Worker:
    """One such process. It must end when its standard input does; leaving the context ends it in any case.

    log: takes its standard error; the end of it is in the messages of WorkerFailed.
    """

    def __init__(
        self, name: str, command: Sequence[str], *, folder: Path, log: Path, env: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self._log = log
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._failed = False
        with open(log, "ab") as stderr:
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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def tell(self, message: Mapping[str, Any]) -> None:
        """Write one line."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
        except OSError:
            raise self._failure("the process is gone", self._last_words()) from None

    def hear(self, deadline_s: float) -> dict[str, Any]:
        """The next line. Raises WorkerFailed if none comes in time or it is {"error": …}."""
        try:
            line = self._lines.get(timeout=deadline_s)
        except queue.Empty:
            raise self._failure(f"no answer in {deadline_s:g} s", self._last_words()) from None
        if line is None:
            self._lines.put(None)
            raise self._failure("the process ended without an answer", self._last_words())
        try:
            answer = json.loads(line)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise self._failure("expected a JSON object, got other text")
        if "error" in answer:
            raise self._failure(str(answer["error"])[:LAST_CHARACTERS])
        return answer

    def ask(self, message: Mapping[str, Any], deadline_s: float) -> dict[str, Any]:
        """One line there, one back."""
        self.tell(message)
        return self.hear(deadline_s)

    def stop(self) -> None:
        """End its standard input, wait a little unless it has failed, then kill it. Idempotent."""
        assert self._process.stdin is not None and self._process.stdout is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(0 if self._failed else STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def _failure(self, what: str, more: str = "") -> WorkerFailed:
        self._failed = True
        return WorkerFailed(f"{self.name}: {what}{more}")

    def _last_words(self) -> str:
        with contextlib.suppress(OSError):
            text = self._log.read_text(encoding="utf-8", errors="replace").strip()
            if text:
                return f"; its last words: {text[-LAST_CHARACTERS:]}"
        return ""
