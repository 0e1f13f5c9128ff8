"""A recording TCP proxy with a gate: what goes through is kept, and it can hold the stream back at a chosen place."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable

CHUNK = 1 << 16


class Proxy:
    """Forwards connections to a port of loopback. `recorded` is all bytes of each direction of each connection."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self.recorded: list[bytearray] = []
        self.held = threading.Event()
        self._open = threading.Event()
        self._open.set()
        self._allowance: int | None = None
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = [self._server]
        self._threads: list[threading.Thread] = []
        self._run(self._accept)

    def hold_after(self, count: int) -> None:
        """Let `count` more bytes pass, then nothing until `release`; `held` tells when it holds."""
        with self._lock:
            self.held.clear()
            self._open.clear()
            self._allowance = count

    def release(self) -> None:
        """Let everything pass."""
        with self._lock:
            self._allowance = None
            self._open.set()

    def close(self) -> None:
        """End all connections."""
        self.release()
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5.0)
        for sock in self._sockets:
            sock.close()

    def _run(self, work: Callable[..., None], *arguments: object) -> None:
        self._threads.append(threading.Thread(target=work, args=arguments, daemon=True))
        self._threads[-1].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._server.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
                self._sockets += [near, far]
                for source, sink in ((near, far), (far, near)):
                    for sock in (source, sink):
                        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    record = bytearray()
                    self.recorded.append(record)
                    self._run(self._pump, source, sink, record)

    def _pump(self, source: socket.socket, sink: socket.socket, record: bytearray) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(CHUNK):
                record += data
                self._wait(len(data))
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def _wait(self, count: int) -> None:
        with self._lock:
            if self._allowance is not None:
                self._allowance -= count
                if self._allowance >= 0:
                    return
                self.held.set()
        self._open.wait()
