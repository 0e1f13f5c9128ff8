"""What a million clips cost, from measured rows and a price table that the user edits (bench/prices.toml).

cost of a clip = parties x time per clip x price of a machine-hour + bytes between parties per clip x price per byte.

It assumes that each party rents a whole machine of its own, that this machine is as fast as the measured one *while all
parties ran on it*, and that batch follows batch without a pause. The clients' machines, their traffic with the parties,
start-up, storage and people are not in it.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from sottovoce.bench.schema import Row
from sottovoce.bench.toml import read_toml
from sottovoce.engine.errors import ConfigError

EXAMPLE_PRICES: Final = Path(__file__).with_name("prices.toml")
CLIPS: Final = 1_000_000
MS_PER_HOUR: Final = 3_600_000
BYTES_PER_GB: Final = 1_000_000_000

Price = Annotated[float, msgspec.Meta(ge=0)]
Text = Annotated[str, msgspec.Meta(min_length=1)]


class Machine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a party rents. source, date: where the price was read, and when."""

    name: Text
    cores: Annotated[int, msgspec.Meta(ge=1)]
    price_per_hour: Price
    source: Text
    date: datetime.date


class Traffic(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Between the parties, paid once, by the sender."""

    price_per_gb: Price
    source: Text
    date: datetime.date


class Prices(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A price table. example: the prices are nobody's, and whatever is made from them says so."""

    currency: Literal["EUR", "USD"]
    example: bool = False
    machine: Annotated[tuple[Machine, ...], msgspec.Meta(min_length=1)]
    traffic: Traffic


@dataclass(frozen=True, slots=True)
class Cost:
    """Of a million clips, in the table's currency, for all parties together; or why there is none."""

    machines: float = 0.0
    traffic: float = 0.0
    reason: str = ""

    @property
    def total(self) -> float:
        """Machines and traffic."""
        return self.machines + self.traffic


MAX_BYTES: Final = 1 << 14
"""A few kilobytes are a long price table; what is nested deeply takes long to read."""


def load_prices(path: Path = EXAMPLE_PRICES) -> Prices:
    """Read a price table, strictly. Raises ConfigError that names the file, the field and what is wrong with it."""
    hint = f"; {EXAMPLE_PRICES.name} in the package shows every field"
    prices = read_toml(path, Prices, MAX_BYTES, "prices", hint)
    for price in (*(machine.price_per_hour for machine in prices.machine), prices.traffic.price_per_gb):
        if not math.isfinite(price):
            raise ConfigError(f"prices {path}: expected finite prices, got {price}")
    names = [machine.name for machine in prices.machine]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"prices {path}: expected machines of different names, got {', '.join(twice)} twice")
    return prices


def cost_per_million(row: Row, prices: Prices, machine: Machine) -> Cost:
    """Of the row's clips, each party on a `machine`: online and offline phase, both at the row's batch size."""
    if reason := _no_cost(row, machine):
        return Cost(reason=reason)
    assert row.online_ms is not None
    offline_ms = row.offline_ms.median if row.offline_ms else 0.0
    hours_per_clip = (row.online_ms.median + offline_ms) / row.batch / MS_PER_HOUR
    bytes_per_clip = (sum(row.bytes_sent) + sum(row.offline_bytes)) / row.batch
    return Cost(
        machines=CLIPS * row.parties * hours_per_clip * machine.price_per_hour,
        traffic=CLIPS * bytes_per_clip / BYTES_PER_GB * prices.traffic.price_per_gb,
    )


def assumptions(prices: Prices) -> Sequence[str]:
    """What a table or a plot of costs has to say beside it."""
    machines = "; ".join(
        f"{m.name} ({m.cores} cores): {m.price_per_hour:g} {prices.currency} an hour ({m.source}, {m.date})"
        for m in prices.machine
    )
    traffic = prices.traffic
    return (
        *(["Example prices, no provider's offer: put in your own with `--prices FILE`."] if prices.example else []),
        f"Machines: {machines}.",
        f"Traffic: {traffic.price_per_gb:g} {prices.currency} per GB between parties, paid by the sender "
        f"({traffic.source}, {traffic.date}).",
        "Each party rents a whole machine that is as fast as the measured one was with all parties on it, and batch "
        "follows batch without a pause. Clients, start-up, storage and people are not counted.",
    )


def _no_cost(row: Row, machine: Machine) -> str:
    if row.status != "measured" or row.online_ms is None:
        return row.reason or row.status
    if row.device != "cpu":
        return f"no price of a machine for {row.device}"
    if row.lanes > machine.cores:
        return f"{row.lanes} lanes need more than {machine.cores} cores"
    if row.parties > 1 and not row.bytes_sent:
        return "bytes not measured"
    if row.preprocessing and row.offline_ms is None:
        return "offline phase not measured"
    return ""
