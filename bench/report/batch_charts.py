"""Plots over the batch size: throughput, traffic, memory, money."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from sottovoce.bench.price import Prices, cost_per_million
from sottovoce.bench.report import text
from sottovoce.bench.report.chart import Chart, Panel, Point
from sottovoce.bench.report.series import curves, over_batches
from sottovoce.bench.schema import Results, Row

MB: Final = 1e6


def throughput(results: Results, prices: Prices) -> Chart | None:
    """Clips per second and time per clip over the batch size."""
    groups = over_batches(results.rows)
    panels = (
        _batch_panel(results, groups, "throughput, clips per second", clips_per_s),
        _batch_panel(results, groups, "time of the batch per clip, ms", _ms_per_clip),
    )
    return _chart("throughput", "Throughput and time per clip against batch size", groups, panels)


def traffic(results: Results, prices: Prices) -> Chart | None:
    """Bytes per clip over the batch size."""
    groups = over_batches(results.rows)
    panel = _batch_panel(results, groups, "sent per clip by all parties together, MB", _mb_per_clip)
    return _chart("traffic", "What the parties send each other for one clip, against batch size", groups, (panel,))


def memory(results: Results, prices: Prices) -> Chart | None:
    """The largest party's memory over the batch size."""
    groups = over_batches(results.rows)
    panel = _batch_panel(results, groups, "memory of the largest party, MB", _memory_mb)
    return _chart("memory", "Peak resident memory of a party since its start, against batch size", groups, (panel,))


def money(results: Results, prices: Prices) -> Chart | None:
    """What a million clips cost, on the first machine of the price table."""
    groups = over_batches(results.rows)
    machine = prices.machine[0]

    def cost(row: Row) -> Point | None:
        found = cost_per_million(row, prices, machine)
        return None if found.reason else Point(row.batch, found.total, found.total, found.total)

    example = "EXAMPLE PRICES: " if prices.example else ""
    panel = _batch_panel(results, groups, f"{prices.currency} per million clips", cost)
    title = f"{example}machines and traffic of all parties, per million clips"
    words = f"{machine.price_per_hour:g} {prices.currency} per machine-hour, {prices.traffic.price_per_gb:g} per GB"
    return _chart("money", title, groups, (panel,), extra=words)


def clips_per_s(row: Row) -> Point:
    assert row.online_ms is not None
    times = row.online_ms
    median, slow, fast = (1000 * row.batch / ms for ms in (times.median, times.upper, times.lower))
    return Point(row.batch, median, slow, fast)


def _chart(
    name: str,
    title: str,
    groups: dict[tuple[str, str, str], list[Row]],
    panels: Sequence[Panel | None],
    *,
    extra: str = "",
) -> Chart | None:
    usable = tuple(panel for panel in panels if panel is not None)
    if not usable:
        return None
    first = next(iter(groups.values()))[0]
    note = f"{text.network(first.network)}, {text.count(first.lanes, 'lane')}, {text.links(first)}"
    return Chart(name, title, f"{note}; {extra}" if extra else note, usable)


def _batch_panel(
    results: Results,
    groups: dict[tuple[str, str, str], list[Row]],
    y_label: str,
    value: Callable[[Row], Point | None],
) -> Panel | None:
    found = curves(groups, results.rows, value)
    batches = sorted({point.x for series in found for point in series.points})
    ticks = tuple((batch, f"{batch:,.0f}") for batch in batches)
    return Panel("clips in a batch", y_label, found, ticks) if found else None


def _ms_per_clip(row: Row) -> Point:
    assert row.online_ms is not None
    times = row.online_ms
    median, lower, upper = (ms / row.batch for ms in (times.median, times.lower, times.upper))
    return Point(row.batch, median, lower, upper)


def _mb_per_clip(row: Row) -> Point | None:
    sent = (sum(row.bytes_sent) + sum(row.offline_bytes)) / row.batch / MB
    return Point(row.batch, sent, sent, sent) if row.bytes_sent and sent else None


def _memory_mb(row: Row) -> Point | None:
    largest = max(row.memory_mb, default=0.0)
    return Point(row.batch, largest, largest, largest) if largest else None
