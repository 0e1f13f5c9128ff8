"""The wire format: a fixed 32-byte little-endian header before every payload, and its strict parser.

    offset  size  field
         0     2  magic            0x7673, the letters "sv"
         2     1  version          FRAME_VERSION
         3     1  kind             HELLO (before a lane is open), DATA, ABORT (payload: a short reason)
         4     8  session          first 8 bytes of the session id
        12     2  tag              what the protocol calls this message
        14     1  dtype            code of the arrays' common dtype, 0: bytes or mixed
        15     1  lane
        16     4  counter          of this direction of this lane: 0, 1, 2, …
        20     4  stamp            Lamport clock, see base.Counters; at least 1
        24     8  length           payload bytes

Nothing is allocated on the word of a header: the length is first compared with what the receiver expects.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import numpy as np

from sottovoce.engine.errors import FrameError, ProtocolError
from sottovoce.engine.transport.base import HEADER_BYTES, MAX_CLOCK, MAX_TAG, Array, Counters

MAGIC: Final = 0x7673
FRAME_VERSION: Final = 1
HELLO: Final = 1
DATA: Final = 2
ABORT: Final = 3
MAX_REASON: Final = 240
MAX_LANES: Final = 256
NO_SESSION: Final = bytes(8)

_HEADER: Final = struct.Struct("<HBB8sHBBIIQ")
_COUNTERS: Final = 1 << 32
_BYTES: Final = 0
_KINDS: Final = (HELLO, DATA, ABORT)
_LITTLE: Final = sys.byteorder == "little"
# uint8 and bool are bytes (0): who receives raw bytes need not know what they were.
_DTYPES: Final[Mapping[np.dtype[Any], int]] = MappingProxyType(
    {np.dtype(t): i for i, t in enumerate(("<u8", "<u4", "<u2", "<i8", "<i4", "<i2", "<f8", "<f4"), start=1)}
)
_DTYPE_NAMES: Final = ("bytes", *(t.name for t in _DTYPES))


class Header(NamedTuple):
    """A parsed header; the fields are in range, nothing more is known of them yet."""

    kind: int
    session: bytes
    tag: int
    dtype: int
    lane: int
    counter: int
    stamp: int
    length: int


def pack_header(header: Header) -> bytes:
    """The header's 32 bytes."""
    kind, session, tag, dtype, lane, counter, stamp, length = header
    return _HEADER.pack(MAGIC, FRAME_VERSION, kind, session, tag, dtype, lane, counter, stamp, length)


def parse_header(raw: bytes | bytearray | memoryview) -> Header:
    """Parse 32 bytes. Raises FrameError that names the field, what was expected and what was got."""
    if len(raw) != HEADER_BYTES:
        raise FrameError(f"header: expected {HEADER_BYTES} bytes, got {len(raw)}")
    magic, version, kind, session, tag, dtype, lane, counter, stamp, length = _HEADER.unpack(raw)
    if magic != MAGIC:
        raise FrameError(f"magic: expected {MAGIC:#06x}, got {magic:#06x}: the peer does not speak this protocol")
    if version != FRAME_VERSION:
        raise FrameError(f"frame version: expected {FRAME_VERSION}, got {version}")
    if kind not in _KINDS:
        raise FrameError(f"kind: expected one of {_KINDS}, got {kind}")
    if dtype >= len(_DTYPE_NAMES):
        raise FrameError(f"dtype code: expected at most {len(_DTYPE_NAMES) - 1}, got {dtype}")
    if stamp == 0:
        raise FrameError("round stamp: expected at least 1, got 0")
    if kind == ABORT and length > MAX_REASON:
        raise FrameError(f"length of an ABORT reason: expected at most {MAX_REASON}, got {length}")
    return Header(kind, session, tag, dtype, lane, counter, stamp, length)


def payload_views(parts: Sequence[Array], *, writable: bool) -> tuple[list[memoryview], int, int]:
    """(byte views of the non-empty arrays, their total bytes, common dtype code). No copy.

    Raises ProtocolError for an array that is not C-contiguous, not of little-endian numbers or, if `writable`,
    read-only.
    """
    views: list[memoryview] = []
    total = 0
    code = -1
    for part in parts:
        dtype = part.dtype
        if not part.flags.c_contiguous or dtype.kind not in "biuf" or not dtype.isnative or not _LITTLE:
            raise ProtocolError(f"a message part must be C-contiguous little-endian numbers, got {dtype} {part.shape}")
        if writable and not part.flags.writeable:
            raise ProtocolError(f"cannot receive into a read-only array of shape {part.shape}")
        part_code = _DTYPES.get(dtype, _BYTES)
        code = part_code if code in (-1, part_code) else _BYTES
        if part.nbytes:
            views.append(part.data.cast("B") if part.ndim else part.reshape(1).data.cast("B"))
            total += part.nbytes
    return views, total, max(code, _BYTES)


def clean_reason(reason: str | bytes) -> str:
    """A reason fit to be shown: printable ASCII, at most MAX_REASON characters. It may come from a hostile peer."""
    text = reason.decode("ascii", "replace") if isinstance(reason, bytes) else reason
    return "".join(c if " " <= c <= "~" else "?" for c in text[: MAX_REASON + 1])[:MAX_REASON].strip()


class LaneState:
    """What both transports share: the lane's frame counters, its clock and the checks on what arrives.

    name: how messages call this side, for example "P0 lane 1".
    """

    __slots__ = ("_received", "_sent", "counters", "kind", "lane", "name", "session")

    def __init__(self, name: str, peers: Iterable[int], session: bytes, lane: int, kind: int = DATA) -> None:
        if len(session) < len(NO_SESSION) or not 0 <= lane < MAX_LANES:
            raise ProtocolError(f"{name}: needs a session id of 8 bytes or more and a lane below {MAX_LANES}")
        ranks = list(peers)
        self.name = name
        self.session = session[: len(NO_SESSION)]
        self.lane = lane
        self.kind = kind
        self.counters = Counters(
            bytes_sent=dict.fromkeys(ranks, 0),
            bytes_received=dict.fromkeys(ranks, 0),
            frames_sent=dict.fromkeys(ranks, 0),
            frames_received=dict.fromkeys(ranks, 0),
        )
        self._sent = dict.fromkeys(ranks, 0)
        self._received = dict.fromkeys(ranks, 0)

    def knows(self, peer: int) -> bool:
        """Whether `peer` is at the other end of this lane."""
        return peer in self._sent

    def outgoing(self, to: int, tag: int, dtype: int, length: int) -> bytes:
        """The header of the next frame to `to`; takes its counter."""
        if not 0 <= tag <= MAX_TAG:
            raise ProtocolError(f"{self.name}: a tag lies in 0 .. {MAX_TAG}, got {tag}")
        counter = self._sent[to]
        if counter >= _COUNTERS:
            raise ProtocolError(f"{self.name}: frame counter to peer {to} is used up; open another lane")
        self._sent[to] = counter + 1
        stamp = min(self.counters.clock + 1, MAX_CLOCK)
        return _HEADER.pack(
            MAGIC, FRAME_VERSION, self.kind, self.session, tag, dtype, self.lane, counter, stamp, length
        )

    def abort_header(self, length: int) -> bytes:
        """The header of an ABORT frame; it has no counter, so that it can be sent at any frame boundary."""
        return pack_header(Header(ABORT, self.session, 0, _BYTES, self.lane, 0, 1, length))

    def incoming(
        self, frm: int, raw: bytes | bytearray | memoryview, tag: int, dtype: int, least: int, most: int
    ) -> Header:
        """Parse a header and compare it with what must come next from `frm`. An ABORT passes: look at its kind."""
        header = parse_header(raw)
        if header.kind == ABORT:
            return header
        if header.session != self.session:
            raise FrameError(f"session: expected {self.session.hex()}, got {header.session.hex()}")
        if header.kind != self.kind or header.lane != self.lane:
            got = f"kind {header.kind} lane {header.lane}"
            raise FrameError(f"kind and lane: expected kind {self.kind} lane {self.lane}, got {got}")
        if header.counter != self._received[frm]:
            raise FrameError(f"frame counter: expected {self._received[frm]}, got {header.counter}")
        if header.tag != tag:
            raise FrameError(f"tag: expected {tag}, got {header.tag}")
        if header.dtype != dtype and header.dtype != _BYTES and dtype != _BYTES:
            raise FrameError(f"dtype: expected {_DTYPE_NAMES[dtype]}, got {_DTYPE_NAMES[header.dtype]}")
        if not least <= header.length <= most:
            expected = f"{most}" if least == most else f"at most {most}"
            raise FrameError(f"payload bytes: expected {expected}, got {header.length}")
        return header

    def consumed(self, frm: int, header: Header) -> None:
        """Count a frame that recv() has handed to its caller."""
        counters = self.counters
        self._received[frm] += 1
        counters.frames_received[frm] += 1
        counters.bytes_received[frm] += HEADER_BYTES + header.length
        if header.stamp > counters.clock:
            counters.clock = header.stamp
