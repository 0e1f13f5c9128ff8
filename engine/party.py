"""A party's means. Whoever needs a transport, a key or a backend gets a Party; nothing is global."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sottovoce.engine.backend.base import Backend
from sottovoce.engine.backend.cpu import CpuBackend
from sottovoce.engine.preprocessing.base import Material, Preprocessing
from sottovoce.engine.prg import PairStreams
from sottovoce.engine.profile import Profile
from sottovoce.engine.transport.base import Transport


@dataclass(frozen=True, slots=True)
class Party:
    """One lane of one computing party.

    streams: the pairwise keystreams this party holds, by slot: in `rep3` slot i (known to P_(i-1) and P_i) and slot
    i + 1. They hold keys: never logged, never shown.
    preprocessing: the source of correlated randomness, for protocols that need one; material: that of one chunk.
    """

    rank: int
    parties: int
    transport: Transport
    streams: Mapping[int, PairStreams] = field(repr=False)
    backend: Backend = field(default_factory=CpuBackend, repr=False)
    profile: Profile = field(default_factory=Profile, repr=False)
    preprocessing: Preprocessing | None = field(default=None, repr=False)
    material: Material | None = field(default=None, repr=False)
