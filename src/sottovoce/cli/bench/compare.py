"""`sottovoce bench compare`: is B slower than A? Fails past a bound, and only with confidence."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from sottovoce.cli.connect import Subparsers, positive
from sottovoce.cli.exits import Exit
from sottovoce.cli.output import errors_as_json, stdout_console, write_json
from sottovoce.engine.errors import ConfigError
from sottovoce.engine.structs import parse_json

BOUND = 1.10
CONFIDENCE = 0.95
PASSES = 8


def add(words: Subparsers) -> None:
    """Declare the command."""
    parser = words.add_parser(
        "compare",
        help="ratios of two sets of results, with confidence intervals",
        description="Compare files or folders of `bench kernels` or of `bench sweep`, `peers`, `paper --out`. Several "
        "files of a side are passes. With --commits, A and B are commits of this repository whose kernels are timed in "
        "turn, which a machine that changes its pace does not fool. Exit status 1: something is slower than the bound, "
        "with confidence.",
    )
    parser.add_argument("a", metavar="A", help="a file, a folder, or with --commits a commit")
    parser.add_argument("b", metavar="B")
    parser.add_argument("--commits", action="store_true", help="A and B are commits; their kernels are timed in turn")
    parser.add_argument(
        "--bound", type=float, default=BOUND, metavar="R", help=f"ratio to tolerate (default {BOUND:g})"
    )
    parser.add_argument(
        "--confidence", type=float, default=CONFIDENCE, metavar="C", help=f"of all together (default {CONFIDENCE:g})"
    )
    parser.add_argument("--passes", type=positive, metavar="N", help=f"with --commits (default {PASSES})")
    parser.add_argument("--select", metavar="GLOB", help="with --commits: kernels or benchmarks")
    parser.add_argument("--quick", action="store_true", help="with --commits: small sizes only")
    parser.add_argument("--all", action="store_true", help="show also what did not change")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.set_defaults(run=run)


@errors_as_json
def run(args: argparse.Namespace) -> int:
    """Compare and show."""
    import msgspec

    from sottovoce.bench.comparison.commits import compare_commits
    from sottovoce.bench.comparison.compare import compare
    from sottovoce.bench.comparison.table import render
    from sottovoce.serving.processes import interrupted_by_sigterm

    if args.commits:
        with interrupted_by_sigterm():  # the worktrees go again
            comparison = compare_commits(
                args.a,
                args.b,
                passes=args.passes or PASSES,
                select=args.select,
                quick=args.quick,
                bound=args.bound,
                confidence=args.confidence,
            )
    else:
        if args.passes or args.select or args.quick:
            raise ConfigError("bench compare: --passes, --select, --quick: expected --commits with them")
        comparison = compare([Path(args.a)], [Path(args.b)], bound=args.bound, confidence=args.confidence)
    if args.json:
        described = {**asdict(comparison), "failed": comparison.failed}
        write_json(parse_json(msgspec.json.encode(described), dict))  # an interval without an end: null
    else:
        stdout_console().print(render(comparison, every=args.all))
    return Exit.SOME_FAILED if comparison.failed else Exit.OK
