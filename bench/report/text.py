"""How figures and names are written: the same in tables, in plots and on the page."""

from __future__ import annotations

from collections.abc import Sequence

from sottovoce.bench.schema import NetworkUsed, OfflineRow, Row, Summary

FEW = 5
"""Of fewer runs the number is said."""
SECOND_MS = 1000.0
MS_US = 1000.0
LONGEST = 240
"""Characters of a reason."""
NONE = "-"


def figure(value: float) -> str:
    """Three digits that count, thousands apart: 0.0123, 4.57, 89.1, 12,300 (exact from 100 on)."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def ms(value: float) -> str:
    """A time given in ms, with its unit: ms below a second, s from there on."""
    return f"{figure(value)} ms" if value < SECOND_MS else f"{figure(value / SECOND_MS)} s"


def us(value: float) -> str:
    """A time given in µs, with its unit."""
    return f"{figure(value)} µs" if value < MS_US else ms(value / MS_US)


def spread(summary: Summary | None) -> str:
    """Median and quartiles of times in ms: "24.1 ms (23.5 to 25)"; "-" without."""
    if summary is None:
        return NONE
    scale = 1.0 if summary.median < SECOND_MS else SECOND_MS
    few = f", {summary.n} runs" if summary.n < FEW else ""
    return f"{ms(summary.median)} ({figure(summary.lower / scale)} to {figure(summary.upper / scale)}{few})"


def size(value: float) -> str:
    """Bytes, with their unit."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= factor:
            return f"{figure(value / factor)} {unit}"
    return f"{figure(value)} B"


def sizes(values: Sequence[float]) -> str:
    """Bytes of several parties, by rank."""
    return ", ".join(map(size, values))


def rate(mbit_s: float) -> str:
    """Of a link."""
    return f"{figure(mbit_s / 1000)} Gbit/s" if mbit_s >= 1000 else f"{figure(mbit_s)} Mbit/s"


def network(used: NetworkUsed) -> str:
    """What it was: "wan (40.6 ms, 94 Mbit/s measured; 40 ms, 100 Mbit/s asked)", "loopback"."""
    asked = figures(used.rtt_ms, used.mbit_s)
    if not asked:
        return used.name
    rtt, rates = used.measured_rtt_ms, used.measured_mbit_s
    found = figures(rtt.median if rtt else None, rates.median if rates else None)
    return f"{used.name} ({found} measured; {asked} asked)" if found else f"{used.name} ({asked} asked)"


def figures(rtt_ms: float | None, mbit_s: float | None) -> str:
    """Round trip and rate of a link, as far as they are known."""
    known = [ms(rtt_ms)] if rtt_ms is not None else []
    return ", ".join([*known, rate(mbit_s)] if mbit_s is not None else known)


def system(row: Row) -> str:
    """System and protocol, once each, and a device that is not the CPU: "sottovoce rep3", "sottovoce rep3 on cuda"."""
    named = row.system if row.protocol in ("", row.system) else f"{row.system} {row.protocol}"
    return named if row.device == "cpu" else f"{named} on {row.device}"


def model(row: Row) -> str:
    """The model's name; random weights are said."""
    return f"{row.model} (random weights)" if row.random_weights else row.model


def links(row: Row) -> str:
    """How the parties' messages were protected."""
    if row.parties == 0:
        return NONE  # a peer that could not say anything of itself
    if row.parties == 1:
        return "no links"
    return "encrypted links" if row.encrypted else "links NOT encrypted"


def count(number: int, noun: str, nouns: str = "") -> str:
    """ "1 clip", "2 clips"; nouns: the plural, if it is not made with an s."""
    return f"{number:,} {noun if number == 1 else nouns or noun + 's'}"


def reason(row: Row | OfflineRow) -> str:
    """Why a row has no figure, on one line and short enough for a table; all of it is in the JSON."""
    line = f"{row.status}: {' '.join(row.reason.split())}" if row.reason else row.status
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"
