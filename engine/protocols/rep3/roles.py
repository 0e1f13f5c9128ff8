"""Who plays which role, and the means of that role: messages, keystreams, kernels."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sottovoce.engine.errors import ProtocolError
from sottovoce.engine.party import Party
from sottovoce.engine.prg import PairStreams

PARTIES = 3


class Tag(IntEnum):
    """What a frame carries; a frame with another tag than the expected one is refused."""

    RESHARE = 1
    TRUNC_DEAL = 2
    TRUNC_OPEN = 3
    TRUNC_LOW = 4
    TRUNC_RETURN = 5
    LEAVES = 6
    PAIRS = 7
    LEVEL = 8
    AND = 9
    SELECT = 10
    SELECTED = 11
    OPEN = 12


class Roles:
    """A party under a rotation: role r is party (r + rotation) mod 3, and role slot s is slot (s + rotation) mod 3.

    Role r holds slots and keys r and r + 1.
    """

    def __init__(self, party: Party, rotation: int = 0) -> None:
        if party.parties != PARTIES:
            raise ProtocolError(f"rep3: expected {PARTIES} parties, got {party.parties}")
        self.party = party
        self.rotation = rotation
        self.role = (party.rank - rotation) % PARTIES
        self.backend = party.backend
        self.kernels = party.backend.kernels

    def streams(self, slot: int) -> PairStreams:
        """The keystreams of a role slot that this role holds."""
        return self.party.streams[(slot + self.rotation) % PARTIES]

    def send(self, role: int, tag: Tag, *parts: NDArray[Any]) -> None:
        """Send one frame to a role."""
        self.party.transport.send((role + self.rotation) % PARTIES, tag, parts)

    def recv(self, role: int, tag: Tag, *parts: NDArray[Any]) -> None:
        """Receive one frame from a role, into the arrays."""
        self.party.transport.recv((role + self.rotation) % PARTIES, tag, parts)

    @property
    def before(self) -> int:
        """The role that holds this one's slot and the slot before."""
        return (self.role - 1) % PARTIES

    @property
    def after(self) -> int:
        """The role that holds this one's next slot and the slot after."""
        return (self.role + 1) % PARTIES

    def zero_masks(self, count: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        """Words r_i and r_(i+1) of both keys: r_0 - r_1, r_1 - r_2, r_2 - r_0 (or XOR) is a fresh sharing of zero.

        For kernels only, see `KeyStream.for_kernel`.
        """
        own = self.streams(self.role).masks.for_kernel(count)[0]
        nxt = self.streams(self.after).masks.for_kernel(count)[0]
        return own, nxt
