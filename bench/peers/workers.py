"""One process per party of a peer, asked with JSON lines over standard input and output.

What a process writes to standard error goes into a log in the scratch folder. However the context is left, also by an
error, every process and its children are ended.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Final

import msgspec

from sottovoce.engine.errors import DeadlineError, PeerClosedError, ProtocolError
from sottovoce.engine.structs import parse_json

CLOSED_S: Final = 5.0
LINE_LIMIT: Final = 1 << 20
REASON_LIMIT: Final = 200


@contextmanager
def start_workers(
    name: str, commands: Sequence[Sequence[str]], scratch: Path, environment: Mapping[str, str]
) -> Iterator[Workers]:
    """Run one command per party, by rank. Logs are `scratch/party-<rank>.log`. Raises PeerClosedError if one cannot."""
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for rank, command in enumerate(commands):
            with open(scratch / f"party-{rank}.log", "wb") as log:
                try:
                    # A session of its own: it ends with its children, and Ctrl-C reaches us alone.
                    process = subprocess.Popen(
                        command,
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        stderr=log,
                        env=environment,
                        start_new_session=True,
                    )
                except OSError as error:
                    raise PeerClosedError(f"{name}: P{rank} could not be started: {error.strerror}") from None
            processes.append(process)
        yield Workers(name, processes, scratch)
    finally:
        _end(processes)


class Workers:
    """The running processes. Made by `start_workers`."""

    def __init__(self, name: str, processes: Sequence[subprocess.Popen[bytes]], scratch: Path) -> None:
        self._name = name
        self._processes = processes
        self._scratch = scratch
        self._pending = [b""] * len(processes)

    def ask(self, messages: Sequence[Mapping[str, object]], timeout_s: float) -> list[dict[str, Any]]:
        """Send each party its message and return the answers, by rank.

        Raises PeerClosedError, with the last line of its log, for a process that has ended; DeadlineError if an answer
        is not there in time; ProtocolError for one that is not a JSON object. The others are then in no known state.
        """
        deadline = time.monotonic() + timeout_s
        for rank, (process, message) in enumerate(zip(self._processes, messages, strict=True)):
            try:
                _pipe(process.stdin).write(msgspec.json.encode(message) + b"\n")
                _pipe(process.stdin).flush()
            except OSError:
                raise self._ended(rank) from None
        answers: dict[int, dict[str, Any]] = {}
        with selectors.DefaultSelector() as selector:
            for rank, process in enumerate(self._processes):
                selector.register(_pipe(process.stdout), selectors.EVENT_READ, rank)
            while len(answers) < len(self._processes):
                ready = selector.select(max(0.0, deadline - time.monotonic()))
                if not ready:
                    missing = ", ".join(f"P{r}" for r in range(len(self._processes)) if r not in answers)
                    raise DeadlineError(f"{self._name}: no answer within {timeout_s:g} s from {missing}")
                for key, _ in ready:
                    answer = self._read(key.data, os.read(key.fd, 1 << 16))
                    if answer is not None:
                        answers[key.data] = answer
                        selector.unregister(key.fileobj)
        return [answers[rank] for rank in range(len(self._processes))]

    def _read(self, rank: int, data: bytes) -> dict[str, Any] | None:
        if not data:
            raise self._ended(rank)
        line, end, rest = (self._pending[rank] + data).partition(b"\n")
        if len(line) > LINE_LIMIT or rest:
            raise ProtocolError(f"{self._name}: P{rank}: expected one line of at most {LINE_LIMIT} bytes, got more")
        if not end:
            self._pending[rank] = line
            return None
        self._pending[rank] = b""
        try:
            return parse_json(line, dict[str, Any])
        except msgspec.MsgspecError:
            raise ProtocolError(f"{self._name}: P{rank}: expected a JSON object, got something else") from None

    def _ended(self, rank: int) -> PeerClosedError:
        try:
            status: object = self._processes[rank].wait(CLOSED_S)
        except subprocess.TimeoutExpired:
            status = "none: it only closed its output"
        lines = (self._scratch / f"party-{rank}.log").read_text(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "nothing")
        return PeerClosedError(f"{self._name}: P{rank} ended, status {status}; its last words: {last[:REASON_LIMIT]}")


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """At once: they hold nothing that is wanted."""
    for process in processes:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        _pipe(process.stdout).close()
        with suppress(OSError):  # what it did not read
            _pipe(process.stdin).close()


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None
    return stream
