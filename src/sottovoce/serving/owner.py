"""Bob's end: share a compiled model's weights to the parties. No party gets a weight, only its slots."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from sottovoce.engine.backend.cpu import CpuBackend
from sottovoce.engine.errors import HandshakeError
from sottovoce.engine.protocols.table import find
from sottovoce.engine.transport.tls import Identity, TlsContexts
from sottovoce.models.compiler.compile import Compiled
from sottovoce.serving.cluster import Cluster
from sottovoce.serving.connect import connect_parties
from sottovoce.serving.messages import DEPLOY, MAX_CONTROL, Deploy, Ready, Received


def deploy(
    compiled: Compiled,
    cluster: Cluster,
    tls: TlsContexts | None,
    *,
    owner: str = "bob",
    deadline_s: float = 60.0,
    insecure_loopback: bool = False,
    on_event: Callable[[str], None] | None = None,
) -> None:
    """Send program and weight shares to every party; return when all are connected with each other and ready.

    owner: the name to claim without certificates. on_event: told one line per step. Raises TransportError that names
    the party at fault.
    """
    row = find(cluster.protocol)
    backend = CpuBackend()
    program = compiled.program
    say = on_event or (lambda text: None)
    message = Deploy(secrets.token_bytes(16), cluster.protocol, cluster.lanes, program.to_json())
    slots = {t.name: row.split(compiled.weights[t.name], backend.fill) for t in program.tensors}
    cancel = threading.Event()
    connections = connect_parties(
        cluster,
        tls,
        Identity("owner", owner),
        DEPLOY,
        deadline_s=deadline_s,
        insecure_loopback=insecure_loopback,
        cancel=cancel,
    )
    with ExitStack() as stack, ThreadPoolExecutor(row.parties) as pool:
        for opened in connections:
            stack.enter_context(opened)

        def hand_over(rank: int) -> None:
            connection = connections[rank]
            connection.send_message(message)
            for tensor in program.tensors:
                connection.send_arrays(slots[tensor.name][rank])
            if connection.recv_struct(Received, MAX_CONTROL).digest != program.digest:
                raise HandshakeError(f"P{rank}: deploy: it confirms another program than the one that was sent")
            say(f"P{rank} holds its shares of {program.parameters} secret numbers")

        def wait_ready(rank: int) -> None:
            connections[rank].deadline_s = 2 * deadline_s
            ready = connections[rank].recv_struct(Ready, MAX_CONTROL)
            if ready.rank != rank:
                raise HandshakeError(f"P{rank}: deploy: expected rank {rank}, got {ready.rank}")

        try:
            list(pool.map(hand_over, range(row.parties)))
            list(pool.map(wait_ready, range(row.parties)))
        except BaseException:  # also Ctrl-C: the threads must not wait for their deadline
            cancel.set()
            raise
        say(f"{row.parties} parties are ready")
