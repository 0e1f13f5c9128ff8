"""The page of results: docs/results/README.md, its plots and CSV files, from the JSON files that lie in the folder.

The same files give the same bytes. Nothing on the page is written by hand, so nothing on it can differ from its rows.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Final
from urllib.parse import quote

from sottovoce.bench.environment import describe
from sottovoce.bench.paper_tables import accuracy_table, timing_table
from sottovoce.bench.price import EXAMPLE_PRICES, Prices, assumptions, load_prices
from sottovoce.bench.report import markdown, text
from sottovoce.bench.report.chart import Chart
from sottovoce.bench.report.charts import charts
from sottovoce.bench.report.condition_charts import packaged_references, paper_guides
from sottovoce.bench.report.gpu import gpu_section
from sottovoce.bench.report.headlines import Source, headlines, measured_on
from sottovoce.bench.report.other import Other, kernels_table, read_other
from sottovoce.bench.report.plots import write_plots
from sottovoce.bench.report.profiles import profile_section
from sottovoce.bench.report.ratios import ratios
from sottovoce.bench.report.table_csv import to_csv
from sottovoce.bench.schema import Results, read_results
from sottovoce.engine.errors import ConfigError

PAGE: Final = "README.md"
PLOTS: Final = "plots"
COMMAND: Final = "sottovoce bench report docs/results"
HEAD: Final = f"""# Results

<!-- Generated from the JSON files in this folder by `{COMMAND}`. Edits are lost. -->

What was measured, with the machine, the date and the commit of each figure. The rows are in the JSON files; the tables,
plots and CSV files here are made from them. Times are medians with quartiles; all parties of a row ran on the one
machine that is named, each in a process of its own. Figures of other machines or of busy ones differ."""
TITLES: Final = MappingProxyType(
    {
        "paper": "The paper's table",
        "network": "Networks",
        "sweep": "Batch sizes, threads, memory, money",
        "peers": "Beside other systems",
        "offline": "Preprocessing",
        "accuracy": "Accuracy",
        "gpu": "On a GPU",
    }
)
"""The sections, in their order."""
PROFILES: Final = (
    "The critical path of a request: from its end back to its start, over to the party that was waited for, so that "
    "the items add up to the time of the request. `sottovoce profile` shows more, and a timeline."
)
HAVE_NOTES: Final = ("paper", "accuracy")
"""Kinds whose tables say themselves what the notes and the machine were."""


@dataclass(frozen=True, slots=True)
class Folder:
    """What lies in a folder of results. prices: for the cost model."""

    sources: tuple[Source, ...]
    others: tuple[Other, ...]
    prices: Prices


def write_page(folder: Path, *, prices: Path = EXAMPLE_PRICES, plots: bool = True) -> Path:
    """Write the page, a CSV file beside each file of results, and the plots; return the page's path.

    plots: False leaves them out, and then Matplotlib is not needed. Raises ConfigError for a folder without results, a
    damaged file, damaged prices or without Matplotlib; then nothing has been written.
    """
    found = read_folder(folder, prices)
    page = render(found, plots=plots)
    if plots:
        if (folder / PLOTS).is_symlink():
            raise ConfigError(f"results {folder}: {PLOTS} is a link: plots are written only inside the folder")
        for source in found.sources:
            if made := charts(source.results, found.prices):
                write_plots(made, folder / PLOTS, source.stem, describe(source.results.environment))
    for source in found.sources:
        replace_text(folder / source.path.with_suffix(".csv"), to_csv(source.results))
    path = folder / PAGE
    replace_text(path, page)
    return path


def replace_text(path: Path, content: str) -> None:
    """Write a file anew: a link in its place is replaced, and what it led to is left alone."""
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, delete=False) as file:
        file.write(content)
    os.chmod(file.name, 0o644)
    os.replace(file.name, path)


def read_folder(folder: Path, prices: Path = EXAMPLE_PRICES) -> Folder:
    """Every JSON file in and below the folder. Raises ConfigError if none of them holds results."""
    sources, others = [], []
    for path in sorted(folder.rglob("*.json")):
        place = PurePosixPath(path.relative_to(folder).as_posix())
        other = read_other(path, place)
        if other is None:
            sources.append(Source(place, read_results(path)))
        else:
            others.append(other)
    if not sources:
        raise ConfigError(f"results {folder}: expected JSON files of `sottovoce bench`, found none")
    return Folder(tuple(sources), tuple(others), load_prices(prices))


def render(folder: Folder, *, plots: bool = True) -> str:
    """The page's text; plots: with links to them."""
    parts = [HEAD, _at_a_glance(folder.sources)]
    for kind, title in TITLES.items():
        sources = [source for source in folder.sources if source.results.kind == kind]
        if sources:
            parts.append(f"## {title}")
        for source in sources:
            parts += _plots(source, charts(source.results, folder.prices) if plots else ())
            parts += SECTIONS[kind](source.results, folder.prices)
            parts.append(_rerun(source))
    kernels = [other for other in folder.others if other.benchmarks]
    if kernels:
        parts += ["## Kernels", kernels_table(kernels)]
    profiles = [other.profile for other in folder.others if other.profile is not None]
    if profiles:
        parts += ["## Where the time goes", PROFILES, *map(profile_section, profiles)]
    parts += ["## All files", _files(folder)]
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


def _at_a_glance(sources: Sequence[Source]) -> str:
    found = headlines(sources)
    if not found:
        return ""
    lines = [
        f"| {markdown.plain(line.what)} | **{markdown.plain(line.figure)}** | {markdown.plain(line.conditions)} "
        f"| {_link(line.source.path)} |"
        for line in found
    ]
    machines: dict[str, list[str]] = {}
    for line in found:
        files = machines.setdefault(measured_on(line.source.results.environment), [])
        if (link := _link(line.source.path)) not in files:
            files.append(link)
    measured = [f"- Measured {markdown.plain(where)}: {', '.join(files)}." for where, files in machines.items()]
    paper = "- For one clip, on its own machines: " + "; ".join(guide.words for guide in paper_guides()) + "."
    table = ["| what | figure | under which conditions | rows |", "|---|---|---|---|", *lines]
    return "\n".join(["## At a glance", "", *table, "", *measured, paper])


def _plots(source: Source, made: Iterable[Chart]) -> list[str]:
    def link(chart: Chart) -> str:
        start = f"{PLOTS}/{source.stem}-{chart.name}"
        start, title = quote(start), markdown.plain(chart.title)
        return f"![{title}]({start}.png)\n\n*{title}: {markdown.plain(chart.note)}.* [SVG]({start}.svg)"

    return [link(chart) for chart in made]


def _rerun(source: Source) -> str:
    results = source.results
    shown = results.kind in HAVE_NOTES
    notes = "".join(f"\n- {markdown.plain(note)}" for note in results.notes if not shown)
    csv = source.path.with_suffix(".csv")
    return (
        f"{'' if shown else f'Measured on {markdown.plain(describe(results.environment))}. '}"
        f"Rows: {_link(source.path)}, {_link(csv)}. To measure again:\n\n```sh\n{_command(results.command)}\n```"
        + (f"\n\nNotes:\n{notes}" if notes else "")
    )


def _files(folder: Folder) -> str:
    lines = [
        f"| {_link(s.path)} | {s.results.kind} | {markdown.plain(measured_on(s.results.environment))} | "
        f"`{_command(s.results.command)}` |"
        for s in folder.sources
    ]
    lines += [f"| {_link(o.path)} | {markdown.plain(o.kind)} | {markdown.plain(o.where)} | |" for o in folder.others]
    head = "| file | holds | measured | command |\n|---|---|---|---|\n"
    return head + "\n".join(lines) + f"\n\nThis page, its plots and the CSV files:\n\n```sh\n{COMMAND}\n```"


def _command(words: str) -> str:
    """On one line, and unable to end the code that it stands in."""
    return " ".join(words.replace("`", "'").replace("|", "/").split())


def _link(path: PurePosixPath) -> str:
    return f"[{markdown.plain(str(path))}]({quote(str(path))})"


# ---- sections -----------------------------------------------------------------------------------------------------


def _paper(results: Results, prices: Prices) -> list[str]:
    return [timing_table(results, packaged_references()).to_markdown(), *_all_rows(results)]


def _sweep(results: Results, prices: Prices) -> list[str]:
    assumed = "\n".join(f"- {line}" for line in assumptions(prices))
    return [
        markdown.best_table(results.rows),
        _networks(results),
        "### Money",
        assumed,
        markdown.costs_table(results.rows, prices),
        *_all_rows(results),
    ]


def _network(results: Results, prices: Prices) -> list[str]:
    return [markdown.validation_table(results.networks)]


def _peers(results: Results, prices: Prices) -> list[str]:
    return [
        "All systems ran in one session and were asked in turn. The ratio is the other system's time over ours: above "
        "1, ours is faster. What each of them protects against differs: read it with the figure.",
        markdown.ratios_table(ratios(results.rows)),
        _networks(results),
        markdown.settings_list(results.rows),
        *_all_rows(results),
    ]


def _offline(results: Results, prices: Prices) -> list[str]:
    return [
        "Correlated randomness, made ahead of time by the parties' own processes: from a dealer, a third party that "
        "sees no data, or from oblivious transfer between the two parties. What the dealer sends to a party is in that "
        "party's column. The time ends with the last record on the disk of the slower party.",
        markdown.offline_table(results.offline),
    ]


def _accuracy(results: Results, prices: Prices) -> list[str]:
    models = dict.fromkeys(row.model for row in results.accuracy)
    references = packaged_references()
    return [accuracy_table(results, references, stored=False, model=model).to_markdown() for model in models]


def _gpu(results: Results, prices: Prices) -> list[str]:
    return gpu_section(results)


def _networks(results: Results) -> str:
    """What the networks were, where there was any but loopback."""
    shaped = any(row.network.method != "loopback" for row in results.rows)
    return markdown.networks_table(results.rows) if shaped else ""


def _all_rows(results: Results) -> list[str]:
    summary = f"All {text.count(len(results.rows), 'row')}"
    return [f"<details><summary>{summary}</summary>\n\n{markdown.rows_table(results.rows)}\n\n</details>"]


SECTIONS: Final = MappingProxyType[str, Callable[[Results, Prices], list[str]]](
    {
        "paper": _paper,
        "sweep": _sweep,
        "network": _network,
        "peers": _peers,
        "offline": _offline,
        "accuracy": _accuracy,
        "gpu": _gpu,
    }
)
