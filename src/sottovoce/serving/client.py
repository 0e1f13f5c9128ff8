"""Alice's end: share features to the parties, join their answers. Nothing leaves in the clear."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import ExitStack
from typing import Any, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from sottovoce.engine.backend.cpu import CpuBackend
from sottovoce.engine.errors import DeadlineError, FrameError, HandshakeError, PeerClosedError, TransportError
from sottovoce.engine.program import OutputKind, from_json
from sottovoce.engine.protocols.table import find
from sottovoce.engine.session import Output, join_output, output_bytes, share_input
from sottovoce.engine.transport.base import HEADER_BYTES
from sottovoce.engine.transport.connection import Connection
from sottovoce.engine.transport.frame import clean_reason
from sottovoce.engine.transport.tls import Identity, TlsContexts
from sottovoce.serving.cluster import Cluster
from sottovoce.serving.connect import connect_parties
from sottovoce.serving.cost import OfflineCost, RequestCost, request_cost
from sottovoce.serving.messages import CLASSIFY, MAX_CONTROL, MAX_MESSAGE, Answer, Offer, Request

MAX_ANSWER = MAX_CONTROL + (128 << 10)
GRACE_S = 1.0
"""How long the other parties may take to say what is wrong, once one has failed."""


class RemoteCluster:
    """Connections to all parties of a deployment. A context manager; one thread at a time uses it."""

    def __init__(
        self,
        cluster: Cluster,
        tls: TlsContexts | None,
        *,
        client: str = "alice",
        deadline_s: float = 60.0,
        insecure_loopback: bool = False,
    ) -> None:
        self.row = find(cluster.protocol)
        self._backend = CpuBackend()
        self._stack = ExitStack()
        self._pool = self._stack.enter_context(ThreadPoolExecutor(self.row.parties))
        self._cancel = threading.Event()
        try:
            self._connections = connect_parties(
                cluster,
                tls,
                Identity("client", client),
                CLASSIFY,
                deadline_s=deadline_s,
                insecure_loopback=insecure_loopback,
                cancel=self._cancel,
            )
            for connection in self._connections:
                self._stack.enter_context(connection)
            offers = list(self._pool.map(self._offer, self._connections))
            self._check_offers(offers, cluster.protocol)
            self.program = from_json(offers[0].program)
        except BaseException:  # also Ctrl-C: the threads must not wait for their deadline
            self._cancel.set()
            self.close()
            raise
        self.encrypted = all(o.encrypted for o in offers) and all(c.encrypted for c in self._connections)

    def run(self, encoded: NDArray[np.uint64], output: OutputKind = "label") -> tuple[NDArray[Any], RequestCost]:
        """Classify an encoded batch (batch, *input_shape): label indices (batch,) or logits (batch, classes)."""
        started = time.perf_counter_ns()
        batch = encoded.shape[0]
        slots = share_input(self.row, encoded, self._backend.fill)
        request = Request(secrets.token_bytes(16), batch, output)
        shared = time.perf_counter_ns()

        def ask(rank: int) -> tuple[Answer, Output]:
            return self._ask(rank, request, slots[rank])

        answers = self._gather(ask)
        answered = time.perf_counter_ns()
        result = join_output(self.row, self.program, [part for _, part in answers])
        opened = time.perf_counter_ns()
        cost = request_cost(
            [answer for answer, _ in answers],
            batch=batch,
            sharing_ns=shared - started,
            online_ns=answered - shared,
            opening_ns=opened - answered,
            input_bytes=sum(HEADER_BYTES + sum(s.nbytes for s in party) for party in slots),
            output_bytes=sum(HEADER_BYTES + part.data.nbytes for _, part in answers),
            encrypted=self.encrypted,
            offline=_offline([answer for answer, _ in answers]) if self.row.preprocessing else None,
        )
        return result, cost

    def close(self) -> None:
        """Close all connections. Idempotent."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _gather(self, ask: Callable[[int], tuple[Answer, Output]]) -> list[tuple[Answer, Output]]:
        """Every party's answer; if one fails the connections are of no more use, and the plainest reason is raised."""
        futures = [self._pool.submit(ask, rank) for rank in range(self.row.parties)]
        _, waiting = wait(futures, return_when=FIRST_EXCEPTION)
        if waiting and wait(waiting, GRACE_S).not_done:
            self._cancel.set()  # a party that is frozen would hold us for our whole deadline
        failures = [error for f in futures if (error := f.exception()) is not None]
        if failures:
            self.close()
            plain = (RequestRefused, PeerClosedError, DeadlineError)
            raise min(failures, key=lambda e: next((n for n, kind in enumerate(plain) if isinstance(e, kind)), 3))
        return [f.result() for f in futures]

    def _ask(self, rank: int, request: Request, slots: Sequence[NDArray[np.uint8]]) -> tuple[Answer, Output]:
        connection = self._connections[rank]
        connection.send_message(request)
        connection.send_arrays(slots)
        answer = connection.recv_struct(Answer, MAX_ANSWER)
        if answer.request != request.request:
            raise FrameError(f"P{rank}: answer: it belongs to another request")
        if answer.error:
            raise RequestRefused(f"P{rank}: {clean_reason(answer.error)}")
        raw = np.empty(output_bytes(self.program, request.batch, request.output), np.uint8)
        connection.recv_arrays([raw])
        data = raw.view("<u8") if request.output == "scores" else raw
        return answer, Output(request.output, request.batch, data)

    def _offer(self, connection: Connection) -> Offer:
        try:
            return connection.recv_struct(Offer, MAX_MESSAGE)
        except DeadlineError as error:
            raise DeadlineError(f"{error}; has its model been deployed (`sottovoce deploy`)?") from None

    def _check_offers(self, offers: Sequence[Offer], protocol: str) -> None:
        for rank, offer in enumerate(offers):
            if offer.rank != rank or offer.protocol != protocol:
                raise HandshakeError(
                    f"P{rank}: offer: expected rank {rank} with {protocol}, got rank {offer.rank} with {offer.protocol}"
                )
            if msgspec.structs.replace(offer, rank=0, encrypted=True) != msgspec.structs.replace(
                offers[0], rank=0, encrypted=True
            ):
                raise HandshakeError(f"P{rank}: offer: it serves another program or session than P0")


def _offline(answers: Sequence[Answer]) -> OfflineCost:
    """The parties prepared at the same time: the longest counts."""
    times = [answer.offline_ns for answer in answers]
    known = [elapsed for elapsed in times if elapsed is not None]
    return OfflineCost(
        max(known) if len(known) == len(times) else None, tuple(answer.offline_bytes for answer in answers)
    )


class RequestRefused(TransportError):
    """A party answered a request with a reason instead of a result."""
