"""What a store's material cost to make: a line of JSON for each segment, in a file beside the store, DIR.costs.

It is no secret, and nothing but the figures that are reported depends on it; without it they are missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import msgspec

Count = Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]


class SegmentCost(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Clips start … start + clips - 1: time, and bytes that a dealer sent to the party, or it to the other party."""

    start: Count
    clips: Annotated[int, msgspec.Meta(ge=1, lt=1 << 62)]
    elapsed_ns: Count
    bytes_sent: Count


def ledger_path(store: Path) -> Path:
    """Where it lies."""
    return store.with_name(f"{store.name}.costs")


def record(store: Path, cost: SegmentCost) -> None:
    """Add a line."""
    with open(ledger_path(store), "ab") as file:
        file.write(msgspec.json.encode(cost) + b"\n")


def read(store: Path) -> list[SegmentCost]:
    """All lines; none for a ledger that is not there or not readable."""
    with suppress(OSError, msgspec.MsgspecError, UnicodeDecodeError):
        lines = ledger_path(store).read_bytes().splitlines()
        return [msgspec.json.decode(line, type=SegmentCost) for line in lines]
    return []


def cost_of(costs: Sequence[SegmentCost], clips: range) -> tuple[int, int] | None:
    """(ns, bytes) of some clips, each its share of its segment; None if one is not recorded.

    A segment that was made again after a break-off stands further down.
    """
    elapsed = sent = 0.0
    at = clips.start
    while at < clips.stop:
        found = next((c for c in reversed(costs) if c.start <= at < c.start + c.clips), None)
        if found is None:
            return None
        stop = min(clips.stop, found.start + found.clips)
        elapsed += found.elapsed_ns * (stop - at) / found.clips
        sent += found.bytes_sent * (stop - at) / found.clips
        at = stop
    return round(elapsed), round(sent)
