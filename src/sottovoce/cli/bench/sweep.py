"""`sottovoce bench sweep`: our protocols over models, batches, networks and lanes."""

from __future__ import annotations

import argparse
import itertools
from typing import TYPE_CHECKING

from sottovoce.cli.bench.options import (
    add_devices,
    add_effort,
    add_results,
    command_line,
    effort_of,
    finish,
    numbers,
    progress,
    started,
    status_of,
)
from sottovoce.cli.connect import Subparsers, positive
from sottovoce.cli.output import errors_as_json

if TYPE_CHECKING:
    from sottovoce.bench.schema import Row

BATCHES = (1, 4, 16, 64, 128, 256, 1024, 4096)


def add(words: Subparsers) -> None:
    """Declare the command."""
    parser = words.add_parser(
        "sweep",
        help="time, throughput, bytes and memory over models, batches, networks, threads",
        description="Measure every combination of the values given. Each party is a process of its own; networks other "
        "than loopback put it into a network namespace of its own (docs/networks.md).",
    )
    parser.add_argument("--model", nargs="+", default=["paper"], metavar="M", help="names of the zoo (default paper)")
    parser.add_argument("--batch", nargs="+", type=positive, metavar="N", default=list(BATCHES), help="clips a request")
    parser.add_argument("--protocol", nargs="+", metavar="P", help="default: every protocol that there is")
    parser.add_argument(
        "--network", nargs="+", default=["loopback"], metavar="NET", help="loopback, lan, metro, wan, or rtt=…,rate=…"
    )
    parser.add_argument(
        "--lanes", nargs="+", type=positive, default=[1], metavar="L", help="threads of each party that compute"
    )
    parser.add_argument(
        "--insecure-loopback", action="store_true", help="plain TCP on loopback instead of TLS; every row says so"
    )
    add_devices(parser)
    add_effort(parser, repeat=20, time_s=20)
    add_results(parser)
    parser.set_defaults(run=run)


@errors_as_json
def run(args: argparse.Namespace) -> int:
    """Measure and show."""
    from sottovoce.bench.runner import Plan, run_plan
    from sottovoce.bench.schema import Results
    from sottovoce.cli.bench.tables import show_rows
    from sottovoce.engine.protocols.table import PROTOCOLS

    plans = [
        Plan(
            model,
            numbers(args.batch),
            tuple(args.protocol or PROTOCOLS),
            network,
            lanes,
            not args.insecure_loopback,
            tuple(args.device),
        )
        for model, network, lanes in itertools.product(args.model, args.network, args.lanes)
    ]
    where = started(args)
    rows: list[Row] = []
    with progress(args.progress) as say:
        for plan in plans:
            rows += run_plan(plan, effort_of(args), say=say)
    results = Results(kind="sweep", command=command_line(args), environment=where, rows=tuple(rows))
    if finish(args, results):
        show_rows(results)
    return status_of(rows)
