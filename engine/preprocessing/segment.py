"""A segment: the material of consecutive clips in one file, a record for each, encrypted and authenticated on its own.

File: MAGIC, the segment's id, then for each clip the ciphertext of its derived and common words (little-endian) and a
tag. All records have the same size. What else must fit (format, store, model, protocol, party, partner, segment,
sizes, number of the clip) is bound into every record, so that no record can stand in for another one.
"""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from sottovoce.engine.errors import MaskReuseError, PreprocessingError, ProtocolError
from sottovoce.engine.preprocessing.durable import create, os_errors, sync_folder
from sottovoce.engine.preprocessing.seal import TAG_BYTES, nonce
from sottovoce.engine.tensors import U64

Source = Literal["dealer", "ot"]

MAGIC = b"sottovoce-seg/1\n"
ID_BYTES = 16
HEADER_BYTES = len(MAGIC) + ID_BYTES
WORD_BYTES = 8
BUFFER_BYTES = 1 << 20
SUFFIX = ".seg"


@dataclass(frozen=True, slots=True)
class Segment:
    """What the index knows of a segment: clips start … stop - 1, who made them, when (seconds since 1970), sizes.

    derived_words, common_words: uint64 words of a clip's record; derived_words is 0 where they come from the seed.
    """

    start: int
    clips: int
    source: Source
    created: int
    derived_words: int
    common_words: int
    id: bytes
    seed: bytes = field(repr=False)

    @property
    def stop(self) -> int:
        """One behind its last clip."""
        return self.start + self.clips

    @property
    def record_bytes(self) -> int:
        """Bytes of one clip in the file; none where everything comes from the seed."""
        words = self.derived_words + self.common_words
        return WORD_BYTES * words + TAG_BYTES if words else 0

    @property
    def file_bytes(self) -> int:
        """Size of the file."""
        return HEADER_BYTES + self.clips * self.record_bytes

    @property
    def file(self) -> str:
        """Its name in the folder of segments."""
        return self.id.hex() + SUFFIX

    def __str__(self) -> str:
        return f"segment {self.id.hex()[:8]} (clips {self.start} to {self.stop - 1})"


@dataclass(frozen=True, slots=True)
class SegmentFile:
    """A segment's file. context: what the whole store is bound to. where: stands in front of error texts."""

    path: Path
    segment: Segment
    cipher: ChaCha20Poly1305 = field(repr=False)
    context: bytes = field(repr=False)
    where: str

    def bound(self, clip: int) -> bytes:
        """The associated data of a clip's record."""
        s = self.segment
        return self.context + s.id + struct.pack(">5Q", s.start, s.clips, s.derived_words, s.common_words, clip)

    def check(self) -> None:
        """Raise PreprocessingError unless the file is there and of the right size."""
        try:
            got = f"{self.path.stat().st_size:,} bytes"
        except FileNotFoundError:
            got = "no file"
        if got != f"{self.segment.file_bytes:,} bytes":
            raise PreprocessingError(f"{self.where}: expected {self.segment.file_bytes:,} bytes, got {got}")

    def read(self, clips: range) -> tuple[U64, U64]:
        """Derived (k, derived_words) and common (k, common_words) of some of its clips, authenticated.

        Raises PreprocessingError, naming segment and clip.
        """
        segment = self.segment
        derived = np.empty((len(clips), segment.derived_words), np.uint64)
        common = np.empty((len(clips), segment.common_words), np.uint64)
        if segment.record_bytes:
            for row, plain in enumerate(self._records(clips)):
                words = np.frombuffer(plain, "<u8")
                derived[row] = words[: segment.derived_words]
                common[row] = words[segment.derived_words :]
        return derived, common

    def _records(self, clips: range) -> Iterator[bytes]:
        size = self.segment.record_bytes
        with os_errors(self.where, "read"), open(self.path, "rb", buffering=0) as file:
            if file.read(HEADER_BYTES) != MAGIC + self.segment.id:
                raise PreprocessingError(f"{self.where}: expected its own header, got another file's")
            for index in clips:
                number = index - self.segment.start
                record = os.pread(file.fileno(), size, HEADER_BYTES + number * size)
                try:
                    yield self.cipher.decrypt(nonce(number), record, self.bound(index))
                except InvalidTag:
                    raise PreprocessingError(
                        f"{self.where}: the record of clip {index} is damaged or not its own; it counts as used"
                    ) from None


class Taken:
    """Consecutive clips of one segment that were marked as used; their records are read when they are asked for.

    The store keeps the file until `done`. Threads may ask for different clips at the same time.
    """

    def __init__(self, file: SegmentFile, clips: range) -> None:
        self.clips = clips
        self._file = file
        self._left = set(clips)
        self._reading = 0
        self._mutex = threading.Lock()

    def __repr__(self) -> str:
        return f"Taken({self._file.segment}, {self.clips})"

    @property
    def segment(self) -> Segment:
        """Whose clips they are."""
        return self._file.segment

    @property
    def done(self) -> bool:
        """Every clip was read."""
        with self._mutex:
            return not self._left and not self._reading

    def read(self, clips: range) -> tuple[U64, U64]:
        """Derived (k, derived_words) and common (k, common_words) of some of them, each clip once.

        Raises MaskReuseError; PreprocessingError for a damaged record, which does not come again either.
        """
        with self._mutex:
            if not self._left.issuperset(clips):
                raise MaskReuseError(f"{self._file.where}: expected clips that were not read yet, got {clips}")
            self._left.difference_update(clips)
            self._reading += 1
        try:
            return self._file.read(clips)
        finally:
            with self._mutex:
                self._reading -= 1


class SegmentWriter:
    """Writes the records of a new segment, clip after clip, in the memory of one."""

    def __init__(self, file: SegmentFile) -> None:
        self._file = file
        self._written = 0
        with os_errors(file.where, "add"):
            self._out = open(create(file.path), "wb", buffering=BUFFER_BYTES)  # noqa: SIM115
            self._out.write(MAGIC + file.segment.id)

    @property
    def written(self) -> int:
        """Clips so far."""
        return self._written

    def write(self, derived: U64 | None, common: U64 | None) -> None:
        """The next k clips: derived (k, derived_words) and common (k, common_words), None for a width of 0."""
        segment, where = self._file.segment, self._file.where
        wanted = (("derived", derived, segment.derived_words), ("common", common, segment.common_words))
        parts = [_checked(where, name, value, words) for name, value, words in wanted if value is not None or words]
        count = max((len(part) for part in parts), default=0)
        if any(len(part) != count for part in parts) or self._written + count > segment.clips:
            raise ProtocolError(
                f"{where}: write: expected as many derived as common records, {segment.clips - self._written} at most, "
                f"got {[len(part) for part in parts]}"
            )
        for row in range(count):
            plain = b"".join(part[row].tobytes() for part in parts)
            bound = self._file.bound(segment.start + self._written)
            with os_errors(where, "add; nothing was added"):
                self._out.write(self._file.cipher.encrypt(nonce(self._written), plain, bound))
            self._written += 1

    def finish(self) -> None:
        """Make the complete file durable, its name as well."""
        segment = self._file.segment
        if segment.record_bytes and self._written != segment.clips:
            raise ProtocolError(f"{self._file.where}: add: expected {segment.clips} records, got {self._written}")
        with os_errors(self._file.where, "add; nothing was added"):
            self._out.flush()
            os.fsync(self._out.fileno())
            self._out.close()
            sync_folder(self._file.path.parent)

    def discard(self) -> None:
        """Remove the file."""
        with suppress(OSError):  # the disk may be full
            self._out.close()
        self._file.path.unlink(missing_ok=True)


def _checked(where: str, name: str, value: U64 | None, words: int) -> U64:
    """`value` as little-endian words, (k, words)."""
    if value is None or value.dtype != np.uint64 or value.ndim != 2 or value.shape[1] != words or not words:
        got = "none" if value is None else f"{value.dtype} {value.shape}"
        raise ProtocolError(f"{where}: write: expected {name} words of shape (k, {words}) uint64, got {got}")
    return value.astype("<u8", copy=False)
