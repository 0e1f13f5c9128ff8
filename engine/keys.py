"""From pairwise keys to the streams that a party's protocol draws from."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from sottovoce.engine.prg import KEY_BYTES, Cipher, Observer, PairStreams, Source
from sottovoce.engine.protocols.table import ProtocolRow


def streams_of(
    row: ProtocolRow,
    rank: int,
    pair_keys: Mapping[int, bytes],
    ciphers: Mapping[int, Cipher],
    lane: int,
    source: Source,
    observer: Observer | None = None,
) -> dict[int, PairStreams]:
    """Slot -> streams, from peer -> 256-bit key and agreed cipher; lanes and slots never share a sub-key."""
    return {
        slot: PairStreams.of(pair_keys[peer], ciphers[peer], source, f"{row.name}/slot {slot}/lane {lane}", observer)
        for slot, peer in row.keys(rank).items()
    }


def fresh_pair_keys(parties: int) -> dict[tuple[int, int], bytes]:
    """A fresh key for every pair a < b, for parties that live in one process."""
    return {(a, b): secrets.token_bytes(KEY_BYTES) for a in range(parties) for b in range(a + 1, parties)}


def keys_of(rank: int, pair_keys: Mapping[tuple[int, int], bytes]) -> dict[int, bytes]:
    """One party's view of all pairs: peer -> key."""
    return {a + b - rank: key for (a, b), key in pair_keys.items() if rank in (a, b)}
