"""`sottovoce bench offline`: what preprocessing costs by itself, from each source."""

from __future__ import annotations

import argparse
import textwrap
from typing import TYPE_CHECKING

from sottovoce.cli.bench.options import add_results, command_line, finish, progress, started
from sottovoce.cli.connect import Subparsers, positive
from sottovoce.cli.exits import Exit
from sottovoce.cli.output import INSECURE, TEXT_WIDTH, errors_as_json, make_table, printable, stdout_console

if TYPE_CHECKING:
    from sottovoce.bench.schema import Results

CLIPS = 32
REPEAT = 3
CAPTION = (
    "Per clip. time: from the agreement of both parties to the last record on the disk of the slower one, median "
    "(quartiles). sent: by a dealer to that party, or by that party to the other one, set-up included. stored: on that "
    "party's disk."
)


def add(words: Subparsers) -> None:
    """Declare the command."""
    parser = words.add_parser(
        "offline",
        help="preprocessing by itself: each source, time and bytes per clip",
        description="Make correlated randomness with the processes of `sottovoce prepare`, and say what a clip of it "
        "costs: from a dealer, and from oblivious transfer between the two parties.",
    )
    parser.add_argument("--model", nargs="+", default=["paper"], metavar="M", help="names of the zoo (default paper)")
    parser.add_argument(
        "--protocol", nargs="+", metavar="P", help="default: every protocol that there is with preprocessing"
    )
    parser.add_argument("--source", nargs="+", choices=("dealer", "ot"), help="default: both")
    parser.add_argument(
        "--network", nargs="+", default=["loopback"], metavar="NET", help="loopback, lan, metro, wan, or rtt=…,rate=…"
    )
    parser.add_argument("--clips", type=positive, default=CLIPS, metavar="N", help=f"made in one run (default {CLIPS})")
    parser.add_argument("--repeat", type=positive, default=REPEAT, metavar="N", help=f"runs (default {REPEAT})")
    parser.add_argument(
        "--insecure-loopback", action="store_true", help="plain TCP on loopback instead of TLS; every row says so"
    )
    add_results(parser)
    parser.set_defaults(run=run)


@errors_as_json
def run(args: argparse.Namespace) -> int:
    """Measure and show."""
    from sottovoce.bench.offline import SOURCES, OfflinePlan, measure_offline
    from sottovoce.bench.schema import Results
    from sottovoce.engine.protocols.table import PROTOCOLS

    plan = OfflinePlan(
        tuple(args.model),
        tuple(args.protocol or (name for name, row in PROTOCOLS.items() if row.preprocessing)),
        tuple(args.source or SOURCES),
        tuple(args.network),
        args.clips,
        args.repeat,
        not args.insecure_loopback,
    )
    where = started(args)
    with progress(args.progress) as say:
        rows = measure_offline(plan, say=say)
    results = Results(kind="offline", command=command_line(args), environment=where, offline=tuple(rows))
    if finish(args, results):
        _show(results)
    failed = any(row.status == "failed" for row in rows) or all(row.status != "measured" for row in rows)
    return Exit.SOME_FAILED if failed else Exit.OK


def _show(results: Results) -> None:
    from sottovoce.bench.environment import describe
    from sottovoce.bench.report import text

    console = stdout_console()
    table = make_table(("model", "protocol", "source", "network"), ("time", "sent P0, P1", "stored P0, P1"))
    for row in results.offline:
        names = (row.model, row.protocol, row.source, row.network.name)
        if row.clip_ms is None:
            table.add_row(*names, row.status)
        else:
            table.add_row(*names, text.spread(row.clip_ms), *map(text.sizes, (row.clip_bytes, row.clip_stored_bytes)))
    console.print(table)
    for reason in dict.fromkeys(
        f"{r.protocol} {r.source}: {r.status}: {r.reason}" for r in results.offline if r.reason
    ):
        console.print(textwrap.fill(printable(reason), TEXT_WIDTH), soft_wrap=True)
    console.print(textwrap.fill(CAPTION, TEXT_WIDTH), style="dim", soft_wrap=True)
    if not all(row.encrypted for row in results.offline):
        console.print(INSECURE, style="bold red", soft_wrap=True)
    console.print(describe(results.environment), style="dim", soft_wrap=True)
