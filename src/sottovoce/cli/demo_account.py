"""What `sottovoce demo` tells: who takes part, what the processes say, what came of it."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sottovoce import __version__
from sottovoce.cli.next_steps import NUMBERS, next_steps
from sottovoce.cli.output import (
    RANDOM,
    TEXT_WIDTH,
    labelled,
    milliseconds,
    offline_lines,
    per_party,
    printable,
)

if TYPE_CHECKING:
    from rich.console import Console

    from sottovoce.engine.protocols.table import ProtocolRow

_CLOCK = re.compile(r"^\d\d:\d\d:\d\d ")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a run: Alice's JSON, each process's id, and how long all took from start to label.

    prepared: each party's JSON of `sottovoce prepare`, where the protocol needs it.
    """

    classified: dict[str, Any]
    pids: dict[str, int]
    elapsed_s: float
    prepared: list[dict[str, Any]] = field(default_factory=list)


def introduce(console: Console, row: ProtocolRow) -> None:
    """Who takes part."""
    number = NUMBERS[row.parties].capitalize()
    console.print(
        f"{number} processes, mutual TLS 1.3 between them; each has its own key and nobody else's.", style="bold"
    )
    console.print("  Alice       has a recording, and alone opens the label")
    console.print("  Bob         has the weights of the model")
    names = " ".join(f"P{rank}" for rank in range(row.parties))
    console.print(f"  {names:11} compute on shares: they get neither the recording nor a weight nor the label\n")


def narrate(console: Console, role: str, line: str) -> None:
    """One line of the account. What Bob reports about a party, the party says itself."""
    text = _CLOCK.sub("", line).removeprefix(f"{role} ")
    if role == "Bob" and re.match(r"P\d ", text):
        return
    style = {"Alice": "magenta", "Bob": "cyan"}.get(role, "green")
    from rich.text import Text

    console.print(Text.assemble((f"  {role:<6}", style), printable(text)), soft_wrap=True)


def show(console: Console, outcome: Outcome) -> None:
    """Label, times, bytes, and what to do next."""
    from sottovoce.engine.protocols.table import find
    from sottovoce.models.speech.demo_clip import DEMO_CLIP_NOTE

    result, cost = outcome.classified, outcome.classified["cost"]
    row = find(result["protocol"])
    (clip,) = result["results"]
    label = clip["predictions"][0]["label"]
    console.print(f"\nAlice's label: {printable(label)}", style="bold")
    console.print(textwrap.fill(f"(The clip is {DEMO_CLIP_NOTE}.)", TEXT_WIDTH) + "\n", soft_wrap=True)
    times = [f"{name} {milliseconds(cost[f'{name}_ms'])}" for name in ("features", "sharing", "online", "opening")]
    lines = [
        f"time      {'   '.join(times)}",
        f"          {NUMBERS[row.parties]} processes, start to label: {outcome.elapsed_s:.1f} s",
        *offline_lines(cost["offline_ms"], cost["offline_bytes"]),
        f"sent      {per_party(cost['bytes_sent'])} bytes to other parties",
        f"          input shares {cost['input_bytes']:,} bytes, answers {cost['output_bytes']:,} bytes",
        f"rounds    {cost['rounds']}",
        f"links     {'mutual TLS 1.3' if result['encrypted'] else 'INSECURE'}",
        labelled("protocol", f"{result['protocol']} ({result['security']})"),
        f"program   {result['program'][:16]}…",
        "",
        *next_steps(row),
    ]
    if result["random_weights"]:
        console.print(RANDOM, style="bold red")
    for line in lines:
        console.print(line, soft_wrap=True)


def as_json(outcome: Outcome, compiled: int, seconds: dict[str, float]) -> dict[str, Any]:
    """The same for --json. compiled: kernels, before the processes; seconds: how long what took."""
    from sottovoce.models.speech.demo_clip import DEMO_CLIP_NOTE

    return {
        "version": __version__,
        "label": outcome.classified["results"][0]["predictions"][0]["label"],
        "clip": DEMO_CLIP_NOTE,
        "processes": outcome.pids,
        "compiled_kernels": compiled,
        **seconds,
        "prepared": outcome.prepared,
        "classify": outcome.classified,
    }
