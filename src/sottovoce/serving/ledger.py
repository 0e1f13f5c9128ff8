"""What a store's material cost to make: a line of JSON for each segment, in a file beside the store, DIR.costs.

It is no secret, and nothing but the figures that are reported, and the model's name in messages, depends on it;
without it they are missing.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import Annotated

import msgspec

from sottovoce.engine.preprocessing.durable import PRIVATE
from sottovoce.engine.program import MAX_NAME
from sottovoce.engine.structs import parse_json

Count = Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]


class SegmentCost(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Clips start … start + clips - 1: time, and bytes that a dealer sent to the party, or it to the other party.

    model: its name, for messages.
    """

    start: Count
    clips: Annotated[int, msgspec.Meta(ge=1, lt=1 << 62)]
    elapsed_ns: Count
    bytes_sent: Count
    model: Annotated[str, msgspec.Meta(max_length=MAX_NAME)] = ""


def ledger_path(store: Path) -> Path:
    """Where it lies."""
    return store.with_name(f"{store.name}.costs")


def record(store: Path, cost: SegmentCost) -> None:
    """Add a line, if that is possible."""
    with suppress(OSError), _regular(store, os.O_RDWR | os.O_APPEND | os.O_CREAT) as file:
        size = os.fstat(file.fileno()).st_size
        torn = size and os.pread(file.fileno(), 1, size - 1) != b"\n"  # a crash, or a full disk
        file.write((b"\n" if torn else b"") + msgspec.json.encode(cost) + b"\n")


def read(store: Path) -> list[SegmentCost]:
    """All lines that can be read; none for a ledger that is not there or not readable."""
    content = b""
    with suppress(OSError), _regular(store, os.O_RDONLY) as file:
        content = file.read()
    costs = []
    for line in content.splitlines():
        with suppress(msgspec.MsgspecError, UnicodeDecodeError):
            costs.append(parse_json(line, SegmentCost))
    return costs


def model_of(costs: Sequence[SegmentCost]) -> str:
    """The name of the store's model; empty if it is not recorded."""
    return costs[-1].model if costs else ""


def _regular(store: Path, flags: int) -> FileIO:
    """The ledger, if it is a file: nobody is waited for at a pipe, and no link is followed. Raises OSError."""
    handle = os.open(ledger_path(store), flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, PRIVATE)
    file = FileIO(handle, "r+b" if flags & os.O_RDWR else "rb")
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        file.close()
        raise OSError(f"{ledger_path(store).name}: expected a regular file")
    return file


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
