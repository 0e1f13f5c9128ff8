"""Ours beside a peer's: ratios of times that were measured in turn, in one run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from sottovoce.bench.report import text
from sottovoce.bench.schema import Row
from sottovoce.bench.stats import Interval, ratio_interval

OURS = "sottovoce"
LEAST_PAIRS = 6
"""With fewer no interval around a median reaches 95 % confidence: n pairs cover at most 1 - 2^(1 - n) of it."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """The peer's time over ours at the same model, batch and network: above 1, ours was faster.

    interval: None where one of the two has no figure; `reason` says why. spread: what low and high are: a confidence
    interval or, with few pairs, the smallest and largest ratio.
    """

    ours: Row
    peer: Row
    interval: Interval | None
    reason: str = ""
    spread: str = "95 % confidence"


def ratios(rows: Sequence[Row]) -> list[Ratio]:
    """Every row of a peer beside every one of ours that did the same work; rows of one file, so of one run."""
    ours = [row for row in rows if row.system == OURS]
    peers = [row for row in rows if row.system != OURS]
    return [_ratio(mine, peer) for peer in peers for mine in ours if _work(mine) == _work(peer)]


def _work(row: Row) -> tuple[str, bool, int, int, str]:
    return row.model, row.random_weights, row.batch, row.lanes, row.network.name


def _ratio(ours: Row, peer: Row) -> Ratio:
    for row in (peer, ours):
        if row.status != "measured":
            return Ratio(ours, peer, None, f"{row.system} {text.reason(row)}")
        if not row.samples_ms:
            return Ratio(ours, peer, None, f"{row.system}: no samples")
    if len(ours.samples_ms) != len(peer.samples_ms):
        return Ratio(ours, peer, None, "not as many samples as ours: not asked in turn")
    if len(ours.samples_ms) < LEAST_PAIRS:
        quotients = sorted(b / a for a, b in zip(ours.samples_ms, peer.samples_ms, strict=True))
        found = Interval(median(quotients), quotients[0], quotients[-1])
        return Ratio(ours, peer, found, spread=f"range of {len(quotients)}")
    return Ratio(ours, peer, ratio_interval(ours.samples_ms, peer.samples_ms, paired=True))
