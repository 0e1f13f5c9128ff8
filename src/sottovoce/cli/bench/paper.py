"""`sottovoce bench paper`: the paper's tables, measured here, beside its own figures."""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path
from typing import TYPE_CHECKING

from sottovoce.cli.bench.options import (
    add_devices,
    add_results,
    command_line,
    finish,
    progress,
    started,
    status_of,
)
from sottovoce.cli.connect import Subparsers
from sottovoce.cli.output import errors_as_json, stdout_console

if TYPE_CHECKING:
    from sottovoce.bench.paper import Requirement
    from sottovoce.bench.runner import Say
    from sottovoce.bench.schema import Results, Row

SECONDS_QUICK = 4.0
SECONDS = 8.0


def add(words: Subparsers) -> None:
    """Declare the command."""
    parser = words.add_parser(
        "paper",
        help="the paper's tables of time, rounds, bytes and accuracy",
        description="Run every protocol for one clip with a process for each party, and print the paper's table beside "
        "its own figures (docs/paper.md). The full command takes many minutes, --quick about one.",
    )
    parser.add_argument("--quick", action="store_true", help="only the model and the batch of the paper's table")
    parser.add_argument(
        "--reference", type=Path, metavar="FILE", help="published figures (TOML); default: paper_reference.toml here"
    )
    parser.add_argument(
        "--accuracy",
        type=Path,
        metavar="FEATURES",
        help="train and count anew on a file of features (needs the extra `train`); default: the stored counts",
    )
    parser.add_argument("--no-accuracy", action="store_true", help="without the accuracy table")
    add_devices(parser)
    add_results(parser)
    parser.set_defaults(run=run)


@errors_as_json
def run(args: argparse.Namespace) -> int:
    """Measure and print."""
    from sottovoce.bench.paper import clear_rows, requirements
    from sottovoce.bench.paper_reference import load_references
    from sottovoce.bench.schema import Results
    from sottovoce.models.zoo import build

    references = load_references(args.reference)
    where = started(args)
    with progress(args.progress) as say:
        seconds = SECONDS_QUICK if args.quick else SECONDS
        rows = measure(requirements(args.quick), seconds, say, tuple(args.device))
        status = status_of(rows)
        say("the same network in the clear")
        rows += clear_rows(build("paper"))
        counted = _accuracy(args, say)
    results = Results(
        kind="paper",
        command=command_line(args),
        environment=where,
        rows=tuple(rows),
        accuracy=() if counted is None or args.accuracy is None else counted.accuracy,
    )
    if finish(args, results):
        from sottovoce.bench.paper_tables import accuracy_table, timing_table

        console = stdout_console()
        console.print(timing_table(results, references).to_rich())
        if counted is not None:
            console.print()
            console.print(accuracy_table(counted, references, stored=args.accuracy is None).to_rich())
    return status


def measure(wanted: list[Requirement], time_s: float, say: Say, devices: tuple[str, ...] = ("cpu",)) -> list[Row]:
    """What is on one model and network runs in one session."""
    from sottovoce.bench.runner import Effort, Plan, run_plan

    rows: list[Row] = []
    for (model, network, repeat), group in itertools.groupby(wanted, lambda r: (r.model, r.network, r.repeat)):
        members = list(group)
        batches = tuple(dict.fromkeys(r.batch for r in members))
        protocols = tuple(dict.fromkeys(r.protocol for r in members))
        effort = Effort(repeat=repeat, seconds=time_s, least=min(3, repeat))
        rows += run_plan(Plan(model, batches, protocols, network, devices=devices), effort, say=say)
    return rows


def _accuracy(args: argparse.Namespace, say: Say) -> Results | None:
    if args.no_accuracy:
        return None
    if args.accuracy is None:
        from sottovoce.bench.paper_tables import stored_accuracy

        return stored_accuracy()
    from sottovoce.cli.bench.accuracy import count

    return count(args, args.accuracy, say)
