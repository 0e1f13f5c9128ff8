"""What the transport tests share: meshes over TCP on loopback, parties in threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec

from sottovoce.engine.transport.base import Transport
from sottovoce.engine.transport.handshake import Hello
from sottovoce.engine.transport.mesh import Listener, MeshLane, connect_mesh
from sottovoce.engine.transport.tls import TlsContexts, load_tls

LOOPBACK = ("127.0.0.1", 0)
SESSION = bytes(range(16))
PROGRAM = bytes(range(32))


def hello(rank: int, parties: int, **changes: Any) -> Hello:
    base = Hello(session=SESSION, program=PROGRAM, protocol="rep3", rank=rank, parties=parties, chunk_elements=1000)
    return msgspec.structs.replace(base, **changes)


def in_threads(*work: Callable[[], Any], limit_s: float = 20.0) -> list[Any]:
    """Each function's result or the exception that it raised."""
    results: list[Any] = [None] * len(work)

    def run(index: int) -> None:
        try:
            results[index] = work[index]()
        except BaseException as error:
            results[index] = error

    threads = [threading.Thread(target=run, args=(i,), daemon=True) for i in range(len(work))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(limit_s)
        if thread.is_alive():
            raise TimeoutError(f"a party is still running after {limit_s} s")
    return results


def contexts(folder: Path | None, parties: int) -> list[TlsContexts | None]:
    return [None if folder is None else load_tls(folder / f"party{rank}") for rank in range(parties)]


def try_mesh(
    tls: Sequence[TlsContexts | None],
    hellos: Sequence[Hello],
    *,
    lanes: int = 1,
    deadline_s: float = 5.0,
    wait_s: float = 1.0,
    **options: Any,
) -> list[list[MeshLane] | BaseException]:
    """Every party's lanes, or its error."""
    parties = len(hellos)
    with ExitStack() as stack:
        listeners = [
            stack.enter_context(
                Listener(LOOPBACK, rank=r, parties=parties, tls=tls[r], insecure_loopback=tls[r] is None)
            )
            for r in range(parties)
        ]
        addresses = [listener.address for listener in listeners]

        def connect(rank: int) -> list[MeshLane]:
            return connect_mesh(
                rank, addresses, listeners[rank], tls[rank], hellos[rank], lanes, deadline_s,
                wait_s=wait_s, insecure_loopback=tls[rank] is None, **options,
            )  # fmt: skip

        return in_threads(*(lambda rank=r: connect(rank) for r in range(parties)))


@contextmanager
def tcp_mesh(
    folder: Path | None, parties: int = 3, *, wait_s: float = 1.0, **options: Any
) -> Iterator[list[Transport]]:
    """One lane between all parties: plain if `folder` is None, else TLS with the certificates there."""
    made = try_mesh(contexts(folder, parties), [hello(r, parties) for r in range(parties)], wait_s=wait_s, **options)
    for result in made:
        if isinstance(result, BaseException):
            raise result
    transports = [result[0].transport for result in made if not isinstance(result, BaseException)]
    try:
        yield transports
    finally:
        for transport in transports:
            transport.close()
