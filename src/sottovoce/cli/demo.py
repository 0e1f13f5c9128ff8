"""`sottovoce demo`: Alice, Bob and the computing parties as processes, from a sound file to a label.

Every process gets its own certificate folder and the addresses of the parties. Bob's alone is told of the weights,
Alice's alone of the recording; the parties' get neither. What a protocol needs to have prepared is prepared first, with
a dealer's process.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import queue
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sottovoce.cli.connect import (
    Subparsers,
    add_device_option,
    add_protocol_options,
    choose_protocol,
    find_protocol,
)
from sottovoce.cli.demo_account import Outcome, as_json, introduce, narrate, show
from sottovoce.cli.exits import CommandError, Exit
from sottovoce.cli.model import DEFAULT_MODEL, add_model_options, forward_model_options, load_graph
from sottovoce.cli.output import (
    Narrator,
    errors_as_json,
    milliseconds,
    per_party,
    printable,
    stderr_console,
    stdout_console,
    write_json,
)
from sottovoce.cli.warm import warm_up_everything
from sottovoce.engine.errors import ConfigError
from sottovoce.serving.processes import Child, Children, interrupted_by_sigterm

if TYPE_CHECKING:
    from rich.console import Console

    from sottovoce.engine.program import Program
    from sottovoce.engine.protocols.table import ProtocolRow

KEY = "store.key"
LIMIT_S = 120.0
"""For all processes together. Their own deadlines are shorter; this one is for what nobody foresaw."""
DEADLINE_S = 60.0
_POLL_S = 0.05
_PORT_TAKEN = "Address already in use"


class DemoError(CommandError):
    """One of the processes failed, or took too long; lines: the last of its log."""

    def __init__(self, text: str, status: Exit, lines: list[str]) -> None:
        super().__init__(text, status)
        self.lines = lines

    @property
    def port_taken(self) -> bool:
        """Whether a party could not listen."""
        return any(_PORT_TAKEN in line for line in self.lines)


def add(commands: Subparsers) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "demo",
        help="all roles as processes classify a bundled clip",
        description="Alice (a recording), Bob (a model) and the computing parties, as five processes (rep3) or four "
        "(beaver2) with mutual TLS 1.3 on this machine. Alice alone learns the label of the bundled clip.",
    )
    add_model_options(parser, positional=True, calibrated=False)
    add_protocol_options(parser, default="rep3", text="rep3 (default) or beaver2")
    add_device_option(
        parser,
        default="cpu",
        text="what the parties compute with: cpu (default), cuda, cuda:N, auto; or one for each",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--keep-logs", type=Path, metavar="DIR", help="keep each process's log there")
    parser.set_defaults(run=run)


@errors_as_json
def run(args: argparse.Namespace) -> int:
    """Warm up, run all, report."""
    from sottovoce.engine.backend.devices import device_names
    from sottovoce.models.compiler.compile import compile_graph
    from sottovoce.serving.checks import check_features

    console = stderr_console() if args.json else stdout_console()
    graph = load_graph(args)
    check_features(graph)  # before processes start for nothing
    if find_protocol(args.protocol) is None:
        raise ConfigError("--protocol: plain needs no parties: `sottovoce classify --protocol plain`")
    program = compile_graph(graph, outputs=("label",)).program
    row = choose_protocol(args, program)
    devices = device_names(args.device, row.parties)
    if args.keep_logs is not None:
        try:
            args.keep_logs.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"--keep-logs: {error.strerror}: {args.keep_logs}") from None
    began = time.monotonic()
    try:
        with interrupted_by_sigterm():
            compiled = warm_up_everything(Narrator(), row.name)
            warm_up_s = time.monotonic() - began
            if compiled:
                console.print(f"compiled {compiled} kernels in {warm_up_s:.1f} s; from now on they come from disk\n")
            model = forward_model_options(args) or [DEFAULT_MODEL]
            outcome = _run_with_free_ports(console, args.keep_logs, model, program, row, devices)
    except DemoError as error:
        for line in error.lines:
            console.print(f"    {line}", soft_wrap=True)
        raise
    if args.json:
        seconds = {"warm_up_s": warm_up_s, "processes_s": outcome.elapsed_s}
        write_json(as_json(outcome, compiled, seconds))
    else:
        show(console, outcome)
    return Exit.OK


def _run_with_free_ports(
    console: Console, keep_logs: Path | None, model: list[str], program: Program, row: ProtocolRow, devices: list[str]
) -> Outcome:
    """Ports that are free now may be taken a moment later: then once more, with others."""
    try:
        return _run_once(console, keep_logs, model, program, row, devices)
    except DemoError as error:
        if not error.port_taken:
            raise
        console.print("a port was taken meanwhile; once more with others")
        return _run_once(console, keep_logs, model, program, row, devices)


def _run_once(
    console: Console, keep_logs: Path | None, model: list[str], program: Program, row: ProtocolRow, devices: list[str]
) -> Outcome:
    from sottovoce.engine.transport.certificates import create_certificates, role_folder
    from sottovoce.engine.transport.tls import Identity
    from sottovoce.models.speech.demo_clip import demo_clip_path
    from sottovoce.serving.cluster import Cluster, free_addresses

    ranks = range(row.parties)
    roles = {f"P{rank}": Identity.party(rank) for rank in ranks}
    roles |= {"Bob": Identity("owner", "bob"), "Alice": Identity("client", "alice")}
    with tempfile.TemporaryDirectory(prefix="sottovoce-demo-") as name:
        base = Path(name)
        *_, authority = create_certificates(base / "certs", row.parties, clients=["alice"], owners=["bob"])
        shutil.rmtree(authority)  # nobody needs to make another certificate
        cluster = base / "cluster.toml"
        cluster.write_text(Cluster(free_addresses(row.parties), row.name).to_toml())
        logs = keep_logs or base / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        prepared = _prepare(console, base, program, row) if row.preprocessing else []
        arguments = {
            f"P{rank}": ["party", str(rank), "--stop-at-eof", "--device", device] for rank, device in enumerate(devices)
        }
        for rank, made in enumerate(prepared):
            arguments[f"P{rank}"] += ["--store", made["store"], "--store-key", str(base / KEY)]
        arguments["Bob"] = ["deploy", *model]
        arguments["Alice"] = ["classify", str(demo_clip_path()), "--json", "--progress", "lines"]
        common = ["--cluster", str(cluster), "--deadline", f"{DEADLINE_S:g}"]
        introduce(console, row)
        began = time.monotonic()
        with Children(logs) as children:
            for role, command in arguments.items():
                own = base / f"run-{role.lower()}"
                own.mkdir()
                certs = base / "certs" / role_folder(roles[role])
                children.start(role, [*command, *common, "--certs", str(certs)], own)
            alice = _follow(console, children, began + LIMIT_S)
            elapsed_s = time.monotonic() - began
            children.stop()  # the parties are servers: they would wait for the next request
            _drain(console, children)
            pids = {child.role: child.pid for child in children.all}
        return Outcome(json.loads(alice.output), pids, elapsed_s, prepared)


def _prepare(console: Console, base: Path, program: Program, row: ProtocolRow) -> list[dict[str, Any]]:
    """The offline phase for one clip, in processes of its own."""
    from sottovoce.cli.prepare_here import prepare_here

    made = prepare_here(program, row.name, 1, base / "stores", base / KEY)
    sent = per_party([party["bytes_sent"] for party in made])
    console.print(f"Offline: a dealer, which sees no data, prepares one clip for {row.name}.", style="bold")
    console.print(f"  {milliseconds(max(party['elapsed_ms'] for party in made))}; all that the dealer sent:")
    console.print(f"  {sent} bytes\n")
    return made


def _follow(console: Console, children: Children, end: float) -> Child:
    """Show what the processes say until Alice has her label. Raises DemoError for the first that fails."""
    alice = children.all[-1]
    while alice.status != 0:
        with contextlib.suppress(queue.Empty):
            narrate(console, *children.events.get(timeout=_POLL_S))
        for child in children.all:
            # A party ends only when it is told to.
            if child.status is not None and (child.status != 0 or child.role.startswith("P")):
                known = child.status in (Exit.USAGE, Exit.TRANSPORT, Exit.SECURITY)
                status = Exit(child.status) if known else Exit.INTERNAL
                how = (
                    f"was ended by signal {-child.status}" if child.status < 0 else f"ended with status {child.status}"
                )
                raise _failure(child, f"{child.role} {how}", status)
        if time.monotonic() > end:
            waiting = next(child for child in reversed(children.all) if child.status is None)
            raise _failure(waiting, f"no label after {LIMIT_S:g} s: {waiting.role} has not finished", Exit.TRANSPORT)
    alice.join(_POLL_S)
    _drain(console, children)
    return alice


def _failure(child: Child, text: str, status: Exit) -> DemoError:
    child.terminate()
    child.join(1.0)
    lines = [f"{child.role}: {printable(line)}" for line in child.last_lines]
    return DemoError(f"demo: {text}", status, lines)


def _drain(console: Console, children: Children) -> None:
    while not children.events.empty():
        narrate(console, *children.events.get())
