"""The paper's two tables as text: for a terminal (rich) and for a page (Markdown), made from the same cells."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import fmean, stdev
from types import MappingProxyType
from typing import Final, Literal, get_args

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from sottovoce.bench.environment import describe
from sottovoce.bench.paper import MODEL, TimingLine, in_the_clear, timing_lines
from sottovoce.bench.paper_reference import Bound, References, Split, TimingFigure, Way
from sottovoce.bench.report import text
from sottovoce.bench.schema import AccuracyRow, NetworkUsed, Results, Row, read_results
from sottovoce.engine.protocols.table import PROTOCOLS, ProtocolRow

STORED_ACCURACY: Final = Path(__file__).with_name("results") / "accuracy-paper.json"
NOTHING: Final = "-"
MISSING: Final = "missing"
MB: Final = 1e6
BOUND_SIGNS: Final[Mapping[Bound, str]] = MappingProxyType({"exactly": "", "about": "~ ", "under": "< "})
SPLIT_TITLES: Final[Mapping[Split, str]] = MappingProxyType({"random": "random split", "speaker": "by speaker"})
WAY_TITLES: Final[Mapping[Way, str]] = MappingProxyType(
    {"float": "floating point", "fixed": "fixed point in the clear", "mpc": "under MPC"}
)

DIFFERENCES: Final = (
    "timed is what the client sees, from sending the shares of its features to holding the label; MFCCs, start-up and "
    "the weights' sharing are not in it (what exactly the paper times could not be checked)",
    "all parties and the client share one machine, the paper had one in a cloud for each party",
    "the network is the one named in each line: lan is the nearest to machines in one data centre",
    "the features are random, one row for one clip of 3.5 s: the time does not depend on them",
    "the paper's layers, weights of our own training, 64-bit fixed point; the paper ran quantised weights in MP-SPDZ",
)
"""What a reader must know before comparing our times with the paper's."""


@dataclass(frozen=True, slots=True)
class Table:
    """Cells and what stands around them. texts: how many of the columns, from the left, hold words and not figures.

    folds: names of the columns that are folded on a narrow terminal. rules: rows that a blank line follows there.
    """

    title: str
    columns: tuple[str, ...]
    texts: int
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]
    folds: tuple[str, ...] = ()
    rules: frozenset[int] = frozenset()

    def to_rich(self) -> RenderableType:
        """For a terminal of 80 columns or more."""
        made = RichTable(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
        for place, name in enumerate(self.columns):
            side: Literal["left", "right"] = "left" if place < self.texts else "right"
            made.add_column(name, justify=side, overflow="fold", no_wrap=name not in self.folds)
        for number, cells in enumerate(self.rows):
            made.add_row(*map(Text, cells), style="dim" if MISSING in cells else "")
            if number in self.rules:
                made.add_row()
        notes = [Padding(Text(note), (0, 0, 0, 2)) for note in self.notes]
        return Group(Text(self.title, style="bold"), Text(), made, Text(), *notes)

    def to_markdown(self) -> str:
        """A block without a heading: title, table, notes."""
        rule = ["---"] * self.texts + ["---:"] * (len(self.columns) - self.texts)
        lines = ["| " + " | ".join(map(_escaped, cells)) + " |" for cells in (self.columns, *self.rows)]
        lines.insert(1, "|" + "|".join(rule) + "|")
        notes = [f"- {_escaped(note)}" for note in self.notes]
        return "\n".join((f"**{_escaped(self.title)}**", "", *lines, "", *notes)) + "\n"


def timing_table(
    results: Results, references: References, protocols: Mapping[str, ProtocolRow] = PROTOCOLS, model: str = MODEL
) -> Table:
    """One clip under MPC, ours beside what was published; below it the same network in the clear."""
    lines = timing_lines(results.rows, references, protocols, model)
    clear = in_the_clear(results.rows, model)
    rows = [_timing_cells(line) for line in lines] + [_clear_cells(row) for row in clear]
    kinds = [line.cell.adversary for line in lines] + [""] * len(clear)
    measured = [line.row for line in lines if line.row is not None]
    citations = dict.fromkeys(line.reference.citation for line in lines if line.reference is not None)
    in_clear = (
        ["In the clear: the same network in numpy and our kernels, nothing shared, nothing sent."] if clear else []
    )
    return Table(
        title=f"One clip, model {model}: time, rounds, MB",
        columns=("security", "protocol", "network", "offline", "online", "rounds", "MB per\nparty", "paper", "factor"),
        texts=3,
        rows=tuple(rows),
        notes=(
            "Online: median (quartiles) of the time. MB: sent online, mean over the parties, framing included, TLS "
            "records not. Offline: the clip's share of preprocessing that was made ahead of time for many, MB for a "
            "party and where it came from; `sottovoce bench offline` has all sources. Factor: the paper's time over "
            "ours, offline included; above 1 ours is faster.",
            *(f"Paper: {citation}." for citation in citations),
            f"Not as in the paper: {'; '.join(DIFFERENCES)}.",
            *_networks(measured),
            *_links(measured),
            *_uneven(measured),
            *in_clear,
            *results.notes,
            f"Measured on {describe(results.environment)}.",
        ),
        folds=("offline", "online", "paper"),
        rules=frozenset(n for n, (kind, after) in enumerate(pairwise(kinds)) if kind != after),
    )


def accuracy_table(
    results: Results,
    references: References,
    protocols: Mapping[str, ProtocolRow] = PROTOCOLS,
    *,
    stored: bool,
    model: str = MODEL,
) -> Table:
    """Correct labels, computed three ways, beside what was published. stored: the rows come from a file, say so."""
    mine = [row for row in results.accuracy if row.model == model]
    networks = {(row.split, row.seed): row for row in mine}  # in the clear the protocol does not matter
    clear = list(networks.values())
    rows = [
        _accuracy_cells(WAY_TITLES["float"], "float", clear, references),
        _accuracy_cells(WAY_TITLES["fixed"], "fixed", clear, references),
    ]
    for protocol in protocols:
        under = [row for row in mine if row.protocol == protocol]
        rows.append(_accuracy_cells(f"{WAY_TITLES['mpc']}, {protocol}", "mpc", under, references))
    ways: Sequence[Way] = get_args(Way)
    figures = [figure for way in ways for split in SPLIT_TITLES if (figure := references.share(way, split))]
    origin = "STORED results, not measured now but on" if stored else "Measured on"
    return Table(
        title=f"Accuracy on test rows, model {model}",
        columns=("labels computed in", "random split", "paper", "by speaker", "paper", "labels unlike\nfloat"),
        texts=1,
        rows=tuple(rows),
        notes=(
            f"Mean ± standard deviation over networks: {_counts(clear)}. A seed fixes a network's split and training; "
            "all of its test rows are labelled in all ways. In brackets: ours less the paper's, in points.",
            "Random split: test speakers were also heard in training, as in the paper. By speaker: none was.",
            *(f"Paper, {WAY_TITLES[figure.way]}: {figure.citation}." for figure in figures),
            "The published networks were trained by another recipe and on another split.",
            *results.notes,
            f"{origin} {describe(results.environment)}.",
        ),
        folds=("labels computed in", "paper"),
    )


def stored_accuracy() -> Results:
    """The accuracy rows that come with the package, for machines without PyTorch or the data."""
    return read_results(STORED_ACCURACY)


def _timing_cells(line: TimingLine) -> tuple[str, ...]:
    cell, row = line.cell, line.row
    security, paper = f"{cell.parties}PC {cell.adversary}", _published(line.reference)
    if row is None or line.reason:
        network = NOTHING if row is None else row.network.name
        return security, cell.protocol or MISSING, network, NOTHING, line.reason, NOTHING, NOTHING, paper, NOTHING
    return (
        security,
        cell.protocol,
        row.network.name,
        _offline(row),
        text.spread(row.online_ms),
        NOTHING if row.rounds is None else f"{row.rounds}",
        text.figure(fmean(row.bytes_sent) / MB) if row.bytes_sent else NOTHING,
        paper,
        _factor(line),
    )


def _clear_cells(row: Row) -> tuple[str, ...]:
    name = {"plain": "fixed point", "float": "float32"}[row.protocol]
    return "in the clear", name, NOTHING, NOTHING, text.spread(row.online_ms), *(NOTHING,) * 4


def _factor(line: TimingLine) -> str:
    if line.factor is None or line.reference is None:
        return NOTHING
    digits = f"{line.factor:.2g}" if line.factor < 100 else f"{line.factor:,.0f}"
    return BOUND_SIGNS[line.reference.bound] + digits


def _published(figure: TimingFigure | None) -> str:
    if figure is None:
        return NOTHING
    parts = [f"{BOUND_SIGNS[figure.bound]}{text.figure(figure.time_s)} s"]
    parts += [f"offline {text.figure(figure.offline_s)} s"] if figure.offline_s is not None else []
    parts += [f"{figure.rounds} rounds"] if figure.rounds is not None else []
    parts += [f"{text.figure(figure.mb_per_party)} MB"] if figure.mb_per_party is not None else []
    return ", ".join(parts)


def _offline(row: Row) -> str:
    if not row.preprocessing:
        return "none"
    if row.offline_ms is None:
        return "not measured"
    sent = f", {text.figure(fmean(row.offline_bytes) / MB)} MB" if row.offline_bytes else ""
    source = f", {row.settings['preprocessing']}" if "preprocessing" in row.settings else ""
    same = row.offline_ms.smallest == row.offline_ms.largest  # the requests used up what was made in one go
    time = text.ms(row.offline_ms.median) if same else text.spread(row.offline_ms)
    return f"{time}{sent}{source}"


def _networks(rows: Iterable[Row]) -> list[str]:
    found = [_network(used) for used in dict.fromkeys(row.network for row in rows)]
    return [f"Networks: {'; '.join(found)}."] if found else []


def _network(used: NetworkUsed) -> str:
    if used.method == "loopback":
        return f"{used.name}, nothing delayed"
    found = [text.ms(used.measured_rtt_ms.median)] if used.measured_rtt_ms else []
    found += [text.rate(used.measured_mbit_s.median)] if used.measured_mbit_s else []
    how = "delayed by the kernel" if used.method == "netem" else "delayed by a process of ours"
    return f"{text.network(used)}, {how}" + (f", measured {' and '.join(found)}" if found else "")


def _links(rows: Iterable[Row]) -> list[str]:
    kinds = {row.encrypted for row in rows}
    if len(kinds) != 1:
        return ["Links: some lines with TLS, some without."] if kinds else []
    return ["Links: mutual TLS 1.3."] if kinds.pop() else ["Links: plain TCP, INSECURE."]


def _uneven(rows: Iterable[Row]) -> list[str]:
    """Where parties send unequal amounts, the largest."""
    most = {row.protocol: max(row.bytes_sent) for row in rows if len(set(row.bytes_sent)) > 1}
    return [f"{name}: the party that sends most sends {text.figure(sent / MB)} MB." for name, sent in most.items()]


def _accuracy_cells(title: str, way: Way, rows: Sequence[AccuracyRow], references: References) -> tuple[str, ...]:
    cells = []
    for split in SPLIT_TITLES:
        shares = [100 * _correct(row, way) / row.rows for row in rows if row.split == split]
        figure = references.share(way, split)
        cells.append(_share(shares))
        gap = f" ({fmean(shares) - figure.percent:+.1f})" if shares and figure else ""
        cells.append(f"{figure.percent:.2f} %{gap}" if figure else NOTHING)
    return title, *cells, _changes(rows) if way == "mpc" else NOTHING


def _correct(row: AccuracyRow, way: Way) -> int:
    return {"float": row.float_correct, "fixed": row.fixed_correct, "mpc": row.mpc_correct}[way]


def _share(shares: Sequence[float]) -> str:
    if not shares:
        return "not measured"
    return f"{fmean(shares):.2f} %" + (f" ± {stdev(shares):.2f}" if len(shares) > 1 else "")


def _changes(rows: Sequence[AccuracyRow]) -> str:
    return f"{sum(r.label_changes for r in rows):,} of {sum(r.rows for r in rows):,}" if rows else NOTHING


def _counts(rows: Sequence[AccuracyRow]) -> str:
    found = []
    for split, title in SPLIT_TITLES.items():
        seeds = [str(row.seed) for row in rows if row.split == split]
        found.append(
            f"{len(seeds)} for {title}" + (f" (seed{'s' * (len(seeds) > 1)} {', '.join(seeds)})" if seeds else "")
        )
    return ", ".join(found)


def _escaped(cell: str) -> str:
    """In Markdown: a bar would end the cell, a line break the row, a tilde may strike through."""
    return " ".join(cell.split()).replace("|", "\\|").replace("<", "&lt;").replace("~", "\\~")
