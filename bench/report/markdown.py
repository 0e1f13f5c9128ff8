"""The tables, in Markdown, made from rows. A row without a figure stands in its table with the reason."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import Final

from sottovoce.bench.price import Prices, cost_per_million
from sottovoce.bench.report import text
from sottovoce.bench.report.ratios import Ratio
from sottovoce.bench.report.series import measured, over_batches
from sottovoce.bench.schema import NetworkRow, NetworkUsed, OfflineRow, Row, Summary

NONE: Final = text.NONE
SOURCES: Final = MappingProxyType({"dealer": "a dealer", "ot": "oblivious transfer"})


def table(header: Sequence[str], lines: Sequence[Sequence[str]], *, words: int = 1) -> str:
    """A table whose first `words` columns are words and whose others are figures, set right."""
    rule = ["---"] * words + ["---:"] * (len(header) - words)
    return "\n".join("| " + " | ".join(plain(value) for value in line) + " |" for line in (header, rule, *lines))


def rows_table(rows: Sequence[Row]) -> str:
    """Every row, with what was measured or why it was not."""
    header = (
        "model", "system, protocol", "adversary", "network", "links", "lanes", "batch", "time (quartiles)", "clips/s",
        "rounds", "sent per clip and party", "memory of a party", "labels as in the clear",
    )  # fmt: skip
    if not any(row.preprocessing for row in rows):
        return table(header, [_row(row) for row in rows], words=5)
    ahead = ("preprocessing of the batch (quartiles)", "sent for it per clip and party")
    return table((*header, *ahead), [(*_row(row), *_ahead(row)) for row in rows], words=5)


def best_table(rows: Sequence[Row]) -> str:
    """For each model and protocol: its smallest batch, and the batch of the highest throughput."""
    header = (
        "model",
        "protocol",
        "one batch of",
        "takes (quartiles)",
        "most clips/s",
        "at batch",
        "sent per clip, all parties",
    )
    lines = []
    for curve in over_batches(rows).values():
        least, best = curve[0], max(curve, key=lambda row: row.clips_per_s or 0.0)
        lines.append(
            (
                text.model(least), text.system(least), text.count(least.batch, "clip"), text.spread(least.online_ms),
                _optional(best.clips_per_s), f"{best.batch:,}", text.size(sum(best.bytes_sent) / best.batch),
            )
        )  # fmt: skip
    return table(header, lines, words=2)


def networks_table(rows: Sequence[Row]) -> str:
    """The networks of the rows: what was asked for, and what was measured on them."""
    header = ("network", "made by", "round trip asked", "measured", "rate asked", "measured")
    used = {row.network.name: row.network for row in rows}.values()
    return table(header, [_network(network) for network in used], words=2)


def validation_table(rows: Sequence[NetworkRow]) -> str:
    """What each network came to, alone and under load."""
    header = (
        "network", "made by", "round trip asked", "measured", "rate asked", "measured", "each of three at once",
        "32 KB and a byte back", "process that delays, of a core",
    )  # fmt: skip
    lines = [
        (
            *_network(row.used),
            text.rate(sum(row.together_mbit_s) / len(row.together_mbit_s)),
            text.spread(row.message_ms),
            f"{100 * row.shaper_share:.0f} %",
        )
        for row in rows
    ]
    return table(header, lines, words=2)


def offline_table(rows: Sequence[OfflineRow]) -> str:
    """Preprocessing by itself, per clip."""
    header = (
        "model", "protocol", "source", "network", "clips in a run", "time per clip (quartiles)", "sent per clip: P0",
        "P1", "stored per clip: P0", "P1",
    )  # fmt: skip
    lines = []
    for row in rows:
        first = (row.model, row.protocol, SOURCES[row.source], text.network(row.network), f"{row.clips:,}")
        if row.clip_ms is None:
            lines.append((*first, text.reason(row), *[NONE] * 4))
        else:
            figures = (*row.clip_bytes, *row.clip_stored_bytes)
            lines.append((*first, text.spread(row.clip_ms), *map(text.size, figures)))
    return table(header, lines, words=4)


def ratios_table(ratios: Sequence[Ratio]) -> str:
    """Ours beside the others."""
    header = (
        "model", "network", "other system", "its security", "its links", "ours", "our links", "batch", "ours takes",
        "the other takes", "ratio",
    )  # fmt: skip
    return table(header, [_ratio(ratio) for ratio in ratios], words=7)


def settings_list(rows: Sequence[Row]) -> str:
    """What each system is and how it was set, one line for each."""
    lines = {}
    for row in rows:
        settings = ", ".join(f"{key} = {value}" for key, value in row.settings.items())
        version = f" {plain(row.version)}" if row.version else ""
        facts = (f"{text.count(row.parties, 'party', 'parties')}" if row.parties else "", row.security, settings)
        about = "; ".join(fact for fact in facts if fact) or text.reason(row)
        lines[text.system(row)] = f"- **{plain(text.system(row))}**{version}: {plain(about)}"
    return "\n".join(lines.values())


def costs_table(rows: Sequence[Row], prices: Prices) -> str:
    """The cheapest batch of each model and protocol on each machine of the price table."""
    unit = f"{prices.currency} per million clips"
    header = (
        "model",
        "protocol",
        "machine of each party",
        "batch",
        f"machines, {prices.currency}",
        f"traffic, {prices.currency}",
        unit,
    )
    lines: list[tuple[str, ...]] = []
    for curve in over_batches(rows).values():
        for machine in prices.machine:
            found = [(cost_per_million(row, prices, machine), row) for row in curve]
            usable = [pair for pair in found if not pair[0].reason]
            first = (text.model(curve[0]), text.system(curve[0]), machine.name)
            if not usable:
                lines.append((*first, NONE, NONE, NONE, found[0][0].reason))
                continue
            cost, row = min(usable, key=lambda pair: pair[0].total)
            lines.append((*first, f"{row.batch:,}", *(f"{v:,.2f}" for v in (cost.machines, cost.traffic, cost.total))))
    return table(header, lines, words=3)


def _row(row: Row) -> tuple[str, ...]:
    first = (
        text.model(row), text.system(row), row.adversary or NONE, text.network(row.network), text.links(row),
        str(row.lanes), f"{row.batch:,}",
    )  # fmt: skip
    if not measured([row]):
        return (*first, text.reason(row), *[NONE] * 5)
    sent = max(row.bytes_sent) / row.batch if row.bytes_sent else None
    return (
        *first,
        text.spread(row.online_ms),
        _optional(row.clips_per_s),
        _optional(row.rounds),
        NONE if sent is None else text.size(sent),
        text.size(1e6 * max(row.memory_mb)) if row.memory_mb else NONE,
        NONE if row.label_agreement is None else f"{100 * row.label_agreement:.4g} %",
    )


def _ahead(row: Row) -> tuple[str, str]:
    """What was done ahead of time for the row's batch."""
    if not row.preprocessing:
        return NONE, NONE
    sent = max(row.offline_bytes) / row.batch if row.offline_bytes else None
    return text.spread(row.offline_ms), NONE if sent is None else text.size(sent)


def _network(used: NetworkUsed) -> tuple[str, ...]:
    made = {"loopback": "this machine", "netem": "the kernel (netem)", "user-space": "a process that delays"}
    return (
        used.name,
        made[used.method],
        NONE if used.rtt_ms is None else text.ms(used.rtt_ms),
        text.spread(used.measured_rtt_ms),
        NONE if used.mbit_s is None else text.rate(used.mbit_s),
        _rates(used.measured_mbit_s),
    )


def _rates(summary: Summary | None) -> str:
    if summary is None:
        return NONE
    return f"{text.rate(summary.median)} ({text.rate(summary.lower)} to {text.rate(summary.upper)})"


def _ratio(ratio: Ratio) -> tuple[str, ...]:
    ours, peer, interval = ratio.ours, ratio.peer, ratio.interval
    found = f"none: {ratio.reason}"
    if interval is not None:
        low, high = text.figure(interval.low), text.figure(interval.high)
        found = f"{text.figure(interval.ratio)} ({low} to {high}, {ratio.spread})"
    return (
        text.model(ours), text.network(ours.network), text.system(peer), peer.security or NONE, text.links(peer),
        ours.protocol, text.links(ours),
        f"{ours.batch:,}", text.spread(ours.online_ms), text.spread(peer.online_ms), found,
    )  # fmt: skip


def _optional(value: float | None) -> str:
    return NONE if value is None else text.figure(value)


def plain(words: str) -> str:
    """On one line, and nothing in it is Markdown or HTML."""
    line = " ".join(words.split())
    for mark in ("\\", "|", "<", "[", "*", "`"):
        line = line.replace(mark, "\\" + mark if mark != "<" else "&lt;")
    return line
