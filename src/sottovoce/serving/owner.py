"""Bob's end: share a compiled model's weights to the parties. No party gets a weight, only its slots."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial

from sottovoce.engine.backend.cpu import CpuBackend
from sottovoce.engine.errors import HandshakeError, SottovoceError, TransportError
from sottovoce.engine.prg import KEY_BYTES, derive
from sottovoce.engine.protocols.table import find
from sottovoce.engine.transport.connection import Connection
from sottovoce.engine.transport.frame import clean_reason
from sottovoce.engine.transport.tls import Identity, TlsContexts
from sottovoce.models.compiler.compile import Compiled
from sottovoce.serving.cluster import Cluster
from sottovoce.serving.connect import connect_parties
from sottovoce.serving.messages import DEPLOY, MAX_CONTROL, Deploy, Join, Ready, Received
from sottovoce.serving.requests import reason_of


class DeploymentRefused(TransportError):
    """A party does not take a model, says why, and is as it was before."""


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

    The parties connect only when all of them hold their shares: what is wrong at one of them leaves them as they were.

    owner: the name to claim without certificates. on_event: told one line per step. Raises DeploymentRefused with a
    party's reason, any other TransportError with the name of the party at fault.
    """
    row = find(cluster.protocol)
    backend = CpuBackend()
    program = compiled.program
    say = on_event or (lambda text: None)
    tag = weights_tag(compiled, b"" if tls is None else tls.root) if row.preprocessing else b""
    message = Deploy(secrets.token_bytes(16), cluster.protocol, cluster.lanes, program.to_json(), tag)
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
        stack.push(partial(_tell_why, connections))

        def hand_over(rank: int) -> None:
            connection = connections[rank]
            connection.send_message(message)
            for tensor in program.tensors:
                connection.send_arrays(slots[tensor.name][rank])
            received = connection.recv_struct(Received, MAX_CONTROL)
            _check_refusal(rank, received.refusal)
            if received.digest != program.digest:
                raise HandshakeError(f"P{rank}: deploy: it confirms another program than the one that was sent")
            say(f"P{rank} holds its shares of {program.parameters:,} secret numbers")

        def wait_ready(rank: int) -> None:
            connections[rank].send_message(Join())
            connections[rank].deadline_s = 2 * deadline_s
            ready = connections[rank].recv_struct(Ready, MAX_CONTROL)
            _check_refusal(rank, ready.refusal)
            if ready.rank != rank:
                raise HandshakeError(f"P{rank}: deploy: expected rank {rank}, got {ready.rank}")

        try:
            list(pool.map(hand_over, range(row.parties)))
            list(pool.map(wait_ready, range(row.parties)))
        except BaseException:  # also Ctrl-C: the threads must not wait for their deadline
            cancel.set()
            raise
        say(f"{row.parties} parties are ready")


def _check_refusal(rank: int, refusal: str) -> None:
    if refusal:
        raise DeploymentRefused(f"P{rank} refuses the model and waits for another deployment: {clean_reason(refusal)}")


def _tell_why(
    connections: Sequence[Connection], kind: type[BaseException] | None, error: BaseException | None, trace: object
) -> None:
    """What went wrong at one party stands in the others' logs, too."""
    if isinstance(error, SottovoceError):
        for connection in connections:
            connection.close(reason_of(error))


def weights_tag(compiled: Compiled, root: bytes) -> bytes:
    """Names a model's weights to its owner alone: HMAC-SHA256 over the program's digest and the encoded weights.

    Parties bind masks of weights to it and to its owner's name: the same masks over other weights would reveal the
    difference of the two. So whoever deploys the same weights again gets on with what the parties have prepared.

    root: derived from the owner's private key; without one (tests on loopback) every deployment has a tag of its own.
    """
    key = derive(root or secrets.token_bytes(KEY_BYTES), "weights tag")
    mac = hmac.new(key, compiled.program.digest, hashlib.sha256)
    for tensor in compiled.program.tensors:
        mac.update(compiled.weights[tensor.name].astype("<u8", copy=False).tobytes())
    return mac.digest()
