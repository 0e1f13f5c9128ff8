"""A framed connection between two ends, and how one is opened: dialling, TLS, opening, welcome.

Used before a lane exists (the handshake between parties) and for as long as they live by clients and owners. The
connector sends an `Opening` that says who it is and what it wants; the listener compares that with the certificate
and answers with a `Welcome`, or closes with a reason.
"""

from __future__ import annotations

import secrets
import socket
import threading
import time
from collections.abc import Sequence
from typing import Annotated, Final, TypeVar

import msgspec
import numpy as np

from sottovoce.engine.errors import ConfigError, DeadlineError, FrameError, HandshakeError, PeerClosedError
from sottovoce.engine.structs import unpack
from sottovoce.engine.transport.base import Array, Counters
from sottovoce.engine.transport.frame import DATA, HELLO, MAX_LANES, NO_SESSION, clean_reason
from sottovoce.engine.transport.link import DEFAULT_INBOX, Link
from sottovoce.engine.transport.tcp import TcpTransport
from sottovoce.engine.transport.tls import (
    MAX_PARTIES,
    Address,
    Identity,
    Kind,
    TlsContexts,
    check_identity,
    check_loopback,
    is_loopback,
    peer_identity,
    wrap_tls,
)

OPENING_VERSION: Final = 1
MAX_OPENING: Final = 8 << 10
_PEER: Final = 0
_FIRST_PAUSE_S: Final = 0.02
_LONGEST_PAUSE_S: Final = 0.5
_ATTEMPT_S: Final = 10.0

S = TypeVar("S", bound=msgspec.Struct)


class Opening(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The first message on a connection.

    kind and id: who connects, checked against the certificate. lane: for a party. connection: fresh random bytes that
    name this connection in its frames. detail: a party's session id; of a client or owner, what the layer above reads.
    """

    version: int
    kind: Kind
    id: Annotated[str, msgspec.Meta(max_length=32)]
    connection: Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
    lane: Annotated[int, msgspec.Meta(ge=0, lt=MAX_LANES)] = 0
    detail: Annotated[bytes, msgspec.Meta(max_length=4096)] = b""


class Welcome(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The listener's answer: which party it is; None: the dealer."""

    version: int
    rank: Annotated[int, msgspec.Meta(ge=0, lt=MAX_PARTIES)] | None


class Connection:
    """One end of a framed connection. One thread at a time uses it; close() tells the peer a reason.

    identity: the peer's, proven by its certificate, or only claimed if not `encrypted`. opening: what the connector
    said first. tags are free for the layer above and must agree on both ends.
    """

    def __init__(
        self,
        link: Link,
        *,
        name: str,
        identity: Identity,
        opening: Opening | None = None,
        deadline_s: float = 30.0,
        cancel: threading.Event | None = None,
    ) -> None:
        self.identity = identity
        self.opening = opening
        self.name = name
        self._link = link
        self._cancel = cancel
        self._lane = self._new_lane(NO_SESSION, HELLO, deadline_s)

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        self.close("" if kind is None else f"stopped by {kind.__name__}")

    @property
    def encrypted(self) -> bool:
        """False for plain TCP on loopback: then `identity` is only what the peer claims."""
        return self._link.encrypted

    @property
    def counters(self) -> Counters:
        """What this connection carried since its opening; the peer has index 0."""
        return self._lane.counters

    @property
    def deadline_s(self) -> float:
        """Seconds without progress after which an operation fails; may be set at any time."""
        return self._lane.deadline_s

    @deadline_s.setter
    def deadline_s(self, seconds: float) -> None:
        self._lane.deadline_s = seconds

    @property
    def refusal(self) -> str:
        """The reason the peer gave for going away, or its TLS alert; empty if it gave none."""
        return self._link.peer_reason or (self._link.ended if self._link.tls_failed else "")

    @property
    def cancel_reason(self) -> str:
        """Why this side's waits were cancelled; empty if they were not, or without a reason."""
        return self._lane.cancel_reason

    def send_message(self, message: msgspec.Struct | bytes, *, tag: int = 0) -> None:
        """Send one frame: the bytes, or the struct as MessagePack."""
        data = message if isinstance(message, bytes) else msgspec.msgpack.encode(message)
        self.send_arrays([np.frombuffer(data, dtype=np.uint8)], tag=tag)

    def recv_message(self, limit: int, *, tag: int = 0) -> bytes:
        """Receive one frame of at most `limit` bytes."""
        return self._lane.recv_bytes(_PEER, tag, limit)

    def recv_struct(self, kind: type[S], limit: int, *, tag: int = 0) -> S:
        """Receive one frame of at most `limit` bytes that must be a `kind` in MessagePack, strictly."""
        data = self.recv_message(limit, tag=tag)
        try:
            return unpack(data, kind)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            text = clean_reason(str(error))
            raise FrameError(f"{self.name}: from {self._link.name}: expected a {kind.__name__}: {text}") from None

    def send_arrays(self, parts: Sequence[Array], *, tag: int = 0) -> None:
        """Send one frame with the arrays' bytes."""
        self._lane.send(_PEER, tag, parts)

    def recv_arrays(self, parts: Sequence[Array], *, tag: int = 0) -> None:
        """Receive one frame with exactly the arrays' bytes into the arrays."""
        self._lane.recv(_PEER, tag, parts)

    def close(self, reason: str = "") -> None:
        """Close; a reason is told to the peer. Idempotent."""
        self._lane.close(reason)

    def established(self, opening: Opening, cancel: threading.Event | None = None) -> None:
        """After the welcome: frames carry the connection's own id, counters begin at 0."""
        self.opening = opening
        self._cancel = cancel
        self._restart(opening.connection, DATA)

    def rename_peer(self, identity: Identity) -> None:
        """The peer has said (and proven, under TLS) who it is."""
        self.identity = identity
        self._link.name = peer_name(identity)

    def adopt(self, *, deadline_s: float, cancel: threading.Event | None) -> None:
        """Another thread takes the connection over, with its own deadline and cancellation."""
        self.deadline_s = deadline_s
        self._lane.set_cancel(cancel)

    def check_open(self, where: str) -> None:
        """Look, without waiting, whether the peer has gone; what it has sent is kept.

        Raises HandshakeError with the reason that it gave, PeerClosedError if it gave none, FrameError for a flood.
        """
        self._link.drain()
        if not self._link.ended:
            return
        reason = self._link.find_abort()
        if reason:
            raise HandshakeError(f"{where}: refused by the peer: {reason}")
        raise PeerClosedError(f"{where}: {self._link.name} is gone: {self._link.ended}")

    def release(self) -> Link:
        """Give the link away, for a lane; this object is closed."""
        return self._lane.release(_PEER)

    def _restart(self, session: bytes, kind: int) -> None:
        deadline_s = self._lane.deadline_s
        self._lane.release(_PEER)
        self._lane = self._new_lane(session, kind, deadline_s)

    def _new_lane(self, session: bytes, kind: int, deadline_s: float) -> TcpTransport:
        return TcpTransport(
            _PEER, 1, {_PEER: self._link}, session=session, deadline_s=deadline_s, cancel=self._cancel,
            name=self.name, kind=kind,
        )  # fmt: skip


def peer_name(identity: Identity) -> str:
    """How messages call a peer: "P1", "client alice", "the dealer"."""
    return f"P{identity.id}" if identity.kind == "party" else str(identity)


def dial(
    address: Address,
    *,
    party: int | None,
    role: Identity,
    tls: TlsContexts | None,
    lane: int = 0,
    detail: bytes = b"",
    deadline_s: float = 30.0,
    insecure_loopback: bool = False,
    inbox_limit: int = DEFAULT_INBOX,
    cancel: threading.Event | None = None,
) -> Connection:
    """Connect as `role` to the party of rank `party` (None: to the dealer), trying again while it is not up.

    Raises ConfigError (plain TCP off loopback, no certificates), HandshakeError (somebody else is there, or we are
    refused), DeadlineError.
    """
    me, them = peer_name(role), peer_name(Identity.listening(party))
    if tls is None and not insecure_loopback:
        raise ConfigError(f"{me}: connect to {them}: certificates are needed (or --insecure-loopback)")
    if tls is not None:
        check_identity(f"{me}: own certificate", role, tls.identity)
    else:
        check_loopback(address[0], f"{me}: connect to")
    end = time.monotonic() + deadline_s
    pause = _FIRST_PAUSE_S
    failure = "no attempt was made"
    while (left := end - time.monotonic()) > 0:
        try:
            return _attempt(address, party, role, tls, lane, detail, min(left, _ATTEMPT_S), inbox_limit, cancel)
        except HandshakeError:
            raise
        except OSError as error:  # also DeadlineError and PeerClosedError: the peer may not be up yet
            failure = clean_reason(str(error))
        left = min(pause, max(end - time.monotonic(), 0.0))
        if cancel is None:
            time.sleep(left)
        elif cancel.wait(left):
            raise DeadlineError(f"{me}: connect to {them}: cancelled")
        pause = min(2 * pause, _LONGEST_PAUSE_S)
    host, port = address
    raise DeadlineError(f"{me}: connect to {them} at {host}:{port}: not possible in {deadline_s:g} s: {failure}")


def _attempt(
    address: Address,
    party: int | None,
    role: Identity,
    tls: TlsContexts | None,
    lane: int,
    detail: bytes,
    deadline_s: float,
    inbox_limit: int,
    cancel: threading.Event | None,
) -> Connection:
    end = time.monotonic() + deadline_s
    expected = Identity.listening(party)
    where = f"{peer_name(role)}: connect to {peer_name(expected)}"
    sock = socket.create_connection(address, timeout=deadline_s)
    try:
        if tls is not None:
            secure = wrap_tls(sock, tls, server=False, deadline_s=max(end - time.monotonic(), 0.0), where=where)
            sock = secure
            check_identity(where, expected, peer_identity(secure))
        elif not is_loopback(str(sock.getpeername()[0])):
            raise ConfigError(f"{where}: reached {sock.getpeername()[0]} over plain TCP, which is not loopback")
    except BaseException:
        sock.close()
        raise
    link = Link(sock, peer_name(expected), inbox_limit=inbox_limit)
    left = max(end - time.monotonic(), 0.0)
    connection = Connection(link, name=peer_name(role), identity=expected, deadline_s=left, cancel=cancel)
    opening = Opening(OPENING_VERSION, role.kind, role.id, secrets.token_bytes(16), lane, detail)
    try:
        connection.send_message(opening)
        welcome = connection.recv_struct(Welcome, MAX_OPENING)
        if welcome.version != OPENING_VERSION or welcome.rank != party:
            got = f"version {welcome.version} of {peer_name(Identity.listening(welcome.rank))}"
            raise HandshakeError(
                f"{where}: welcome: expected version {OPENING_VERSION} of {peer_name(expected)}, got {got}"
            )
    except PeerClosedError:
        connection.close()
        if connection.refusal:
            raise HandshakeError(f"{where}: refused by the peer: {connection.refusal}") from None
        raise
    except FrameError as error:
        connection.close(str(error))
        raise HandshakeError(f"{where}: {error}") from None
    except BaseException as error:
        connection.close(f"{error}")
        raise
    connection.established(opening, cancel)
    return connection
