"""A plot as data: points, curves, axes. charts.py makes them from rows, plots.py draws them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Point:
    """One measured value; low and high: its quartiles or its confidence interval. note: written beside it."""

    x: float
    y: float
    low: float
    high: float
    note: str = ""


@dataclass(frozen=True, slots=True)
class Series:
    """A curve. colour, dash: numbers of a colour (with its marker) and of a line style, the same in all plots."""

    name: str
    colour: int
    dash: int
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Guide:
    """A reference line across the panel, with its words beside it."""

    y: float
    words: str


@dataclass(frozen=True, slots=True)
class Panel:
    """One pair of axes. ticks: (position, label) of the x axis. joined: points are joined by lines.

    diagonal: the line y = x, named so; "" for none.
    """

    x_label: str
    y_label: str
    series: tuple[Series, ...]
    ticks: tuple[tuple[float, str], ...]
    title: str = ""
    log_x: bool = True
    joined: bool = True
    guides: tuple[Guide, ...] = ()
    diagonal: str = ""


@dataclass(frozen=True, slots=True)
class Chart:
    """A plot. name: of its file. title: what one sees. note: under what conditions; stands below the plot."""

    name: str
    title: str
    note: str
    panels: tuple[Panel, ...]
