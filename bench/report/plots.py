"""Draws charts with Matplotlib: PNG and SVG. The only module of the reports that imports it.

Colours are Okabe and Ito's; every curve also has a marker and a line style of its own, so that a plot can be read
without colours. Curves are named at their right end instead of in a legend.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from sottovoce.bench.report.chart import Chart, Panel, Series
from sottovoce.engine.errors import ConfigError

COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X")
DASHES: Final = ("-", "--", ":", "-.")
GREY: Final = "#666666"
PANEL_INCHES: Final = (5.4, 4.0)
NAMES_AT: Final = 1.05
"""Where the curves' names begin, in widths of the panel."""
LEAST_INCHES: Final = 7.0
NOTE_INCHES: Final = 0.42
"""Of a number beside a point."""
CHARACTERS_PER_INCH: Final = 17
"""Of the small print."""
LABEL_GAP: Final = 0.052
"""Least distance of two names, as a share of the panel's height."""
MOST_TICKS: Final = 8
LABELLED: Final = ((6.0, tuple(range(1, 10))), (40.0, (1, 2, 5)), (float("inf"), (1,)))
"""Which digits a logarithmic axis labels whose end is less than that many times its start."""
STYLE: Final = {
    "font.size": 9,
    "font.family": ["DejaVu Sans"],  # comes with Matplotlib: the same picture everywhere
    "text.parse_math": False,  # names are no formulas
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "svg.hashsalt": "sottovoce",  # the same ids in every run
    "svg.fonttype": "path",
}


def write_plots(charts: Sequence[Chart], folder: Path, prefix: str, foot: str) -> list[Path]:
    """Draw each chart as `folder/prefix-name.png` and `.svg`; foot: the small print, machine and commit.

    The same charts give the same bytes with the same Matplotlib. Raises ConfigError without Matplotlib.
    """
    matplotlib = _matplotlib()
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for chart in charts:
        with matplotlib.rc_context(STYLE):
            figure = draw(chart, foot)
            for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None, "Creator": None})):
                path = folder / f"{prefix}-{chart.name}.{kind}"
                figure.savefig(path, dpi=150, metadata=metadata)
                written.append(path)
    return written


def draw(chart: Chart, foot: str) -> Any:
    """The Figure, on a canvas of its own (Agg): no display, no global state.

    Panels stand side by side; those with single points, which are wide, one below the other.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = chart.panels
    rows, columns = (1, len(panels)) if panels[0].joined else (len(panels), 1)
    width = max(LEAST_INCHES, columns * max(map(_inches, panels)))
    figure = Figure(figsize=(width, rows * PANEL_INCHES[1] + 0.9), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(chart.title, x=0.01, ha="left", fontweight="bold", fontsize=11)
    small = "\n".join(textwrap.fill(line, int(CHARACTERS_PER_INCH * width)) for line in (chart.note, foot))
    figure.supxlabel(small, x=0.01, ha="left", fontsize=7, color=GREY)
    for axes, panel in zip(figure.subplots(rows, columns, squeeze=False).flat, panels, strict=True):
        _panel(axes, panel)
    figure.draw_without_rendering()  # the axes' sizes are known from here on
    for axes, panel in zip(figure.axes, panels, strict=True):
        _names(axes, panel)
    return figure


def _inches(panel: Panel) -> float:
    """Its width: points that stand beside each other with a number each need room."""
    points = sum(len(series.points) for series in panel.series)
    return PANEL_INCHES[0] if panel.joined else max(PANEL_INCHES[0], NOTE_INCHES * points)


def _panel(axes: Any, panel: Panel) -> None:
    for series in panel.series:
        _series(axes, series, panel.joined)
    if panel.log_x:
        axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    _ticks(axes, panel)
    axes.set_title(panel.title)
    axes.set_xlabel(panel.x_label)
    axes.set_ylabel(panel.y_label)
    axes.grid(axis="y", which="major", color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
    for guide in panel.guides:
        axes.axhline(guide.y, color=GREY, linewidth=1.0, dashes=(6, 3), zorder=1)
    if panel.diagonal:
        start, end = panel.ticks[0][0], min(panel.ticks[-1][0], axes.get_ylim()[1])
        axes.plot([start, end], [start, end], color=GREY, linewidth=1.0, dashes=(6, 3), zorder=1)
        axes.annotate(
            panel.diagonal, (end, end), xytext=(-8, 0), textcoords="offset points", fontsize=8.5, color=GREY,
            ha="right", va="top",
        )  # fmt: skip


def _series(axes: Any, series: Series, joined: bool) -> None:
    x, y = [point.x for point in series.points], [point.y for point in series.points]
    low, high = [point.low for point in series.points], [point.high for point in series.points]
    colour = COLOURS[series.colour % len(COLOURS)]
    axes.errorbar(
        x,
        y,
        yerr=[[b - a for a, b in zip(low, y, strict=True)], [b - a for a, b in zip(y, high, strict=True)]],
        color=colour,
        marker=MARKERS[series.colour % len(MARKERS)],
        markersize=5,
        linestyle=DASHES[series.dash % len(DASHES)] if joined else "none",
        linewidth=1.5,
        elinewidth=1.2,
        capsize=2.5,
    )
    for point in series.points:
        if point.note:
            axes.annotate(
                point.note,
                (point.x, point.high),
                xytext=(0, 4),
                textcoords="offset points",
                fontsize=7.5,
                ha="center",
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
            )


def _ticks(axes: Any, panel: Panel) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

    ticks = panel.ticks[:: -(-len(panel.ticks) // MOST_TICKS)]
    axes.xaxis.set_major_locator(FixedLocator([place for place, _ in ticks]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels([words for _, words in ticks])
    if not panel.joined or not panel.log_x:
        room = 0.4 if not panel.joined else 0.15
        axes.set_xlim(panel.ticks[0][0] - room, panel.ticks[-1][0] + room)
    values = [value for series in panel.series for point in series.points for value in (point.low, point.high)]
    values += [guide.y for guide in panel.guides]
    lowest, highest = min(values) / 1.3, max(values) * 1.4
    axes.set_ylim(lowest, highest)
    digits = next(digits for factor, digits in LABELLED if highest < factor * lowest)
    axes.yaxis.set_major_locator(LogLocator(subs=digits, numticks=12))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _names(axes: Any, panel: Panel) -> None:
    """Write each curve's name right of its last point, and each guide's, pushed apart where two would overlap."""
    to_axes = axes.transData + axes.transAxes.inverted()
    ends: list[tuple[float, float, str, int | None]] = [
        (series.points[-1].x, series.points[-1].y, series.name, series.colour) for series in panel.series
    ]
    ends += [(axes.get_xlim()[1], guide.y, guide.words, None) for guide in panel.guides]
    placed = sorted((float(to_axes.transform(end[:2])[1]), place) for place, end in enumerate(ends))
    for height, (_, place) in zip(_apart([height for height, _ in placed]), placed, strict=True):
        x, y, words, number = ends[place]
        colour = GREY if number is None else COLOURS[number % len(COLOURS)]
        leader = {"arrowstyle": "-", "linewidth": 0.8, "shrinkA": 1, "shrinkB": 4, "color": colour, "relpos": (0, 0.5)}
        axes.annotate(
            words, (x, y), xytext=(NAMES_AT, height), textcoords="axes fraction", va="center", fontsize=8.5,
            color=GREY if number is None else "black", annotation_clip=False,
            arrowprops=leader if panel.joined else None,
        )  # fmt: skip
        if number is not None and not panel.joined:  # numbers stand where the leader would run
            marker = MARKERS[number % len(MARKERS)]
            axes.plot(NAMES_AT - 0.015, height, marker, color=colour, transform=axes.transAxes, clip_on=False)


def _apart(heights: Sequence[float]) -> list[float]:
    """Ascending heights, moved as little as needed to stand `LABEL_GAP` apart: touching ones form blocks."""
    blocks: list[list[float]] = []  # of the wanted heights
    for height in heights:
        blocks.append([height])
        while len(blocks) > 1 and _top(blocks[-2]) + LABEL_GAP > _bottom(blocks[-1]):
            blocks[-2:] = [blocks[-2] + blocks[-1]]
    return [_bottom(block) + LABEL_GAP * place for block in blocks for place in range(len(block))]


def _bottom(block: Sequence[float]) -> float:
    """Of a block around the mean of its heights, inside the panel."""
    length = LABEL_GAP * (len(block) - 1)
    return max(0.0, min(sum(block) / len(block) - length / 2, 1.0 - length))


def _top(block: Sequence[float]) -> float:
    return _bottom(block) + LABEL_GAP * (len(block) - 1)


def _matplotlib() -> Any:
    try:
        import matplotlib
    except ModuleNotFoundError:
        raise ConfigError("plots: Matplotlib is not installed: pip install 'sottovoce[bench]'") from None
    return matplotlib
