"""`sottovoce bench accuracy`: are labels as good under MPC as in the clear? Networks are trained, then counted."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from sottovoce.cli.bench.options import add_results, command_line, finish, progress, started
from sottovoce.cli.connect import Subparsers
from sottovoce.cli.exits import Exit
from sottovoce.cli.output import errors_as_json, stdout_console

if TYPE_CHECKING:
    from sottovoce.bench.runner import Say
    from sottovoce.bench.schema import Results

SEEDS = (0, 1, 2, 3, 4)


def add(words: Subparsers) -> None:
    """Declare the command."""
    parser = words.add_parser(
        "accuracy",
        help="labels in floating point, in fixed point, under MPC; random split and by speaker",
        description="Train the model as `sottovoce train` does, for both splits and every seed, and label all test "
        "rows three ways. Needs the extra `train`; minutes for each network.",
    )
    parser.add_argument("data", type=Path, metavar="FEATURES", help="an npz file of features (docs/training.md)")
    parser.add_argument("--model", default="paper", metavar="M", help="a name of the zoo (default paper)")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS), metavar="N", help="default 0 1 2 3 4")
    add_results(parser)
    parser.set_defaults(run=run)


@errors_as_json
def run(args: argparse.Namespace) -> int:
    """Train, count and print."""
    from sottovoce.bench.paper_reference import load_references
    from sottovoce.bench.paper_tables import accuracy_table

    with progress(args.progress) as say:
        results = count(args, args.data, say, args.model, args.seeds)
    if finish(args, results):
        table = accuracy_table(results, load_references(None), stored=False, model=args.model)
        stdout_console().print(table.to_rich())
    return Exit.OK


def count(
    args: argparse.Namespace, data: Path, say: Say, model: str = "paper", seeds: list[int] | tuple[int, ...] = SEEDS
) -> Results:
    """Train and count."""
    from sottovoce.bench.accuracy import measure_accuracy
    from sottovoce.bench.schema import Results

    where = started(args)
    say(f"training {model}")
    rows = measure_accuracy(
        data, model=model, seeds=seeds, progress=lambda done, total, found: say(f"{done} of {total}: {found}")
    )
    return Results(kind="accuracy", command=command_line(args), environment=where, accuracy=tuple(rows))
