"""Connections of an owner or a client to all parties of a cluster."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor, wait

from sottovoce.engine.transport.connection import Connection
from sottovoce.engine.transport.mesh import connect_role
from sottovoce.engine.transport.tls import Identity, TlsContexts
from sottovoce.serving.cluster import Cluster


def connect_parties(
    cluster: Cluster,
    tls: TlsContexts | None,
    role: Identity,
    purpose: bytes,
    *,
    deadline_s: float,
    insecure_loopback: bool,
    cancel: threading.Event,
) -> list[Connection]:
    """One connection to each party, by rank. If one fails all are closed and the first failure is raised.

    role: who we claim to be without certificates; with them it is the certificate that counts. cancel: ends every wait
    on these connections, now and later.
    """

    def connect(rank: int) -> Connection:
        connection = connect_role(
            cluster.addresses[rank],
            party=rank,
            tls=tls,
            role=role if tls is None else None,
            detail=purpose,
            deadline_s=deadline_s,
            insecure_loopback=insecure_loopback,
            cancel=cancel,
        )
        connection.deadline_s = deadline_s
        return connection

    ranks = range(len(cluster.addresses))
    with ThreadPoolExecutor(len(ranks)) as pool:
        futures = [pool.submit(connect, rank) for rank in ranks]
        try:
            wait(futures)
        except BaseException:  # Ctrl-C: the threads must not wait for their deadline
            cancel.set()
            raise
    failures = [error for f in futures if (error := f.exception()) is not None]
    if failures:
        for future in futures:
            if future.exception() is None:
                future.result().close("another party could not be reached")
        raise failures[0]
    return [f.result() for f in futures]
