"""What the commands write: progress and remarks on standard error, results on standard output."""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import IO, TYPE_CHECKING, Any, Literal

from rich.console import Console

from sottovoce import __version__
from sottovoce.engine.errors import SottovoceError

if TYPE_CHECKING:
    from rich.table import Table

    from sottovoce.engine.program import Program

ProgressMode = Literal["auto", "bar", "lines", "none"]
PROGRESS_MODES: tuple[ProgressMode, ...] = ("auto", "bar", "lines", "none")
TEXT_WIDTH = 79
"""For sentences."""
PIPE_WIDTH = 1000
"""Columns where there is no terminal: a table in a file or a pipe is never folded."""

Update = Callable[[str, int], None]
"""update(task, done)."""

INSECURE = "INSECURE: plain TCP without encryption or identities, for tests on one machine"
CALIBRATED = "CALIBRATED, not proven: ranges rest on sample data; beyond them a label is wrong without notice"
RANDOM = "RANDOM: the weights are random numbers, so the labels mean nothing"
RANDOM_SUFFIX = "-random-weights-"
"""In the name of a model with random weights. The name is public, so every role sees it."""


class Narrator:
    """Tells the user what goes on, on standard error: bars on a terminal, or one line per step ("lines")."""

    def __init__(self, mode: ProgressMode = "auto") -> None:
        self._lines = mode == "lines"
        self._bar = mode == "bar" or (mode == "auto" and sys.stderr.isatty())

    def say(self, text: str) -> None:
        """One line per step, only in mode "lines"."""
        if self._lines:
            remark(text)

    @contextmanager
    def bars(self, totals: Mapping[str, int]) -> Iterator[Update]:
        """A bar for each task with its total; they vanish when all is done."""
        if not self._bar:
            yield lambda task, done: None
            return
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        console = Console(file=sys.stderr, force_terminal=True)  # "bar" also where it is not a terminal
        with Progress(*columns, console=console, transient=True) as progress:
            tasks = {name: progress.add_task(name, total=total) for name, total in totals.items()}
            yield lambda task, done: progress.update(tasks[task], completed=done)


def marks(program: Program, *, encrypted: bool = True) -> list[str]:
    """What everybody who reads a result of this program must know."""
    found = ((INSECURE, not encrypted), (CALIBRATED, program.calibrated), (RANDOM, has_random_weights(program)))
    return [mark for mark, applies in found if applies]


def show_marks(console: Console, program: Program, *, encrypted: bool = True) -> None:
    """The marks, in lines of at most 79 characters."""
    for mark in marks(program, encrypted=encrypted):
        console.print(textwrap.fill(mark, TEXT_WIDTH), style="bold red", soft_wrap=True)


def has_random_weights(program: Program) -> bool:
    """Whether the program's name says so."""
    return RANDOM_SUFFIX in program.name


def add_progress(parser: argparse.ArgumentParser) -> None:
    """The option that chooses a Narrator's mode."""
    parser.add_argument(
        "--progress",
        choices=PROGRESS_MODES,
        default="auto",
        help="on standard error: bars (auto: on a terminal), one line per step, or nothing",
    )


def stdout_console(stream: IO[str] | None = None) -> Console:
    """For results; without a terminal wide and plain."""
    return _console(stream or sys.stdout)


def stderr_console() -> Console:
    """For everything that is not a result."""
    return _console(sys.stderr)


def remark(text: str) -> None:
    """One line on standard error, written in one piece: parties write from several threads."""
    sys.stderr.write(printable(text) + "\n")
    sys.stderr.flush()


def make_table(texts: Sequence[str], numbers: Sequence[str] = (), more_texts: Sequence[str] = ()) -> Table:
    """A table without lines; numbers to the right. On a narrow terminal cells are folded, never cut."""
    from rich.table import Table

    made = Table(box=None, pad_edge=False, header_style="dim")
    for name in texts:
        made.add_column(name, overflow="fold")
    for name in numbers:
        made.add_column(name, justify="right", overflow="fold")
    for name in more_texts:
        made.add_column(name, overflow="fold")
    return made


def write_json(value: Mapping[str, Any]) -> None:
    """One JSON object on standard output, and nothing else."""
    sys.stdout.write(json.dumps(value, indent=2, allow_nan=False) + "\n")
    sys.stdout.flush()


def error_json(error: Exception) -> dict[str, str]:
    """An error as it stands in every JSON object of the command line."""
    return {"type": type(error).__name__, "message": str(error)}


def errors_as_json(run: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    """For a command's `run`: with --json, what it raises before it has written its result is an object too."""

    @wraps(run)
    def wrapped(args: argparse.Namespace) -> int:
        try:
            return run(args)
        except SottovoceError as error:
            if args.json:
                write_json({"version": __version__, "error": error_json(error)})
            raise

    return wrapped


def printable(text: str) -> str:
    """Names come from anywhere: what could steer a terminal, or cannot be encoded, is shown as an escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def milliseconds(value: float) -> str:
    """A duration, short."""
    return f"{value / 1000:.2f} s" if value >= 1000 else f"{value:.1f} ms" if value < 100 else f"{value:.0f} ms"


def count(number: int, what: str) -> str:
    """1 clip, 2 clips, 1,440 clips."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def offline_lines(offline_ms: float | None, offline_bytes: Sequence[int]) -> list[str]:
    """What preparing a request's material took, headed `offline`; nothing where nothing is prepared."""
    if not offline_bytes:
        return []
    took = "time not recorded" if offline_ms is None else milliseconds(offline_ms)
    return [
        f"offline   {took}: prepared before, not in online",
        f"          the material alone: {per_party(offline_bytes)} bytes",
    ]


def labelled(label: str, text: str) -> str:
    """A text behind its label, in lines of at most 79 characters."""
    return textwrap.fill(text, TEXT_WIDTH, initial_indent=f"{label:10}", subsequent_indent=" " * 10)


def per_party(values: Sequence[int]) -> str:
    """P0 1,234  P1 …, and their mean."""
    ranks = "  ".join(f"P{rank} {value:,}" for rank, value in enumerate(values))
    return f"{ranks}  (mean {sum(values) / len(values):,.0f})"


def _console(stream: IO[str]) -> Console:
    terminal = stream.isatty()
    return Console(file=stream, width=None if terminal else PIPE_WIDTH, highlight=False, markup=False, emoji=False)
