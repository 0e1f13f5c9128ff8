"""The cost model, by hand, and what a price table may hold."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from tests.bench.synthetic import row, summary

from sottovoce.bench.price import Cost, assumptions, cost_per_million, load_prices
from sottovoce.bench.schema import Row
from sottovoce.engine.errors import ConfigError

TABLE = """
currency = "USD"
[[machine]]
name = "two"
cores = 2
price_per_hour = 0.36
source = "list"
date = 2026-01-02
[traffic]
price_per_gb = 0.08
source = "list"
date = 2026-01-02
"""


def prices_file(folder: Path, text: str = TABLE) -> Path:
    path = folder / "prices.toml"
    path.write_text(text)
    return path


def measured(**changes: object) -> Row:
    """Ten clips in 500 ms, 1 + 2 + 3 MB sent by three parties."""
    whole = row(batch=10)
    fixed = {"online_ms": summary([400, 500, 600]), "bytes_sent": (1_000_000, 2_000_000, 3_000_000)}
    return msgspec.structs.replace(whole, **(fixed | changes))


def test_cost_by_hand(tmp_path: Path) -> None:
    prices = load_prices(prices_file(tmp_path))
    cost = cost_per_million(measured(), prices, prices.machine[0])
    # 3 parties x 50 ms a clip = 0.15 s; a million clips 150,000 s = 41.667 h at 0.36 = 15.00
    assert cost.machines == pytest.approx(15.0)
    # 6 MB for ten clips: 0.6 MB a clip, 600 GB for a million at 0.08 = 48.00
    assert cost.traffic == pytest.approx(48.0)
    assert cost.total == pytest.approx(63.0)


def test_offline_phase_costs_too(tmp_path: Path) -> None:
    prices = load_prices(prices_file(tmp_path))
    both = measured(preprocessing=True, offline_ms=summary([500]), offline_bytes=(6_000_000, 0, 0))
    cost = cost_per_million(both, prices, prices.machine[0])
    assert (cost.machines, cost.traffic) == pytest.approx((30.0, 96.0))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"status": "failed", "reason": "out of memory"}, "out of memory"),
        ({"lanes": 3}, "3 lanes need more than 2 cores"),
        ({"bytes_sent": ()}, "bytes not measured"),
        ({"preprocessing": True}, "offline phase not measured"),
    ],
)
def test_no_cost_has_a_reason(tmp_path: Path, changes: dict[str, object], reason: str) -> None:
    prices = load_prices(prices_file(tmp_path))
    assert cost_per_million(measured(**changes), prices, prices.machine[0]) == Cost(reason=reason)


def test_packaged_prices_say_that_they_are_examples() -> None:
    prices = load_prices()
    assert prices.example
    assert any(line.startswith("Example prices, no provider's offer") for line in assumptions(prices))
    assert all("example" in machine.name for machine in prices.machine)


def test_own_prices_are_not_called_examples(tmp_path: Path) -> None:
    said = " ".join(assumptions(load_prices(prices_file(tmp_path))))
    assert "xample" not in said
    assert "0.36 USD an hour (list, 2026-01-02)" in said


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("price_per_hour = 0.36", "price_per_hour = -1.0", r"`float` >= 0.0 - at `\$.machine\[0\].price_per_hour`"),
        ("price_per_hour = 0.36", "", "missing required field `price_per_hour`"),
        ("price_per_gb = 0.08", "price_per_gb = inf", "expected finite prices, got inf"),
        ("price_per_gb = 0.08", "price_per_gb = nan", "finite|>= 0.0"),
        ("price_per_gb = 0.08", "price_per_gb = 0.08\nper_mb = 1", "unknown field `per_mb` - at `\\$.traffic`"),
        ("cores = 2", "cores = 0", "`int` >= 1"),
        ('"USD"', '"XYZ"', r"at `\$.currency`"),
        ("currency =", "currency", "not valid TOML"),
        ('source = "list"\ndate = 2026-01-02\n[traffic]', 'date = 2026-01-02\n[traffic]', "field `source`"),
    ],
)  # fmt: skip
def test_bad_tables_are_refused(tmp_path: Path, before: str, after: str, message: str) -> None:
    assert before in TABLE
    with pytest.raises(ConfigError, match=message) as caught:
        load_prices(prices_file(tmp_path, TABLE.replace(before, after, 1)))
    assert str(tmp_path / "prices.toml") in str(caught.value)


def test_two_machines_of_one_name_are_refused(tmp_path: Path) -> None:
    machine = TABLE[TABLE.index("[[machine]]") : TABLE.index("[traffic]")]
    with pytest.raises(ConfigError, match="machines of different names, got two twice"):
        load_prices(prices_file(tmp_path, TABLE + machine))


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load_prices(tmp_path / "none.toml")
