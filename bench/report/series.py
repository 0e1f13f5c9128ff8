"""From rows to curves: which rows belong together, and which of them were measured under the same conditions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TypeVar

from sottovoce.bench.report import text
from sottovoce.bench.report.chart import Point, Series
from sottovoce.bench.schema import Row

Key = TypeVar("Key", bound=Hashable)


def measured(rows: Iterable[Row]) -> list[Row]:
    """The rows that have a time."""
    return [row for row in rows if row.status == "measured" and row.online_ms is not None]


def group(rows: Iterable[Row], key: Callable[[Row], Key]) -> dict[Key, list[Row]]:
    """Rows by key, in the order of the rows."""
    groups: dict[Key, list[Row]] = defaultdict(list)
    for row in rows:
        groups[key(row)].append(row)
    return dict(groups)


def who(row: Row) -> tuple[str, str, str]:
    """What a curve is of."""
    return row.model, row.system, row.protocol if row.device == "cpu" else f"{row.protocol} on {row.device}"


def conditions(row: Row) -> tuple[str, int, bool]:
    """What must be equal along a curve over batch sizes: network, lanes, encryption."""
    return row.network.name, row.lanes, row.encrypted


def over_batches(rows: Sequence[Row]) -> dict[tuple[str, str, str], list[Row]]:
    """By model, system and protocol, the rows over the batch size, all under the same conditions.

    A sweep also varies the network and the lanes. The conditions under which most rows of the file were measured are
    taken; of equals, those that came first.
    """
    usable = measured(rows)
    if not usable:
        return {}
    chosen = max(group(usable, conditions).values(), key=len)
    return {key: first_of_each(curve, lambda row: row.batch) for key, curve in group(chosen, who).items()}


def first_of_each(rows: Iterable[Row], place: Callable[[Row], float]) -> list[Row]:
    """In ascending order of `place`, for each the first of the rows there."""
    found = group(rows, place)
    return [found[at][0] for at in sorted(found)]


def curves(
    groups: dict[tuple[str, str, str], list[Row]], everything: Sequence[Row], value: Callable[[Row], Point | None]
) -> tuple[Series, ...]:
    """A curve for each group with two or more points; colour and dash follow from all rows of the file."""
    found = []
    for key, rows in groups.items():
        points = tuple(point for row in rows if (point := value(row)) is not None)
        if len(points) > 1:
            found.append(Series(name(rows[0], everything), *style(key, everything), points))
    return tuple(found)


def name(row: Row, everything: Iterable[Row]) -> str:
    """The model; with the protocol where the file has several."""
    several = len({who(other)[1:] for other in everything}) > 1
    return f"{text.model(row)}, {who(row)[2]}" if several else text.model(row)


def style(key: tuple[str, str, str], everything: Iterable[Row]) -> tuple[int, int]:
    """Colour by model and dash by system and protocol, numbered in the order of the file."""
    rows = list(everything)
    models = list(dict.fromkeys(row.model for row in rows))
    systems = list(dict.fromkeys(who(row)[1:] for row in rows))
    return models.index(key[0]), systems.index((key[1], key[2]))
