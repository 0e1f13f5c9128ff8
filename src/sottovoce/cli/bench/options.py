"""What the measuring commands share: options, progress, and what is done with the results."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sottovoce.cli.connect import positive, seconds
from sottovoce.cli.exits import Exit
from sottovoce.cli.output import ProgressMode, add_progress, remark
from sottovoce.engine.errors import ConfigError

if TYPE_CHECKING:
    from sottovoce.bench.runner import Effort, Say
    from sottovoce.bench.schema import Environment, Results, Row


def add_devices(parser: argparse.ArgumentParser) -> None:
    """--device."""
    parser.add_argument(
        "--device",
        nargs="+",
        default=["cpu"],
        metavar="D",
        help="what the parties compute with: cpu (default), cuda, cuda:N, or one for each party with commas between",
    )


def add_effort(parser: argparse.ArgumentParser, *, repeat: int, time_s: float) -> None:
    """--repeat, --seconds."""
    group = parser.add_argument_group("effort")
    group.add_argument(
        "--repeat", type=positive, default=repeat, metavar="N", help=f"requests per row (default {repeat})"
    )
    group.add_argument(
        "--seconds",
        type=seconds,
        default=time_s,
        metavar="S",
        help=f"no further request of a row once one system has used S seconds, but 3 (default {time_s:g})",
    )


def effort_of(args: argparse.Namespace) -> Effort:
    """From --repeat and --seconds."""
    from sottovoce.bench.runner import Effort

    return Effort(repeat=args.repeat, seconds=args.seconds, least=min(3, args.repeat))


def add_results(parser: argparse.ArgumentParser) -> None:
    """--out, --json, --progress."""
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="write the rows as JSON, for `bench report`, `compare`"
    )
    parser.add_argument("--json", action="store_true", help="the rows on standard output instead of tables")
    add_progress(parser)


def finish(args: argparse.Namespace, results: Results) -> bool:
    """Write --out and --json; true if tables are still to be shown."""
    from sottovoce.bench.schema import encode_results, write_results

    if args.json:
        sys.stdout.write(encode_results(results).decode())
    if args.out is not None:
        write_results(args.out, results)
        remark(f"wrote {args.out}")
    return not args.json


def started(args: argparse.Namespace) -> Environment:
    """The conditions before anything runs; a busy machine is remarked upon. Raises ConfigError for a bad --out."""
    from sottovoce.bench.environment import environment

    if args.out is not None:
        writable(args.out)
    found = environment()
    if found.load[0] > found.cores / 2:
        remark(f"note: this machine is busy (load {found.load[0]:g} on {found.cores} cores): expect scattered times")
    return found


def writable(path: Path) -> None:
    """Make the file's folder. Raises ConfigError if the file cannot be written: now rather than after an hour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise ConfigError(f"--out: expected a file that can be written, got {path}")


def status_of(rows: Sequence[Row]) -> Exit:
    """A row of ours that failed, or none that was measured, is a failure; a peer that is missing is not."""
    ours = [row for row in rows if row.system == "sottovoce"]
    failed = any(row.status == "failed" for row in ours) or all(row.status != "measured" for row in rows)
    return Exit.SOME_FAILED if failed else Exit.OK


def command_line(args: argparse.Namespace) -> str:
    """What was typed, without folders of this machine."""

    def public(word: str) -> str:
        option, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
        if not equals:
            option, value = "", word
        return f"{option}{equals}{Path(value).name if '/' in value else value}"

    return shlex.join(["sottovoce", *map(public, args.argv)])


@contextmanager
def progress(mode: ProgressMode) -> Iterator[Say]:
    """say(what, detail): on a terminal one line that changes; as lines only each new `what`; else nothing.

    Inside, SIGTERM acts like Ctrl-C: processes are ended, and temporary folders with keys and weights deleted.
    """
    from sottovoce.serving.processes import interrupted_by_sigterm

    with interrupted_by_sigterm(), _progress(mode) as say:
        yield say


@contextmanager
def _progress(mode: ProgressMode) -> Iterator[Say]:
    if mode == "bar" or (mode == "auto" and sys.stderr.isatty()):
        from rich.console import Console
        from rich.text import Text

        console = Console(file=sys.stderr, force_terminal=True)
        with console.status("") as status:
            yield lambda what, detail="": status.update(Text(f"{what}  {detail}"))
        return
    last = [""]

    def line(what: str, detail: str = "") -> None:
        if mode == "lines" and what != last[0]:
            remark(what)
            last[0] = what

    yield line


def numbers(words: Sequence[int]) -> tuple[int, ...]:
    """Sorted, each once."""
    return tuple(sorted(set(words)))
