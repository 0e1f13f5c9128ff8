"""A comparison for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from sottovoce.bench.comparison.compare import Answer, Change, Comparison

STYLES: Mapping[Answer, str] = MappingProxyType(
    {"slower": "bold red", "faster": "green", "same": "", "unclear": "yellow"}
)
ALWAYS_SHOWN = 20


def render(comparison: Comparison, *, every: bool = False) -> RenderableType:
    """The verdict, then a table of what changed (of `every` benchmark if asked for), then what weakens it."""
    table = Table(caption=_level(comparison), caption_justify="left")
    table.add_column("benchmark", overflow="fold")
    for column in ("A", "B", "B / A", "interval", "passes", ""):
        table.add_column(column, justify="right", no_wrap=True)
    shown = comparison.changes if every or len(comparison.changes) <= ALWAYS_SHOWN else _changed(comparison.changes)
    for change in shown:
        table.add_row(*_cells(change))
    hidden = len(comparison.changes) - len(shown)
    lines = [f"and {hidden} more that are the same"] if hidden else []
    for label, commits, machines in zip("AB", comparison.commits, comparison.machines, strict=True):
        lines.append(f"{label}: {', '.join(commits) or 'unknown commit'}; {'; '.join(machines) or 'unknown machine'}")
    lines += [f"only in {label}: {name}" for label, only in _only(comparison) for name in only]
    lines += [f"note: {note}" for note in comparison.notes]
    return Group(_verdict(comparison), *([table] if shown else []), Text("\n".join(lines)))


def _changed(changes: Sequence[Change]) -> list[Change]:
    return [change for change in changes if change.answer != "same"]


def _only(comparison: Comparison) -> tuple[tuple[str, tuple[str, ...]], ...]:
    return ("A", comparison.only_a), ("B", comparison.only_b)


def _verdict(comparison: Comparison) -> Text:
    counts = {answer: sum(change.answer == answer for change in comparison.changes) for answer in STYLES}
    told = ", ".join(f"{count} {answer}" for answer, count in counts.items() if count)
    percent = 100 * (comparison.bound - 1)
    if comparison.failed:
        return Text(f"FAILED: B is more than {percent:g} % slower than A ({told})", STYLES["slower"])
    return Text(f"passed: nothing is more than {percent:g} % slower with confidence ({told})")


def _level(comparison: Comparison) -> str:
    how = "passes taken in turn" if comparison.paired else "passes"
    return (
        f"intervals from {how}; all {len(comparison.changes)} hold together with {comparison.confidence:.0%} confidence"
    )


def _cells(change: Change) -> tuple[str | Text, ...]:
    i = change.interval
    return (
        change.name,
        duration(change.a_ms),
        duration(change.b_ms),
        f"{i.ratio:.3f}",
        f"{i.low:.3f} to {i.high:.3f}",
        f"{change.passes[0]} / {change.passes[1]}",
        Text(change.answer, STYLES[change.answer]),
    )


def duration(ms: float) -> str:
    """In the unit that suits it."""
    for factor, unit in ((1e-3, "s"), (1, "ms"), (1e3, "us")):
        if ms * factor >= 1:
            return f"{ms * factor:.3g} {unit}"
    return f"{ms * 1e6:.3g} ns"
