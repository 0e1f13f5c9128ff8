"""What two parties compare before they prepare material together, over a dealer or directly, and what they say to both.

A dealer passes the standings on; where there is none the parties exchange them on their lane.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Annotated, Final

import msgspec

from sottovoce.engine.errors import PreprocessingError
from sottovoce.engine.preprocessing.items import Layout
from sottovoce.engine.program import MAX_JSON_BYTES
from sottovoce.engine.protocols.table import ProtocolRow

PREPARE: Final = b"prepare"
MAX_PLAN: Final = MAX_JSON_BYTES + (8 << 10)
MAX_ORDER: Final = 4 << 10
MAX_CLIPS: Final = 1 << 24
SEGMENT_CLIPS: Final = 256
SEGMENT_BYTES: Final = 256 << 20
"""Material is added to a store in segments of at most so much: what a break-off loses."""
CHUNK_CLIPS: Final = 32
CHUNK_WORDS: Final = 1 << 21
"""Clips are made together, up to so many words of all parts and both parties: 16 MB."""

Id = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
Seed = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
Clips = Annotated[int, msgspec.Meta(ge=1, le=MAX_CLIPS)]
Index = Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]


class Standing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One party's: how many clips it wants to add, and what its store holds.

    nonce: fresh. layout: the digest of its `Layout`. pair: of its store, empty if it has none yet. position, end: of
    its store, see `Store`.
    """

    clips: Clips
    nonce: Id
    layout: Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
    pair: Annotated[bytes, msgspec.Meta(max_length=16)] = b""
    position: Index = 0
    end: Index = 0


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Party -> dealer, first. It answers with the other party's Standing."""

    program: Annotated[bytes, msgspec.Meta(max_length=MAX_JSON_BYTES)]
    protocol: Annotated[str, msgspec.Meta(max_length=32)]
    standing: Standing


class Order(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Party -> dealer: a segment. It answers with a frame for each of its `chunks`: P_1's derived words, then common.

    seed: fresh, for this segment. mask_seed: that of the store.
    """

    start: Index
    clips: Annotated[int, msgspec.Meta(ge=1, le=SEGMENT_CLIPS)]
    seed: Seed
    mask_seed: Seed

    def __repr__(self) -> str:
        return f"Order(start={self.start}, clips={self.clips})"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        return [("start", self.start), ("clips", self.clips)]


def join_standings(rank: int, mine: Standing, theirs: Standing) -> bytes:
    """The pair id of both stores: the one they have, or a new one from both nonces.

    Raises PreprocessingError if the two parties cannot go on together; the other one finds the same.
    """
    me, peer = f"party {rank}: prepare", f"party {1 - rank}"
    check_layout(me, mine.layout, theirs.layout)
    if mine.clips != theirs.clips:
        raise PreprocessingError(f"{me}: expected {peer} to prepare {mine.clips} clips too, got {theirs.clips}")
    if mine.nonce == theirs.nonce:
        raise PreprocessingError(f"{me}: expected a nonce of {peer}'s own, got this party's")
    # A store that never held a clip may have been left by a party whose partner could not make its own.
    pairs = {standing.pair for standing in (mine, theirs) if standing.pair}
    lacking = any(not standing.pair and other.end for standing, other in ((mine, theirs), (theirs, mine)))
    if len(pairs) > 1 or lacking:
        raise PreprocessingError(
            f"{me}: expected a store that was prepared together with that of {peer}, "
            f"got {_held(mine)} here and {_held(theirs)} there: give both parties a new --store DIR"
        )
    if pairs:
        return pairs.pop()
    first, second = (mine, theirs) if rank == 0 else (theirs, mine)
    return hashlib.sha256(b"sottovoce/1/pair" + first.nonce + second.nonce).digest()[:16]


def check_layout(me: str, expected: bytes, got: bytes) -> None:
    """Raises PreprocessingError if somebody else means other material by the same program and protocol."""
    if got != expected:
        raise PreprocessingError(
            f"{me}: expected the material in layout {expected.hex()[:8]}, got {got.hex()[:8]}: run the same version of "
            "sottovoce at both parties and the dealer"
        )


def segment_clips(layout: Layout) -> int:
    """Clips of a full segment, the same at both parties."""
    clip_bytes = 8 * (layout.derived + layout.common)
    return max(1, min(SEGMENT_CLIPS, SEGMENT_BYTES // max(clip_bytes, 1)))


def chunks(layout: Layout, start: int, clips: int) -> Iterator[range]:
    """The clips start … start + clips - 1 in pieces that are made together, the same for everybody."""
    words = 2 * (layout.own + layout.derived) + layout.common
    step = max(1, min(CHUNK_CLIPS, CHUNK_WORDS // max(words, 1)))
    for first in range(start, start + clips, step):
        yield range(first, min(first + step, start + clips))


def prepare_digest(program: bytes, row: ProtocolRow) -> bytes:
    """Names what is prepared: a program under a protocol."""
    return hashlib.sha256(b"sottovoce/1/prepare" + row.name.encode() + program).digest()


def _held(standing: Standing) -> str:
    return f"a store of pair {standing.pair.hex()[:8]}" if standing.pair else "no store"
