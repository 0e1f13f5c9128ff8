"""The public conformance kit on every transport, and that the kit notices bad ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import pytest

from sottovoce.engine.transport.base import Array, Transport
from sottovoce.engine.transport.conformance import CHECKS, ConformanceError, check_transport, run_parties
from sottovoce.engine.transport.memory import MemoryTransport, memory_mesh
from tests.transport.meshes import SESSION, tcp_mesh

KINDS = ("memory", "tcp", "tls")


def make(kind: str, certificates: Path) -> AbstractContextManager[list[Transport]]:
    if kind == "memory":
        return opened(memory_mesh(3, session=SESSION, deadline_s=1.0))
    return tcp_mesh(certificates if kind == "tls" else None)


@contextmanager
def opened(lanes: list[Transport]) -> Iterator[list[Transport]]:
    try:
        yield lanes
    finally:
        for lane in lanes:
            lane.close()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("check", CHECKS)
def test_conformance(kind: str, check: str, certificates: Path) -> None:
    with make(kind, certificates) as lanes:
        CHECKS[check](lanes)


def test_two_parties_conform(certificates: Path) -> None:
    check_transport(lambda: opened(memory_mesh(2, deadline_s=0.3)))


class Forgetful(MemoryTransport):
    """Counts payloads without their headers."""

    def send(self, to: int, tag: int, parts: Sequence[Array]) -> None:
        super().send(to, tag, parts)
        self.counters.bytes_sent[to] -= 32


class Eager(MemoryTransport):
    """Advances its clock when it sends."""

    def send(self, to: int, tag: int, parts: Sequence[Array]) -> None:
        super().send(to, tag, parts)
        self.counters.clock += 1


class Lax(MemoryTransport):
    """Goes on after an error."""

    def _fail(self, error: Exception) -> Exception:  # type: ignore[override]
        return error


@pytest.mark.parametrize(("bad", "check"), [(Forgetful, "counters"), (Eager, "clock"), (Lax, "mismatch")])
def test_the_kit_notices(bad: type[MemoryTransport], check: str) -> None:
    def mesh() -> AbstractContextManager[list[Transport]]:
        lanes = memory_mesh(3, deadline_s=1.0)
        for lane in lanes:
            lane.__class__ = bad
        return opened(lanes)

    with pytest.raises(ConformanceError, match=check):
        check_transport(mesh)


@pytest.mark.parametrize("other", ["tcp", "tls"])
def test_a_fixed_exchange_counts_the_same_everywhere(other: str, certificates: Path) -> None:
    """Same bytes, frames and clocks in process and on the wire, for a fixed pattern of messages."""

    def talk(lane: Transport) -> None:
        right, left = (lane.rank + 1) % 3, (lane.rank - 1) % 3
        for number, size in enumerate((0, 1, 7, 4000, 9000)):
            lane.send(right, number, [np.full(size, number, np.uint64), np.zeros(3, np.uint8)])
            lane.recv(left, number, [np.empty(size, np.uint64), np.empty(3, np.uint8)])

    seen = []
    for kind in ("memory", other):
        with make(kind, certificates) as lanes:
            run_parties(lanes, talk)
            seen.append([(c.bytes_sent, c.bytes_received, c.frames_sent, c.frames_received, c.clock)
                         for c in (lane.counters for lane in lanes)])  # fmt: skip
    assert seen[0] == seen[1]
    assert seen[0][0][0] == {1: 5 * 35 + 8 * 13008, 2: 0}
    assert seen[0][0][4] == 5
