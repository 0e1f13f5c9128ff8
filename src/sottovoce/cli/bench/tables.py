"""Rows as a table in the terminal. What is the same in all rows stands above it."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from sottovoce.cli.output import INSECURE, TEXT_WIDTH, make_table, milliseconds, printable, stdout_console

if TYPE_CHECKING:
    from sottovoce.bench.schema import NetworkUsed, Results, Row

RANDOM_WEIGHTS = "random weights"
CAPTION = (
    "online: from sending the shares to holding the answers, as the client sees it: median (quartiles). compute, wait: "
    "means over the parties. MB: sent by a party, mean. memory: peak of the largest party. agree: labels equal to "
    "those of the network in the clear."
)
CAPTION_AHEAD = (
    "offline: preprocessing of the batch, by a dealer, done before online begins; MB to and from both parties together."
)


def show_rows(results: Results) -> None:
    """One table of all rows, then what failed, then the conditions."""
    from sottovoce.bench.environment import describe

    console = stdout_console()
    rows = results.rows
    named: list[tuple[str, Callable[[Row], str]]] = [
        ("system", lambda r: r.system if r.system == r.protocol else f"{r.system} {r.protocol}"),
        ("model", lambda r: f"{r.model}{f' ({RANDOM_WEIGHTS})' if r.random_weights else ''}"),
        ("network", lambda r: network_name(r.network)),
        ("lanes", lambda r: str(r.lanes)),
        ("links", lambda r: "-" if r.parties == 0 else "TLS" if r.encrypted else "plain"),
        ("batch", lambda r: str(r.batch)),
    ]
    same = [name for name, get in named[:-1] if len({get(row) for row in rows}) == 1]
    if rows:
        console.print("   ".join(f"{name} {get(rows[0])}" for name, get in named if name in same), soft_wrap=True)
    columns = [(name, get) for name, get in named if name not in same]
    ahead = any(row.preprocessing for row in rows)
    figures = (
        *(("offline",) if ahead else ()),
        "online",
        "per clip",
        "clips/s",
        "compute",
        "wait",
        "MB",
        "rounds",
        "memory",
        "agree",
    )
    table = make_table([name for name, _ in columns], figures)
    for row in rows:
        if row.status == "measured":
            before = (_offline(row),) if ahead else ()
            table.add_row(*(get(row) for _, get in columns), *before, *_figures(row))
        else:
            table.add_row(*(get(row) for _, get in columns), row.status)
    console.print(table)
    for text in dict.fromkeys(f"{r.system} {r.protocol}: {r.status}: {r.reason}" for r in rows if r.reason):
        console.print(textwrap.fill(printable(text), TEXT_WIDTH), soft_wrap=True)
    console.print(textwrap.fill(CAPTION, TEXT_WIDTH), style="dim", soft_wrap=True)
    if ahead:
        console.print(textwrap.fill(CAPTION_AHEAD, TEXT_WIDTH), style="dim", soft_wrap=True)
    ours_plain = any(row.system == "sottovoce" and not row.encrypted for row in rows)
    if ours_plain:
        console.print(INSECURE, style="bold red", soft_wrap=True)
    console.print(describe(results.environment), style="dim", soft_wrap=True)


def show_ratios(results: Results) -> None:
    """Each peer's time over ours, where both did the same work."""
    from sottovoce.bench.report import text
    from sottovoce.bench.report.ratios import ratios

    console = stdout_console()
    table = make_table(("peer", "ours"), ("batch", "peer takes", "ours takes", "ratio", "spread"))
    for found in ratios(results.rows):
        if found.interval is None:
            continue
        ratio = found.interval
        table.add_row(
            f"{found.peer.system} {found.peer.protocol}",
            found.ours.protocol,
            str(found.ours.batch),
            text.spread(found.peer.online_ms),
            text.spread(found.ours.online_ms),
            f"{ratio.ratio:.3g}",
            f"{ratio.low:.3g} to {ratio.high:.3g} ({found.spread})",
        )
    console.print(table)
    for system, security in dict.fromkeys((f"{r.system} {r.protocol}", r.security) for r in results.rows if r.security):
        console.print(f"{system}: {security}", soft_wrap=True)


def network_name(used: NetworkUsed) -> str:
    """Name and method, with what was measured on it."""
    if used.method == "loopback" or used.measured_rtt_ms is None or used.measured_mbit_s is None:
        return used.name
    measured = f"{used.measured_rtt_ms.median:.2g} ms, {used.measured_mbit_s.median:,.0f} Mbit/s measured"
    return f"{used.name} ({used.method}: {measured})"


def _offline(row: Row) -> str:
    """Time and bytes of the batch's preprocessing."""

    if not row.preprocessing:
        return "none"
    if row.offline_ms is None:
        return "-"
    sent = f", {sum(row.offline_bytes) / 1e6:.3g} MB" if row.offline_bytes else ""
    return f"{milliseconds(row.offline_ms.median)}{sent}"


def _figures(row: Row) -> Sequence[str]:
    from sottovoce.bench.report import text

    assert row.online_ms is not None
    mean_bytes = sum(row.bytes_sent) / len(row.bytes_sent) if row.bytes_sent else None
    return (
        text.spread(row.online_ms),
        milliseconds(row.online_ms.median / row.batch),
        f"{row.clips_per_s:,.4g}" if row.clips_per_s else "-",
        milliseconds(row.compute_ms.median) if row.compute_ms else "-",
        milliseconds(row.wait_ms.median) if row.wait_ms else "-",
        "-" if mean_bytes is None else f"{mean_bytes / 1e6:.3g}",
        "-" if row.rounds is None else str(row.rounds),
        f"{max(row.memory_mb):.0f} MB" if row.memory_mb else "-",
        "-" if row.label_agreement is None else f"{row.label_agreement:.1%}",
    )
