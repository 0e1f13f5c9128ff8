"""`sottovoce dealer`: makes two parties' preprocessed material, and sees no data."""

from __future__ import annotations

import argparse
import threading

from sottovoce.cli.connect import Subparsers, add_cluster_options, load_role
from sottovoce.cli.exits import Exit
from sottovoce.cli.output import INSECURE, Narrator, add_progress
from sottovoce.cli.party import leave_no_core, log_line, stop_at_eof, stopped_by_signals
from sottovoce.cli.warm import warm_up_visibly
from sottovoce.engine.errors import ConfigError


def add(commands: Subparsers) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "dealer",
        help="deal preprocessed material to two parties",
        description="Run the dealer: it makes the correlated randomness that two parties ask for with `sottovoce "
        "prepare`, and keeps none, until SIGTERM or Ctrl-C. It sees no recording, no weight and no message between "
        "the parties. Whoever runs it must not work together with either of them.",
    )
    add_cluster_options(parser, required=True)
    parser.add_argument(
        "--stop-at-eof", action="store_true", help="stop also when standard input ends (for whoever supervises it)"
    )
    add_progress(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serve until told to stop."""
    leave_no_core()
    cluster, tls = load_role(args, "dealer")
    if cluster.dealer is None:
        raise ConfigError(f'cluster file {args.cluster}: expected dealer = "host:port", it is not there')
    stop = threading.Event()
    if args.stop_at_eof:
        threading.Thread(target=stop_at_eof, args=(stop,), name="eof", daemon=True).start()
    # Before it listens: no party waits while this process compiles.
    warm_up_visibly(Narrator(args.progress), cluster.protocol, always=True)
    from sottovoce.serving.dealer import DealerServer

    if tls is None:
        log_line(INSECURE)
    server = DealerServer(
        cluster.dealer, tls, insecure_loopback=args.insecure_loopback, deadline_s=args.deadline, log=log_line
    )
    with stopped_by_signals(stop):
        server.serve(stop)
        log_line("the dealer has stopped")
    return Exit.OK
