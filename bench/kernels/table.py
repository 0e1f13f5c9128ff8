"""The kernels' timings for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from rich.table import Table

from sottovoce.engine.errors import ConfigError
from sottovoce.engine.structs import parse_json

PREFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


class KernelTiming(msgspec.Struct, frozen=True):
    """One benchmark: median of the passes' medians; operations per second in `unit`; fraction None for a GPU."""

    name: str
    seconds: float
    rate: float
    unit: str
    fraction: float | None
    ceiling: str


def read_timings(files: Sequence[Path]) -> list[KernelTiming]:
    """The benchmarks of the files that `run_kernels` wrote, in the order of the first. Raises ConfigError."""
    passes: dict[str, list[dict[str, Any]]] = {}
    for file in files:
        try:
            for benchmark in parse_json(file.read_bytes(), dict[str, Any])["benchmarks"]:
                passes.setdefault(benchmark["param"], []).append(benchmark)
        except (OSError, msgspec.MsgspecError, KeyError, TypeError) as error:
            raise ConfigError(f"kernel timings {file}: not a file of kernel timings: {error}") from None
    return [_timing(name, found) for name, found in passes.items()]


def render_timings(timings: Sequence[KernelTiming]) -> Table:
    """One line for each benchmark."""
    table = Table(caption="CPU time of one call; keystreams: beside OpenSSL's speed", caption_justify="left")
    table.add_column("benchmark", overflow="fold")
    for column in ("time", "per second", "of the ceiling"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("ceiling")
    for row in timings:
        fraction = "" if row.fraction is None else f"{100 * row.fraction:.0f} %"
        table.add_row(row.name, f"{1e6 * row.seconds:,.1f} us", f"{_short(row.rate)}{row.unit}", fraction, row.ceiling)
    return table


def _timing(name: str, passes: Sequence[dict[str, Any]]) -> KernelTiming:
    info = passes[0]["extra_info"]
    seconds = float(np.median([found["stats"]["median"] for found in passes]))
    fractions = [found["extra_info"]["fraction_of_ceiling"] for found in passes if "ceiling" in found["extra_info"]]
    fraction = float(np.median(fractions)) if fractions else None
    rate = info["operations"] / seconds
    return KernelTiming(name, seconds, rate, info["unit"], fraction, info.get("ceiling", ""))


def _short(value: float) -> str:
    for factor, prefix in PREFIXES:
        if value >= factor:
            return f"{value / factor:.3g} {prefix} "
    return f"{value:.3g} "
