"""Sound files by their suffix, and: was one cut off? Answered from its container, because the decoder does not say.

libsndfile plays what is left of a truncated WAV, AIFF, AU or Ogg file and reports no error: the client would classify
half a sentence. These functions compare what the header promises with what the file holds. For FLAC the decoder
itself knows the promised length (`audio.load_audio` compares it). A truncated MP3 is a shorter MP3 and cannot be told
apart.
"""

from __future__ import annotations

import struct
from typing import BinaryIO

LOSSY_SUFFIXES = frozenset((".mp3", ".ogg", ".oga", ".opus"))
SOUND_SUFFIXES = LOSSY_SUFFIXES | {".wav", ".w64", ".rf64", ".flac", ".aiff", ".aif", ".aifc", ".au", ".snd", ".caf"}
"""Of the formats that libsndfile decodes."""

_UNKNOWN_SIZES = (0, 0xFFFFFFFF)  # written by programs that stream to a pipe and cannot go back
_MAX_CHUNKS = 10_000  # before the samples; a file of zeros has one every 8 bytes
_OGG_HEADER = 27
_OGG_LAST_PAGE = 0x04
_OGG_MAX_PAGE = _OGG_HEADER + 255 + 255 * 255


def truncation(file: BinaryIO, size: int) -> str | None:
    """Say how the file is cut off, as "expected …, got …", or None if it is whole or cannot be judged.

    `file` is open for reading in binary mode, `size` is its length in bytes.
    """
    file.seek(0)
    head = file.read(12)
    if head[:4] == b"RIFF":
        return _chunks(file, size, "<", b"data")
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return _chunks(file, size, ">", b"SSND")
    if head[:4] == b".snd" and len(head) == 12:
        offset, length = struct.unpack(">II", head[4:])
        return None if length in _UNKNOWN_SIZES else _held(length, size - offset)
    if head[:4] == b"OggS":
        return _ogg(file, size)
    return None


def _held(promised: int, held: int) -> str | None:
    if promised <= held:
        return None
    return f"expected {promised} bytes of samples after the header, got {max(held, 0)}"


def _chunks(file: BinaryIO, size: int, order: str, wanted: bytes) -> str | None:
    """Walk the chunks (4-byte name, 4-byte size, padded to even length) of a WAV or AIFF file up to the samples."""
    at = 12
    for _ in range(_MAX_CHUNKS):
        if at + 8 > size:
            return f"expected a chunk of samples ({wanted.decode()!r}), got the end of the file"
        file.seek(at)
        header = file.read(8)
        length = int(struct.unpack(order + "I", header[4:])[0])
        if header[:4] == wanted:
            return None if length in _UNKNOWN_SIZES else _held(length, size - at - 8)
        at += 8 + length + (length & 1)
    return f"expected a chunk of samples ({wanted.decode()!r}), got {_MAX_CHUNKS} others"


def _ogg(file: BinaryIO, size: int) -> str | None:
    """The last page of an Ogg stream is whole and carries the end-of-stream flag."""
    start = max(0, size - 2 * _OGG_MAX_PAGE)
    file.seek(start)
    tail = file.read(size - start)
    at = tail.rfind(b"OggS")
    page = tail[at:]
    if at >= 0 and len(page) >= _OGG_HEADER and len(page) >= _OGG_HEADER + page[26]:
        table = page[_OGG_HEADER : _OGG_HEADER + page[26]]
        if len(page) >= _OGG_HEADER + len(table) + sum(table) and page[5] & _OGG_LAST_PAGE:
            return None
    return "expected a last page marked as the end of the stream, got the end of the file"
