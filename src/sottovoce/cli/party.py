"""`sottovoce party`: one computing party."""

from __future__ import annotations

import argparse
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from sottovoce.cli.connect import (
    Subparsers,
    add_cluster_options,
    add_device_option,
    add_store_options,
    load_role,
    load_store,
    positive,
    store_key,
)
from sottovoce.cli.exits import Exit
from sottovoce.cli.output import INSECURE, Narrator, add_progress, remark
from sottovoce.cli.warm import warm_up_visibly
from sottovoce.engine.errors import ConfigError, SottovoceError

if TYPE_CHECKING:
    from sottovoce.engine.tracing.tracer import Tracer
    from sottovoce.serving.cluster import Cluster
    from sottovoce.serving.store import StoreAt


def add(commands: Subparsers) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "party",
        help="run a computing party",
        description="Run computing party RANK: it takes a model's shares from its owner, joins the other parties and "
        "answers clients until SIGTERM or Ctrl-C. It never holds a weight, a feature or a label.",
    )
    parser.add_argument("rank", type=int, metavar="RANK", help="from 0 on")
    add_cluster_options(parser, required=True)
    add_store_options(
        parser, "this party's preprocessed material (see `sottovoce prepare`), for protocols that need it"
    )
    add_device_option(parser, default="cpu", text="what it computes with: cpu (default), cuda, cuda:N or auto")
    parser.add_argument("--requests", type=positive, metavar="N", help="stop after N requests")
    parser.add_argument(
        "--stop-at-eof", action="store_true", help="stop also when standard input ends (for whoever supervises it)"
    )
    parser.add_argument(
        "--trace", type=Path, metavar="FILE", help="write what each request does, for `sottovoce profile --read`"
    )
    parser.add_argument("--nvtx", action="store_true", help="NVTX ranges for nsys and ncu (pip install nvtx)")
    add_progress(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serve until told to stop."""
    leave_no_core()
    cluster, tls = load_role(args, "party", args.rank)
    from sottovoce.engine.backend.devices import make_backend
    from sottovoce.engine.protocols.table import find
    from sottovoce.serving.party import PartyServer, check_store

    check_store(find(cluster.protocol), args.rank, args.store is not None)
    store = None if args.store is None else _store(args, cluster)
    backend = make_backend(args.device)
    tracer = _tracer(args)
    stop = threading.Event()
    if args.stop_at_eof:
        threading.Thread(target=stop_at_eof, args=(stop,), name="eof", daemon=True).start()
    server = PartyServer(
        args.rank,
        cluster,
        tls,
        insecure_loopback=args.insecure_loopback,
        deadline_s=args.deadline,
        log=log_line,
        tracer=tracer,
        store=store,
        backend=backend,
    )
    # Before it listens: no peer waits while this one compiles.
    warm_up_visibly(Narrator(args.progress), cluster.protocol, always=True)
    backend.prepare()
    if tls is None:
        log_line(INSECURE)
    with closing(tracer) if tracer is not None else nullcontext(), stopped_by_signals(stop):
        try:
            server.serve(stop, max_requests=args.requests)
        except SottovoceError:
            if not stop.is_set():  # else whatever waited was told to stop waiting
                raise
        log_line(f"P{args.rank} has stopped")
    return Exit.OK


def _store(args: argparse.Namespace, cluster: Cluster) -> StoreAt:
    """The store and its key, looked into before anything starts. Raises ConfigError, PreprocessingError."""
    from sottovoce.engine.protocols.table import find
    from sottovoce.serving.store import WrongKeyError, look_into

    store = load_store(args)
    try:
        log_line(f"P{args.rank} has {look_into(store, args.rank, find(cluster.protocol))}")
    except WrongKeyError:
        raise ConfigError(
            f"--store-key {store_key(args)}: it is not the key of --store {args.store}; expected the file that "
            f"`sottovoce prepare {args.rank}` had as its --store-key"
        ) from None
    return store


def _tracer(args: argparse.Namespace) -> Tracer | None:
    """What --trace and --nvtx ask for, before anything starts. Raises ConfigError."""
    if args.trace is None and not args.nvtx:
        return None
    from sottovoce.engine.tracing.events import load_ranges
    from sottovoce.engine.tracing.tracer import Tracer

    ranges = load_ranges() if args.nvtx else None
    try:
        return Tracer(args.trace, ranges=ranges, log=log_line)
    except OSError as error:
        raise ConfigError(f"--trace {args.trace}: {error.strerror}") from None


def log_line(text: str) -> None:
    """One line on standard error, with the time of day."""
    remark(f"{time.strftime('%H:%M:%S')} {text}")


@contextmanager
def stopped_by_signals(stop: threading.Event) -> Iterator[None]:
    """SIGTERM and SIGINT set `stop`; the handlers that were there before come back."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    kinds = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(kind, lambda *_: stop.set()) for kind in kinds]
    try:
        yield
    finally:
        for kind, handler in zip(kinds, before, strict=True):
            signal.signal(kind, handler)


def leave_no_core() -> None:
    """If this process crashes, no core file is written: it would hold shares, seeds and keys in the clear.

    For this process and its children, from now on. It does not bind a program that Linux hands cores to, where one is
    set up (a pipe in /proc/sys/kernel/core_pattern); that has settings of its own.
    """
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, most))


def stop_at_eof(stop: threading.Event) -> None:
    """Set `stop` when standard input ends."""
    # Not sys.stdin: a thread that waits in its buffer would hold the buffer's lock when Python exits.
    while os.read(sys.stdin.fileno(), 4096):
        pass
    stop.set()
