"""The delay-and-rate model on a clock of our own, and the loop on sockets in the place of devices."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sottovoce.bench.network.profiles import Link
from sottovoce.bench.network.shaper import RX, TX, VNET_HEADER, admit, carry, compile_loop, wire_bytes

DELAY, QUEUE, NODES = 1_000, 500, 3


class Model:
    """`admit`, uncompiled, with DELAY and QUEUE."""

    def __init__(self) -> None:
        self.busy_until = np.zeros((2, NODES), np.int64)

    def admit(self, source: int, target: int, ready: int, duration: int) -> int:
        return int(admit.py_func(self.busy_until, source, target, ready, duration, DELAY, QUEUE))

    def free(self, source: int) -> int:
        return int(self.busy_until[TX, source])


# ---- the model ----------------------------------------------------------------------------------------------------


def test_a_packet_alone_takes_its_time_once_and_the_delay() -> None:
    model = Model()
    assert model.admit(0, 1, ready=50, duration=7) == 50 + 7 + DELAY
    assert model.free(0) == 57


def test_a_sender_is_as_fast_as_its_link() -> None:
    model = Model()
    arrivals = [model.admit(0, 1, ready=0, duration=10) for _ in range(100)]
    assert arrivals == [DELAY + 10 * (packet + 1) for packet in range(100)]


def test_a_sender_shares_its_link_among_targets() -> None:
    model = Model()
    assert [model.admit(0, target, ready=0, duration=10) for target in (1, 2, 1)] == [DELAY + t for t in (10, 20, 30)]


def test_both_directions_are_independent() -> None:
    model = Model()
    assert model.admit(0, 1, ready=0, duration=10) == model.admit(1, 0, ready=0, duration=10)


def test_two_senders_share_the_receivers_link() -> None:
    model = Model()
    assert [model.admit(source, 2, ready=0, duration=10) for source in (0, 1)] == [DELAY + 10, DELAY + 20]


def test_a_full_queue_holds_back_the_sender() -> None:
    model = Model()
    for _ in range(60):  # each: 600 ns of the receiver's link in 300 ns of two senders' links
        model.admit(0, 2, ready=0, duration=10)
        model.admit(1, 2, ready=0, duration=10)
    waits = model.busy_until[RX, 2] - DELAY - model.free(1)
    assert model.free(1) > 600 and waits <= QUEUE + 10


@settings(max_examples=50)
@given(
    st.lists(st.tuples(st.integers(0, NODES - 1), st.integers(0, NODES - 1), st.integers(1, 200)), max_size=60),
    st.integers(0, 2**32 - 1),
)
def test_order_rate_delay_and_bounded_queues(packets: list[tuple[int, int, int]], seed: int) -> None:
    """packets: (source, target, duration), sent in this order by each source; gaps are random."""
    gaps = np.random.default_rng(seed).integers(0, 100, len(packets))
    model, now = Model(), 0
    arrived: dict[tuple[str, int], int] = {}
    waiting = {source: [(t, d) for s, t, d in packets if s == source] for source in range(NODES)}
    for gap in gaps:
        # As the loop does: of all links with something to send, the one that is free first.
        source = min((s for s in waiting if waiting[s]), key=model.free)
        target, duration = waiting[source].pop(0)
        leaves = now = max(now + int(gap), model.free(source))
        arrival = model.admit(source, target, now, duration)
        assert arrival >= leaves + duration + DELAY
        assert arrival >= arrived.get(("to", target), 0) + duration, "the receiver's link carries one at a time"
        assert arrival - duration - leaves - DELAY <= QUEUE + NODES * 200, "the queue is bounded"
        assert model.free(source) >= leaves + duration
        arrived["to", target] = arrival


def packet(payload: int, *, header: int = 52, segment: int = 0, target: int = 2) -> bytes:
    """A virtio header and an IPv4 packet of header + payload bytes, for 10.83.0.`target`."""
    vnet = bytes([1, 1 if segment else 0, header, 0, segment % 256, segment // 256, 0, 0, 0, 0])
    ip = bytes([0x45, *bytes(15), 10, 83, 0, target])
    return vnet + ip + bytes([payload % 251]) * (header - 20 + payload)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (packet(0), 52 + 38),
        (packet(1448), 1500 + 38),
        (packet(1448, segment=1448), 1500 + 38),
        (packet(1449, segment=1448), 1501 + 52 + 2 * 38),
        (packet(44 * 1448, segment=1448), 44 * (1500 + 38)),
    ],
)
def test_segments_have_headers_of_their_own(data: bytes, expected: int) -> None:
    assert wire_bytes.py_func(np.frombuffer(data, np.uint8), len(data)) == expected


# ---- the loop -----------------------------------------------------------------------------------------------------


@contextmanager
def carried(link: Link) -> Iterator[list[socket.socket]]:
    """Two nodes' ends of what the loop has for devices."""
    pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(2)]
    stop, end = os.pipe()
    compile_loop(link)
    thread = threading.Thread(target=carry, args=([device.fileno() for device, _ in pairs], stop, link))
    thread.start()
    try:
        yield [node for _, node in pairs]
    finally:
        os.close(end)
        thread.join()
        os.close(stop)
        for device, node in pairs:
            device.close()
            node.close()


def test_the_loop_carries_late_in_order_and_intact() -> None:
    link = Link(rtt_ms=40, mbit_s=10)
    sent = [packet(size) for size in (10, 20_000, 1, 300)]
    noise = [packet(5, target=3), packet(5, target=0), b"\0" * VNET_HEADER + b"\x60" + bytes(60), b"short"]
    with carried(link) as (first, second):
        start = time.monotonic_ns()
        for data in noise + sent:
            first.send(data)
        got = [second.recv(70_000) for _ in sent]
        elapsed_ns = time.monotonic_ns() - start
        second.send(packet(7, target=1))
        assert first.recv(70_000) == packet(7, target=1)
        second.setblocking(False)
        with pytest.raises(BlockingIOError):
            second.recv(70_000)
    on_the_wire = sum(wire_bytes.py_func(np.frombuffer(data, np.uint8), len(data)) for data in sent)
    assert got == sent
    assert elapsed_ns >= link.delay_ns + int(on_the_wire * link.ns_per_byte)
