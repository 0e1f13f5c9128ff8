"""Child processes that are always ended: the roles of a demo, of a benchmark."""

from __future__ import annotations

import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Self

TERMINATE_S = 3.0
LAST_LINES = 12


class Supervised:
    """A command in a folder and a session of its own, whose lines are read, and which is ended for certain.

    Its standard input is a pipe that ends when this process does, however it dies: see `party --stop-at-eof`.
    stderr: a file, or subprocess.PIPE.
    """

    def __init__(
        self, command: Sequence[str], folder: Path, stderr: int | IO[bytes], env: Mapping[str, str] | None = None
    ) -> None:
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
            start_new_session=True,  # Ctrl-C reaches us alone, and we end the children
        )
        self._readers: list[threading.Thread] = []

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def status(self) -> int | None:
        """Exit status; None while it runs, negative if a signal ended it."""
        return self._process.poll()

    def terminate(self) -> None:
        """Ask it to end."""
        if self.status is None:
            self._process.terminate()

    def join(self, timeout_s: float) -> None:
        """Wait for it to end, then for its last lines; kill it if it does not end in time. Idempotent."""
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for reader in self._readers:
            reader.join()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()

    def _read(self, stream: IO[str] | None, work: Callable[[IO[str]], None]) -> None:
        """A thread for a stream of the process, which `work` reads to its end."""
        assert stream is not None
        self._readers.append(threading.Thread(target=work, args=(stream,), daemon=True))
        self._readers[-1].start()


class Child(Supervised):
    """`python -m sottovoce ARGUMENTS`; its standard error goes to a log and to `events`, line by line.

    prefix: words before the command, such as those that make it run in a network namespace.
    """

    def __init__(
        self,
        role: str,
        arguments: Sequence[str],
        folder: Path,
        log: Path,
        events: queue.Queue[tuple[str, str]],
        prefix: Sequence[str] = (),
    ) -> None:
        super().__init__([*prefix, sys.executable, "-m", "sottovoce", *arguments], folder, subprocess.PIPE)
        self.role = role
        self.last_lines: deque[str] = deque(maxlen=LAST_LINES)
        self._output: list[str] = []
        self._log = log
        self._events = events
        self._read(self._process.stdout, self._output.extend)
        self._read(self._process.stderr, self._follow)

    @property
    def output(self) -> str:
        """Its standard output, complete once `join` has returned."""
        return "".join(self._output)

    def _follow(self, stream: IO[str]) -> None:
        with open(self._log, "a", encoding="utf-8") as file:
            for line in stream:
                file.write(line)
                file.flush()
                self.last_lines.append(line.rstrip())
                self._events.put((self.role, line.rstrip()))


class Children:
    """The children of one run; leaving the context ends all of them."""

    def __init__(self, logs: Path) -> None:
        self.all: list[Child] = []
        self.events: queue.Queue[tuple[str, str]] = queue.Queue()
        self._logs = logs

    def start(self, role: str, arguments: Sequence[str], folder: Path, prefix: Sequence[str] = ()) -> Child:
        """Start one."""
        child = Child(role, arguments, folder, self._logs / f"{role.lower()}.log", self.events, prefix)
        self.all.append(child)
        return child

    def stop(self) -> None:
        """End every child, in the order in which they were started. Idempotent."""
        end = time.monotonic() + TERMINATE_S
        for child in self.all:
            child.terminate()
        for child in self.all:
            child.join(max(end - time.monotonic(), 0.1))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


@contextmanager
def interrupted_by_sigterm() -> Iterator[None]:
    """SIGTERM and SIGHUP act like Ctrl-C, so that what must be cleaned up is."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    kinds = [kind for kind in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(kind) is not signal.SIG_IGN]  # nohup
    before = [signal.signal(kind, interrupt) for kind in kinds]
    try:
        yield
    finally:
        for kind, handler in zip(kinds, before, strict=True):
            signal.signal(kind, handler)
