"""What is measured with: small TCP exchanges and a bulk transfer. Run inside a node; standard library only.

    probe.py serve ADDRESS                                   prints its port, serves until its standard input ends
    probe.py exchange ADDRESS PORT SENT REPLY COUNT          prints the times of COUNT exchanges in ms, a JSON list
    probe.py receive ADDRESS PORT SECONDS                    prints rates in Mbit/s, a JSON list

A connection opens with two numbers (bytes sent, bytes of the reply); no bytes sent and none back asks for bulk data.
"""

from __future__ import annotations

import json
import socket
import struct
import sys
import threading
import time
from itertools import pairwise

HEAD = struct.Struct("<II")
CHUNK = 1 << 20
WARM_UP = 2
WINDOWS = 5
TIMEOUT_S = 30.0


def serve(address: str) -> None:
    """Answer connections until standard input ends."""
    with socket.create_server((address, 0)) as server:
        print(server.getsockname()[1], flush=True)
        threading.Thread(target=_accept, args=(server,), daemon=True).start()
        sys.stdin.read()


def _accept(server: socket.socket) -> None:
    while True:
        connection, _ = server.accept()
        threading.Thread(target=_answer, args=(connection,), daemon=True).start()


def _answer(connection: socket.socket) -> None:
    with connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            sent, reply = HEAD.unpack(_take(connection, HEAD.size))
            data = bytes(reply or CHUNK)
            while True:
                _take(connection, sent)
                connection.sendall(data)
        except ConnectionError:
            return


def exchange(address: str, port: int, sent: int, reply: int, count: int) -> list[float]:
    """Times in ms, from sending the first of `sent` bytes to holding the last of `reply` bytes."""
    times = []
    with _connect(address, port, sent, reply) as connection:
        for _ in range(WARM_UP + count):
            start = time.perf_counter()
            connection.sendall(bytes(sent))
            _take(connection, reply)
            times.append((time.perf_counter() - start) * 1e3)
    return times[WARM_UP:]


def receive(address: str, port: int, seconds: float) -> list[float]:
    """Rates in Mbit/s of the bytes received, over equal parts of the second half: TCP's window has grown by then."""
    marks, total = [(time.perf_counter(), 0)], 0
    buffer = bytearray(CHUNK)
    with _connect(address, port, 0, 0) as connection:
        start = time.perf_counter()
        while marks[-1][0] < start + seconds:
            got = connection.recv_into(buffer)
            if not got:
                raise ConnectionError("the sender went away")
            total += got
            marks.append((time.perf_counter(), total))
    return _rates(marks, start + seconds / 2, seconds / 2 / WINDOWS)


def _rates(marks: list[tuple[float, int]], start: float, width: float) -> list[float]:
    """marks: (time in s, bytes so far)."""
    edges = [start + part * width for part in range(WINDOWS + 1)]
    ends = [next((mark for mark in marks if mark[0] >= edge), marks[-1]) for edge in edges]
    return [
        (after[1] - before[1]) * 8e-6 / (after[0] - before[0])
        for before, after in pairwise(ends)
        if after[0] > before[0]
    ]


def _connect(address: str, port: int, sent: int, reply: int) -> socket.socket:
    connection = socket.create_connection((address, port), TIMEOUT_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(HEAD.pack(sent, reply))
    return connection


def _take(connection: socket.socket, size: int) -> bytes:
    data = bytearray(size)
    view = memoryview(data)
    while view:
        got = connection.recv_into(view)
        if not got:
            raise ConnectionResetError
        view = view[got:]
    return bytes(data)


def main(arguments: list[str]) -> None:
    """See the module."""
    what, address, *numbers = arguments
    if what == "serve":
        serve(address)
    elif what == "exchange":
        port, sent, reply, count = map(int, numbers)
        print(json.dumps(exchange(address, port, sent, reply, count)))
    else:
        print(json.dumps(receive(address, int(numbers[0]), float(numbers[1]))))


if __name__ == "__main__":
    main(sys.argv[1:])
