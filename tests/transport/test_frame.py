"""The header and its parser: strict, total, and never more trusting than the receiver's expectation."""

from __future__ import annotations

import socket
import struct
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sottovoce.engine.errors import FrameError, PeerClosedError, ProtocolError, TransportError
from sottovoce.engine.transport.base import HEADER_BYTES, MAX_CLOCK
from sottovoce.engine.transport.frame import (
    ABORT,
    DATA,
    HELLO,
    MAX_REASON,
    Header,
    LaneState,
    clean_reason,
    pack_header,
    parse_header,
    payload_views,
)
from sottovoce.engine.transport.link import Link
from sottovoce.engine.transport.tcp import TcpTransport

SESSION = b"sessions"
GOOD = Header(DATA, SESSION, 7, 1, 0, 0, 1, 16)


def test_layout_is_as_documented() -> None:
    raw = pack_header(Header(DATA, SESSION, 0x0102, 1, 3, 0x04050607, 0x08090A0B, 0x0C0D0E0F10111213))
    assert len(raw) == HEADER_BYTES
    assert raw == bytes.fromhex("7376 01 02 73657373696f6e73 0201 01 03 07060504 0b0a0908 131211100f0e0d0c")


@given(
    st.builds(
        Header,
        kind=st.sampled_from([HELLO, DATA]),
        session=st.binary(min_size=8, max_size=8),
        tag=st.integers(0, 0xFFFF),
        dtype=st.integers(0, 8),
        lane=st.integers(0, 255),
        counter=st.integers(0, 2**32 - 1),
        stamp=st.integers(1, 2**32 - 1),
        length=st.integers(0, 2**64 - 1),
    )
)
def test_round_trip(header: Header) -> None:
    assert parse_header(pack_header(header)) == header


@given(st.binary(max_size=80))
def test_garbage_is_a_frame_error_or_a_header(raw: bytes) -> None:
    try:
        header = parse_header(raw)
    except FrameError:
        return
    assert pack_header(header) == raw


@pytest.mark.parametrize(
    ("at", "value", "field"),
    [
        (0, b"\x00", "magic"),
        (2, b"\x02", "frame version"),
        (3, b"\x00", "kind"),
        (3, b"\x04", "kind"),
        (14, b"\x09", "dtype"),
        (20, b"\x00\x00\x00\x00", "stamp"),
    ],
)
def test_each_bad_field_is_named(at: int, value: bytes, field: str) -> None:
    raw = bytearray(pack_header(GOOD))
    raw[at : at + len(value)] = value
    with pytest.raises(FrameError, match=field):
        parse_header(raw)


def test_a_long_reason_is_refused_by_its_header() -> None:
    with pytest.raises(FrameError, match="reason"):
        parse_header(pack_header(GOOD._replace(kind=ABORT, length=MAX_REASON + 1)))


@given(st.one_of(st.text(), st.binary()))
def test_reasons_are_made_harmless(reason: str | bytes) -> None:
    clean = clean_reason(reason)
    assert len(clean) <= MAX_REASON
    assert all(" " <= c <= "~" for c in clean)


def test_mixed_parts_have_no_common_dtype() -> None:
    words, bits = np.zeros(2, np.uint64), np.zeros(2, np.uint32)
    assert payload_views([words, words], writable=False)[1:] == (32, 1)
    assert payload_views([words, bits], writable=False)[1:] == (24, 0)
    assert payload_views([], writable=True) == ([], 0, 0)


def test_the_frame_counter_never_wraps() -> None:
    state = LaneState("P0 lane 0", [1], SESSION, 0)
    state._sent[1] = 2**32 - 1
    assert parse_header(state.outgoing(1, 0, 0, 0)).counter == 2**32 - 1
    with pytest.raises(ProtocolError, match="used up"):
        state.outgoing(1, 0, 0, 0)


def test_a_hostile_stamp_only_saturates_the_clock() -> None:
    state = LaneState("P0 lane 0", [1], SESSION, 0)
    state.consumed(1, GOOD._replace(stamp=MAX_CLOCK))
    assert state.counters.clock == MAX_CLOCK
    assert parse_header(state.outgoing(1, 0, 0, 0)).stamp == MAX_CLOCK
    state.consumed(1, GOOD._replace(stamp=1))
    assert state.counters.clock == MAX_CLOCK


# ---- the same against a live lane: raw bytes from the peer --------------------------------------------------------


class Raw:
    """P0's lane on one end of a socket pair, a hostile P1 on the other."""

    def __init__(self, inbox_limit: int = 1 << 20) -> None:
        ours, self.peer = socket.socketpair()
        self.lane = TcpTransport(
            0, 2, {1: Link(ours, "P1", inbox_limit=inbox_limit)}, session=SESSION, deadline_s=0.3, kind=DATA
        )

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self.peer.close()
        self.lane.close()

    def recv(self) -> None:
        self.lane.recv(1, 7, [np.zeros(2, np.uint64)])


@pytest.fixture
def raw() -> Raw:
    return Raw()


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (GOOD._replace(session=b"another!"), ("session", SESSION.hex(), b"another!".hex())),
        (GOOD._replace(kind=HELLO), ("kind",)),
        (GOOD._replace(lane=3), ("lane 0", "lane 3")),
        (GOOD._replace(counter=1), ("counter", "expected 0", "got 1")),
        (GOOD._replace(tag=8), ("tag", "expected 7", "got 8")),
        (GOOD._replace(dtype=2), ("dtype", "uint64", "uint32")),
        (GOOD._replace(length=15), ("payload", "expected 16", "got 15")),
        (GOOD._replace(length=2**63), ("payload", "expected 16", str(2**63))),
    ],
)
def test_an_unexpected_frame_is_refused(raw: Raw, bad: Header, words: tuple[str, ...]) -> None:
    with raw:
        raw.peer.sendall(pack_header(bad) + bytes(16))
        with pytest.raises(FrameError) as caught:
            raw.recv()
        assert all(word in str(caught.value) for word in ("P0", "recv from P1", *words))
        with pytest.raises(TransportError, match="unusable"):
            raw.recv()


def test_an_oversized_frame_is_refused_before_any_allocation(raw: Raw) -> None:
    with raw:
        raw.peer.sendall(pack_header(GOOD._replace(dtype=0, length=2**60)))
        with pytest.raises(FrameError, match="at most 100"):
            raw.lane.recv_bytes(1, 7, 100)


def test_a_replayed_frame_is_refused(raw: Raw) -> None:
    with raw:
        raw.peer.sendall(2 * (pack_header(GOOD) + bytes(16)))
        raw.recv()
        with pytest.raises(FrameError, match="counter: expected 1, got 0"):
            raw.recv()


def test_frames_out_of_order_are_refused(raw: Raw) -> None:
    with raw:
        raw.peer.sendall(b"".join(pack_header(GOOD._replace(counter=n)) + bytes(16) for n in (0, 2, 1)))
        raw.recv()
        with pytest.raises(FrameError, match="counter: expected 1, got 2"):
            raw.recv()


@pytest.mark.parametrize("cut", [1, 31, 32, 40])
def test_a_truncated_frame_is_a_closed_peer(raw: Raw, cut: int) -> None:
    with raw:
        raw.peer.sendall((pack_header(GOOD) + bytes(16))[:cut])
        raw.peer.close()
        with pytest.raises(PeerClosedError, match="in the middle of a frame"):
            raw.recv()


def test_a_frame_in_single_bytes_is_one_frame(raw: Raw) -> None:
    with raw:
        data = pack_header(GOOD) + bytes(range(16))
        out = np.zeros(2, np.uint64)

        def trickle() -> None:
            for byte in data:
                raw.peer.sendall(bytes([byte]))

        thread = threading.Thread(target=trickle)
        thread.start()
        raw.lane.recv(1, 7, [out])
        thread.join()
        assert out.tobytes() == bytes(range(16))


def test_an_abort_frame_ends_the_lane_with_its_clean_reason(raw: Raw) -> None:
    with raw:
        reason = b"bad \x1b[31mweather\n\xff"
        header = Header(ABORT, bytes(8), 0, 0, 0, 99, 1, len(reason))
        raw.peer.sendall(pack_header(header) + reason)
        with pytest.raises(PeerClosedError, match=r"P1 is gone: it said: bad \?\[31mweather\?\?"):
            raw.recv()


def test_a_flood_is_bounded() -> None:
    with Raw(inbox_limit=300_000) as raw:
        stop = threading.Event()

        def flood() -> None:
            block = pack_header(GOOD._replace(length=2**40)) + bytes(65536)
            raw.peer.setblocking(False)
            while not stop.is_set():
                try:
                    raw.peer.send(block)
                except BlockingIOError:
                    stop.wait(0.001)
                except OSError:
                    return

        thread = threading.Thread(target=flood)
        thread.start()
        try:
            with pytest.raises(FrameError, match="P1 runs ahead by more than the inbox limit of 300000"):
                raw.lane.send(1, 1, [np.zeros(1 << 22, np.uint64)])
        finally:
            stop.set()
            thread.join()


@given(st.lists(st.tuples(st.integers(0, 47), st.integers(0, 255)), min_size=1, max_size=4))
def test_any_bytes_changed_in_the_header_are_noticed_or_harmless(changes: list[tuple[int, int]]) -> None:
    """Whatever a peer does to a frame: the payload as sent, or a TransportError; no hang, no other exception."""
    data = bytearray(pack_header(GOOD) + bytes(range(16)))
    for at, value in changes:
        data[at] = value
    with Raw() as raw:
        raw.peer.sendall(data)
        raw.peer.close()
        out = np.zeros(2, np.uint64)
        try:
            raw.lane.recv(1, 7, [out])
        except TransportError:
            return
        assert out.tobytes() == bytes(data[32:])
        # Only the stamp and the dtype "bytes" may differ from what was expected.
        kept = struct.unpack("<HBB8sH", data[:14])
        assert kept == struct.unpack("<HBB8sH", pack_header(GOOD)[:14])
        assert data[14] in (0, 1)
        assert data[15:20] == pack_header(GOOD)[15:20]
