"""The handshake between parties, the mesh, and the listener under attack."""

from __future__ import annotations

import socket
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from sottovoce.engine.errors import ConfigError, DeadlineError, FrameError, HandshakeError, PeerClosedError
from sottovoce.engine.transport.connection import OPENING_VERSION, Connection, Opening
from sottovoce.engine.transport.handshake import Hello, PairKey, agree, agree_cipher, derive
from sottovoce.engine.transport.link import Link
from sottovoce.engine.transport.mesh import Listener, MeshLane, connect_mesh, connect_role
from sottovoce.engine.transport.tls import Identity, load_tls
from sottovoce.serving.cluster import free_addresses
from tests.transport.meshes import LOOPBACK, PROGRAM, SESSION, contexts, hello, in_threads, try_mesh

KINDS = ("tcp", "tls")


def tls_of(kind: str, certificates: Path, parties: int = 3) -> list[Any]:
    return contexts(certificates if kind == "tls" else None, parties)


# ---- keys ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_every_pair_and_lane_has_its_own_common_key(kind: str, certificates: Path) -> None:
    made = try_mesh(tls_of(kind, certificates), [hello(rank, 3) for rank in range(3)], lanes=2)
    assert not any(isinstance(result, BaseException) for result in made), made
    keys: dict[tuple[int, ...], bytes] = {}
    for rank, lanes in enumerate(made):
        assert isinstance(lanes, list)
        for number, lane in enumerate(lanes):
            assert lane.lane == number
            assert lane.transport.encrypted == (kind == "tls")
            assert set(lane.ciphers.values()) == {"chacha20"}
            assert "pair_keys" not in repr(lane)
            for peer, key in lane.pair_keys.items():
                assert len(key) == 32
                assert keys.setdefault((number, *sorted((rank, peer))), key) == key
            assert lane.transport.counters.bytes_sent == {peer: 0 for peer in range(3) if peer != rank}
            lane.transport.close()
    assert len(set(keys.values())) == 6


class Scripted:
    """Two ends of a socket pair that look encrypted, so that contributions are 32 plain bytes."""

    def __init__(self, *hellos: Hello, encrypted: bool = True) -> None:
        self.hellos = hellos
        ends = socket.socketpair()
        links = [Link(end, f"P{hellos[1 - i].rank}") for i, end in enumerate(ends)]
        for link in links:
            link.encrypted = encrypted
        self.ends = [
            Connection(link, name=f"P{h.rank}", identity=Identity.party(0), deadline_s=2)
            for link, h in zip(links, hellos, strict=True)
        ]

    def agree(self) -> list[Any]:
        a, b = self.hellos
        results = in_threads(lambda: agree(self.ends[0], a, b.rank), lambda: agree(self.ends[1], b, a.rank))
        for end in self.ends:
            end.close()
        return results


def test_the_key_is_the_documented_one(monkeypatch: pytest.MonkeyPatch) -> None:
    contributions = {"P0": b"0" * 32, "P1": b"1" * 32}
    names: dict[int, str] = {}
    sent = Connection.send_message

    def remember(self: Connection, message: Any, *, tag: int = 0) -> None:
        names[threading.get_ident()] = self.name
        sent(self, message, tag=tag)

    monkeypatch.setattr(Connection, "send_message", remember)
    monkeypatch.setattr(
        "sottovoce.engine.transport.handshake.secrets.token_bytes",
        lambda n: contributions[names[threading.get_ident()]],
    )
    got = Scripted(hello(0, 2, lane=4), hello(1, 2, lane=4)).agree()
    expected = HKDF(algorithm=hashes.SHA256(), length=32, salt=SESSION + PROGRAM, info=b"sottovoce/pair/0-1/4").derive(
        b"0" * 32 + b"1" * 32
    )
    assert [result.key for result in got] == [expected, expected]
    assert expected.hex() not in repr(got)


def test_without_tls_the_key_does_not_follow_from_the_traffic(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, bytes] = {}
    sent = Connection.send_message

    def listen_in(self: Connection, message: Any, *, tag: int = 0) -> None:
        if tag == 2:
            seen[self.name] = message
        sent(self, message, tag=tag)

    monkeypatch.setattr(Connection, "send_message", listen_in)
    got = Scripted(hello(0, 2), hello(1, 2), encrypted=False).agree()
    assert got[0].key == got[1].key
    info = b"sottovoce/pair/0-1/0"
    assert got[0].key != derive(seen["P0"] + seen["P1"], SESSION + PROGRAM, info)
    # A public key of small order would make the shared secret known to everybody.
    pair = Scripted(hello(0, 2), hello(1, 2), encrypted=False)
    pair.ends[1].send_message(hello(1, 2), tag=1)
    pair.ends[1].send_message(bytes(32), tag=2)
    with pytest.raises(HandshakeError, match="small order"):
        agree(pair.ends[0], hello(0, 2), 1)
    pair.ends[1].close()


def test_each_run_has_new_keys() -> None:
    runs = [Scripted(hello(0, 2), hello(1, 2)).agree() for _ in range(2)]
    assert runs[0][0].key == runs[0][1].key != runs[1][0].key


def test_a_reflected_contribution_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sottovoce.engine.transport.handshake.secrets.token_bytes", lambda n: b"x" * n)
    results = Scripted(hello(0, 2), hello(1, 2)).agree()
    assert all(isinstance(result, HandshakeError) and "fresh" in str(result) for result in results)


@pytest.mark.parametrize(
    ("lower", "higher", "agreed"),
    [
        (("chacha20", "aes128ctr"), ("aes128ctr", "chacha20"), "chacha20"),
        (("aes128ctr", "chacha20"), ("chacha20", "aes128ctr"), "aes128ctr"),
        (("new", "aes128ctr"), ("chacha20", "aes128ctr"), "aes128ctr"),
    ],
)
def test_the_cipher_is_the_lower_ranks_first_choice(lower: Any, higher: Any, agreed: str) -> None:
    assert agree_cipher(hello(0, 2, ciphers=lower), hello(1, 2, ciphers=higher)) == agreed
    results = Scripted(hello(0, 2, ciphers=lower), hello(1, 2, ciphers=higher)).agree()
    assert [result.cipher for result in results] == [agreed, agreed]


# ---- mismatches ---------------------------------------------------------------------------------------------------

MISMATCHES: list[tuple[dict[str, Any], str, str, str]] = [
    ({"version": 9}, "protocol version", "2", "9"),
    ({"session": b"x" * 16}, "session", SESSION[:8].hex(), (b"x" * 8).hex()),
    ({"program": b"x" * 32}, "program", PROGRAM[:8].hex(), (b"x" * 8).hex()),
    ({"protocol": "plain"}, "protocol", "rep3", "plain"),
    ({"ring": "Z2^32"}, "ring", "Z2^64", "Z2^32"),
    ({"parties": 3}, "number of parties", "2", "3"),
    ({"rank": 2}, "rank", "1", "2"),
    ({"ciphers": ("rot13",)}, "cipher", "chacha20", "rot13"),
    ({"lane": 5}, "lane", "0", "5"),
]


@pytest.mark.parametrize(("change", "field", "expected", "got"), MISMATCHES, ids=[m[1] for m in MISMATCHES])
def test_a_mismatch_is_named_on_both_sides(change: dict[str, Any], field: str, expected: str, got: str) -> None:
    good, bad = hello(0, 2), msgspec.structs.replace(hello(1, 2), **change)
    pair = Scripted(good, bad)
    results = in_threads(lambda: agree(pair.ends[0], good, 1), lambda: agree(pair.ends[1], bad, 0))
    for end in pair.ends:
        end.close()
    assert all(isinstance(result, HandshakeError) for result in results), results
    assert all(field in str(result) and expected in str(result) and got in str(result) for result in results)
    assert "P0: handshake with P1" in str(results[0])


@pytest.mark.parametrize("change", [{"session": b"x" * 16}, {"program": b"x" * 32}, {"protocol": "plain"}])
def test_one_party_with_another_idea_stops_the_mesh_everywhere(change: dict[str, Any], certificates: Path) -> None:
    hellos = [hello(0, 3), hello(1, 3, **change), hello(2, 3)]
    results = try_mesh(contexts(certificates, 3), hellos, deadline_s=600)  # nobody waits for that
    assert all(isinstance(result, HandshakeError) for result in results[:2]), results
    field = next(iter(change))
    assert all(field in str(result) for result in results[:2])
    if isinstance(results[2], list):
        # P2 may have finished with both before they failed: then its lane ends with their reason.
        with pytest.raises(PeerClosedError, match=field):
            results[2][0].transport.recv(0, 1, [])
        results[2][0].transport.close()
    else:
        assert isinstance(results[2], HandshakeError)


@pytest.mark.timeout(15)  # else the deadline of 30 s
def test_a_peer_that_leaves_after_its_handshake_stops_the_set_up(certificates: Path) -> None:
    """P2 is done with P0 and waits for P1, who never comes; P0 fails and says why; a late P1 is told by P0 too."""
    tls = contexts(certificates, 3)
    (nobody,) = free_addresses(1)
    with (
        Listener(LOOPBACK, rank=0, parties=3, tls=tls[0]) as zero,
        Listener(LOOPBACK, rank=2, parties=3, tls=tls[2]) as two,
    ):

        def leave() -> None:
            connection = zero.take_peer(2, 0, deadline_s=5)
            agree(connection, hello(0, 3), 2)
            connection.close("P0 has seen something else")
            zero.refuse_session(SESSION, "P0 gave this session up")

        _, error = in_threads(
            leave, lambda: connect_mesh(2, [zero.address, nobody, LOOPBACK], two, tls[2], hello(2, 3), 1, 30)
        )
        assert isinstance(error, HandshakeError), error
        assert "P2" in str(error)
        assert "P0 has seen something else" in str(error)
        with (
            Listener(LOOPBACK, rank=1, parties=3, tls=tls[1]) as one,
            pytest.raises(HandshakeError, match="P0 gave this session up"),
        ):
            connect_mesh(1, [zero.address, one.address, nobody], one, tls[1], hello(1, 3), 1, 30)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\x81\xa7version\x01",
        b"\x91" * 4000,
        msgspec.msgpack.encode({**msgspec.structs.asdict(hello(1, 2)), "extra": 1}),
        msgspec.msgpack.encode({**msgspec.structs.asdict(hello(1, 2)), "session": b"short"}),
        msgspec.msgpack.encode({**msgspec.structs.asdict(hello(1, 2)), "rank": "1"}),
        msgspec.msgpack.encode({**msgspec.structs.asdict(hello(1, 2)), "ciphers": ["x"] * 9}),
        bytes(5000),
    ],
)
def test_a_malformed_hello_is_refused(data: bytes) -> None:
    pair = Scripted(hello(0, 2), hello(1, 2))
    pair.ends[1].send_message(data, tag=1)
    with pytest.raises(HandshakeError, match="P0: handshake with P1"):
        agree(pair.ends[0], hello(0, 2), 1)
    assert pair.ends[1].recv_message(4096, tag=1)
    with pytest.raises(PeerClosedError):
        pair.ends[1].recv_message(4096, tag=2)
    pair.ends[1].close()


def test_garbage_keys_and_proofs_are_refused() -> None:
    for bad_tag in (2, 3):
        pair = Scripted(hello(0, 2), hello(1, 2))
        liar = pair.ends[1]
        honest_send = liar.send_message

        def send(message: Any, *, tag: int = 0, bad: int = bad_tag, sender: Any = honest_send) -> None:
            sender(bytes(31 if bad == 2 else 32) if tag == bad else message, tag=tag)

        liar.send_message = send  # type: ignore[method-assign]
        results = in_threads(*(partial(agree, pair.ends[rank], hello(rank, 2), 1 - rank) for rank in range(2)))
        assert isinstance(results[0], HandshakeError)
        assert ("contribution" if bad_tag == 2 else "confirmation") in str(results[0])
        assert isinstance(results[1], (HandshakeError, PairKey))
        for end in pair.ends:
            end.close()


# ---- the mesh -----------------------------------------------------------------------------------------------------


def test_a_party_that_is_late_is_waited_for(certificates: Path) -> None:
    tls = contexts(certificates, 2)
    (address,) = free_addresses(1)
    listeners: list[Listener] = []

    def late() -> list[MeshLane]:
        time.sleep(0.3)
        listeners.append(Listener(address, rank=0, parties=2, tls=tls[0]))
        return connect_mesh(0, [address, LOOPBACK], listeners[0], tls[0], hello(0, 2), 1, 5)

    with Listener(LOOPBACK, rank=1, parties=2, tls=tls[1]) as listener:
        results = in_threads(late, lambda: connect_mesh(1, [address, LOOPBACK], listener, tls[1], hello(1, 2), 1, 5))
    listeners[0].close()
    for result in results:
        assert isinstance(result, list), result
        result[0].transport.close()


@pytest.mark.parametrize("rank", [0, 1])
def test_a_party_that_is_down_is_a_deadline(rank: int, certificates: Path) -> None:
    tls = contexts(certificates, 2)
    (address,) = free_addresses(1)
    with (
        Listener(LOOPBACK, rank=rank, parties=2, tls=tls[rank]) as listener,
        pytest.raises(DeadlineError, match=f"P{rank}.*P{1 - rank}"),
    ):
        connect_mesh(rank, [address, address], listener, tls[rank], hello(rank, 2), 1, 0.3)


def test_a_connection_from_before_a_restart_is_replaced(certificates: Path) -> None:
    """P1 connects, dies, starts again: P0, late, meets the living one."""
    tls = contexts(certificates, 2)
    with (
        Listener(LOOPBACK, rank=0, parties=2, tls=tls[0]) as first,
        Listener(LOOPBACK, rank=1, parties=2, tls=tls[1]) as second,
    ):
        addresses = [first.address, second.address]
        dead = connect_role(first.address, party=0, tls=tls[1], deadline_s=2)
        dead.close()
        results = in_threads(
            lambda: connect_mesh(0, addresses, first, tls[0], hello(0, 2), 1, 5),
            lambda: connect_mesh(1, addresses, second, tls[1], hello(1, 2), 1, 5),
        )
    for result in results:
        assert isinstance(result, list), result
        result[0].transport.close()


def test_a_set_up_can_be_cancelled(certificates: Path) -> None:
    tls = contexts(certificates, 2)
    cancel = threading.Event()
    timer = threading.Timer(0.1, cancel.set)
    timer.start()
    with Listener(LOOPBACK, rank=0, parties=2, tls=tls[0]) as listener, pytest.raises(Exception, match="cancelled"):
        connect_mesh(0, [LOOPBACK, LOOPBACK], listener, tls[0], hello(0, 2), 1, 30, cancel=cancel)
    timer.join()


def test_a_hello_for_another_seat_is_a_mistake_of_ours() -> None:
    with Listener(LOOPBACK, rank=0, parties=2, tls=None, insecure_loopback=True) as listener:
        for bad in (hello(1, 2), hello(0, 3)):
            with pytest.raises(ConfigError, match="rank 0 of 2"):
                connect_mesh(0, [LOOPBACK] * 2, listener, None, bad, insecure_loopback=True)
        with pytest.raises(ConfigError, match="certificates are needed"):
            connect_mesh(0, [LOOPBACK] * 2, listener, None, hello(0, 2))


# ---- the listener -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_garbage_and_silence_do_not_block_real_peers(kind: str, certificates: Path) -> None:
    """More silent connections than places, and garbage of several kinds, while three parties connect."""
    tls = tls_of(kind, certificates)
    sockets: list[socket.socket] = []
    try:
        with Listener(
            LOOPBACK, rank=0, parties=3, tls=tls[0], insecure_loopback=True, max_pending=4, handshake_s=30
        ) as zero:
            for garbage in (
                b"",
                b"GET / HTTP/1.1\r\n\r\n",
                bytes(100_000),
                b"\x16\x03\x01\x02\x00\x01",
                b"sv\x01\x01",
            ) * 3:
                sock = socket.create_connection(zero.address, timeout=2)
                sockets.append(sock)
                try:
                    sock.sendall(garbage)
                except ConnectionError:
                    continue  # already thrown out
            with (
                Listener(LOOPBACK, rank=1, parties=3, tls=tls[1], insecure_loopback=True) as one,
                Listener(LOOPBACK, rank=2, parties=3, tls=tls[2], insecure_loopback=True) as two,
            ):
                listeners = [zero, one, two]
                addresses = [listener.address for listener in listeners]
                results = in_threads(
                    *(
                        lambda r=r: connect_mesh(
                            r, addresses, listeners[r], tls[r], hello(r, 3), 1, 8, insecure_loopback=kind == "tcp"
                        )
                        for r in range(3)
                    )
                )
                assert all(isinstance(result, list) for result in results), results
                for result in results:
                    result[0].transport.close()
            assert zero.refusals
    finally:
        for sock in sockets:
            sock.close()


def test_a_silent_client_is_thrown_out_after_the_deadline(certificates: Path) -> None:
    tls = contexts(certificates, 1)
    with (
        Listener(LOOPBACK, rank=0, parties=2, tls=tls[0], handshake_s=0.2) as listener,
        socket.create_connection(listener.address, timeout=3) as sock,
    ):
        assert sock.recv(1) == b""
    assert any("TLS handshake: not complete after 0.2 s" in text for text in listener.refusals)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"version": 9}, "version: expected 1, got 9"),
        ({"kind": "party", "id": "0"}, "other than 0, got 0"),
        ({"kind": "party", "id": "7"}, "below 3"),
        ({"kind": "party", "id": "1", "lane": 200}, "lane: expected below 32, got 200"),
        ({"id": "Robert'); DROP"}, "not an identity"),
        ({"id": "x" * 33}, "expected a Opening"),
        ({"connection": b"short"}, "expected a Opening"),
        ({"detail": bytes(5000)}, "expected a Opening"),
        ({"detail": bytes(9000)}, "payload bytes: expected at most 8192"),
    ],
)
def test_a_bad_opening_is_refused_with_a_reason(change: dict[str, Any], text: str) -> None:
    opening = Opening(OPENING_VERSION, "client", "alice", bytes(16))
    with Listener(LOOPBACK, rank=0, parties=3, tls=None, insecure_loopback=True) as listener:
        link = Link(socket.create_connection(listener.address, timeout=2), "P0")
        with Connection(link, name="client alice", identity=Identity.party(0), deadline_s=2) as connection:
            connection.send_message(msgspec.structs.replace(opening, **change))
            with pytest.raises(PeerClosedError) as caught:
                connection.recv_message(100)
        assert text in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_clients_and_owners_talk_to_a_party(kind: str, certificates: Path) -> None:
    """Messages, structs and arrays, both ways, with identity, purpose, limits and counters."""

    class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
        shape: tuple[int, ...]

    tls = tls_of(kind, certificates)[0]
    alice = Identity("client", "alice")
    mine = load_tls(certificates / "client-alice") if kind == "tls" else None
    words = np.arange(300_000, dtype=np.uint64)

    def serve(listener: Listener) -> tuple[Any, ...]:
        connection = listener.take_role(deadline_s=5)
        assert connection is not None
        with connection:
            question = connection.recv_struct(Question, 100, tag=1)
            got = np.empty(question.shape, np.uint64)
            connection.recv_arrays([got], tag=2)
            connection.send_arrays([got[::-1].copy()], tag=3)
            with pytest.raises(FrameError, match=r"client alice.*at most 5"):
                connection.recv_message(5, tag=4)
            assert connection.opening is not None
            return connection.identity, connection.opening.detail, connection.encrypted, got.sum()

    def ask(listener: Listener) -> tuple[Any, ...]:
        with connect_role(
            listener.address, party=0, tls=mine, role=alice, detail=b"classify", deadline_s=5,
            insecure_loopback=kind == "tcp",
        ) as connection:  # fmt: skip
            connection.deadline_s = 5
            connection.send_message(Question(shape=words.shape), tag=1)
            connection.send_arrays([words], tag=2)
            got = np.empty_like(words)
            connection.recv_arrays([got], tag=3)
            connection.send_message(b"too long", tag=4)
            counters = connection.counters
            with pytest.raises(PeerClosedError):
                connection.recv_message(10, tag=5)
            return got[0], counters.bytes_received[0], counters.frames_sent[0]

    with Listener(LOOPBACK, rank=0, parties=3, tls=tls, insecure_loopback=kind == "tcp") as listener:
        served, asked = in_threads(lambda: serve(listener), lambda: ask(listener))
        assert served == (alice, b"classify", kind == "tls", words.sum())
        assert asked == (299_999, 32 + words.nbytes, 3)
        assert listener.take_role(deadline_s=0) is None


def test_too_many_waiting_clients_are_sent_away() -> None:
    bob = Identity("owner", "bob")
    with Listener(LOOPBACK, rank=0, parties=2, tls=None, insecure_loopback=True, max_waiting=1) as listener:

        def connect() -> Connection:
            return connect_role(listener.address, party=0, tls=None, role=bob, insecure_loopback=True, deadline_s=2)

        with connect() as first:
            taken = listener.take_role(deadline_s=2)
            assert taken is not None
            with connect():
                time.sleep(0.05)
                with pytest.raises(HandshakeError, match="are waiting already"):
                    connect()
            taken.close("bye now")
            with pytest.raises(PeerClosedError, match="bye now"):
                first.recv_message(10)


def test_a_closed_listener_tells_those_who_wait() -> None:
    listener = Listener(LOOPBACK, rank=0, parties=2, tls=None, insecure_loopback=True)
    connection = connect_role(
        listener.address, party=0, tls=None, role=Identity("client", "c"), insecure_loopback=True, deadline_s=2
    )
    time.sleep(0.05)
    listener.close()
    listener.close()
    with connection, pytest.raises(PeerClosedError, match="stops listening"):
        connection.recv_message(10)
