"""The figures that a reader sees first: the best of each kind, with where they come from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from sottovoce.bench.report import text
from sottovoce.bench.report.ratios import OURS, Ratio, ratios
from sottovoce.bench.report.series import measured
from sottovoce.bench.schema import Environment, Results, Row

MODEL: Final = "paper"
"""The network that the headline is about."""


@dataclass(frozen=True, slots=True)
class Source:
    """A file of results. path: as links on the page write it."""

    path: PurePosixPath
    results: Results

    @property
    def stem(self) -> str:
        """The start of the names of its plots: its path without suffix."""
        return "-".join(self.path.with_suffix("").parts)


@dataclass(frozen=True, slots=True)
class Headline:
    """A line: what was measured, the figure, under which conditions, in which file."""

    what: str
    figure: str
    conditions: str
    source: Source


def headlines(sources: Sequence[Source]) -> list[Headline]:
    """Of all files, in the order of reading."""
    ours = [
        (source, [row for row in measured(source.results.rows) if _is_ours(row)])
        for kind in ("paper", "sweep")
        for source in sources
        if source.results.kind == kind
    ]
    return [*_one_clip(ours), *_throughput(ours), *_beside_peers(sources), *_accuracy(sources)]


def measured_on(where: Environment) -> str:
    """Date, commit and machine, in a few words."""
    commit = f"commit {where.commit[:10]}" if where.commit else f"version {where.sottovoce}"
    changes = " with uncommitted changes" if where.dirty else ""
    return f"{where.created[:10]}, {commit}{changes}, {where.processor}, {text.count(where.cores, 'core')}"


def _is_ours(row: Row) -> bool:
    return row.system == OURS and row.parties > 1 and row.model == MODEL and row.device == "cpu"


def _one_clip(ours: Sequence[tuple[Source, list[Row]]]) -> Iterator[Headline]:
    """For each protocol and network the first file that has it."""
    seen = set()
    for source, rows in ours:
        for row in rows:
            key = (row.protocol, row.network.name)
            if row.batch == 1 and row.lanes == 1 and key not in seen:
                seen.add(key)
                rounds = "" if row.rounds is None else f", {text.count(row.rounds, 'round')}"
                sent = f", {text.size(sum(row.bytes_sent))} between all parties" if row.bytes_sent else ""
                conditions = f"{_protocol(row)}, {text.network(row.network)}, {text.links(row)}{rounds}{sent}"
                yield Headline("One clip, from shares to label", text.ms(_median(row)), conditions, source)


def _throughput(ours: Sequence[tuple[Source, list[Row]]]) -> Iterator[Headline]:
    """The best of each protocol."""
    pairs = [(source, row) for source, rows in ours for row in rows if row.clips_per_s]
    for protocol in dict.fromkeys(row.protocol for _, row in pairs):
        mine = [pair for pair in pairs if pair[1].protocol == protocol]
        source, best = max(mine, key=lambda pair: pair[1].clips_per_s or 0.0)
        conditions = f"{_protocol(best)}, {text.network(best.network)}, {text.links(best)}, batch {best.batch:,}, "
        conditions += text.count(best.lanes, "lane")
        yield Headline("Highest throughput", f"{text.figure(best.clips_per_s or 0.0)} clips/s", conditions, source)


def _beside_peers(sources: Sequence[Source]) -> Iterator[Headline]:
    """From the smallest to the largest ratio over the batch sizes, for each pair of systems, model and network."""
    for source in sources:
        if source.results.kind != "peers":
            continue
        found = ratios(source.results.rows)
        known = [r for r in found if r.interval is not None and r.peer.adversary == r.ours.adversary]
        pairs: dict[tuple[str, ...], list[Ratio]] = {}
        for ratio in known:
            key = (text.system(ratio.peer), ratio.ours.protocol, text.model(ratio.ours), ratio.ours.network.name)
            pairs.setdefault(key, []).append(ratio)
        for found in pairs.values():
            values = [ratio.interval.ratio for ratio in found if ratio.interval is not None]
            low, high = text.figure(min(values)), text.figure(max(values))
            first = found[0]
            batches = ", ".join(f"{ratio.ours.batch:,}" for ratio in found)
            yield Headline(
                f"{text.system(first.peer)} takes, as a multiple of ours",
                f"{low} times" if low == high else f"{low} to {high} times",
                f"{text.system(first.peer)}: {text.count(first.peer.parties, 'party', 'parties')}, "
                f"{first.peer.security}, {text.links(first.peer)}; ours: {first.ours.protocol}, "
                f"{text.links(first.ours)}; {text.model(first.ours)}, {text.network(first.ours.network)}, "
                f"batch {batches}",
                source,
            )


def _accuracy(sources: Sequence[Source]) -> Iterator[Headline]:
    for source in sources:
        rows = source.results.accuracy
        for protocol in dict.fromkeys(row.protocol for row in rows):
            mine = [row for row in rows if row.protocol == protocol]
            changed, total = sum(row.label_changes for row in mine), sum(row.rows for row in mine)
            yield Headline(
                "Labels that differ from those of the network in floating point",
                f"{changed:,} of {total:,}",
                f"{protocol}, {text.count(len(mine), 'trained network')}",
                source,
            )


def _protocol(row: Row) -> str:
    return f"{row.protocol} ({row.parties} parties, {row.adversary})" if row.adversary else row.protocol


def _median(row: Row) -> float:
    assert row.online_ms is not None
    return row.online_ms.median
