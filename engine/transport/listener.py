"""The open port of a party or a dealer: completes handshakes side by side, hands authenticated connections over.

A silent or garbled client holds one of `max_pending` places for at most `handshake_s` seconds, and when all places are
taken the oldest one is dropped: an honest handshake takes milliseconds, so nobody can block the others.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from sottovoce.engine.errors import (
    ConfigError,
    DeadlineError,
    HandshakeError,
    SottovoceError,
    TransportError,
)
from sottovoce.engine.transport.connection import (
    MAX_OPENING,
    OPENING_VERSION,
    Connection,
    Opening,
    Welcome,
    peer_name,
)
from sottovoce.engine.transport.link import DEFAULT_INBOX, Link
from sottovoce.engine.transport.tls import (
    Address,
    Identity,
    TlsContexts,
    check_identity,
    check_loopback,
    is_loopback,
    peer_identity,
    wrap_tls,
)

_SLICE_S: Final = 0.05
_STOP_S: Final = 2.0
_REMEMBERED: Final = 256


class Listener:
    """Listens at `address` as party `rank` of `parties`, or with rank None as the dealer, until closed. Thread-safe.

    tls: None only with insecure_loopback, and then only on loopback (else ConfigError). port 0 picks a free port, see
    `address`. max_lanes bounds the peers' waiting connections, max_waiting those of clients and owners.
    on_refused: told one line, without secrets, for every connection that was turned away.
    """

    def __init__(
        self,
        address: Address,
        *,
        rank: int | None,
        parties: int,
        tls: TlsContexts | None,
        insecure_loopback: bool = False,
        handshake_s: float = 10.0,
        max_pending: int = 32,
        max_waiting: int = 64,
        max_lanes: int = 32,
        backlog: int = 64,
        inbox_limit: int = DEFAULT_INBOX,
        on_refused: Callable[[str], None] | None = None,
    ) -> None:
        me = Identity.listening(rank)
        self._name = peer_name(me)
        self._where = f"{self._name}: listen at"
        if tls is None:
            if not insecure_loopback:
                raise ConfigError(f"{self._where} {address[0]}: certificates are needed (or --insecure-loopback)")
            check_loopback(address[0], self._where)
        else:
            check_identity(f"{self._name}: own certificate", me, tls.identity)
        self._rank = rank
        self._parties = parties
        self._tls = tls
        self._handshake_s = handshake_s
        self._max_pending = max_pending
        self._max_waiting = max_waiting
        self._max_lanes = max_lanes
        self._inbox_limit = inbox_limit
        self._on_refused = on_refused
        self._changed = threading.Condition()
        self._peers: dict[tuple[int, int], Connection] = {}
        self._roles: deque[Connection] = deque()
        self._pending: dict[int, socket.socket] = {}
        self._threads: set[threading.Thread] = set()
        self._refusals: deque[str] = deque(maxlen=8)
        self._over: dict[bytes, str] = {}
        self._closed = False
        self._reason = ""
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        try:
            self._server = socket.create_server(address, family=family, backlog=backlog)
        except OSError as error:
            raise ConfigError(f"{self._where} {address[0]}:{address[1]}: {error.strerror or error}") from None
        self._server.setblocking(False)
        self._wake_send, self._wake_recv = socket.socketpair()
        self._thread = threading.Thread(target=self._accept, name=f"{self._name} listener", daemon=True)
        self._thread.start()

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def address(self) -> Address:
        """Host and port where it listens."""
        host, port = self._server.getsockname()[:2]
        return str(host), int(port)

    @property
    def refusals(self) -> list[str]:
        """Why the latest connections were turned away, oldest first."""
        with self._changed:
            return list(self._refusals)

    def take_peer(
        self, rank: int, lane: int, *, deadline_s: float, cancel: threading.Event | None = None
    ) -> Connection:
        """The connection that party `rank` opened for `lane`; of several, the latest. Raises DeadlineError."""
        found = self._take(lambda: self._peers.pop((rank, lane), None), deadline_s, cancel)
        if found is None:
            seen = f"; turned away meanwhile: {'; '.join(self.refusals[-2:])}" if self.refusals else ""
            text = f"{self._name}: accept P{rank} lane {lane}: it did not connect in {deadline_s:.1f} s"
            raise DeadlineError(text + seen)
        return found

    def take_role(self, *, deadline_s: float, cancel: threading.Event | None = None) -> Connection | None:
        """The next connection of a client or owner, in order of arrival; None if there is none in time.

        At the dealer also of a party: there it asks for one thing after the other.
        """
        return self._take(lambda: self._roles.popleft() if self._roles else None, deadline_s, cancel)

    def refuse_session(self, session: bytes, reason: str) -> None:
        """This party's set-up of the session failed: peers that connect for it, now or later, are told so."""
        with self._changed:
            self._over[session] = reason
            while len(self._over) > _REMEMBERED:
                self._over.pop(next(iter(self._over)))
            late = [key for key, peer in self._peers.items() if peer.opening and peer.opening.detail == session]
            refused = [self._peers.pop(key) for key in late]
        for connection in refused:
            connection.close(reason)

    def close(self, reason: str = "") -> None:
        """Stop listening and close every connection that nobody has taken, telling it the reason. Idempotent."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._reason = reason or f"{self._name} stops listening"
            waiting = [*self._peers.values(), *self._roles]
            self._peers.clear()
            self._roles.clear()
            for control in self._pending.values():
                with contextlib.suppress(OSError):
                    control.shutdown(socket.SHUT_RDWR)
            self._changed.notify_all()
        self._wake_send.send(b"x")
        self._thread.join(_STOP_S)
        for connection in waiting:
            connection.close(self._reason)
        for thread in list(self._threads):
            thread.join(_STOP_S)
        for sock in (self._server, self._wake_send, self._wake_recv):
            sock.close()

    def _take(
        self, find: Callable[[], Connection | None], deadline_s: float, cancel: threading.Event | None
    ) -> Connection | None:
        end = time.monotonic() + deadline_s
        with self._changed:
            while True:
                if self._closed:
                    raise TransportError(f"{self._name}: the listener is closed")
                found = find()
                left = end - time.monotonic()
                if found is not None or left <= 0:
                    return found
                if cancel is not None and cancel.is_set():
                    raise TransportError(f"{self._name}: accept: cancelled")
                self._changed.wait(left if cancel is None else min(left, _SLICE_S))

    def _accept(self) -> None:
        poll = select.poll()
        poll.register(self._server, select.POLLIN)
        poll.register(self._wake_recv, select.POLLIN)
        while not self._closed:
            poll.poll()
            try:
                sock, _ = self._server.accept()
            except BlockingIOError:
                continue
            except OSError:
                time.sleep(_SLICE_S)  # out of file descriptors: others must close first
                continue
            try:
                # TLS takes the socket over; the duplicate stays, to end a handshake from outside.
                control = sock.dup()
            except OSError:
                sock.close()
                continue
            thread = threading.Thread(target=self._admit, args=(sock, control), name="handshake", daemon=True)
            with self._changed:
                if len(self._pending) >= self._max_pending:
                    oldest = next(iter(self._pending.values()))
                    with contextlib.suppress(OSError):
                        oldest.shutdown(socket.SHUT_RDWR)
                self._pending[id(control)] = control
                self._threads.add(thread)
            thread.start()

    def _admit(self, sock: socket.socket, control: socket.socket) -> None:
        connection: Connection | None = None
        try:
            connection, opening = self._handshake(sock)
            connection.send_message(Welcome(OPENING_VERSION, self._rank))
            connection.established(opening)
            self._hand_over(connection, opening, control)
        except (SottovoceError, OSError, ValueError) as error:
            sock.close()
            if connection is not None:
                connection.close(_told(error))
            self._refuse(str(error))
        finally:
            with self._changed:
                self._pending.pop(id(control), None)
                self._threads.discard(threading.current_thread())
            control.close()

    def _handshake(self, sock: socket.socket) -> tuple[Connection, Opening]:
        end = time.monotonic() + self._handshake_s
        host, port = sock.getpeername()[:2]
        where = f"{self._name}: connection from {host}:{port}"
        proven: Identity | None = None
        if self._tls is not None:
            secure = wrap_tls(sock, self._tls, server=True, deadline_s=self._handshake_s, where=where)
            sock = secure
            try:
                proven = peer_identity(secure)
            except HandshakeError:
                secure.close()
                raise
        elif not is_loopback(str(host)):
            raise ConfigError(f"{where}: plain TCP from outside loopback")
        link = Link(sock, f"{host}:{port}", inbox_limit=self._inbox_limit)
        left = max(end - time.monotonic(), 0.0)
        nobody = proven or Identity("client", "unknown")
        connection = Connection(link, name=self._name, identity=nobody, deadline_s=left)
        try:
            opening = connection.recv_struct(Opening, MAX_OPENING)
            self._check(opening, proven, connection)
        except BaseException as error:
            connection.close(_told(error))
            raise
        return connection, opening

    def _check(self, opening: Opening, proven: Identity | None, connection: Connection) -> None:
        where = f"{self._name}: opening"
        if opening.version != OPENING_VERSION:
            raise HandshakeError(f"{where}: version: expected {OPENING_VERSION}, got {opening.version}")
        try:
            claimed = Identity(opening.kind, opening.id)
        except ConfigError as error:
            raise HandshakeError(f"{where}: {error}") from None
        if proven is not None:
            check_identity(where, claimed, proven)
        if claimed.kind == "dealer":
            raise HandshakeError(
                f"{where}: expected a party, a client or an owner, got {claimed}, which never connects"
            )
        if claimed.rank is not None:
            if claimed.rank >= self._parties or claimed.rank == self._rank:
                others = f"a rank below {self._parties} other than {self._rank}"
                raise HandshakeError(f"{where}: rank: expected {others}, got {claimed.rank}")
            if opening.lane >= self._max_lanes:
                raise HandshakeError(f"{where}: lane: expected below {self._max_lanes}, got {opening.lane}")
        if (claimed.rank is None or self._rank is None) and len(self._roles) >= self._max_waiting:
            raise HandshakeError(f"{where}: {self._max_waiting} clients are waiting already; try later")
        connection.rename_peer(claimed)

    def _hand_over(self, connection: Connection, opening: Opening, control: socket.socket) -> None:
        rank = connection.identity.rank
        with self._changed:
            self._pending.pop(id(control), None)  # from here it is told why, not just cut off
            if self._closed:
                raise TransportError(self._reason)
            if rank is not None and opening.detail in self._over:
                raise HandshakeError(self._over[opening.detail])
            if rank is None or self._rank is None:
                self._roles.append(connection)
                replaced = None
            else:
                # A party that was restarted connects again: its latest connection is the live one.
                replaced = self._peers.pop((rank, opening.lane), None)
                self._peers[rank, opening.lane] = connection
            self._changed.notify_all()
        if replaced is not None:
            replaced.close("replaced by a newer connection of the same party and lane")

    def _refuse(self, text: str) -> None:
        with self._changed:
            self._refusals.append(text)
            closed = self._closed
        if self._on_refused is not None and not closed:
            self._on_refused(text)


def _told(error: BaseException) -> str:
    return str(error) if isinstance(error, SottovoceError) else type(error).__name__
