"""The `sottovoce` command: parse, run one command, turn errors into one line and an exit status."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import traceback

from sottovoce import __version__
from sottovoce.cli import certs, classify, dealer, demo, deploy, explain, models, party, prepare, profile, train
from sottovoce.cli.bench import command as bench
from sottovoce.cli.exits import MEANING, Exit, exit_for
from sottovoce.cli.output import printable
from sottovoce.engine.errors import SottovoceError

DEBUG_VARIABLE = "SOTTOVOCE_DEBUG"


def build_parser() -> argparse.ArgumentParser:
    """The parser with all commands."""
    parser = argparse.ArgumentParser(
        prog="sottovoce",
        description="Speech emotion recognition under secure multiparty computation: a label for the speaker alone.",
        epilog=f"{MEANING}\n{DEBUG_VARIABLE}=1 in the environment shows where an error came from.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"sottovoce {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command", required=True)
    for command in (demo, classify, explain, models, train, certs, prepare, dealer, party, deploy, bench, profile):
        command.add(commands)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one command; argv defaults to the process's own. Returns the exit status, see `exits.Exit`."""
    for stream in (sys.stdout, sys.stderr):
        # A file name or an old terminal's encoding must not end a run that has its results.
        with contextlib.suppress(AttributeError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    what = "output"
    try:
        try:
            args = build_parser().parse_args(argv)
            args.argv = sys.argv[1:] if argv is None else argv
        except SystemExit as stop:  # after --help or --version, or for a usage error that argparse has explained
            status = stop.code if isinstance(stop.code, int) else int(Exit.USAGE)
        else:
            what = args.command
            status = int(args.run(args))
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        _complain("interrupted")
        return Exit.INTERRUPTED
    except SottovoceError as error:
        _complain(f"error: {error}")
        return exit_for(error)
    except BrokenPipeError:
        # The reader of our output has gone (`| head`): say nothing, also not when Python flushes at exit.
        _drop_output()
        return Exit.SOME_FAILED
    except OSError as error:
        # A file or folder that cannot be made, read or written; what fails between peers is a TransportError.
        reason = error.strerror or str(error)
        _complain(f"error: {what}: {reason}{_place(error)}")
        return Exit.USAGE
    except Exception as error:
        _complain(f"internal error: {type(error).__name__}: {error} ({DEBUG_VARIABLE}=1 shows where)")
        return Exit.INTERNAL


def _place(error: OSError) -> str:
    """Where it failed, as far as that is known."""
    if error.filename is not None:
        return f": {printable(os.fsdecode(error.filename))}"
    try:
        sys.stdout.flush()
    except OSError:
        _drop_output()
        return ": standard output"
    return ""


def _drop_output() -> None:
    """What could not be written is not tried again when Python flushes at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(text: str) -> None:
    if os.environ.get(DEBUG_VARIABLE):
        traceback.print_exc()
    # One line, whatever a message quotes.
    sys.stderr.write(f"sottovoce: {printable(' '.join(text.split()))}\n")
    sys.stderr.flush()
