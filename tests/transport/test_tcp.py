"""TCP lanes: large simultaneous exchanges, slow, frozen and dying peers, cancellation."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from sottovoce.engine.errors import DeadlineError, PeerClosedError, TransportError
from sottovoce.engine.transport.base import Transport
from sottovoce.engine.transport.conformance import run_parties
from sottovoce.engine.transport.link import Link
from sottovoce.engine.transport.memory import memory_mesh
from sottovoce.engine.transport.tcp import TcpTransport
from tests.transport.meshes import SESSION, in_threads, tcp_mesh

FIFTY_MB = 50_000_000 // 8


def folder_of(kind: str, certificates: Path) -> Path | None:
    return certificates if kind == "tls" else None


@pytest.mark.parametrize("kind", ["tcp", "tls"])
def test_50_mb_both_ways_at_once(kind: str, certificates: Path) -> None:
    def talk(lane: Transport) -> bool:
        other = 1 - lane.rank
        mine = np.arange(FIFTY_MB, dtype=np.uint64) + np.uint64(lane.rank)
        got = np.empty_like(mine)
        lane.send(other, 1, [mine])
        lane.recv(other, 1, [got])
        return bool(got[0] == other and got[-1] == FIFTY_MB - 1 + other and np.all(np.diff(got) == 1))

    with tcp_mesh(folder_of(kind, certificates), parties=2, wait_s=10) as lanes:
        assert run_parties(lanes, talk) == [True, True]
        assert lanes[0].counters.bytes_sent[1] == lanes[1].counters.bytes_received[0] == 32 + 50_000_000


@pytest.mark.parametrize("kind", ["tcp", "tls"])
def test_a_ring_of_large_frames_does_not_deadlock(kind: str, certificates: Path) -> None:
    """Each sends to the right before it receives from the left: blocked senders must read from third parties."""

    def talk(lane: Transport) -> int:
        mine = np.full(1 << 20, lane.rank, np.uint64)
        got = np.empty_like(mine)
        for tag in range(3):
            lane.send((lane.rank + 1) % 3, tag, [mine])
        for tag in range(3):
            lane.recv((lane.rank - 1) % 3, tag, [got])
        return int(got[-1])

    with tcp_mesh(folder_of(kind, certificates), wait_s=10) as lanes:
        assert run_parties(lanes, talk) == [2, 0, 1]


@pytest.mark.parametrize("kind", ["tcp", "tls"])
def test_many_parts_of_all_sizes(kind: str, certificates: Path) -> None:
    """More parts than one system call takes, on both sides of the sizes at which frames are joined."""
    rng = np.random.default_rng(5)
    parts = [rng.integers(0, 256, n, dtype=np.uint8) for n in [*range(200), 16352, 16384, 1, 70_000, 3]]
    with tcp_mesh(folder_of(kind, certificates), parties=2) as lanes:
        got = [np.empty_like(part) for part in parts]
        run_parties(lanes, lambda lane: lane.send(1, 1, parts), lambda lane: lane.recv(0, 1, got))
        assert all(np.array_equal(a, b) for a, b in zip(parts, got, strict=True))
        for size in (16351, 16352, 16353, 32767, 32768, 32769, 65535, 65536, 65537):
            data = rng.integers(0, 256, size, dtype=np.uint8)
            lanes[0].send(1, 2, [data[:5], data[5:]])
            lanes[0].send(1, 3, [data[:9]])
            assert lanes[1].recv_bytes(0, 2, size) == data.tobytes()
            assert lanes[1].recv_bytes(0, 3, 9) == data[:9].tobytes()


@pytest.mark.parametrize("kind", ["tcp", "tls"])
def test_a_peer_that_does_not_read_is_a_deadline_of_the_sender(kind: str, certificates: Path) -> None:
    with tcp_mesh(folder_of(kind, certificates), parties=2, wait_s=0.4) as lanes:
        with pytest.raises(DeadlineError, match=r"P0 lane 0: send to P1, tag 4.*deadline 0.4 s"):
            lanes[0].send(1, 4, [np.zeros(FIFTY_MB, np.uint64)])
        assert lanes[0].counters.wait_ns > 300_000_000
        # The half-sent frame must not be mistaken for a whole one, nor the farewell for payload.
        lanes[0].close("gave up")
        with pytest.raises(PeerClosedError, match="in the middle of a frame"):
            lanes[1].recv(0, 4, [np.empty(FIFTY_MB, np.uint64)])


def test_nothing_follows_a_half_sent_frame() -> None:
    """A farewell after half a frame would be read as that frame's payload."""
    ours, peer = socket.socketpair()
    lane = TcpTransport(0, 2, {1: Link(ours, "P1")}, session=SESSION, deadline_s=0.2)
    with pytest.raises(DeadlineError):
        lane.send(1, 1, [np.zeros(FIFTY_MB, np.uint64)])
    peer.settimeout(5)
    received = 0
    while received < lane.counters.bytes_sent[1]:
        received += len(peer.recv(1 << 20))
    lane.close("gave up")
    assert peer.recv(1) == b""
    peer.close()


def test_a_peer_that_trickles_is_a_deadline() -> None:
    """Progress alone does not help: the whole frame must come within the deadline plus its size at the least rate."""
    ours, peer = socket.socketpair()
    lane = TcpTransport(0, 2, {1: Link(ours, "P1")}, session=SESSION, deadline_s=0.3)
    stop = threading.Event()

    def trickle() -> None:
        while not stop.wait(0.05):
            peer.send(b"s")

    thread = threading.Thread(target=trickle)
    thread.start()
    try:
        with pytest.raises(DeadlineError):
            lane.recv(1, 1, [np.zeros(4, np.uint64)])
    finally:
        stop.set()
        thread.join()
        peer.close()
        lane.close()


@pytest.mark.parametrize("kind", ["tcp", "tls"])
def test_slow_but_steady_is_fine(kind: str, certificates: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A frame may take longer than the deadline as long as it moves, at both ends."""
    data = np.arange(1 << 19, dtype=np.uint64)
    got = np.empty_like(data)
    hurried = Link.read_into

    def slow(link: Link, view: memoryview) -> int:
        time.sleep(0.005)
        return hurried(link, view[:16_384])

    with tcp_mesh(folder_of(kind, certificates), parties=2, wait_s=0.6) as lanes:
        for lane, option in zip(lanes, (socket.SO_SNDBUF, socket.SO_RCVBUF), strict=True):
            assert isinstance(lane, TcpTransport)
            lane._links[1 - lane.rank].socket.setsockopt(socket.SOL_SOCKET, option, 64 << 10)
        monkeypatch.setattr(Link, "read_into", slow)
        began = time.monotonic()
        assert in_threads(lambda: lanes[0].send(1, 1, [data]), lambda: lanes[1].recv(0, 1, [got])) == [None, None]
        assert time.monotonic() - began > 0.6, "the test was too fast to show anything"
        assert lanes[0].counters.wait_ns > 600_000_000, "the sender was never held up"
    assert np.array_equal(got, data)


PEER = """
import socket, sys, time
from sottovoce.engine.transport.link import Link
from sottovoce.engine.transport.tcp import TcpTransport
sock = socket.socket(fileno=int(sys.argv[1]))
lane = TcpTransport(1, 2, {0: Link(sock, "P0")}, session=bytes(range(16)), deadline_s=20)
assert lane.recv_bytes(0, 1, 10) == b""
print("ready", flush=True)
lane.recv_bytes(0, 2, 10)
"""


@pytest.mark.parametrize(("how", "error"), [(signal.SIGKILL, PeerClosedError), (signal.SIGSTOP, DeadlineError)])
def test_a_process_that_dies_or_freezes(how: signal.Signals, error: type[TransportError]) -> None:
    ours, theirs = socket.socketpair()
    process = subprocess.Popen(
        [sys.executable, "-c", PEER, str(theirs.fileno())], pass_fds=[theirs.fileno()], stdout=subprocess.PIPE
    )
    theirs.close()
    lane = TcpTransport(0, 2, {1: Link(ours, "P1")}, session=SESSION, deadline_s=0.5)
    try:
        assert process.stdout is not None
        lane.send(1, 1, [])
        assert process.stdout.readline() == b"ready\n"
        os.kill(process.pid, how)
        with pytest.raises(error, match="P1"):
            lane.recv(1, 3, [])
    finally:
        process.kill()
        process.communicate()
        lane.close()


@pytest.mark.timeout(15)  # else the deadline of 30 s
def test_another_thread_can_cancel_a_wait() -> None:
    ours, peer = socket.socketpair()
    cancel = threading.Event()
    lane = TcpTransport(0, 2, {1: Link(ours, "P1")}, session=SESSION, deadline_s=30, cancel=cancel)
    timer = threading.Timer(0.05, cancel.set)
    timer.start()
    with pytest.raises(TransportError, match="cancelled"):
        lane.recv(1, 1, [])
    timer.join()
    peer.close()
    lane.close()


def test_an_exception_inside_the_context_tells_the_peer_its_type_only() -> None:
    a, b = memory_mesh(2)

    def fail() -> None:
        with a:
            raise ValueError("the secret is 42")

    with pytest.raises(ValueError, match="42"):
        fail()
    with pytest.raises(PeerClosedError, match="stopped by ValueError") as caught:
        b.recv(0, 1, [])
    assert "42" not in str(caught.value)


def test_the_memory_buffer_is_bounded() -> None:
    a, b = memory_mesh(2, deadline_s=0.2, buffer_limit=1000)
    a.send(1, 1, [np.zeros(500, np.uint64)])
    with pytest.raises(DeadlineError, match="P0 lane 0: send to P1, tag 2"):
        a.send(1, 2, [np.zeros(1, np.uint64)])
    b.recv(0, 1, [np.empty(500, np.uint64)])


def test_spinning_changes_nothing_but_time(certificates: Path) -> None:
    with tcp_mesh(certificates, parties=2, spin_us=200.0) as lanes:

        def talk(lane: Transport) -> int:
            word = np.zeros(1, np.uint64)
            for tag in range(50):
                if lane.rank == 0:
                    lane.send(1, tag, [word])
                    lane.recv(1, tag, [word])
                else:
                    lane.recv(0, tag, [word])
                    lane.send(0, tag, [word + np.uint64(1)])
            return int(word[0])

        assert run_parties(lanes, talk)[0] == 50
        assert lanes[0].counters.clock == 100
