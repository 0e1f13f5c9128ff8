"""Spans: what each operation of each layer cost at one party, read off the transport's own counters."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from sottovoce.engine.transport.base import Counters


@dataclass(frozen=True, slots=True)
class Span:
    """One operation: host time, the part of it spent waiting for peers, bytes and frames sent, rounds."""

    layer: str
    elapsed_ns: int
    wait_ns: int
    bytes_sent: int
    bytes_received: int
    frames_sent: int
    rounds: int


@dataclass(slots=True)
class Profile:
    """The spans of one lane, in order."""

    spans: list[Span] = field(default_factory=list)

    @contextmanager
    def span(self, layer: str, counters: Counters) -> Iterator[None]:
        """Record what happens inside as one span."""
        before = _snapshot(counters)
        start = time.perf_counter_ns()
        try:
            yield
        finally:
            elapsed = time.perf_counter_ns() - start
            after = _snapshot(counters)
            wait, sent, received, frames, clock = (b - a for a, b in zip(before, after, strict=True))
            self.spans.append(Span(layer, elapsed, wait, sent, received, frames, clock))


def _snapshot(counters: Counters) -> tuple[int, int, int, int, int]:
    return (
        counters.wait_ns,
        sum(counters.bytes_sent.values()),
        sum(counters.bytes_received.values()),
        sum(counters.frames_sent.values()),
        counters.clock,
    )
