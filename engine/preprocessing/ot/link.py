"""Two parties and the oblivious transfers between them, both directions at once."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sottovoce.engine.errors import PreprocessingError, ProtocolError
from sottovoce.engine.preprocessing.ot.base import KEY_BYTES, POINT_BYTES, BaseReceiver, BaseSender, Label
from sottovoce.engine.preprocessing.ot.extension import (
    SECURITY_BITS,
    Chooser,
    Sender,
    groups,
    numbered,
)
from sottovoce.engine.preprocessing.ot.hashing import TweakedHash, fixed_key
from sottovoce.engine.preprocessing.ot.trees import Keys, correction_words, grow, puncture
from sottovoce.engine.tensors import U64
from sottovoce.engine.transport.base import Transport

TAG = 0x07
NONCE_BYTES = 32
FIELD_BITS = 4
"""k of SoftSpokenOT: 4 bytes a transfer."""


class Link:
    """One party's side of a session of oblivious transfers on a lane of a transport. Not thread-safe.

    The session is opened by the first exchange: nonces of both, then 128 base OTs each way. Direction d is that in
    which P_d chooses. Nothing of it outlives the object.
    """

    def __init__(self, transport: Transport, field_bits: int = FIELD_BITS) -> None:
        if transport.parties != 2:
            raise ProtocolError(f"oblivious transfer: expected a lane of 2 parties, got {transport.parties}")
        self.rank = transport.rank
        self._transport = transport
        self._groups = groups(field_bits)
        self.session = self._open_session()
        self._chooser, self._sender = self._base(field_bits)

    def __repr__(self) -> str:
        return f"Link(P{self.rank}, {self._chooser.next} transfers chosen, {self._sender.next} sent)"

    @property
    def chosen(self) -> int:
        """Transfers of this party's choosing so far."""
        return self._chooser.next

    @property
    def sent(self) -> int:
        """Transfers of the other party's choosing so far."""
        return self._sender.next

    def swap(self, out: Sequence[NDArray[Any]], into: Sequence[NDArray[Any]]) -> None:
        """Send the arrays of `out` in one message and fill those of `into` from the other's."""
        peer = 1 - self.rank
        if any(part.size for part in out):
            self._transport.send(peer, TAG, out)
        if any(part.size for part in into):
            self._transport.recv(peer, TAG, into)

    def transfers(self, choices: U64, others: int) -> tuple[U64, U64]:
        """New transfers: as many as there are bits in `choices` (W,), and 64 `others` of the other's choosing.

        -> this party's chosen pads (64 W, 2) and both pads (2, 64 others, 2) of the other's.
        """
        message, chosen = self._chooser.choose(choices)
        theirs = np.empty((self._groups, others), np.uint64)
        self.swap([message], [theirs])
        return chosen, self._sender.pads(theirs)

    def tree_keys(self, direction: int, first: int) -> Keys:
        """The public keys of the trees made from a direction's transfers `first` and later."""
        return _tree_keys(self.session, f"tree {direction}", first)

    def _open_session(self) -> bytes:
        nonces = np.zeros((2, NONCE_BYTES), np.uint8)
        nonces[self.rank] = np.frombuffer(secrets.token_bytes(NONCE_BYTES), np.uint8)
        self.swap([nonces[self.rank]], [nonces[1 - self.rank]])
        if np.array_equal(nonces[0], nonces[1]):
            raise PreprocessingError(
                f"P{self.rank}: oblivious transfer: expected a nonce of the other party's own, got this party's: "
                "a repeated session is refused"
            )
        return hashlib.sha256(b"sottovoce/1/ot/session" + nonces.tobytes()).digest()

    def _base(self, field_bits: int) -> tuple[Chooser, Sender]:
        """Base OTs in which this party chooses delta, and those of the other's delta; then the trees from them."""
        me, peer = self.rank, 1 - self.rank
        delta = np.unpackbits(np.frombuffer(secrets.token_bytes(SECURITY_BITS // 8), np.uint8), bitorder="little")
        # P_d chooses the extended transfers of direction d; the other party's delta chooses their base OTs.
        receiver, sender = BaseReceiver(Label(self.session, peer), delta), BaseSender(Label(self.session, me))
        points, announced = np.empty((SECURITY_BITS, 2, POINT_BYTES), np.uint8), np.empty(POINT_BYTES, np.uint8)
        self.swap([receiver.message(), sender.message()], [points, announced])
        # Tree g takes the base OTs of its k bits of delta, the most significant first.
        both = _pads(sender.keys(points)).reshape(self._groups, field_bits, 2, 2)[:, ::-1].transpose(2, 0, 1, 3)
        mine = _pads(receiver.keys(announced)).reshape(self._groups, field_bits, 2)[:, ::-1]
        leaves, corrections = grow(_tree_keys(self.session, f"base {me}", 0), both)
        theirs = np.empty((self._groups, correction_words(field_bits)), np.uint64)
        self.swap([corrections], [theirs])
        bits = delta.reshape(self._groups, field_bits)[:, ::-1]
        known, _ = puncture(_tree_keys(self.session, f"base {peer}", 0), bits, mine, theirs)
        return (
            Chooser(leaves, TweakedHash(self.session, me)),
            Sender(numbered(known, delta), TweakedHash(self.session, peer), delta),
        )


def _tree_keys(session: bytes, purpose: str, first: int) -> Keys:
    return fixed_key(session, f"{purpose} left", first), fixed_key(session, f"{purpose} right", first)


def _pads(keys: NDArray[np.uint8]) -> U64:
    """(…, 16) bytes -> (…, 2) words."""
    assert keys.shape[-1] == KEY_BYTES
    return np.ascontiguousarray(keys).view("<u8")
