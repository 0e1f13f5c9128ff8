"""`sottovoce prepare`: a party's preprocessed material, made ahead of time."""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sottovoce import __version__
from sottovoce.cli.connect import (
    Subparsers,
    add_cluster_options,
    add_protocol_options,
    add_store_options,
    choose_protocol,
    load_role,
    load_store,
    positive,
)
from sottovoce.cli.exits import Exit
from sottovoce.cli.model import MODEL_OPTIONS, add_model_options, load_graph
from sottovoce.cli.output import (
    INSECURE,
    Narrator,
    add_progress,
    count,
    errors_as_json,
    milliseconds,
    remark,
    stdout_console,
    write_json,
)
from sottovoce.cli.party import leave_no_core, stop_at_eof
from sottovoce.cli.warm import warm_up_visibly
from sottovoce.engine.errors import ConfigError

if TYPE_CHECKING:
    from sottovoce.engine.program import Program
    from sottovoce.serving.prepare import Prepared, Side, Source

SOURCES = ("dealer", "ot")
DEFAULT_STORE = Path("prepared")
ONE_USER = "one user of this machine sees both stores: for trying out and measuring"
_LINE_EVERY_S = 1.0


def add(commands: Subparsers) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "prepare",
        help="make a party's preprocessed material ahead of time",
        description="Make the correlated randomness that party RANK uses up when it answers requests, and keep it in a "
        "store; the other party runs the same command at the same time. Without RANK: a dealer and both parties' "
        f"commands on this machine, which leave DIR/p0 and DIR/p1; {ONE_USER}.",
    )
    parser.add_argument("rank", type=int, nargs="?", metavar="RANK", help="0 or 1")
    parser.add_argument("--clips", type=positive, required=True, metavar="N", help="how many clips to add")
    parser.add_argument(
        "--program", type=Path, metavar="FILE", help="the public program (see `sottovoce explain --write-program`)"
    )
    parser.add_argument("--scores", action="store_true", help="with --model: for a deployment with --scores")
    parser.add_argument(
        "--source",
        choices=SOURCES,
        default="dealer",
        help="who makes it: a dealer (default), or the two parties alone by oblivious transfer (ot)",
    )
    add_store_options(parser, f"the store, made if it is not there; without RANK a folder (default {DEFAULT_STORE})")
    add_protocol_options(parser, default=None, text="without --cluster: beaver2 (default) or beaver2-fss")
    parser.add_argument(
        "--stop-at-eof", action="store_true", help="stop also when standard input ends (for whoever supervises it)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    add_progress(parser)
    add_model_options(parser, positional=False, calibrated=False)
    add_cluster_options(parser, required=False)
    parser.set_defaults(run=run)


@errors_as_json
def run(args: argparse.Namespace) -> int:
    """One party's side, or all three roles here."""
    leave_no_core()
    return _run_here(args) if args.rank is None else _run_party(args)


def load_program(args: argparse.Namespace) -> Program:
    """The program of --program, or of the model options. Raises ConfigError, ModelError."""
    from sottovoce.engine.program import from_json

    if args.program is None:
        from sottovoce.models.compiler.compile import compile_graph

        return compile_graph(load_graph(args), outputs=("label", "scores") if args.scores else ("label",)).program
    described = [name for name in MODEL_OPTIONS if getattr(args, name, None) is not None]
    if described or args.scores:
        option = described[0].replace("_", "-") if described else "scores"
        raise ConfigError(f"--{option}: --program says it all; give one of them")
    try:
        return from_json(args.program.read_bytes())
    except OSError as error:
        raise ConfigError(f"--program {args.program}: {error.strerror}") from None


def _run_here(args: argparse.Namespace) -> int:
    from sottovoce.cli.prepare_here import prepare_here
    from sottovoce.serving.prepare import check_protocol

    for option in ("cluster", "certs"):
        if getattr(args, option) is not None:
            raise ConfigError(f"--{option}: expected RANK with it")
    program = load_program(args)
    args.protocol = args.protocol or "beaver2"
    row = choose_protocol(args, program)
    check_protocol(row, args.source)
    store = args.store or DEFAULT_STORE
    narrator = Narrator(args.progress)
    warm_up_visibly(narrator, row.name, transfers=args.source == "ot")
    with _telling(narrator, args.clips, "both parties have") as tell:
        parties = prepare_here(program, row.name, args.clips, store, args.store_key, args.source, tell)
    if args.json:
        write_json({"version": __version__, "note": ONE_USER, "parties": parties})
        return Exit.OK
    for made in parties:
        _show(made)
    stdout_console().print(f"\n{ONE_USER[0].upper()}{ONE_USER[1:]}.", soft_wrap=True)
    return Exit.OK


def _run_party(args: argparse.Namespace) -> int:
    if args.cluster is None or args.store is None:
        raise ConfigError(f"--{'store' if args.cluster else 'cluster'}: expected with RANK, got none")
    if args.protocol is not None or args.comparison is not None:
        raise ConfigError("--protocol, --comparison: with --cluster the cluster file decides it")
    cluster, tls = load_role(args, "party", args.rank)
    program, store = load_program(args), load_store(args, create=True)
    from sottovoce.serving.prepare import Side, check_protocol, prepare
    from sottovoce.serving.processes import interrupted_by_sigterm

    stop = threading.Event()
    side = Side(cluster, args.rank, program, tls, args.deadline, args.insecure_loopback, stop)
    row, connect = side.row, partial(_connect, args.source, side)
    check_protocol(row, args.source)
    narrator = Narrator(args.progress)
    warm_up_visibly(narrator, row.name, transfers=args.source == "ot", always=True)
    if args.stop_at_eof:
        threading.Thread(target=stop_at_eof, args=(stop,), name="eof", daemon=True).start()
    narrator.say(f"waits for party {1 - args.rank}, which must ask for the same")
    kept: list[int] = []
    try:
        with interrupted_by_sigterm(), _telling(narrator, args.clips, f"P{args.rank} has") as tell:
            made = prepare(program, row, args.rank, args.clips, connect, store, tell, kept.append)
    except BaseException:
        if kept:
            remark(
                f"{kept[-1]:,} of {count(args.clips, 'clip')} are in {args.store}; those that party {1 - args.rank} "
                "has, too, stay usable"
            )
        raise
    result = _as_json(args, program, row.name, made)
    if args.json:
        write_json({"version": __version__, **result, "encrypted": tls is not None})
        return Exit.OK
    _show(result)
    if tls is None:
        stdout_console().print(INSECURE, style="bold red")
    return Exit.OK


def _connect(source: str, side: Side) -> Source:
    """To the dealer, or to the other party."""
    if source == "ot":
        from sottovoce.serving.prepare_ot import FromTransfers

        return FromTransfers(side)
    from sottovoce.serving.prepare import FromDealer

    return FromDealer(side)


@contextmanager
def _telling(narrator: Narrator, clips: int, who: str) -> Iterator[Callable[[int], None]]:
    """A bar, or a line every second and at the end."""
    said, last = time.monotonic(), 0
    with narrator.bars({"clips": clips}) as update:

        def tell(done: int) -> None:
            nonlocal said, last
            if done == last:
                return
            last = done
            update("clips", done)
            if done == clips or time.monotonic() - said > _LINE_EVERY_S:
                said = time.monotonic()
                narrator.say(f"{who} {done} of {clips} clips")

        yield tell


def _as_json(args: argparse.Namespace, program: Program, protocol: str, made: Prepared) -> dict[str, Any]:
    clips = made.end - made.start
    return {
        "model": program.name,
        "program": program.digest.hex(),
        "protocol": protocol,
        "rank": args.rank,
        "source": made.source,
        "store": str(args.store),
        "clips": clips,
        "first": made.start,
        "unused": made.left,
        "elapsed_ms": made.elapsed_s * 1e3,
        "ms_per_clip": made.elapsed_s * 1e3 / clips,
        "bytes_sent": made.bytes_sent,
        "bytes_per_clip": made.bytes_sent / clips,
        "stored_bytes": made.stored_bytes,
        "stored_per_clip": made.stored_bytes / clips,
    }


def _show(made: dict[str, Any]) -> None:
    dealt = made["source"] == "dealer"
    lines = (
        f"P{made['rank']}        {made['store']}: {count(made['clips'], 'clip')} of {made['model']} under "
        f"{made['protocol']} added; unused in all: {made['unused']:,}",
        f"{'received' if dealt else 'sent    '}  {made['bytes_sent']:,} bytes, {made['bytes_per_clip']:,.0f} a clip, "
        f"{'all that the dealer sent' if dealt else 'to the other party'}",
        f"stored    {made['stored_bytes']:,} bytes, {made['stored_per_clip']:,.0f} a clip",
        f"time      {milliseconds(made['elapsed_ms'])}, {milliseconds(made['ms_per_clip'])} a clip",
    )
    for line in lines:
        stdout_console().print(line, soft_wrap=True)
