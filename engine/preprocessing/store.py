"""Preprocessing on disk: one party's material for one program under one protocol, each clip's used once.

A folder holds the index (`index.py`), a witness against an older index, a lock, and a file per segment (`segment.py`).
A clip is marked as used, on the disk, before any of its material is read, so that no crash brings it back. Records are
read when they are needed, so that a big batch takes no more memory than a small one. A segment is in the index only
when its file is complete and on the disk. docs/preprocessing.md says what this protects and what it cannot: whoever
puts back an older copy of the whole folder makes it reuse material.
"""

from __future__ import annotations

import hmac
import os
import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from sottovoce.engine.errors import MaskReuseError, PreprocessingError, ProtocolError
from sottovoce.engine.preprocessing.durable import os_errors
from sottovoce.engine.preprocessing.opening import Contents, NoStoreError, load, make
from sottovoce.engine.preprocessing.segment import ID_BYTES, Segment, SegmentWriter, Source, Taken
from sottovoce.engine.preprocessing.vault import State, StoreIdentity, mark
from sottovoce.engine.prg import KEY_BYTES

__all__ = ["Segment", "SegmentWriter", "Source", "Store", "StoreIdentity", "Taken"]

MAX_CLAIM_BYTES = 64


class Store:
    """An open store. A lock keeps other processes out; threads of this one come in one at a time."""

    @classmethod
    def create(cls, folder: Path, *, key: bytes, identity: StoreIdentity, pair: bytes) -> Store:
        """An empty store in `folder`, made if need be. pair: 16 bytes that both parties agreed on.

        One whose making was stopped is made anew. Raises PreprocessingError if there is a store, or anything else, in
        the folder.
        """
        make(folder, key, identity, pair)
        return cls.open(folder, key=key, identity=identity)

    @classmethod
    def open(cls, folder: Path, *, key: bytes, identity: StoreIdentity) -> Store:
        """The store in `folder`. What a crash left over is removed.

        Raises PreprocessingError if it is no store, one for another model, version, party or protocol, of another key,
        open already, damaged, or older than its last use.
        """
        return cls(identity, load(folder, key, identity))

    @classmethod
    def open_or_none(cls, folder: Path, *, key: bytes, identity: StoreIdentity) -> Store | None:
        """None where `create` can make one: the folder is not there or empty, or holds one whose making was stopped.

        Raises PreprocessingError where `open` does for another reason.
        """
        try:
            return cls.open(folder, key=key, identity=identity)
        except NoStoreError:
            return None

    def __init__(self, identity: StoreIdentity, contents: Contents) -> None:
        """Called by `open` only, with what it found."""
        self.folder = contents.folder
        self.identity = identity
        self._where = contents.where
        self._file = contents.file
        self._vault = contents.vault
        self._own = contents.own
        self._state = contents.state
        self._segments = contents.segments
        self._index = contents.index
        self._witness = contents.witness
        self._held: ExitStack | None = contents.held
        self._taken: list[Taken] = []
        self._process = os.getpid()
        self._mutex = threading.RLock()

    def __repr__(self) -> str:
        left = self.end - self.position
        return f"Store({str(self.folder)!r}, party {self.identity.rank}, {left} clips left)"

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pair(self) -> bytes:
        """16 bytes that the partner's store has, too, and no other."""
        return self._own.pair

    @property
    def mask_seed(self) -> bytes:
        """The seed of this party's masks of weights."""
        return self._own.mask_seed

    @property
    def position(self) -> int:
        """The next unused clip."""
        return self._state.position

    @property
    def end(self) -> int:
        """One behind the last clip there is."""
        return self._state.end

    @property
    def claimed(self) -> bytes | None:
        """The tag of the weights that the masks are bound to."""
        return self._state.claimed

    @property
    def segments(self) -> list[Segment]:
        """Those that have unused clips, and used-up ones that a later change removes."""
        return list(self._segments)

    @contextmanager
    def add(
        self, start: int, clips: int, seed: bytes, *, source: Source, derived_words: int, common_words: int
    ) -> Iterator[SegmentWriter]:
        """Material of clips start … start + clips - 1, written inside the `with`: in the store when that ends well.

        start: must be `end`. seed: 32 fresh random bytes, this party's own. derived_words, common_words: per clip;
        derived_words is 0 where they come from the seed. Raises PreprocessingError, also if the disk is full; then
        nothing was added.
        """
        with self._using("add"):
            if start != self.end or clips < 1 or len(seed) != KEY_BYTES or min(derived_words, common_words) < 0:
                raise ProtocolError(
                    f"{self._where}: add: expected at least 1 clip from {self.end} on, a seed of {KEY_BYTES} bytes and "
                    f"no negative size, got {clips} from {start} on, {len(seed)} bytes, {derived_words} and "
                    f"{common_words} words"
                )
        segment = Segment(
            start, clips, source, int(time.time()), derived_words, common_words, secrets.token_bytes(ID_BYTES), seed
        )
        writer = SegmentWriter(self._file(segment))
        try:
            yield writer
            writer.finish()
        except BaseException:
            writer.discard()
            raise
        # If this fails the file stays: whether the commit is on the disk is not known before the next `open`.
        with self._using("add"):
            if start != self.end:
                raise ProtocolError(f"{self._where}: add: expected {start} to be the end still, got {self.end}")
            self._commit(replace(self._state, end=segment.stop), added=segment)

    def take(self, clips: int) -> list[Taken]:
        """The next clips, by segment: marked as used on the disk; `Taken.read` reads and authenticates their records.

        Raises PreprocessingError if there are too few, and consumes nothing.
        """
        with self._using("take"):
            if clips < 1:
                raise ProtocolError(f"{self._where}: take: expected at least 1 clip, got {clips}")
            left = self.end - self.position
            if clips > left:
                raise PreprocessingError(f"{self._where}: take: {too_few(clips, left)}")
            wanted = range(self.position, self.position + clips)
            self._commit(replace(self._state, position=wanted.stop))
            taken = []
            for segment in self._segments:
                part = range(max(wanted.start, segment.start), min(wanted.stop, segment.stop))
                if part:
                    taken.append(Taken(self._file(segment), part))
            self._taken += taken
            return taken

    def advance(self, position: int) -> None:
        """Skip unused clips. Raises MaskReuseError for a step back, PreprocessingError beyond the end."""
        with self._using("advance"):
            if position < self.position:
                raise MaskReuseError(
                    f"{self._where}: advance: expected a clip from {self.position} on, got {position}: it was used"
                )
            if position > self.end:
                raise PreprocessingError(f"{self._where}: advance: expected at most {self.end}, got {position}")
            if position > self.position:
                self._commit(replace(self._state, position=position))

    def align(self, position: int, end: int) -> None:
        """Keep what the partner has, too, whose `position` and `end` these are; then both have the same.

        For the start of making more: a crash may have left the last segment to one party only, and it is useless.
        Raises PreprocessingError if the two were not filled together.
        """
        with self._using("align"):
            first, last = max(self.position, position), min(self.end, end)
            dropped = [segment for segment in self._segments if segment.start >= last]
            if first >= last:  # nothing in common
                first = last = max(self.end, end)
                dropped = self._segments
            elif last not in {segment.stop for segment in self._segments}:
                raise PreprocessingError(
                    f"{self._where}: align: expected the partner's end, {end}, to be the end of a segment here; "
                    "the stores were not filled together: make new ones"
                )
            if (first, last) != (self.position, self.end):
                self._commit(replace(self._state, position=first, end=last), dropped=dropped)

    def claim(self, tag: bytes) -> None:
        """Bind the masks of weights to the model that the tag names, for good. Raises PreprocessingError."""
        with self._using("claim"):
            if not 1 <= len(tag) <= MAX_CLAIM_BYTES:
                raise ProtocolError(f"{self._where}: claim: expected 1 to {MAX_CLAIM_BYTES} bytes, got {len(tag)}")
            if self.claimed is None:
                self._commit(replace(self._state, claimed=tag))
            elif not hmac.compare_digest(self.claimed, tag):
                raise PreprocessingError(
                    f"{self._where}: claim: expected the weights that it was used with before, got others: the same "
                    "masks would reveal their difference. Make a new store for these weights"
                )

    def close(self) -> None:
        """Give everything back. Idempotent."""
        with self._mutex:
            held, self._held = self._held, None
            if held is not None and os.getpid() == self._process:
                held.close()

    @contextmanager
    def _using(self, operation: str) -> Iterator[None]:
        with self._mutex, os_errors(self._where, operation):
            if self._held is None:
                raise ProtocolError(f"{self._where}: {operation}: expected an open store, got one that was closed")
            if os.getpid() != self._process:  # a copy of our memory would take the same clips
                raise ProtocolError(f"{self._where}: {operation}: expected process {self._process}, got {os.getpid()}")
            yield

    def _commit(self, state: State, added: Segment | None = None, dropped: Sequence[Segment] = ()) -> None:
        """Make a change durable, and get rid of what was dropped, or used up and read, before it."""
        state = replace(state, change=self._state.change + 1)
        self._taken = [taken for taken in self._taken if not taken.done]
        # Nothing behind the first one that is still to be read: those that are left follow one another.
        needed = min([self.position, *(taken.clips.start for taken in self._taken)])
        kept = [s for s in self._segments if s not in dropped and s.stop > needed]
        gone = [s for s in self._segments if s not in kept]
        self._index.commit(
            self._vault.seal("state", state),
            [(added.start, self._vault.seal("segment", added))] if added else [],
            [segment.start for segment in gone],
        )
        self._state = state
        self._segments = [*kept, added] if added else kept
        self._witness.write(self._vault.seal("witness", mark(state)))
        for segment in gone:
            self._file(segment).path.unlink(missing_ok=True)


def too_few(clips: int, left: int) -> str:
    """What to tell who wants more than there is."""
    return f"it needs {clips} clips, {left} are left: run `sottovoce prepare --clips {clips - left}`"
