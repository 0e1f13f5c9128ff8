"""The networks that a benchmark can ask for: named ones, and "rtt=20ms,rate=200mbit"."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from sottovoce.engine.errors import ConfigError

ETHERNET_HEADER: Final = 14
FRAMING: Final = ETHERNET_HEADER + 4 + 8 + 12
"""Bytes per Ethernet frame beside its IP packet: header, checksum, preamble, gap."""


@dataclass(frozen=True, slots=True)
class Link:
    """What connects each node to all others.

    rtt_ms: from one node to another and back, half of it each way. mbit_s: 10^6 bits per second of each node's link,
    in each direction, Ethernet framing included.
    """

    rtt_ms: float
    mbit_s: float

    @property
    def delay_ns(self) -> int:
        """One way, in ns."""
        return round(self.rtt_ms * 1e6 / 2)

    @property
    def ns_per_byte(self) -> float:
        """Time that one byte occupies a link."""
        return 8e3 / self.mbit_s


@dataclass(frozen=True, slots=True)
class Profile:
    """A network to measure on. link: None is this machine's loopback, with nothing between."""

    name: str
    link: Link | None = None


PROFILES: Final[Mapping[str, Profile]] = MappingProxyType(
    {
        profile.name: profile
        for profile in (
            Profile("loopback"),
            Profile("lan", Link(rtt_ms=0.1, mbit_s=10_000)),
            Profile("metro", Link(rtt_ms=5, mbit_s=1_000)),
            Profile("wan", Link(rtt_ms=40, mbit_s=100)),
        )
    }
)

_MS: Final = {"us": 1e-3, "ms": 1.0, "s": 1e3}
_MBIT: Final = {"kbit": 1e-3, "mbit": 1.0, "gbit": 1e3}
_LIMITS: Final = {"rtt": (0.0, 2_000.0), "rate": (0.1, 100_000.0)}
_QUANTITY: Final = re.compile(r"(\d+(?:\.\d*)?|\.\d+)([a-z]+)")


def parse_profile(text: str) -> Profile:
    """A profile from its name, or from "rtt=20ms,rate=200mbit".

    rtt: us, ms or s, at most 2 s; rate: kbit, mbit or gbit per second, 0.1 mbit to 100 gbit. Raises ConfigError.
    """
    if text in PROFILES:
        return PROFILES[text]
    known = f"expected one of {', '.join(PROFILES)}, or for example rtt=20ms,rate=200mbit"
    if "=" not in text:
        raise ConfigError(f"network: {known}; got {text!r}")
    words = dict.fromkeys(("rtt", "rate"), "")
    for part in text.split(","):
        key, _, value = (word.strip() for word in part.partition("="))
        if key not in words:
            raise ConfigError(f"network {text!r}: {known}; {key!r} is neither rtt nor rate")
        if words[key]:
            raise ConfigError(f"network {text!r}: {key} is given twice")
        words[key] = value
    for key, value in words.items():
        if not value:
            raise ConfigError(f"network {text!r}: {key} is missing; {known}")
    link = Link(rtt_ms=_quantity(text, "rtt", words["rtt"], _MS), mbit_s=_quantity(text, "rate", words["rate"], _MBIT))
    return Profile(f"rtt={words['rtt']},rate={words['rate']}", link)


def _quantity(text: str, key: str, value: str, units: Mapping[str, float]) -> float:
    match = _QUANTITY.fullmatch(value)
    if match is None or match[2] not in units:
        raise ConfigError(f"network {text!r}: {key}: expected a number with one of {', '.join(units)}, got {value!r}")
    result = float(match[1]) * units[match[2]]
    low, high = _LIMITS[key]
    if not low <= result <= high:
        unit = next(name for name, factor in units.items() if factor == 1)
        raise ConfigError(f"network {text!r}: {key}: expected {low:g} to {high:g} {unit}, got {value}")
    return result
