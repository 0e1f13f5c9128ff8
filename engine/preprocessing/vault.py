"""What a store's index says, and how it is sealed: bound to the store, the program, the protocol and the party."""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from sottovoce.engine.errors import PreprocessingError
from sottovoce.engine.preprocessing.durable import printable
from sottovoce.engine.preprocessing.seal import SALT_BYTES, Sealer
from sottovoce.engine.preprocessing.segment import Segment
from sottovoce.engine.prg import KEY_BYTES
from sottovoce.engine.structs import parse_json, unpack

FORMAT = 1
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StoreIdentity:
    """Whose material it is, for what: program's digest (32 bytes), protocol's name, party's rank.

    layout: `Layout.digest` (32 bytes), which names what a clip's material consists of.
    """

    program: bytes
    protocol: str
    rank: int
    layout: bytes


@dataclass(frozen=True, slots=True)
class Header:
    """In the clear, and bound into everything that is sealed. check: tells the right key from another."""

    format: int
    store: bytes
    program: bytes
    protocol: str
    rank: int
    layout: bytes
    check: bytes


@dataclass(frozen=True, slots=True)
class Secrets:
    """Drawn or agreed on when the store is made."""

    pair: bytes
    mask_seed: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class State:
    """change: counts commits. Clips position … end - 1 are unused. claimed: the tag of the weights, if any yet."""

    change: int = 0
    position: int = 0
    end: int = 0
    claimed: bytes | None = field(default=None, repr=False)


class Vault:
    """Seals one store's values. `where` stands in front of error texts."""

    def __init__(self, key: bytes, header: Header, where: str) -> None:
        self._sealer = Sealer(key, header.store)
        self._where = where
        self.header = msgspec.json.encode(header)

    @classmethod
    def create(cls, key: bytes, identity: StoreIdentity, where: str) -> Vault:
        """Of a new store."""
        store = secrets.token_bytes(SALT_BYTES)
        check = Sealer(check_key(key, where), store).check
        of = identity
        return cls(key, Header(FORMAT, store, of.program, of.protocol, of.rank, of.layout, check), where)

    @classmethod
    def open(cls, key: bytes, identity: StoreIdentity, content: bytes, where: str) -> Vault:
        """Of the store whose header this is. Raises PreprocessingError for another format, identity or key."""
        try:
            header = parse_json(content, Header)
        except (msgspec.MsgspecError, UnicodeError):
            raise PreprocessingError(f"{where}: the index is damaged: its header cannot be read") from None
        for name, expected, got in (
            ("format", FORMAT, header.format),
            ("protocol", identity.protocol, header.protocol),
            ("party", identity.rank, header.rank),
            ("program", identity.program.hex()[:8], header.program.hex()[:8]),
        ):
            if expected != got:
                other = printable(repr(got))
                raise PreprocessingError(f"{where}: expected a store for {name} {expected!r}, got one for {other}")
        if header.layout != identity.layout:
            raise PreprocessingError(
                f"{where}: expected material of layout {identity.layout[:4].hex()}, got {header.layout[:4].hex()}: it "
                "was made for another version or protocol: make a new one with `sottovoce prepare`"
            )
        vault = cls(check_key(key, where), header, where)
        if not hmac.compare_digest(vault._sealer.check, header.check):
            raise PreprocessingError(
                f"{where}: expected the key that it was made with, got another one: --store-key names the key's file"
            )
        if vault.header != content:
            raise PreprocessingError(f"{where}: the index is damaged: its header is not in canonical form")
        return vault

    def seal(self, purpose: str, value: object) -> bytes:
        """A value of a dataclass, or bytes."""
        return self._sealer.seal(purpose, msgspec.msgpack.encode(value), self.header)

    def unseal(self, purpose: str, box: bytes, type: type[T]) -> T:
        """What was sealed. Raises PreprocessingError."""
        try:
            plain = self._sealer.unseal(purpose, box, self.header)
            return unpack(plain, type)
        except (InvalidTag, msgspec.MsgspecError):
            raise PreprocessingError(f"{self._where}: its {purpose} is damaged or belongs to another store") from None

    def segment(self, segment: Segment) -> ChaCha20Poly1305:
        """The cipher of its records."""
        return self._sealer.segment(segment.id)


def mark(state: State) -> bytes:
    """The number of its change, of fixed size and ordered like the number."""
    return state.change.to_bytes(8, "big")


def check_key(key: bytes, where: str) -> bytes:
    """The key, if it has the right length."""
    if len(key) != KEY_BYTES:
        raise PreprocessingError(f"{where}: expected a key of {KEY_BYTES} bytes, got {len(key)}")
    return key
