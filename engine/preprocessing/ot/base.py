"""Base oblivious transfers over ristretto255 [Masny, Rindal 2019/706, "endemic" OT, from CDH in the random oracle].

For every OT the receiver with choice c draws r_(1-c) uniformly and sets r_c = a G - H_c(r_(1-c)); it sends (r_0, r_1),
which are uniform whatever c is. The sender's points are P_j = r_j + H_j(r_(1-j)), its one message is B = b G, and the
keys are KDF(P_j, b P_j). The receiver knows the discrete logarithm a of P_c only, and KDF(P_c, a B) is its key. Keys
that differ in session, direction, index, side or in any of the points come from different inputs of the oracle.

ristretto255 has prime order, so that there are no points of low order but the identity; it and every string that is
not the canonical encoding of a point are refused.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np
import rbcl
from numpy.typing import NDArray

from sottovoce.engine.errors import PreprocessingError

POINT_BYTES = 32
KEY_BYTES = 16
IDENTITY = bytes(POINT_BYTES)

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Label:
    """What the oracles of one direction's base OTs are bound to."""

    session: bytes
    direction: int

    def of(self, purpose: str, index: int, side: int, *points: bytes) -> bytes:
        """An oracle's input; every part has a fixed length but the first two, which say theirs."""
        head = f"sottovoce/1/ot/base/{purpose}/{self.direction}/{index}/{side}".encode()
        return b"".join(len(part).to_bytes(8, "little") + part for part in (head, self.session, *points))


def checked(point: bytes, what: str) -> bytes:
    """A point that a peer sent. Raises PreprocessingError for the identity and for what encodes no point."""
    if point == IDENTITY or not rbcl.crypto_core_ristretto255_is_valid_point(point):
        raise PreprocessingError(
            f"base oblivious transfer: expected {what} to be the encoding of a ristretto255 point other than the "
            "identity, got none: the peer is at fault; nothing of this session may be used"
        )
    return point


def _oracle(label: Label, index: int, side: int, other: bytes) -> bytes:
    """H_side: a point that nobody knows the discrete logarithm of."""
    wide = hashlib.sha512(label.of("point", index, side, other)).digest()
    return bytes(rbcl.crypto_core_ristretto255_from_hash(wide))


def _key(label: Label, index: int, side: int, point: bytes, announced: bytes, shared: bytes) -> bytes:
    return hashlib.sha256(label.of("key", index, side, point, announced, shared)).digest()[:KEY_BYTES]


class BaseReceiver:
    """The party that chooses. choices: (n,) of 0 and 1."""

    def __init__(self, label: Label, choices: Bytes) -> None:
        self._label = label
        self._choices = [int(c) for c in choices]
        self._scalars: list[bytes] = []
        self._points: list[bytes] = []

    def message(self) -> Bytes:
        """(n, 2, 32): r_0 and r_1 of every OT."""
        out = np.empty((len(self._choices), 2, POINT_BYTES), np.uint8)
        self._scalars, self._points = [], []
        for index, choice in enumerate(self._choices):
            scalar = rbcl.crypto_core_ristretto255_scalar_random()
            point = rbcl.crypto_scalarmult_ristretto255_base(scalar)
            other = rbcl.crypto_core_ristretto255_random()
            mine = rbcl.crypto_core_ristretto255_sub(point, _oracle(self._label, index, choice, other))
            out[index, choice] = np.frombuffer(mine, np.uint8)
            out[index, 1 - choice] = np.frombuffer(other, np.uint8)
            self._scalars.append(scalar)
            self._points.append(point)
        return out

    def keys(self, announced: Bytes) -> Bytes:
        """announced: (32,), the sender's message -> (n, 16): the chosen keys. Raises PreprocessingError."""
        point = checked(announced.tobytes(), "the sender's point")
        found = [
            _key(self._label, index, choice, own, point, rbcl.crypto_scalarmult_ristretto255(scalar, point))
            for index, (choice, scalar, own) in enumerate(zip(self._choices, self._scalars, self._points, strict=True))
        ]
        return np.frombuffer(b"".join(found), np.uint8).reshape(-1, KEY_BYTES)


@dataclass(slots=True)
class BaseSender:
    """The party that learns both keys of every OT."""

    label: Label
    _scalar: bytes = field(default_factory=rbcl.crypto_core_ristretto255_scalar_random, repr=False)

    def message(self) -> Bytes:
        """(32,): B."""
        return np.frombuffer(rbcl.crypto_scalarmult_ristretto255_base(self._scalar), np.uint8).copy()

    def keys(self, message: Bytes) -> Bytes:
        """message: (n, 2, 32), the receiver's -> (n, 2, 16). Raises PreprocessingError."""
        announced = rbcl.crypto_scalarmult_ristretto255_base(self._scalar)
        out = np.empty((message.shape[0], 2, KEY_BYTES), np.uint8)
        for index in range(message.shape[0]):
            pair = [checked(message[index, side].tobytes(), f"point {side} of transfer {index}") for side in range(2)]
            for side in range(2):
                point = rbcl.crypto_core_ristretto255_add(pair[side], _oracle(self.label, index, side, pair[1 - side]))
                # The sum is the identity with probability 2^-252, unless the peer broke the oracle.
                shared = rbcl.crypto_scalarmult_ristretto255(self._scalar, checked(point, f"sum {side} of {index}"))
                out[index, side] = np.frombuffer(_key(self.label, index, side, point, announced, shared), np.uint8)
        return out
