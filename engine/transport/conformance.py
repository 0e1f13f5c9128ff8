"""What every transport must do, as checks that a third party can run on its own; no test framework needed.

    from sottovoce.engine.transport.conformance import check_transport
    check_transport(my_mesh)        # raises ConformanceError that names the check and what differed

`make` returns a context manager whose value is the list of one lane's transports, one for each of two or more
parties, in rank order; every check opens a fresh one. Their deadline should be short, a second or so: some checks let
it pass. CHECKS lists the checks one by one, for a parametrised test.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sottovoce.engine.errors import (
    DeadlineError,
    FrameError,
    PeerClosedError,
    ProtocolError,
    SottovoceError,
    TransportError,
)
from sottovoce.engine.transport.base import HEADER_BYTES, MAX_TAG, Transport

Make = Callable[[], AbstractContextManager[list[Transport]]]
LIMIT_S: Final = 30.0
LARGE_BYTES: Final = 8 << 20


class ConformanceError(AssertionError):
    """A transport does not do what `base.Transport` promises."""


def check_transport(make: Make) -> None:
    """Run every check. Raises ConformanceError at the first that fails."""
    for name, check in CHECKS.items():
        try:
            with make() as lanes:
                check(lanes)
        except ConformanceError as error:
            raise ConformanceError(f"{name}: {error}") from error


def run_parties(lanes: Sequence[Transport], *work: Callable[[Transport], Any]) -> list[Any]:
    """Run work[i] at party i, each in its own thread (one function: the same at all); results, or the first error."""
    functions = work * len(lanes) if len(work) == 1 else work
    results: list[Any] = [None] * len(functions)
    errors: list[BaseException] = []

    def run(index: int) -> None:
        try:
            results[index] = functions[index](lanes[index])
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(i,), daemon=True) for i in range(len(functions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)
        if thread.is_alive():
            raise ConformanceError(f"a call hangs: no end after {LIMIT_S:g} s")
    if errors:
        raise errors[0]
    return results


def _expect(condition: bool, what: str) -> None:
    if not condition:
        raise ConformanceError(what)


def _raises(kind: type[SottovoceError], call: Callable[[], object], what: str) -> SottovoceError:
    try:
        call()
    except kind as error:
        return error
    except Exception as error:
        raise ConformanceError(f"{what}: expected {kind.__name__}, got {type(error).__name__}: {error}") from error
    raise ConformanceError(f"{what}: expected {kind.__name__}, nothing was raised")


def _words(count: int, seed: int) -> NDArray[np.uint64]:
    return np.random.default_rng(seed).integers(0, 2**64, count, dtype=np.uint64)


def check_payload(lanes: list[Transport]) -> None:
    """Any parts arrive bit for bit, may be cut differently, may be empty; the sender's arrays are free afterwards."""
    sizes = (0, 1, 31, 32, 33, 2047, 2048, 2049, 4096, 100_003)

    def first(lane: Transport) -> None:
        for tag, size in enumerate(sizes):
            words, planes = _words(size, tag), _words(size, tag + 100).view(np.uint8)
            lane.send(1, tag, [words, planes.reshape(-1, 8)])
            words[...] = 0
            planes[...] = 0
        lane.send(1, 0, [])
        lane.send(1, MAX_TAG, [np.array(7, dtype=np.uint64)])

    def second(lane: Transport) -> None:
        for tag, size in enumerate(sizes):
            head, tail = np.ones((size, 1), np.uint64), np.ones(size, np.uint64)
            lane.recv(0, tag, [head, tail])
            _expect(np.array_equal(head[:, 0], _words(size, tag)), f"first part of {size} words differs")
            _expect(np.array_equal(tail, _words(size, tag + 100)), f"second part of {size} words differs")
        _expect(lane.recv_bytes(0, 0, 0) == b"", "an empty frame is not empty")
        single = np.zeros((), np.uint64)
        lane.recv(0, MAX_TAG, [single])
        _expect(int(single) == 7, "a 0-dimensional array differs")

    run_parties(lanes, first, second)


def check_bytes(lanes: list[Transport]) -> None:
    """recv_bytes takes any frame up to its limit, and refuses the first byte above."""
    lanes[0].send(1, 3, [np.arange(10, dtype=np.uint8)])
    _expect(lanes[1].recv_bytes(0, 3, 10) == bytes(range(10)), "bytes differ")
    lanes[0].send(1, 3, [np.arange(10, dtype=np.uint8)])
    error = _raises(FrameError, lambda: lanes[1].recv_bytes(0, 3, 9), "a frame above the limit")
    _expect("9" in str(error) and "10" in str(error), f"message lacks expected and got: {error}")


def check_order(lanes: list[Transport]) -> None:
    """All parties talk to all, many frames, mixed sizes; nothing is lost, mixed up or out of order."""
    rounds = 40

    def talk(lane: Transport) -> None:
        others = [peer for peer in range(lane.parties) if peer != lane.rank]
        for number in range(rounds):
            size = (1, 300, 5000)[number % 3]
            for peer in others:
                lane.send(peer, number, [_words(size, 1000 * lane.rank + number)])
        for number in range(rounds):
            size = (1, 300, 5000)[number % 3]
            for peer in reversed(others):
                got = np.empty(size, np.uint64)
                lane.recv(peer, number, [got])
                _expect(np.array_equal(got, _words(size, 1000 * peer + number)), f"frame {number} of P{peer} differs")

    run_parties(lanes, talk)


def check_simultaneous(lanes: list[Transport]) -> None:
    """All send a large frame to all others before anyone receives: no deadlock."""

    def talk(lane: Transport) -> None:
        others = [peer for peer in range(lane.parties) if peer != lane.rank]
        mine = _words(LARGE_BYTES // 8, lane.rank)
        for peer in others:
            lane.send(peer, 1, [mine[:-1], mine[-1:]])
        for peer in others:
            got = np.empty_like(mine)
            lane.recv(peer, 1, [got])
            _expect(np.array_equal(got, _words(LARGE_BYTES // 8, peer)), f"large frame of P{peer} differs")

    run_parties(lanes, talk)


def check_counters(lanes: list[Transport]) -> None:
    """Bytes and frames are counted by peer, header included; sent equals received; waiting is measured."""
    lanes[0].send(1, 1, [np.zeros(5, np.uint64), np.zeros(3, np.uint8)])
    lanes[0].send(1, 2, [])
    sent, got = lanes[0].counters, lanes[1].counters
    total = 2 * HEADER_BYTES + 43
    _expect(sent.bytes_sent[1] == total and sent.frames_sent[1] == 2, f"sent: {sent}")
    _expect(sent.bytes_received[1] == 0 and sent.frames_received[1] == 0, f"nothing was received: {sent}")
    _expect(got.bytes_received[0] == 0, "a frame counts as received only when recv() returned it")
    lanes[1].recv_bytes(0, 1, 43)
    lanes[1].recv(0, 2, [])
    _expect(got.bytes_received[0] == total and got.frames_received[0] == 2, f"received: {got}")
    others = [peer for peer in range(lanes[0].parties) if peer > 1]
    _expect(all(sent.bytes_sent[peer] == 0 for peer in others), "frames are counted for the wrong peer")
    before = got.wait_ns
    timer = threading.Timer(0.1, lambda: lanes[0].send(1, 3, []))
    timer.start()
    lanes[1].recv(0, 3, [])
    timer.join()
    _expect(got.wait_ns - before > 50_000_000, f"waited 100 ms, wait_ns grew by {got.wait_ns - before}")


def check_clock(lanes: list[Transport]) -> None:
    """The Lamport rule: stamp = 1 + largest stamp consumed; sending does not advance; recv takes the maximum."""
    a, b = lanes[0], lanes[1]
    for _ in range(3):
        a.send(1, 1, [])
    _expect(a.counters.clock == 0, f"sending moved the clock to {a.counters.clock}")
    _expect(b.counters.clock == 0, "the clock moved before recv()")
    b.recv(0, 1, [])
    b.send(0, 1, [])
    b.recv(0, 1, [])
    b.recv(0, 1, [])
    _expect(b.counters.clock == 1, f"three frames of one round: expected 1, got {b.counters.clock}")
    a.recv(1, 1, [])
    _expect(a.counters.clock == 2, f"a reply: expected 2, got {a.counters.clock}")
    a.send(1, 1, [])
    b.recv(0, 1, [])
    _expect(b.counters.clock == 3, f"a reply to the reply: expected 3, got {b.counters.clock}")
    last = lanes[-1]
    if last is not b:
        b.send(last.rank, 1, [])
        last.recv(1, 1, [])
        _expect(last.counters.clock == 4, f"passed on: expected 4, got {last.counters.clock}")


def check_mismatch(lanes: list[Transport]) -> None:
    """Another tag than expected is an error that names both; afterwards the lane refuses to go on."""
    lanes[0].send(1, 5, [np.zeros(2, np.uint64)])
    error = _raises(FrameError, lambda: lanes[1].recv(0, 6, [np.zeros(2, np.uint64)]), "another tag")
    _expect("5" in str(error) and "6" in str(error) and "P1" in str(error), f"message lacks names: {error}")
    _raises(TransportError, lambda: lanes[1].recv(0, 5, [np.zeros(2, np.uint64)]), "use after an error")
    _raises(TransportError, lambda: lanes[1].send(0, 5, []), "use after an error")


def check_length(lanes: list[Transport]) -> None:
    """A frame that is shorter or longer than the arrays is an error, and so is another dtype of the same size."""
    lanes[0].send(1, 1, [np.zeros(3, np.uint64)])
    error = _raises(FrameError, lambda: lanes[1].recv(0, 1, [np.zeros(2, np.uint64)]), "a longer frame")
    _expect("16" in str(error) and "24" in str(error), f"message lacks expected and got: {error}")
    last = lanes[-1]
    if last.rank > 1:
        last.send(0, 1, [np.zeros(2, np.uint64)])
        _raises(FrameError, lambda: lanes[0].recv(last.rank, 1, [np.zeros(3, np.uint64)]), "a shorter frame")


def check_dtype(lanes: list[Transport]) -> None:
    """Numbers of another type are refused even if the bytes would fit; raw bytes fit everything."""
    lanes[0].send(1, 1, [np.ones(4, np.uint32)])
    words = np.zeros(16, np.uint8)
    lanes[1].recv(0, 1, [words])
    _expect(words.view(np.uint32).tolist() == [1] * 4, "raw bytes differ")
    lanes[0].send(1, 1, [np.ones(4, np.uint32)])
    _raises(FrameError, lambda: lanes[1].recv(0, 1, [np.zeros(2, np.uint64)]), "uint32 into uint64")


def check_misuse(lanes: list[Transport]) -> None:
    """Our own bugs are ProtocolError before a byte moves, and the lane stays usable."""
    lane, good = lanes[0], np.zeros(4, np.uint64)
    frozen = good.copy()
    frozen.flags.writeable = False
    _raises(ProtocolError, lambda: lane.send(0, 1, [good]), "a frame to oneself")
    _raises(ProtocolError, lambda: lane.send(lane.parties, 1, [good]), "a rank that does not exist")
    _raises(ProtocolError, lambda: lane.recv(-1, 1, [good]), "a negative rank")
    _raises(ProtocolError, lambda: lane.send(1, MAX_TAG + 1, [good]), "a tag out of range")
    _raises(ProtocolError, lambda: lane.send(1, -1, [good]), "a negative tag")
    _raises(ProtocolError, lambda: lane.send(1, 1, [good[::2]]), "a strided array")
    _raises(ProtocolError, lambda: lane.send(1, 1, [good.astype(">u8")]), "a big-endian array")
    _raises(ProtocolError, lambda: lane.send(1, 1, [np.array([None])]), "an array of objects")
    _raises(ProtocolError, lambda: lane.send(1, 1, [np.zeros(2, np.complex128)]), "an array of complex numbers")
    _raises(ProtocolError, lambda: lane.recv(1, 1, [frozen]), "a read-only array")
    lane.send(1, 1, [good])
    lanes[1].recv(0, 1, [good])


def check_deadline(lanes: list[Transport]) -> None:
    """A peer that sends nothing is a DeadlineError that names it, and a TimeoutError."""
    error = _raises(DeadlineError, lambda: lanes[0].recv(1, 9, [np.zeros(1, np.uint64)]), "a silent peer")
    _expect(isinstance(error, TimeoutError), "a DeadlineError is a TimeoutError")
    _expect("P0" in str(error) and "P1" in str(error) and "9" in str(error), f"message lacks names: {error}")
    _raises(TransportError, lambda: lanes[0].send(1, 1, []), "use after an error")


def check_close(lanes: list[Transport]) -> None:
    """What was sent before a close still arrives; then PeerClosedError with the reason, made harmless."""
    lanes[0].send(1, 1, [np.ones(1, np.uint64)])
    lanes[0].close("out of tea\n\x1b[31m" + "x" * 5000)
    got = np.zeros(1, np.uint64)
    lanes[1].recv(0, 1, [got])
    _expect(int(got[0]) == 1, "a frame sent before the close differs")
    error = _raises(PeerClosedError, lambda: lanes[1].recv(0, 1, [got]), "recv from a closed peer")
    text = str(error)
    _expect("out of tea" in text and "P0" in text, f"message lacks reason or peer: {text}")
    _expect(text.isprintable() and len(text) < 1000, "the reason was not cleaned")
    _expect(isinstance(error, ConnectionError), "a PeerClosedError is a ConnectionError")
    lanes[0].close("again")
    _raises(TransportError, lambda: lanes[0].send(1, 1, []), "send on a closed lane")
    _raises(TransportError, lambda: lanes[0].recv(1, 1, []), "recv on a closed lane")


def check_close_while_waiting(lanes: list[Transport]) -> None:
    """A peer that already waits learns of a close at once, without a reason too."""
    timer = threading.Timer(0.05, lanes[0].close)
    timer.start()
    _raises(PeerClosedError, lambda: lanes[1].recv(0, 1, []), "recv while the peer closes")
    timer.join()


def check_send_to_closed(lanes: list[Transport]) -> None:
    """Sending to a peer that is gone fails, at the latest when its buffers are full, with its reason."""
    lanes[0].close("gone fishing")
    block = np.zeros(1 << 17, np.uint64)

    def flood() -> None:
        for _ in range(64):
            lanes[1].send(0, 1, [block])

    error = _raises(PeerClosedError, flood, "send to a closed peer")
    _expect("gone fishing" in str(error), f"message lacks the reason: {error}")


CHECKS: Final = MappingProxyType(
    {
        "payload": check_payload,
        "bytes": check_bytes,
        "order": check_order,
        "simultaneous": check_simultaneous,
        "counters": check_counters,
        "clock": check_clock,
        "mismatch": check_mismatch,
        "length": check_length,
        "dtype": check_dtype,
        "misuse": check_misuse,
        "deadline": check_deadline,
        "close": check_close,
        "close while waiting": check_close_while_waiting,
        "send to closed": check_send_to_closed,
    }
)
