"""Starts `sottovoce` commands as forks of one process that has loaded everything: imports take seconds.

As a script: reads one JSON value per line. {"argv", "cwd", "log"}: fork, run `sottovoce ARGV` there with its standard
error in the file LOG, answer with the process id. A process id: answer with its exit status as `subprocess` gives it,
or null while it runs. The children end with the standard input.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class Nursery:
    """The process that forks; closing it ends all its children."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def start(self, argv: Sequence[str], folder: Path, log: Path) -> Forked:
        """Run `sottovoce ARGV` in a folder, with its standard error in the file `log`."""
        log.touch()
        return Forked(self, self.ask({"argv": list(argv), "cwd": str(folder), "log": str(log)}))

    def ask(self, question: object) -> Any:
        """One line there, one line back."""
        assert self._process.stdin
        assert self._process.stdout
        print(json.dumps(question), file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        """Kill what still runs."""
        self._process.communicate(timeout=30)


@dataclass(frozen=True, slots=True)
class Forked:
    """A running command."""

    nursery: Nursery
    pid: int

    def wait(self, timeout_s: float) -> int:
        """The exit status; negative: the signal that ended it. Raises TimeoutError."""
        end = time.monotonic() + timeout_s
        while (status := self.nursery.ask(self.pid)) is None:
            if time.monotonic() > end:
                raise TimeoutError(f"process {self.pid} still runs after {timeout_s:g} s")
            time.sleep(0.02)
        return int(status)

    def kill(self) -> None:
        """Also one that is frozen, or has ended."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


def main() -> None:
    """Until standard input ends."""
    import sottovoce.serving.party  # noqa: F401
    from sottovoce.cli import app
    from sottovoce.kernels.warmup import warm_up

    warm_up()
    statuses: dict[int, int | None] = {}
    for line in sys.stdin:
        question = json.loads(line)
        if isinstance(question, int):
            if statuses[question] is None and (ended := os.waitpid(question, os.WNOHANG)) != (0, 0):
                statuses[question] = os.waitstatus_to_exitcode(ended[1])
            print(json.dumps(statuses[question]), flush=True)
            continue
        pid = os.fork()
        if not pid:
            for target, path, flags in ((0, os.devnull, os.O_RDONLY), (2, question["log"], os.O_WRONLY | os.O_CREAT)):
                os.dup2(os.open(path, flags, 0o600), target)
            os.dup2(2, 1)  # standard output is for the answers
            os.chdir(question["cwd"])
            os._exit(app.main(question["argv"]))
        statuses[pid] = None
        print(pid, flush=True)
    for pid in (pid for pid, status in statuses.items() if status is None):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


if __name__ == "__main__":
    main()
