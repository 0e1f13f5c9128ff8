"""Names and texts of networks."""

from __future__ import annotations

import pytest

from sottovoce.bench.network.profiles import Link, Profile, parse_profile
from sottovoce.engine.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "link"),
    [
        ("loopback", None),
        ("lan", Link(0.1, 10_000)),
        ("metro", Link(5, 1_000)),
        ("wan", Link(40, 100)),
    ],
)
def test_named(text: str, link: Link | None) -> None:
    assert parse_profile(text) == Profile(text, link)


@pytest.mark.parametrize(
    ("text", "rtt_ms", "mbit_s"),
    [
        ("rtt=20ms,rate=200mbit", 20, 200),
        ("rate=2.5gbit, rtt=300us", 0.3, 2_500),
        ("rtt=.5s,rate=800kbit", 500, 0.8),
        ("rtt=0ms,rate=1gbit", 0, 1_000),
    ],
)
def test_custom(text: str, rtt_ms: float, mbit_s: float) -> None:
    link = parse_profile(text).link
    assert link is not None and (link.rtt_ms, link.mbit_s) == pytest.approx((rtt_ms, mbit_s))


def test_custom_name_is_canonical() -> None:
    assert parse_profile(" rate=200mbit , rtt=20ms").name == "rtt=20ms,rate=200mbit"


def test_units() -> None:
    link = Link(rtt_ms=5, mbit_s=1_000)
    assert (link.delay_ns, link.ns_per_byte) == (2_500_000, 8)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("wlan", "expected one of loopback, lan, metro, wan"),
        ("", "expected one of"),
        ("rtt=20ms", "rate is missing"),
        ("rtt=20ms,rate=", "rate is missing"),
        ("rtt=20ms,rtt=30ms,rate=1gbit", "rtt is given twice"),
        ("rtt=20ms,rate=1gbit,loss=1%", "'loss' is neither rtt nor rate"),
        ("rtt=20,rate=1gbit", "rtt: expected a number with one of us, ms, s, got '20'"),
        ("rtt=-1ms,rate=1gbit", "rtt: expected a number"),
        ("rtt=nanms,rate=1gbit", "rtt: expected a number"),
        ("rtt=20ms,rate=1GB", "rate: expected a number with one of kbit, mbit, gbit, got '1GB'"),
        ("rtt=1h,rate=1gbit", "got '1h'"),
        ("rtt=3s,rate=1gbit", "rtt: expected 0 to 2000 ms, got 3s"),
        ("rtt=3ms,rate=0mbit", "rate: expected 0.1 to 100000 mbit, got 0mbit"),
    ],
)
def test_refused(text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_profile(text)
    assert says in str(caught.value)
