"""Plots over what surrounds a batch: threads, networks, other systems."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import Final, get_args

from sottovoce.bench.paper_reference import PACKAGED, Adversary, References, load_references
from sottovoce.bench.price import Prices
from sottovoce.bench.report import text
from sottovoce.bench.report.batch_charts import clips_per_s
from sottovoce.bench.report.chart import Chart, Guide, Panel, Point, Series
from sottovoce.bench.report.ratios import Ratio, ratios
from sottovoce.bench.report.series import first_of_each, group, measured, name, over_batches, style, who
from sottovoce.bench.schema import NetworkUsed, Results, Row

PAPER_PARTIES: Final = 3
BOUNDS: Final = MappingProxyType({"exactly": "", "about": "about ", "under": "under "})
SPREAD: Final = 0.75
"""How much of a batch size's place its systems take; two stand `DODGE` apart at most."""
DODGE: Final = 0.25


def lanes(results: Results, prices: Prices) -> Chart | None:
    """Throughput over the number of lanes, as a multiple of that with the fewest; smallest and largest batch."""
    chosen = over_batches(results.rows)
    if not chosen:
        return None
    first = next(iter(chosen.values()))[0]
    alike = [
        r for r in measured(results.rows) if (r.network.name, r.encrypted) == (first.network.name, first.encrypted)
    ]
    found: list[Series] = []
    for key, rows in group(alike, who).items():
        scaled = [curve for curve in _over_lanes(rows) if len(curve) > 1]
        ends = scaled[:1] + scaled[1:][-1:]
        for dash, curve in enumerate(ends):
            base = clips_per_s(curve[0]).y
            rates = [clips_per_s(row) for row in curve]
            points = tuple(
                Point(row.lanes, rate.y / base, rate.low / base, rate.high / base)
                for row, rate in zip(curve, rates, strict=True)
            )
            colour, system = style(key, results.rows)
            words = f"{name(curve[0], results.rows)}, batch {curve[0].batch:,}"
            found.append(Series(words, colour, len(ends) * system + dash, points))
    if not found:
        return None
    numbers = sorted({point.x for series in found for point in series.points})
    panel = Panel(
        "lanes (threads of each party)",
        "throughput, times that of one lane" if numbers[0] == 1 else "throughput, times that of the fewest lanes",
        tuple(found),
        tuple((number, f"{number:g}") for number in numbers),
        diagonal="proportional" if numbers[0] == 1 else "",
    )
    note = f"all parties together have {text.count(results.environment.cores, 'core')}; "
    note += f"{text.network(first.network)}, {text.links(first)}"
    return Chart("lanes", "Throughput against the number of threads of each party", note, (panel,))


def networks(results: Results, prices: Prices) -> Chart | None:
    """The time of the smallest batch over the networks, nearest first, beside the paper's figures."""
    rows = [row for row in measured(results.rows) if row.parties > 1]
    if not rows:
        return None
    batch = min(row.batch for row in rows)
    rows = [row for row in rows if row.batch == batch and row.lanes == min(r.lanes for r in rows)]
    places = {used.name: place for place, used in enumerate(sorted(_networks(rows), key=_distance))}
    if len(places) < 2:
        return None
    found = []
    for key, curve in group(rows, who).items():
        ordered = first_of_each(curve, lambda row: places[row.network.name])
        points = tuple(_online(places[row.network.name], row) for row in ordered)
        found.append(Series(name(curve[0], rows), *style(key, results.rows), points))
    ticks = [(places[used.name], _network_tick(used)) for used in sorted(_networks(rows), key=_distance)]
    clips = "one clip" if batch == 1 else f"a batch of {batch} clips"
    panel = Panel(
        "network between the parties: round trip and rate of each link",
        f"time of {clips}, ms",
        tuple(found),
        tuple(ticks),
        log_x=False,
        guides=paper_guides() if batch == 1 else (),
    )
    note = f"from sending the shares to holding the answers; {_links(rows)}"
    return Chart("networks", f"Time of {clips} on each network", note, (panel,))


def peers(results: Results, prices: Prices) -> Chart | None:
    """Ratios to other systems at each batch size; a panel for each model and network."""
    known = [ratio for ratio in ratios(results.rows) if ratio.interval is not None]
    if not known:
        return None
    batches = sorted({ratio.ours.batch for ratio in known})
    pairs = list(dict.fromkeys((text.system(r.peer), text.system(r.ours)) for r in known))
    several = len({mine for _, mine in pairs}) > 1
    dodge = min(DODGE, SPREAD / len(pairs))
    panels = []
    for title in dict.fromkeys(_where(ratio.ours) for ratio in known):
        found = []
        for number, (peer, mine) in enumerate(pairs):
            words = f"{peer} / {mine.partition(' ')[2]}" if several else peer
            shift = (number - (len(pairs) - 1) / 2) * dodge
            here = (peer, mine, title)
            chosen = [r for r in known if (text.system(r.peer), text.system(r.ours), _where(r.ours)) == here]
            points = tuple(_ratio_point(batches.index(ratio.ours.batch) + shift, ratio) for ratio in chosen)
            found += [Series(words, number, number, points)] if points else []
        panels.append(
            Panel(
                "clips in a batch",
                "time of the other system / ours",
                tuple(found),
                tuple((place, f"{batch:,}") for place, batch in enumerate(batches)),
                title=title,
                log_x=False,
                joined=False,
                guides=(Guide(1.0, "equal"),),
            )
        )
    rows = [row for ratio in known for row in (ratio.peer, ratio.ours)]
    said = {f"{text.system(row)}: {row.security}, {text.links(row)}" for row in rows}
    note = "asked in turn in one run; above 1: ours is faster; "
    note += "bars: 95 % confidence of the ratio, with fewer than six pairs their range; "
    note += ", ".join(sorted(said))
    return Chart("peers", "Other systems beside ours: same model, weights and inputs", note, tuple(panels))


def packaged_references() -> References:
    """The figures that come with the package, whatever lies in the current folder: pages must not depend on it."""
    return load_references(folder=PACKAGED.parent)


def paper_guides() -> tuple[Guide, ...]:
    """The paper's times of one clip, as the package's reference figures have them."""
    references = packaged_references()
    figures = (references.time(adversary, PAPER_PARTIES) for adversary in get_args(Adversary))
    return tuple(
        Guide(1000 * f.time_s, f"the paper, {f.adversary}: {BOUNDS[f.bound]}{f.time_s:g} s")
        for f in figures
        if f is not None
    )


def _ratio_point(x: float, ratio: Ratio) -> Point:
    assert ratio.interval is not None
    found = ratio.interval
    return Point(x, found.ratio, found.low, found.high, text.figure(found.ratio))


def _online(x: float, row: Row) -> Point:
    assert row.online_ms is not None
    return Point(x, row.online_ms.median, row.online_ms.lower, row.online_ms.upper)


def _over_lanes(rows: Sequence[Row]) -> list[list[Row]]:
    """For each batch size, smallest first, its rows by the number of lanes."""
    batches = group(rows, lambda row: row.batch)
    return [first_of_each(batches[batch], lambda row: row.lanes) for batch in sorted(batches)]


def _networks(rows: Sequence[Row]) -> list[NetworkUsed]:
    return list({row.network.name: row.network for row in rows}.values())


def _distance(used: NetworkUsed) -> tuple[float, float]:
    """Loopback first, then by round trip, of equals the faster first."""
    return -1.0 if used.rtt_ms is None else used.rtt_ms, -(used.mbit_s or float("inf"))


def _network_tick(used: NetworkUsed) -> str:
    rtt = used.rtt_ms if used.measured_rtt_ms is None else used.measured_rtt_ms.median
    if used.rtt_ms is None or rtt is None:
        return f"{used.name}\n(this machine)"
    rate = used.mbit_s if used.measured_mbit_s is None else used.measured_mbit_s.median
    return "\n".join([used.name, *text.figures(rtt, rate).split(", ")])


def _where(row: Row) -> str:
    return f"{text.model(row)}, {text.network(row.network)}"


def _links(rows: Sequence[Row]) -> str:
    return ", ".join(dict.fromkeys(text.links(row) for row in rows))
