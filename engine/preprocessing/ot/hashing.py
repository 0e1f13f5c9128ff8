"""Hashing by a fixed-key block cipher, and the public keys that a session takes for it.

A key is fixed for one chunk of work only: it is a public hash of the session, of the purpose and of the first index,
so that an attack on many nodes at once finds few under any one key.
"""

from __future__ import annotations

import hashlib

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from sottovoce.engine.errors import MaskReuseError
from sottovoce.engine.tensors import U64

KEY_BYTES = 16


class FixedKey:
    """AES-128 under one public key. Blocks are (…, 2) words, C-contiguous, low word first."""

    def __init__(self, key: bytes) -> None:
        # ECB is the block cipher itself, which the hashes below are built from; nothing is encrypted with it.
        self._encryptor = Cipher(algorithms.AES128(key), modes.ECB()).encryptor()  # noqa: S305

    def encrypt(self, blocks: U64) -> U64:
        """E(x) for every block x."""
        out = np.empty(blocks.size + 2, np.uint64)
        if blocks.size:
            self._encryptor.update_into(blocks.data.cast("B"), out.data.cast("B"))
        return out[: blocks.size].reshape(blocks.shape)

    def mmo(self, blocks: U64) -> U64:
        """E(x) ^ x for every block x [Matyas, Meyer, Oseas]."""
        out = self.encrypt(blocks)
        out ^= blocks
        return out

    def tmmo(self, blocks: U64, tweaks: U64) -> U64:
        """E(E(x) ^ i) ^ E(x) for every block x and its tweak i. blocks: (n, 2), tweaks: (n,)."""
        once = self.encrypt(blocks)
        tweaked = once.copy()
        tweaked[:, 0] ^= tweaks
        out = self.encrypt(tweaked)
        out ^= once
        return out


def fixed_key(session: bytes, purpose: str, first: int) -> FixedKey:
    """The cipher of a chunk: both parties compute its key."""
    text = f"sottovoce/1/ot/{purpose}/{first}".encode()
    return FixedKey(hashlib.sha256(len(session).to_bytes(8, "little") + session + text).digest()[:KEY_BYTES])


class TweakedHash:
    """H(x, i) = E(E(x) ^ i) ^ E(x): correlation robust with tweak i in the ideal-cipher model [GKWY, 2019/074].

    One direction's hash of a session. A tweak is the index of an OT and comes once: two inputs under one tweak would
    break what the pads rest on.
    """

    def __init__(self, session: bytes, direction: int) -> None:
        self._session = session
        self._direction = direction
        self._next = 0

    def __call__(self, first: int, *inputs: U64) -> tuple[U64, ...]:
        """H(x_j, first + j) for each input (n, 2), whose rows stand for one OT each. Raises MaskReuseError."""
        if first < self._next:
            raise MaskReuseError(
                f"oblivious transfer: expected tweaks from {self._next} on, got {first}: its pads are used"
            )
        count = inputs[0].shape[0]
        self._next = first + count
        cipher = fixed_key(self._session, f"pads {self._direction}", first)
        tweaks = np.arange(first, first + count, dtype=np.uint64)
        return tuple(cipher.tmmo(x, tweaks) for x in inputs)
