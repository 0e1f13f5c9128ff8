"""`sottovoce bench network`: what the network profiles come to on this machine."""

from __future__ import annotations

import argparse

from sottovoce.cli.bench.options import add_results, command_line, finish, progress, started
from sottovoce.cli.connect import Subparsers
from sottovoce.cli.exits import Exit
from sottovoce.cli.output import errors_as_json, make_table, stdout_console

NODES = 3
PROFILES = ("loopback", "lan", "metro", "wan")


def add(words: Subparsers) -> None:
    """Declare the command."""
    parser = words.add_parser(
        "network",
        help="lan, metro, wan: asked and measured",
        description="Open each network profile between three nodes and measure ping and throughput on it.",
    )
    parser.add_argument("--network", nargs="+", default=list(PROFILES), metavar="NET", help="default: all profiles")
    add_results(parser)
    parser.set_defaults(run=run)


@errors_as_json
def run(args: argparse.Namespace) -> int:
    """Measure and show."""
    from sottovoce.bench.environment import describe
    from sottovoce.bench.network.validate import validate_profile
    from sottovoce.bench.report.text import rate, spread
    from sottovoce.bench.schema import Results

    where, rows = started(args), []
    with progress(args.progress) as say:
        for profile in args.network:
            say(f"network {profile}")
            rows.append(validate_profile(profile, NODES))
    results = Results(kind="network", command=command_line(args), environment=where, networks=tuple(rows))
    if finish(args, results):
        table = make_table(
            ("network", "made by"),
            ("RTT asked", "measured", "rate asked", "measured", "three at once", "32 KB and back", "shaper"),
        )
        for row in rows:
            used = row.used
            table.add_row(
                used.name,
                used.method,
                "-" if used.rtt_ms is None else f"{used.rtt_ms:g} ms",
                spread(used.measured_rtt_ms),
                "-" if used.mbit_s is None else rate(used.mbit_s),
                "-" if used.measured_mbit_s is None else rate(used.measured_mbit_s.median),
                rate(sum(row.together_mbit_s) / len(row.together_mbit_s)),
                spread(row.message_ms),
                f"{row.shaper_share:.0%}",
            )
        console = stdout_console()
        console.print(table)
        console.print(
            "RTT: a small message and its answer over TCP, median (quartiles). shaper: of one core, while three nodes "
            "send at once.",
            style="dim",
            soft_wrap=True,
        )
        console.print(describe(where), style="dim", soft_wrap=True)
    return Exit.OK
