"""Pairwise keystreams: cryptographic, position-addressed, every position used once.

A `KeyStream` turns a 256-bit key that two parties share into a sequence of *operations*; each draw takes the next
operation id, so both parties that draw in the same order get the same words and no position can come twice. The words
of one operation are the keystream of ChaCha20 (RFC 8439: state words 12 block, 13 chunk, 14-15 operation id) or of
AES-128 in counter mode (operation id, chunk, block, big-endian), little-endian uint64 element i at byte 8 i. Reusing a
mask would reveal the difference of two secrets, so asking for a past operation raises MaskReuseError.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from numpy.typing import NDArray

from sottovoce.engine.errors import MaskReuseError, ProtocolError

Cipher = str
"""One of CIPHERS."""
CIPHERS: tuple[Cipher, ...] = ("aes128ctr", "chacha20")
KEY_BYTES = 32
MAX_OPERATION = 1 << 48

Fill = Callable[[Cipher, bytes, int, int, NDArray[Any]], None]
"""fill(cipher, key, operation, chunk, out): write the keystream of one operation; provided by a backend."""


class Source(Protocol):
    """What a KeyStream needs of a backend."""

    def words(self, cipher: Cipher, key: bytes, operation: int, lengths: Sequence[int]) -> tuple[Any, ...]: ...
    def keystream(self, cipher: Cipher, key: bytes, operation: int, lengths: Sequence[int]) -> tuple[Any, ...]: ...


Observer = Callable[[str, int, int], None]
"""observer(label, operation, words): told of every draw; a test's recorder."""


def derive(key: bytes, label: str) -> bytes:
    """A 256-bit sub-key for one purpose: HKDF-Expand-SHA256 (RFC 5869) of a uniform 256-bit key."""
    if len(key) != KEY_BYTES:
        raise ProtocolError(f"derive {label!r}: expected a key of {KEY_BYTES} bytes, got {len(key)}")
    return HKDFExpand(algorithm=SHA256(), length=KEY_BYTES, info=b"sottovoce/1/" + label.encode()).derive(key)


class KeyStream:
    """One purpose's stream under one pairwise key. Not thread-safe: a lane has its own."""

    __slots__ = ("_cipher", "_key", "_next", "_source", "label", "observer")

    def __init__(
        self, key: bytes, cipher: Cipher, source: Source, label: str, observer: Observer | None = None
    ) -> None:
        if cipher not in CIPHERS:
            raise ProtocolError(f"keystream {label!r}: expected a cipher of {CIPHERS}, got {cipher!r}")
        self._key = derive(key, label)
        self._cipher: Cipher = cipher
        self._source = source
        self._next = 0
        self.label = label
        self.observer = observer

    def __repr__(self) -> str:
        return f"KeyStream({self.label!r}, {self._cipher}, next operation {self._next})"

    @property
    def position(self) -> int:
        """The next operation id."""
        return self._next

    def draw(self, *words: int) -> tuple[NDArray[np.uint64], ...]:
        """Fresh uniform arrays of the given lengths, all from the next operation."""
        return self.draw_at(self._next, *words)

    def for_kernel(self, *words: int) -> tuple[NDArray[np.uint64], ...]:
        """The same as `draw`, as arguments for kernels only: a device may generate the words where they are used."""
        self._use(self._next, words)
        return self._source.keystream(self._cipher, self._key, self._next - 1, words)

    def draw_at(self, operation: int, *words: int) -> tuple[NDArray[np.uint64], ...]:
        """The same at a chosen operation id, which must not be below `position`."""
        self._use(operation, words)
        return self._source.words(self._cipher, self._key, operation, words)

    def _use(self, operation: int, words: Sequence[int]) -> None:
        """Take the operation, for ever."""
        if operation < self._next:
            raise MaskReuseError(
                f"keystream {self.label!r}: expected an operation id of at least {self._next}, got {operation}"
            )
        if operation >= MAX_OPERATION:
            raise ProtocolError(f"keystream {self.label!r}: operation ids end at {MAX_OPERATION}, got {operation}")
        if min(words, default=0) < 0:
            raise ProtocolError(f"keystream {self.label!r}: expected lengths of at least 0, got {min(words)}")
        self._next = operation + 1
        if self.observer is not None:
            self.observer(self.label, operation, sum(words))


@dataclass(frozen=True, slots=True)
class PairStreams:
    """The streams of one slot: two parties hold the key of slot i, P_(i-1) and P_i.

    masks: zero shares, re-sharing and one-time pads. dealing: bits that one party deals to the others. A sub-key each.
    """

    masks: KeyStream = field(repr=False)
    dealing: KeyStream = field(repr=False)

    @classmethod
    def of(
        cls, key: bytes, cipher: Cipher, source: Source, context: str, observer: Observer | None = None
    ) -> PairStreams:
        """Both streams of the pairwise key; `context` names slot and lane."""
        return cls(
            masks=KeyStream(key, cipher, source, f"{context}/masks", observer),
            dealing=KeyStream(key, cipher, source, f"{context}/dealing", observer),
        )
