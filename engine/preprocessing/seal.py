"""Authenticated encryption of what a store writes: ChaCha20-Poly1305 (RFC 8439), a sub-key for each purpose.

Why no nonce repeats under a key. A store draws 16 random bytes when it is made, and all its keys are derived from the
key file's and these by HKDF. A *sealed value* is encrypted once, under a sub-key derived from 16 fresh random bytes
that stand before it, with nonce 0. A *segment* has a sub-key derived from its id, 16 fresh random bytes, and its clips
are encrypted once each, with their number in the segment as the nonce; a segment that was not finished is never gone
on with. A copied or restored store draws afresh, too, so that it does not repeat the keys of the original.
"""

from __future__ import annotations

import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from sottovoce.engine.prg import derive

SALT_BYTES = 16
NONCE_BYTES = 12
TAG_BYTES = 16


class Sealer:
    """Seals one store's values and segments. Raises InvalidTag where something is not what was sealed."""

    def __init__(self, key: bytes, store: bytes) -> None:
        self._key = derive(key, f"store/{store.hex()}")

    @property
    def check(self) -> bytes:
        """Tells the right key from another, and nothing else about it."""
        return derive(self._key, "check")[:SALT_BYTES]

    def segment(self, segment: bytes) -> ChaCha20Poly1305:
        """The cipher of one segment; `nonce` numbers its clips."""
        return ChaCha20Poly1305(derive(self._key, f"segment/{segment.hex()}"))

    def seal(self, purpose: str, plain: bytes, bound: bytes) -> bytes:
        """salt, ciphertext and tag; `bound` must be the same when it is opened."""
        salt = secrets.token_bytes(SALT_BYTES)
        return salt + self._value(purpose, salt).encrypt(nonce(0), plain, bound)

    def unseal(self, purpose: str, box: bytes, bound: bytes) -> bytes:
        """What was sealed for this purpose."""
        if len(box) < SALT_BYTES + TAG_BYTES:
            raise InvalidTag
        salt = box[:SALT_BYTES]
        return self._value(purpose, salt).decrypt(nonce(0), box[SALT_BYTES:], bound)

    def _value(self, purpose: str, salt: bytes) -> ChaCha20Poly1305:
        return ChaCha20Poly1305(derive(self._key, f"{purpose}/{salt.hex()}"))


def nonce(number: int) -> bytes:
    """The nonce of record `number`."""
    return number.to_bytes(NONCE_BYTES, "big")
