"""`sottovoce bench peers`: other systems beside ours, on the same model, inputs, batch and network, asked in turn."""

from __future__ import annotations

import argparse
from pathlib import Path

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

BATCHES = (1, 32, 128, 1024)


def add(words: Subparsers) -> None:
    """Declare the command."""
    parser = words.add_parser(
        "peers",
        help="CrypTen, SPU and MP-SPDZ beside ours, interleaved",
        description="Each peer runs in an environment of its own, which the first run installs with pip into your "
        "cache folder; MP-SPDZ is used from your own build. What a peer is, its settings and what it protects from: "
        "docs/peers.md.",
    )
    parser.add_argument("--peer", nargs="+", metavar="PEER", help="default: all; `none` for ours alone")
    parser.add_argument("--mp-spdz", type=Path, metavar="DIR", help="a build of MP-SPDZ (or the variable MP_SPDZ)")
    parser.add_argument("--model", default="paper", metavar="M", help="a name of the zoo (default paper)")
    parser.add_argument("--batch", nargs="+", type=positive, metavar="N", default=list(BATCHES), help="clips a request")
    parser.add_argument("--protocol", nargs="+", metavar="P", help="ours; default: every protocol that there is")
    parser.add_argument("--network", default="loopback", metavar="NET", help="loopback, lan, metro, wan, rtt=…,rate=…")
    parser.add_argument(
        "--insecure-loopback", action="store_true", help="ours without TLS, as the peers are; every row says so"
    )
    add_devices(parser)
    add_effort(parser, repeat=15, time_s=60)
    add_results(parser)
    parser.set_defaults(run=run)


@errors_as_json
def run(args: argparse.Namespace) -> int:
    """Start all, ask them in turn, show."""
    from sottovoce.bench.peers.table import make_peers
    from sottovoce.bench.runner import Plan, run_plan
    from sottovoce.bench.schema import Results
    from sottovoce.cli.bench.tables import show_ratios, show_rows
    from sottovoce.engine.protocols.table import PROTOCOLS

    plan = Plan(
        args.model,
        numbers(args.batch),
        tuple(args.protocol or PROTOCOLS),
        args.network,
        encrypted=not args.insecure_loopback,
        devices=tuple(args.device),
    )
    peers = [] if args.peer == ["none"] else make_peers(args.peer, mp_spdz=args.mp_spdz)
    where = started(args)
    with progress(args.progress) as say:
        rows = run_plan(plan, effort_of(args), peers=peers, say=say)
    results = Results(kind="peers", command=command_line(args), environment=where, rows=tuple(rows))
    if finish(args, results):
        show_rows(results)
        show_ratios(results)
    return status_of(rows)
