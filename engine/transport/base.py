"""What a protocol needs of a transport: one *lane*, an ordered channel of frames to every other party.

A party runs several sub-batches at once by holding several lanes; lanes never share a frame, a counter or a key.
Every wait has a deadline. Sending never waits for the peer to send first (no deadlock when both send at once).
`conformance.py` checks all of this on any implementation.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from numpy.typing import NDArray

HEADER_BYTES = 32
MAX_TAG = 0xFFFF
MAX_CLOCK = 0xFFFFFFFF

Array = NDArray[Any]


@dataclass(slots=True)
class Counters:
    """Measured where the bytes leave, headers included, by peer; independent of any declared cost.

    Bytes of data frames: what a TCP connection carries without TLS. TLS adds 22 bytes to every record of at most
    16 KiB. The handshake before a lane opens, and the ABORT frame that may end it, are not counted.
    Received bytes are counted when recv() has consumed the whole frame.

    clock is the length of the longest chain of dependent messages seen so far (a Lamport clock: a frame is stamped
    with one more than the largest stamp received before it was sent, and sending does not advance the clock); its
    growth is the number of rounds. It is a statistic that peers can inflate; it stops at MAX_CLOCK and nothing else
    depends on it.
    wait_ns is the time spent blocked on peers.
    """

    bytes_sent: dict[int, int] = field(default_factory=dict)
    bytes_received: dict[int, int] = field(default_factory=dict)
    frames_sent: dict[int, int] = field(default_factory=dict)
    frames_received: dict[int, int] = field(default_factory=dict)
    clock: int = 0
    wait_ns: int = 0


class Transport(ABC):
    """One lane at one party. Not thread-safe: one thread drives one lane.

    After a TransportError the lane is unusable (a frame may be half sent): every later call raises TransportError,
    and close(reason) tells the peers why. A ProtocolError (a bug on this side, found before a byte moved) leaves the
    lane as it was. As a context manager it closes the lane, naming the exception's type to the peers if there is one.
    """

    rank: int
    parties: int
    counters: Counters
    deadline_s: float
    """Seconds without progress after which an operation fails; may be set between operations."""
    encrypted: bool
    """False for plain TCP on loopback: marked in every result. True in process and under TLS."""

    @abstractmethod
    def send(self, to: int, tag: int, parts: Sequence[Array]) -> None:
        """Send one frame whose payload is the arrays' bytes, one after the other (C-contiguous, little-endian).

        tag: 0 .. MAX_TAG. The arrays may be reused as soon as this returns. Raises TransportError (see errors.py).
        """

    @abstractmethod
    def recv(self, frm: int, tag: int, parts: Sequence[Array]) -> None:
        """Receive the next frame of `frm`, which must carry `tag` and exactly the arrays' bytes, into the arrays.

        If it raises, the arrays' contents are undefined.
        """

    @abstractmethod
    def recv_bytes(self, frm: int, tag: int, limit: int) -> bytes:
        """Receive the next frame of `frm`, which must carry `tag` and at most `limit` bytes."""

    def flush(self) -> None:  # noqa: B027  # most lanes send at once
        """Send what is deferred, if anything: after it nothing that was sent waits for this party."""

    @abstractmethod
    def close(self, reason: str = "") -> None:
        """Close the lane; peers that wait get PeerClosedError with the reason. Idempotent."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        self.close("" if kind is None else f"stopped by {kind.__name__}")
