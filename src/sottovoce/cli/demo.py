"""`sottovoce demo`: Alice, Bob and three parties as five processes, from a sound file to a label.

Every process gets its own certificate folder and the addresses of the parties. Bob's alone is told of the weights,
Alice's alone of the recording; the parties' get neither.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import queue
import re
import shlex
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sottovoce import __version__
from sottovoce.cli.connect import Subparsers
from sottovoce.cli.exits import CommandError, Exit
from sottovoce.cli.model import DEFAULT_MODEL, add_model_options, forward_model_options, load_graph
from sottovoce.cli.output import (
    RANDOM,
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

PARTIES = 3
LIMIT_S = 120.0
"""For the five processes together. Their own deadlines are shorter; this one is for what nobody foresaw."""
DEADLINE_S = 60.0
_POLL_S = 0.05
_CLOCK = re.compile(r"^\d\d:\d\d:\d\d ")
_PORT_TAKEN = "Address already in use"


class DemoError(CommandError):
    """One of the five processes failed, or took too long; lines: the last of its log."""

    def __init__(self, text: str, status: Exit, lines: list[str]) -> None:
        super().__init__(text, status)
        self.lines = lines

    @property
    def port_taken(self) -> bool:
        """Whether a party could not listen."""
        return any(_PORT_TAKEN in line for line in self.lines)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a run: Alice's JSON, each process's id, and how long the five took from start to label."""

    classified: dict[str, Any]
    pids: dict[str, int]
    elapsed_s: float


def add(commands: Subparsers) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "demo",
        help="five processes classify a bundled clip",
        description="Alice (a recording), Bob (a model) and three computing parties, as five processes with mutual "
        "TLS 1.3 on this machine. Alice alone learns the label of the bundled clip.",
    )
    add_model_options(parser, positional=True, calibrated=False)
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--keep-logs", type=Path, metavar="DIR", help="keep each process's log there")
    parser.set_defaults(run=run)


@errors_as_json
def run(args: argparse.Namespace) -> int:
    """Warm up, run the five, report."""
    from sottovoce.serving.checks import check_features

    console = stderr_console() if args.json else stdout_console()
    check_features(load_graph(args))  # before five processes start for nothing
    if args.keep_logs is not None:
        try:
            args.keep_logs.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"--keep-logs: {error.strerror}: {args.keep_logs}") from None
    began = time.monotonic()
    try:
        with interrupted_by_sigterm():
            compiled = warm_up_everything(Narrator())
            warm_up_s = time.monotonic() - began
            if compiled:
                console.print(f"compiled {compiled} kernels in {warm_up_s:.1f} s; from now on they come from disk\n")
            model = forward_model_options(args) or [DEFAULT_MODEL]
            outcome = _run_with_free_ports(console, args.keep_logs, model)
    except DemoError as error:
        for line in error.lines:
            console.print(f"    {line}", soft_wrap=True)
        raise
    if args.json:
        seconds = {"warm_up_s": warm_up_s, "five_processes_s": outcome.elapsed_s}
        write_json(_as_json(outcome, compiled, seconds))
    else:
        _show(console, outcome)
    return Exit.OK


def _run_with_free_ports(console: Console, keep_logs: Path | None, model: list[str]) -> Outcome:
    """Ports that are free now may be taken a moment later: then once more, with others."""
    try:
        return _run_once(console, keep_logs, model)
    except DemoError as error:
        if not error.port_taken:
            raise
        console.print("a port was taken meanwhile; once more with others")
        return _run_once(console, keep_logs, model)


def _run_once(console: Console, keep_logs: Path | None, model: list[str]) -> Outcome:
    from sottovoce.engine.transport.certificates import create_certificates, role_folder
    from sottovoce.engine.transport.tls import Identity
    from sottovoce.models.speech.demo_clip import demo_clip_path
    from sottovoce.serving.cluster import Cluster, free_addresses

    roles = {f"P{rank}": Identity.party(rank) for rank in range(PARTIES)}
    roles |= {"Bob": Identity("owner", "bob"), "Alice": Identity("client", "alice")}
    with tempfile.TemporaryDirectory(prefix="sottovoce-demo-") as name:
        base = Path(name)
        *_, authority = create_certificates(base / "certs", PARTIES, clients=["alice"], owners=["bob"])
        shutil.rmtree(authority)  # nobody needs to make another certificate
        cluster = base / "cluster.toml"
        cluster.write_text(Cluster(free_addresses(PARTIES)).to_toml())
        logs = keep_logs or base / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        arguments = {f"P{rank}": ["party", str(rank), "--stop-at-eof"] for rank in range(PARTIES)}
        arguments["Bob"] = ["deploy", *model]
        arguments["Alice"] = ["classify", str(demo_clip_path()), "--json", "--progress", "lines"]
        common = ["--cluster", str(cluster), "--deadline", f"{DEADLINE_S:g}"]
        _introduce(console)
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
        return Outcome(json.loads(alice.output), pids, elapsed_s)


def _follow(console: Console, children: Children, end: float) -> Child:
    """Show what the processes say until Alice has her label. Raises DemoError for the first that fails."""
    alice = children.all[-1]
    while alice.status != 0:
        with contextlib.suppress(queue.Empty):
            _narrate(console, *children.events.get(timeout=_POLL_S))
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


def _introduce(console: Console) -> None:
    console.print("Five processes, mutual TLS 1.3 between them; each has its own key and nobody else's.", style="bold")
    console.print("  Alice       has a recording, and alone opens the label")
    console.print("  Bob         has the weights of the model")
    console.print("  P0 P1 P2    compute on shares: they get neither the recording nor a weight nor the label\n")


def _drain(console: Console, children: Children) -> None:
    while not children.events.empty():
        _narrate(console, *children.events.get())


def _narrate(console: Console, role: str, line: str) -> None:
    """One line of the account. What Bob reports about a party, the party says itself."""
    text = _CLOCK.sub("", line).removeprefix(f"{role} ")
    if role == "Bob" and re.match(r"P\d ", text):
        return
    style = {"Alice": "magenta", "Bob": "cyan"}.get(role, "green")
    from rich.text import Text

    console.print(Text.assemble((f"  {role:<6}", style), printable(text)), soft_wrap=True)


def _show(console: Console, outcome: Outcome) -> None:
    from sottovoce.models.speech.demo_clip import DEMO_CLIP_NOTE

    result, cost = outcome.classified, outcome.classified["cost"]
    (clip,) = result["results"]
    label = clip["predictions"][0]["label"]
    console.print(f"\nAlice's label: {printable(label)}", style="bold")
    console.print(f"(The clip is {DEMO_CLIP_NOTE}.)\n", soft_wrap=True)
    times = [f"{name} {milliseconds(cost[f'{name}_ms'])}" for name in ("features", "sharing", "online", "opening")]
    lines = [
        f"time      {'   '.join(times)}   (five processes, start to label: {outcome.elapsed_s:.1f} s)",
        f"sent      {per_party(cost['bytes_sent'])} bytes to other parties",
        f"          input shares {cost['input_bytes']:,} bytes, answers {cost['output_bytes']:,} bytes",
        f"rounds    {cost['rounds']}",
        f"links     {'mutual TLS 1.3' if result['encrypted'] else 'INSECURE'}",
        f"protocol  {result['protocol']} ({result['security']}), program {result['program'][:16]}…",
        "",
        *_next_steps(command_name()),
    ]
    if result["random_weights"]:
        console.print(RANDOM, style="bold red")
    for line in lines:
        console.print(line, soft_wrap=True)


def _next_steps(command: str) -> list[str]:
    return [
        "Your own recordings (WAV, FLAC, Ogg, MP3, …; files or folders):",
        f"  {command} classify my.wav          all parties inside one process, for evaluation",
        "With five processes, each with its own certificate folder, here (on five machines: certs --help, --host):",
        f"  {command} certs deployment --cluster-file cluster.toml",
        *(f"  {command} party {r} --cluster cluster.toml --certs deployment/party{r} &" for r in range(PARTIES)),
        f"  {command} deploy paper --cluster cluster.toml --certs deployment/owner-bob",
        f"  {command} classify my.wav --cluster cluster.toml --certs deployment/client-alice",
        "  kill %1 %2 %3                                 ends the parties; `jobs` lists them",
    ]


def command_name() -> str:
    """How this installation's command is called from the current folder."""
    script = Path(sys.executable).with_name("sottovoce")
    found = shutil.which("sottovoce")
    if found is not None and Path(found).resolve() == script.resolve():
        return "sottovoce"
    if not script.is_file():
        return f"{shlex.quote(sys.executable)} -m sottovoce"
    here = Path.cwd()
    return shlex.quote(str(script.relative_to(here) if script.is_relative_to(here) else script))


def _as_json(outcome: Outcome, compiled: int, seconds: dict[str, float]) -> dict[str, Any]:
    from sottovoce.models.speech.demo_clip import DEMO_CLIP_NOTE

    return {
        "version": __version__,
        "label": outcome.classified["results"][0]["predictions"][0]["label"],
        "clip": DEMO_CLIP_NOTE,
        "processes": outcome.pids,
        "compiled_kernels": compiled,
        **seconds,
        "classify": outcome.classified,
    }
