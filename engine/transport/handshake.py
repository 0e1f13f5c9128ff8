"""What two parties compare before they compute together, and how they agree on a pairwise key.

Both send a `Hello` and check every field of the other's; on a mismatch each side raises HandshakeError that names the
field, and tells the peer. Then both contribute fresh randomness:

    key = HKDF-SHA256(ikm = contribution of the lower rank || of the higher rank,
                      salt = session id || program digest, info = "sottovoce/pair/<low>-<high>/<lane>")

Under TLS the contributions are 32 random bytes each, protected and authenticated by the channel. Without TLS (tests on
loopback) they are X25519 public keys and the shared secret is prepended: no key travels in the clear, but nobody is
authenticated either. Last, both prove with a value derived beside the key that they hold it and saw the same Hellos.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from typing import Annotated, Final

import msgspec
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from sottovoce.engine.errors import FrameError, HandshakeError, PeerClosedError
from sottovoce.engine.structs import unpack
from sottovoce.engine.transport.connection import Connection
from sottovoce.engine.transport.frame import MAX_LANES, clean_reason
from sottovoce.engine.transport.tls import MAX_PARTIES

PROTOCOL_VERSION: Final = 2
RING: Final = "Z2^64"
CIPHERS: Final = ("chacha20", "aes128ctr")
KEY_BYTES: Final = 32
MAX_HELLO: Final = 4 << 10
_HELLO_TAG: Final = 1
_KEY_TAG: Final = 2
_CONFIRM_TAG: Final = 3

_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=32)]
_Rank = Annotated[int, msgspec.Meta(ge=0, lt=MAX_PARTIES)]


class Hello(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a party is about to run. ciphers: for the keystreams, best first.

    session: 16 bytes, the same for all parties and never used twice. program: SHA-256 of the compiled program.
    chunk_elements: how large this party wants the largest layer of a chunk of a batch; the smallest wish counts.
    """

    version: int = PROTOCOL_VERSION
    session: Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
    program: Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
    protocol: _Name
    ring: _Name = RING
    ciphers: Annotated[tuple[_Name, ...], msgspec.Meta(min_length=1, max_length=8)] = CIPHERS
    rank: _Rank
    parties: Annotated[int, msgspec.Meta(ge=2, le=MAX_PARTIES)]
    lane: Annotated[int, msgspec.Meta(ge=0, lt=MAX_LANES)] = 0
    chunk_elements: Annotated[int, msgspec.Meta(ge=1, lt=1 << 48)]


class _Version(msgspec.Struct, frozen=True):
    """The one field that every version has: read first, so that another version is reported as such."""

    version: int


@dataclass(frozen=True, slots=True)
class PairKey:
    """What a handshake yields: the key of this pair and lane, the cipher to use it with, and the peer's wish."""

    cipher: str
    chunk_elements: int
    key: bytes = field(repr=False)


def agree(connection: Connection, hello: Hello, peer: int) -> PairKey:
    """Run the handshake with party `peer`. On failure the connection is closed with the reason.

    Raises HandshakeError (mismatch, or the peer refuses), PeerClosedError (gone without a word), DeadlineError.
    """
    where = f"P{hello.rank}: handshake with P{peer}, lane {hello.lane}"
    try:
        theirs, transcript = _exchange_hello(connection, hello, peer)
        return _agree_key(connection, hello, theirs, transcript)
    except _Mismatch as mismatch:
        connection.close(str(mismatch))
        raise HandshakeError(f"{where}: {mismatch}") from None
    except FrameError as error:
        connection.close(str(error))
        raise HandshakeError(f"{where}: {error}") from None
    except PeerClosedError:
        connection.close()
        if connection.refusal:
            raise HandshakeError(f"{where}: refused by the peer: {connection.refusal}") from None
        raise
    except BaseException as error:
        connection.close(connection.cancel_reason or f"handshake stopped by {type(error).__name__}")
        raise


class _Mismatch(Exception):
    """A field differs; the text goes to both sides."""

    def __init__(self, what: str, expected: object, got: object) -> None:
        super().__init__(f"{what}: expected {_show(expected)}, got {_show(got)}")


def _show(value: object) -> str:
    if isinstance(value, bytes):
        return value[:8].hex() + ("…" if len(value) > 8 else "")
    return clean_reason(", ".join(value) if isinstance(value, tuple) else str(value))


def _exchange_hello(connection: Connection, hello: Hello, peer: int) -> tuple[Hello, bytes]:
    mine = msgspec.msgpack.encode(hello)
    connection.send_message(mine, tag=_HELLO_TAG)
    data = connection.recv_message(MAX_HELLO, tag=_HELLO_TAG)
    try:
        version = unpack(data, _Version).version
        if version != hello.version:
            raise _Mismatch("protocol version", hello.version, version)
        theirs = unpack(data, Hello)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _Mismatch("hello", "a valid Hello", error) from None
    _compare("protocol", hello.protocol, theirs.protocol)
    _compare("ring", hello.ring, theirs.ring)
    _compare("number of parties", hello.parties, theirs.parties)
    _compare("rank", peer, theirs.rank)
    _compare("lane", hello.lane, theirs.lane)
    _compare("session", hello.session, theirs.session)
    _compare("program", hello.program, theirs.program)
    if not set(hello.ciphers) & set(theirs.ciphers):
        raise _Mismatch("cipher", f"one of {_show(hello.ciphers)}", theirs.ciphers)
    first, second = (mine, data) if hello.rank < peer else (data, mine)
    return theirs, hashlib.sha256(len(first).to_bytes(4, "little") + first + second).digest()


def _compare(what: str, expected: object, got: object) -> None:
    if expected != got:
        raise _Mismatch(what, expected, got)


def agree_cipher(lower: Hello, higher: Hello) -> str:
    """The first cipher of the lower rank's list that the higher rank has too."""
    return next(cipher for cipher in lower.ciphers if cipher in higher.ciphers)


def _agree_key(connection: Connection, mine: Hello, theirs: Hello, transcript: bytes) -> PairKey:
    low, high = sorted((mine, theirs), key=lambda hello: hello.rank)
    if connection.encrypted:
        contribution = secrets.token_bytes(KEY_BYTES)
        private = None
    else:
        private = X25519PrivateKey.generate()
        contribution = private.public_key().public_bytes_raw()
    connection.send_message(contribution, tag=_KEY_TAG)
    received = connection.recv_message(KEY_BYTES, tag=_KEY_TAG)
    if len(received) != KEY_BYTES or received == contribution:
        raise _Mismatch("key contribution", f"{KEY_BYTES} fresh bytes", "something else")
    material = contribution + received if mine is low else received + contribution
    if private is not None:
        try:
            material = private.exchange(X25519PublicKey.from_public_bytes(received)) + material
        except ValueError:
            raise _Mismatch("key contribution", "a point of Curve25519", "a point of small order") from None
    salt = mine.session + mine.program
    pair = f"{low.rank}-{high.rank}/{mine.lane}"
    key = derive(material, salt, f"sottovoce/pair/{pair}".encode())
    proofs = {
        hello.rank: derive(material, salt, f"sottovoce/confirm/{pair}/{hello.rank}/".encode() + transcript)
        for hello in (low, high)
    }
    connection.send_message(proofs[mine.rank], tag=_CONFIRM_TAG)
    if not hmac.compare_digest(connection.recv_message(KEY_BYTES, tag=_CONFIRM_TAG), proofs[theirs.rank]):
        raise _Mismatch("key confirmation", "proof of the same key", "another")
    return PairKey(agree_cipher(low, high), theirs.chunk_elements, key)


def derive(material: bytes, salt: bytes, info: bytes) -> bytes:
    """HKDF-SHA256 to KEY_BYTES."""
    return HKDF(algorithm=hashes.SHA256(), length=KEY_BYTES, salt=salt, info=info).derive(material)
