"""Connects the parties: a lane is one connection to every other party, with a key for each pair.

The lower rank listens, the higher rank connects. All connections of all lanes are made side by side.
`Listener`, `Connection`, `Cancel` and `connect_role` (for clients and owners) are to be had here too.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Final

import msgspec

from sottovoce.engine.errors import ConfigError, DeadlineError, PeerClosedError, TransportError
from sottovoce.engine.transport.base import Transport
from sottovoce.engine.transport.connection import Connection, dial
from sottovoce.engine.transport.handshake import Hello, PairKey, agree
from sottovoce.engine.transport.link import DEFAULT_INBOX
from sottovoce.engine.transport.listener import Listener
from sottovoce.engine.transport.tcp import Cancel, TcpTransport
from sottovoce.engine.transport.tls import Address, Identity, TlsContexts

__all__ = ["Cancel", "Connection", "Listener", "MeshLane", "connect_mesh", "connect_role"]

_SLICE_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class MeshLane:
    """One lane of a mesh, and for each peer the pairwise key and the cipher to use it with.

    chunk_elements: the smallest wish of all parties.
    """

    lane: int
    transport: Transport
    chunk_elements: int
    ciphers: Mapping[int, str]
    pair_keys: Mapping[int, bytes] = field(repr=False)


def connect_role(
    address: Address,
    *,
    party: int | None,
    tls: TlsContexts | None,
    role: Identity | None = None,
    detail: bytes = b"",
    deadline_s: float = 30.0,
    insecure_loopback: bool = False,
    cancel: threading.Event | None = None,
) -> Connection:
    """Connect a client or an owner to the party of rank `party`, or a party to the dealer, which None stands for.

    detail: what for. role: who we are; under TLS it is the certificate's identity. Errors as for `dial`.
    """
    me = role or (tls.identity if tls is not None else None)
    if me is None:
        raise ConfigError("connect_role: without certificates the role must be given")
    return dial(
        address,
        party=party,
        role=me,
        tls=tls,
        detail=detail,
        deadline_s=deadline_s,
        insecure_loopback=insecure_loopback,
        cancel=cancel,
    )


def connect_mesh(
    rank: int,
    addresses: Sequence[Address],
    listener: Listener | None,
    tls: TlsContexts | None,
    hello: Hello,
    lanes: int = 1,
    deadline_s: float = 30.0,
    *,
    wait_s: float = 30.0,
    insecure_loopback: bool = False,
    inbox_limit: int = DEFAULT_INBOX,
    spin_us: float = 0.0,
    cancel: threading.Event | None = None,
) -> list[MeshLane]:
    """Connect party `rank` with all others; element l is lane l.

    addresses: of all parties by rank. listener: the highest rank needs none. hello: the lane field is filled in here.
    deadline_s: for the whole set-up; wait_s: the lanes' own deadline afterwards. Setting `cancel` ends every wait, now
    and later. If one connection fails all are closed, the peers are told why, and the first error is raised; the
    session id is then used up.
    """
    parties = len(addresses)
    if (hello.rank, hello.parties) != (rank, parties) or not 0 <= rank < parties or lanes < 1:
        got = f"rank {hello.rank} of {hello.parties}, {lanes} lanes"
        raise ConfigError(f"P{rank}: connect_mesh: expected a hello for rank {rank} of {parties}, got {got}")
    if listener is None and rank < parties - 1:
        raise ConfigError(f"P{rank}: connect_mesh: expected a listener for the higher ranks, got none")
    if tls is None and not insecure_loopback:
        raise ConfigError(f"P{rank}: connect_mesh: certificates are needed (or --insecure-loopback)")
    stop = Cancel()
    end = time.monotonic() + deadline_s
    failures: list[BaseException] = []

    def connect(peer: int, lane: int) -> tuple[Connection, PairKey]:
        try:
            return connect_once(peer, lane)
        except BaseException as error:
            failures.append(error)
            stop.because(f"set-up failed: {error}")
            raise

    def connect_once(peer: int, lane: int) -> tuple[Connection, PairKey]:
        mine = msgspec.structs.replace(hello, lane=lane)
        while True:
            left = max(end - time.monotonic(), 0.0)
            if peer > rank:
                assert listener is not None
                connection = listener.take_peer(peer, lane, deadline_s=left, cancel=stop)
            else:
                connection = dial(
                    addresses[peer],
                    party=peer,
                    role=Identity.party(rank),
                    tls=tls,
                    lane=lane,
                    detail=hello.session,
                    deadline_s=left,
                    insecure_loopback=insecure_loopback,
                    inbox_limit=inbox_limit,
                    cancel=stop,
                )
            connection.adopt(deadline_s=max(end - time.monotonic(), 0.0), cancel=stop)
            try:
                return connection, agree(connection, mine, peer)
            except PeerClosedError as error:
                # Gone without a word: a connection from before the peer was restarted. Wait for the next one.
                if time.monotonic() >= end:
                    raise DeadlineError(f"{error}; no other connection within {deadline_s:g} s") from None
                time.sleep(0.02)

    pairs = [(peer, lane) for lane in range(lanes) for peer in range(parties) if peer != rank]
    with ThreadPoolExecutor(len(pairs), thread_name_prefix=f"P{rank} connect") as pool:
        futures = {pair: pool.submit(connect, *pair) for pair in pairs}
        _wait_for_all(rank, futures, failures, stop, cancel)
    if failures:
        if listener is not None:
            listener.refuse_session(hello.session, stop.reason)
        for future in futures.values():
            if future.exception() is None:
                future.result()[0].close(stop.reason)
        raise failures[0]
    made = {pair: future.result() for pair, future in futures.items()}
    others = [peer for peer in range(parties) if peer != rank]
    return [
        MeshLane(
            lane,
            TcpTransport(
                rank,
                parties,
                {peer: made[peer, lane][0].release() for peer in others},
                session=hello.session,
                lane=lane,
                deadline_s=wait_s,
                spin_us=spin_us,
                cancel=cancel,
            ),
            min(hello.chunk_elements, *(made[peer, lane][1].chunk_elements for peer in others)),
            ciphers={peer: made[peer, lane][1].cipher for peer in others},
            pair_keys={peer: made[peer, lane][1].key for peer in others},
        )
        for lane in range(lanes)
    ]


def _wait_for_all(
    rank: int,
    futures: Mapping[tuple[int, int], Future[tuple[Connection, PairKey]]],
    failures: list[BaseException],
    stop: Cancel,
    cancel: threading.Event | None,
) -> None:
    """Wait until all have ended. A failure of one, a peer that leaves, the caller's cancel or Ctrl-C stops the rest."""
    waiting = set(futures.values())
    try:
        while waiting:
            _, waiting = wait(waiting, timeout=_SLICE_S)
            if cancel is not None and cancel.is_set():
                stop.because(cancel.reason if isinstance(cancel, Cancel) else "cancelled")
            for (peer, lane), future in futures.items():
                # A peer whose handshake with us is done may fail with another, and says so: do not wait in vain.
                if waiting and future not in waiting and future.exception() is None:
                    try:
                        future.result()[0].check_open(f"P{rank}: set-up with P{peer}, lane {lane}")
                    except TransportError as error:
                        failures.append(error)
                        stop.because(f"set-up failed: {error}")
    except BaseException as error:
        stop.because(f"stopped by {type(error).__name__}")
        raise
