"""Which plots a file of results gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from sottovoce.bench.price import Prices
from sottovoce.bench.report.batch_charts import memory, money, throughput, traffic
from sottovoce.bench.report.chart import Chart
from sottovoce.bench.report.condition_charts import lanes, networks, peers
from sottovoce.bench.schema import Results

Build = Callable[[Results, Prices], Chart | None]

CHARTS: Final[Mapping[str, Sequence[Build]]] = MappingProxyType(
    {
        "sweep": (throughput, traffic, lanes, memory, money, networks),
        "paper": (networks,),
        "peers": (peers,),
    }
)


def charts(results: Results, prices: Prices) -> list[Chart]:
    """All plots for which the file has the rows."""
    made = (build(results, prices) for build in CHARTS.get(results.kind, ()))
    return [chart for chart in made if chart is not None]
