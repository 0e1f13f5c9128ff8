"""One connected stream socket, plain or TLS, non-blocking, with what was read ahead of its use.

Only this file touches a socket's bytes. It never waits: it says which event to wait for. `tcp.py` waits.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import time
from collections import deque
from collections.abc import Sequence
from typing import Final

from sottovoce.engine.errors import FrameError
from sottovoce.engine.transport.base import HEADER_BYTES
from sottovoce.engine.transport.frame import ABORT, clean_reason, parse_header

DEFAULT_INBOX: Final = 256 << 20
READ_AHEAD: Final = 64 << 10
DRAIN_STEP: Final = 1 << 20
_CHUNK: Final = 256 << 10
_MAX_VIEWS: Final = 64
_TLS_PIECE: Final = 128 << 10
_LINGER_MS: Final = 100
ENDED: Final = -1
BLOCKED: Final = 0


class Link:
    """A connection to one peer.

    name: how messages call the peer, "P1" or "client alice". inbox_limit: how many bytes may lie here, read while we
    were blocked in sending, before the peer counts as flooding.
    """

    __slots__ = (
        "_ahead",
        "_hi",
        "_lo",
        "_offset",
        "_overflow",
        "_overflow_bytes",
        "_scratch",
        "_sock",
        "_tls",
        "encrypted",
        "ended",
        "fd",
        "inbox_limit",
        "mid_frame",
        "name",
        "peer_reason",
        "read_events",
        "tls_failed",
        "write_events",
    )

    def __init__(self, sock: socket.socket, name: str, *, inbox_limit: int = DEFAULT_INBOX) -> None:
        sock.setblocking(False)
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock = sock
        self._tls = isinstance(sock, ssl.SSLSocket)
        self.encrypted = self._tls
        self.name = name
        self.inbox_limit = inbox_limit
        self.fd = sock.fileno()
        self.read_events = select.POLLIN
        self.write_events = select.POLLOUT
        self.mid_frame = False
        """A frame of ours is half sent: nothing else may be written."""
        self.ended = ""
        """Why nothing more can be read; empty while the connection lives."""
        self.tls_failed = False
        """The connection ended with a TLS alert, such as "certificate refused"."""
        self.peer_reason = ""
        """What the peer's ABORT frame said."""
        # Bytes read ahead lie first in _ahead[_lo:_hi], then in the overflow (filled only while we are sending).
        self._ahead = memoryview(bytearray(READ_AHEAD))
        self._lo = 0
        self._hi = 0
        self._overflow: deque[bytearray] = deque()
        self._overflow_bytes = 0
        self._offset = 0
        self._scratch: memoryview | None = None

    @property
    def socket(self) -> socket.socket:
        """The socket, to read the peer's certificate or address from it."""
        return self._sock

    def write(self, views: Sequence[memoryview]) -> int:
        """Write what can be written now. Returns the bytes written, BLOCKED or ENDED."""
        try:
            if self._tls:
                # OpenSSL reports nothing before it has written the whole buffer: in pieces, progress can be seen.
                return self._sock.send(views[0][:_TLS_PIECE])
            if len(views) == 1:
                return self._sock.send(views[0])
            return self._sock.sendmsg(views[:_MAX_VIEWS])
        except (BlockingIOError, ssl.SSLWantWriteError):
            self.write_events = select.POLLOUT
            return BLOCKED
        except ssl.SSLWantReadError:
            self.write_events = select.POLLIN
            return BLOCKED
        except (OSError, ValueError) as error:
            self._drain_last_words()
            self.ended = self.ended or _describe(error)
            return ENDED

    def read_into(self, view: memoryview) -> int:
        """Read from the socket, past the inbox, which must be empty. Returns the bytes read, BLOCKED or ENDED."""
        if self.ended:
            return ENDED
        try:
            count = self._sock.recv_into(view)
        except (BlockingIOError, ssl.SSLWantReadError):
            self.read_events = select.POLLIN
            return BLOCKED
        except ssl.SSLWantWriteError:
            self.read_events = select.POLLOUT
            return BLOCKED
        except (OSError, ValueError) as error:
            self.ended = _describe(error)
            self.tls_failed = isinstance(error, ssl.SSLError)
            return ENDED
        if count == 0:
            self.ended = "the peer closed the connection"
            return ENDED
        return count

    def read_ahead(self) -> int:
        """Fill the empty read-ahead buffer: a small frame needs one system call, header and payload together."""
        count = self.read_into(self._ahead)
        if count > 0:
            self._lo, self._hi = 0, count
        return count

    def take(self, view: memoryview) -> int:
        """Move bytes that were read ahead into `view`; returns how many. Fewer than its length: the inbox is empty."""
        size = len(view)
        got = min(size, self._hi - self._lo)
        if got:
            view[:got] = self._ahead[self._lo : self._lo + got]
            self._lo += got
        while got < size and self._overflow:
            chunk = self._overflow[0]
            count = min(size - got, len(chunk) - self._offset)
            with memoryview(chunk) as whole:
                view[got : got + count] = whole[self._offset : self._offset + count]
            got += count
            self._offset += count
            self._overflow_bytes -= count
            if self._offset == len(chunk):
                self._overflow.popleft()
                self._offset = 0
        return got

    def drain(self) -> int:
        """Read what has arrived, at most DRAIN_STEP bytes, into the inbox; returns how many.

        Raises FrameError if the peer is more than inbox_limit bytes ahead.
        """
        if self._scratch is None:
            self._scratch = memoryview(bytearray(_CHUNK))
        total = 0
        while total < DRAIN_STEP:
            count = self.read_into(self._scratch)
            if count <= 0:
                break
            total += count
            if self._overflow_bytes + count > self.inbox_limit:
                raise FrameError(f"{self.name} runs ahead by more than the inbox limit of {self.inbox_limit} bytes")
            self._overflow_bytes += count
            # Appended, not kept apart: a flood of tiny segments must not cost an object each.
            if not self._overflow or len(self._overflow[-1]) + count > _CHUNK:
                self._overflow.append(bytearray())
            self._overflow[-1] += self._scratch[:count]
        return total

    def close(self, farewell: bytes = b"") -> None:
        """Close; `farewell` (an ABORT frame) is sent first if the socket takes it at once. Never raises."""
        if self._sock.fileno() < 0:
            return
        alive = not self.ended
        if farewell and not self.mid_frame:
            with contextlib.suppress(OSError, ValueError):
                self._sock.send(farewell)
        if isinstance(self._sock, ssl.SSLSocket) and not self.mid_frame:
            with contextlib.suppress(OSError, ValueError):
                self._sock.unwrap()  # sends close_notify; the peer's answer is not awaited
        linger(self._sock, _LINGER_MS if farewell and alive else 0)
        self.ended = self.ended or "closed by this side"

    def find_abort(self) -> str:
        """The reason of an ABORT frame in the inbox, which must begin at a frame's first byte; empty if none."""
        data = self._ahead[self._lo : self._hi].tobytes() + b"".join(self._overflow)[self._offset :]
        at = 0
        while at + HEADER_BYTES <= len(data):
            try:
                header = parse_header(data[at : at + HEADER_BYTES])
            except FrameError:
                return ""
            at += HEADER_BYTES + header.length
            if header.kind == ABORT and at <= len(data):
                return clean_reason(data[at - header.length : at])
        return ""

    def _drain_last_words(self) -> None:
        """Writing failed: read what the peer said before it went."""
        with contextlib.suppress(FrameError):
            while self.drain():
                pass


def linger(sock: socket.socket, patience_ms: int) -> None:
    """Close a non-blocking socket after reading, for a short while, what still comes. Never raises.

    Closing with unread bytes resets the connection, which may destroy our last words on their way.
    """
    with contextlib.suppress(OSError, ValueError):
        socket.socket.shutdown(sock, socket.SHUT_WR)
        poll = select.poll()
        poll.register(sock.fileno(), select.POLLIN)
        end = time.monotonic_ns() + patience_ms * 1_000_000
        for _ in range(256):
            left = end - time.monotonic_ns()
            if not poll.poll(max(left, 0) / 1e6) or not socket.socket.recv(sock, READ_AHEAD):
                break
    sock.close()


def _describe(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {clean_reason(error.reason or str(error))}"
    if isinstance(error, ConnectionError):
        return "the connection was reset"
    return f"the socket failed: {type(error).__name__}"
