"""What a trace consists of: names, sizes and times. No value of a tensor, no key and no label ever enters it."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, Literal, Protocol

import msgspec

from sottovoce.engine.errors import ConfigError

Kind = Literal["layer", "operation", "kernel", "send", "recv"]


class Event(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One thing that a lane did, between two readings of this machine's CLOCK_MONOTONIC.

    depth: how many events are open around it. For send and recv: peer is the other party's rank, bytes the whole frame
    with its header, wait_ns the part of the time that was spent blocked on the peer; a recv's clock is the lane's
    Lamport clock behind it. device_ns: time on the device, None where the backend has none.
    """

    kind: Kind
    name: str
    start_ns: int
    end_ns: int
    depth: int
    peer: int = -1
    bytes: int = 0
    wait_ns: int = 0
    clock: int = 0
    device_ns: int | None = None


_OPEN: Final = Event("layer", "", 0, 0, 0)
"""In the place of an event that has not ended."""


class Ranges(Protocol):
    """What the PyPI package `nvtx` offers: named ranges that nsys and ncu show."""

    def push_range(self, message: str) -> object: ...
    def pop_range(self) -> object: ...


class Recorder:
    """The events of one lane, in the order in which they began. One thread drives a lane.

    ranges: opened and closed around layers and operations.
    """

    def __init__(self, ranges: Ranges | None = None) -> None:
        self.events: list[Event] = []
        self.depth = 0
        self._ranges = ranges

    @contextmanager
    def span(self, kind: Kind, name: str) -> Iterator[None]:
        """Record what happens inside as one event around others."""
        place, start = self._begin(name)
        try:
            yield
        finally:
            self._end(kind, name, place, start)

    def operation(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, each call of it recorded as an operation."""

        def recorded(*args: Any, **options: Any) -> Any:
            place, start = self._begin(name)
            try:
                return function(*args, **options)
            finally:
                self._end("operation", name, place, start)

        return recorded

    def kernel(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The kernel, each call of it recorded."""

        def recorded(*args: Any) -> Any:
            start = time.monotonic_ns()
            result = function(*args)
            self.events.append(Event("kernel", name, start, time.monotonic_ns(), self.depth))
            return result

        return recorded

    def take(self) -> list[Event]:
        """The events so far; the recorder begins anew."""
        events, self.events = self.events, []
        return events

    def _begin(self, name: str) -> tuple[int, int]:
        """Keep a place before the events inside; the place and the time."""
        place = len(self.events)
        self.events.append(_OPEN)
        self.depth += 1
        if self._ranges is not None:
            self._ranges.push_range(name)
        return place, time.monotonic_ns()

    def _end(self, kind: Kind, name: str, place: int, start: int) -> None:
        end = time.monotonic_ns()
        if self._ranges is not None:
            self._ranges.pop_range()
        self.depth -= 1
        self.events[place] = Event(kind, name, start, end, self.depth)


def load_ranges() -> Ranges:
    """The package `nvtx`. Raises ConfigError where it is not installed."""
    try:
        ranges: Ranges = importlib.import_module("nvtx")
    except ImportError:
        raise ConfigError("NVTX ranges: expected the package nvtx, which is not installed: pip install nvtx") from None
    return ranges
