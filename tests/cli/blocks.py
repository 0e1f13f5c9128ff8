"""Runs the code blocks of a page of the docs in order: Python in one namespace, commands inside this process."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from sottovoce.cli import main, party
from sottovoce.serving.cluster import Cluster, free_addresses

FENCE = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    """language: python, sh, pycon. info: what follows it on the fence."""

    language: str
    info: str
    text: str


def blocks_of(page: Path) -> list[Block]:
    """All fenced blocks of a page."""
    return [Block(*found) for found in FENCE.findall(page.read_text(encoding="utf-8"))]


@dataclass(slots=True)
class Shell:
    """As much of a shell as the pages need: `sottovoce …`, `… > file`, `sottovoce party … &`, `kill %1 …`.

    A cluster file that a command makes gets ports that are free.
    """

    output: list[str] = field(default_factory=list)
    _parties: list[tuple[threading.Thread, threading.Event]] = field(default_factory=list)
    _statuses: list[int] = field(default_factory=list)
    _stops: dict[int, threading.Event] = field(default_factory=dict)

    def run(self, block: Block) -> None:
        """Run the lines of a block; each must end with the status that the fence names, 0 if none."""
        expected = int(block.info.removeprefix(" status=") or 0)
        for line in block.text.replace("\\\n", " ").splitlines():
            words = shlex.split(line)
            if words[0] == "kill":
                self.stop()
            elif words[-1] == "&":
                self._start(words[1:-1])
            else:
                assert words[0] == "sottovoce", line
                self._command(line, words[1:], expected)

    def _command(self, line: str, words: list[str], expected: int) -> None:
        target = None
        if ">" in words:
            *words, _, target = words
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            status = main(words)
        assert status == expected, f"{line}: status {status}\n{out.getvalue()}"
        self.output.append(out.getvalue())
        if target is not None:
            Path(target).write_text(out.getvalue())
        if "--cluster-file" in words:
            file = Path(words[words.index("--cluster-file") + 1])
            file.write_text(Cluster(free_addresses(3)).to_toml())

    def _start(self, words: list[str]) -> None:
        """A party as a thread."""
        stop = threading.Event()

        def serve() -> None:
            self._stops[threading.get_ident()] = stop
            self._statuses.append(main(words))

        thread = threading.Thread(target=serve)
        self._parties.append((thread, stop))
        thread.start()

    def stop(self) -> None:
        """What SIGTERM does to the parties."""
        for thread, stop in self._parties:
            stop.set()
            thread.join(30)
            assert not thread.is_alive()
        assert self._statuses == [0] * len(self._parties)
        self._parties.clear()
        self._statuses.clear()

    @contextmanager
    def stopped_by_us(self, stop: threading.Event) -> Iterator[None]:
        """Takes the place of the party command's signal handlers."""
        ours = self._stops[threading.get_ident()]
        watcher = threading.Thread(target=lambda: (ours.wait(), stop.set()))
        watcher.start()
        try:
            yield
        finally:
            ours.set()
            watcher.join()


@contextmanager
def shell(monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    """A shell whose parties end with the context."""
    made = Shell()
    monkeypatch.setattr(party, "stopped_by_signals", made.stopped_by_us)
    try:
        yield made
    finally:
        made.stop()


def run_page(page: Path, commands: Shell) -> dict[str, Any]:
    """Run all python and sh blocks; returns the Python namespace. What Python prints goes to commands.output."""
    namespace: dict[str, Any] = {"__name__": "tutorial"}
    for number, block in enumerate(blocks_of(page)):
        if block.language == "sh":
            commands.run(block)
        elif block.language == "python":
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                exec(compile(block.text, f"{page.name}, block {number}", "exec", dont_inherit=True), namespace)
            commands.output.append(out.getvalue())
    return namespace
