"""The profile in a terminal, readable at 80 columns."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Final

from rich.table import Table
from rich.text import Text

from sottovoce.bench.profiling.schema import Line, Profile, Step
from sottovoce.bench.schema import Summary

BAR: Final = 10
COMPUTE, WAIT = "█", "░"
SMALL: Final = 0.01
"""Lines below this share of the total are not opened; kernels below it are one line."""
SLOWEST: Final = 5
STYLES: Final = {"request": "bold", "layer": "bold", "operation": ""}
WHAT: Final = {
    "kernel": "kernels",
    "python": "Python between kernels and messages",
    "send": "sending (TLS, system calls)",
    "recv": "receiving what has arrived",
    "transfer": "messages on their way (network, wake-up)",
}


def make_table(profile: Profile, *, everything: bool = False) -> Table:
    """Layer, operation, and in it kernels, messages and Python. everything: nothing is folded."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    table.add_column("layer, operation", overflow="fold", ratio=1)
    for name in ("calls", "rounds", "kB sent", "host ms", "dev ms", "wait ms", "share"):
        table.add_column(name.replace(" ", "\n"), justify="right", overflow="fold", no_wrap=False)
    table.add_column(f"{COMPUTE} host\n{WAIT} wait", width=BAR, no_wrap=True)
    longest = max((line.share for line in profile.total.children), default=1.0)
    for depth, line in _walk(profile.total, 0, everything):
        table.add_row(*_cells(depth, line, longest), style=STYLES.get(line.kind, "dim"))
    return table


def overhead_text(profile: Profile) -> str:
    """What tracing costs, as measured in this run."""
    if profile.overhead is None:
        return "tracing: its cost was not measured (traces from files)"
    ratio = profile.overhead.ratio
    return (
        f"tracing: a traced request takes {ratio.median:.3f} ({ratio.lower:.3f} to {ratio.upper:.3f}) times an "
        f"untraced one, {ratio.n} pairs in turns, median (quartiles); traced {_text(profile.overhead.traced_ms)}, "
        f"untraced {_text(profile.overhead.untraced_ms)} at the client"
    )


def request_text(profile: Profile) -> str:
    """How long a request takes, and how the parties spend it."""
    total, inside = profile.total, profile.request_ms
    online = "" if profile.online_ms is None else f"{_text(profile.online_ms)} at the client, "
    return (
        f"request: {online}{_text(inside)} in the parties, median (quartiles) of {inside.n}; a party computes "
        f"{total.compute_ms:.2f} ms and waits {total.wait_ms:.2f} ms, {total.rounds} rounds, "
        f"{total.bytes_sent / 1e6:.3f} MB sent"
    )


def critical_lines(profile: Profile) -> list[str]:
    """What the answer waited for, by kind, then the slowest items."""
    kinds: dict[str, float] = defaultdict(float)
    for step in profile.critical_path:
        kinds[step.kind] += step.ms
    whole = sum(kinds.values()) or 1.0
    lines = [f"What the answer waited for (critical path over all parties, {whole:.2f} ms):"]
    for kind, ms in sorted(kinds.items(), key=lambda pair: -pair[1]):
        lines.append(f"  {ms:8.2f} ms  {100 * ms / whole:3.0f} %  {WHAT[kind]}")
    lines.append("Slowest items on it:")
    for number, step in enumerate(profile.critical_path[:SLOWEST], 1):
        lines.append(f"  {number}. {step.ms:7.2f} ms  {100 * step.share:3.0f} %  {_place(step)}")
    return lines


def _walk(line: Line, depth: int, everything: bool) -> Iterator[tuple[int, Line]]:
    """Lines with their depth. Small lines are not opened, and small kernels are one line."""
    yield depth, line
    if line.share < SMALL and not everything:
        return
    small = [] if everything else [c for c in line.children if c.kind == "kernel" and c.share < SMALL]
    for child in line.children:
        if child not in small:
            yield from _walk(child, depth + 1, everything)
    if small:
        yield depth + 1, small[0] if len(small) == 1 else _joined(small)


def _joined(lines: Sequence[Line]) -> Line:
    """Several kernels as one line."""
    device = [line.device_ms for line in lines if line.device_ms is not None]
    return Line(
        name=f"{len(lines)} kernels",
        kind="kernel",
        calls=sum(line.calls for line in lines),
        rounds=0,
        bytes_sent=0,
        compute_ms=sum(line.compute_ms for line in lines),
        device_ms=sum(device) if device else None,
        wait_ms=0.0,
        share=sum(line.share for line in lines),
    )


def _cells(depth: int, line: Line, longest: float) -> list[Text]:
    calls = "" if line.kind == "python" else f"{line.calls:.1f}".removesuffix(".0")
    cells = [
        "  " * depth + line.name,
        calls,
        str(line.rounds) if line.rounds else "",
        f"{line.bytes_sent / 1e3:,.1f}" if line.bytes_sent else "",
        f"{line.compute_ms:.2f}",
        "-" if line.device_ms is None else f"{line.device_ms:.2f}",
        f"{line.wait_ms:.2f}" if line.wait_ms else "",
        f"{100 * line.share:.1f}%",
        "" if line.kind == "request" else _bar(line, longest),
    ]
    return [Text(cell) for cell in cells]


def _bar(line: Line, longest: float) -> str:
    """As long as the line's share, the longest layer's filling it."""
    full = round(BAR * line.share / longest) if longest else 0
    waited = round(full * line.wait_ms / line.total_ms) if line.total_ms else 0
    return COMPUTE * (full - waited) + WAIT * waited


def _place(step: Step) -> str:
    where = " ".join(word for word in (step.layer, step.operation) if word) or "outside layers"
    what = {
        "kernel": f"kernel {step.name}",
        "python": "Python",
        "send": f"sending {step.name}",
        "recv": f"receiving {step.name}",
        "transfer": f"{step.name} on its way",
    }
    return f"{where}: {what[step.kind]}"


def _text(values: Summary) -> str:
    return f"{values.median:.2f} ms ({values.lower:.2f} to {values.upper:.2f})"
