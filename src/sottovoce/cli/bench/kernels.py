"""`sottovoce bench kernels`: how long each kernel of the catalog takes, and what the machine could do at best."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from sottovoce.cli.connect import Subparsers, positive
from sottovoce.cli.exits import Exit
from sottovoce.cli.output import errors_as_json, stdout_console


def add(words: Subparsers) -> None:
    """Declare the command."""
    parser = words.add_parser(
        "kernels",
        help="every kernel over sizes, as a fraction of the machine's ceiling",
        description="Time every kernel of the catalog with pytest-benchmark (extra `bench`). Each pass is a process of "
        "its own; two sets of passes can be told apart with `sottovoce bench compare`.",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="takes pass-01.json, …; must be new")
    parser.add_argument("--passes", type=positive, default=1, metavar="N", help="default 1; to compare, take 8")
    parser.add_argument("--select", metavar="GLOB", help="kernels (matmul) or benchmarks (conv1d/paper*)")
    parser.add_argument("--device", default="cpu", metavar="D", help="cpu (default), cuda or cuda:N")
    parser.add_argument("--quick", action="store_true", help="batch 1, and arrays that fit a cache")
    parser.add_argument("--json", action="store_true", help="the first pass on standard output instead of a table")
    parser.set_defaults(run=run)


@errors_as_json
def run(args: argparse.Namespace) -> int:
    """Time and show."""
    from sottovoce.bench.kernels.run import run_kernels
    from sottovoce.bench.kernels.table import read_timings, render_timings
    from sottovoce.serving.processes import interrupted_by_sigterm

    with interrupted_by_sigterm():
        files = run_kernels(args.out, passes=args.passes, select=args.select, quick=args.quick, device=args.device)
    if args.json:
        sys.stdout.write(files[0].read_text(encoding="utf-8"))
    else:
        stdout_console().print(render_timings(read_timings(files)))
    return Exit.OK
