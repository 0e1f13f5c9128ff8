"""A party's clients: a thread each takes shares in and hands answers out, while the party's main thread computes."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sottovoce.engine.errors import FrameError, PeerClosedError, SottovoceError, TransportError
from sottovoce.engine.program import Program
from sottovoce.engine.protocols.table import ProtocolRow
from sottovoce.engine.session import RunStats
from sottovoce.engine.tensors import size
from sottovoce.engine.transport.connection import Connection
from sottovoce.serving.messages import MAX_CONTROL, MAX_INPUT_ELEMENTS, Answer, LayerCost, Offer, Request
from sottovoce.serving.requests import REASON_CHARS, Pending, RequestBook

MAX_CLIENTS: Final = 64
MAX_PER_CLIENT: Final = 16
CLIENT_IDLE_S: Final = 24 * 3600.0
_LOOK_S: Final = 0.5


class ClientDesk:
    """Serves clients of one program at one party until the book is closed."""

    def __init__(
        self,
        row: ProtocolRow,
        program: Program,
        offer: Offer,
        book: RequestBook,
        *,
        deadline_s: float,
        log: Callable[[str], None],
    ) -> None:
        self._row = row
        self._program = program
        self._offer = offer
        self._book = book
        self._deadline_s = deadline_s
        self._log = log
        self._changed = threading.Condition()
        self._clients: Counter[str] = Counter()
        self._answering = 0

    def take(self, connection: Connection) -> None:
        """Serve a client in a thread of its own, or tell it that there is no room."""
        name = str(connection.identity)
        with self._changed:
            full = self._clients.total() >= MAX_CLIENTS or self._clients[name] >= MAX_PER_CLIENT
            self._clients[name] += not full
        if full:
            most = f"{MAX_CLIENTS} connections, {MAX_PER_CLIENT} of one client"
            connection.close(f"busy: at most {most}; try again later")
            return
        threading.Thread(target=self._serve, args=(connection,), name=name, daemon=True).start()

    def drain(self, wait_s: float) -> None:
        """Wait until every answer that is ready has been handed out."""
        with self._changed:
            self._changed.wait_for(lambda: self._answering == 0, wait_s)

    def _serve(self, connection: Connection) -> None:
        try:
            with connection:
                connection.send_message(self._offer)
                while not self._book.over:
                    self._one_request(connection)
        except PeerClosedError:
            pass  # the client is done
        except SottovoceError as error:
            self._log(f"{connection.identity}: {error}")
        finally:
            with self._changed:
                self._clients[str(connection.identity)] -= 1

    def _one_request(self, connection: Connection) -> None:
        connection.deadline_s = CLIENT_IDLE_S
        request = connection.recv_struct(Request, MAX_CONTROL)
        connection.deadline_s = self._deadline_s
        lengths = self._slot_bytes(connection, request)
        if not self._book.reserve(sum(lengths)):
            connection.close("busy: no memory for another request; try again later")
            raise FrameError(f"request of {request.batch} clips: no memory for its share")
        try:
            slots: list[NDArray[np.uint8]] = [np.empty(n, np.uint8) for n in lengths]
            connection.recv_arrays(slots)
            with self._changed:
                self._answering += 1
            try:
                self._answer(connection, Pending(str(connection.identity), request, slots))
            finally:
                with self._changed:
                    self._answering -= 1
                    self._changed.notify_all()
        finally:
            self._book.release(sum(lengths))

    def _answer(self, connection: Connection, pending: Pending) -> None:
        request, error = pending.request, self._book.add(pending)
        while not error and not pending.done.wait(_LOOK_S):
            try:
                connection.check_open("request")
            except TransportError:
                self._book.abandon(pending)
                raise
        error = error or pending.error
        if error or pending.output is None or pending.stats is None:
            connection.send_message(Answer(request.request, error=error[:REASON_CHARS] or "no result"))
            return
        connection.send_message(_measured(request, pending.stats, pending.offline))
        connection.send_arrays([pending.output.data])

    def _slot_bytes(self, connection: Connection, request: Request) -> tuple[int, ...]:
        """Lengths of the slots that follow; a request that is not offered ends the connection."""
        rank, program = self._offer.rank, self._program
        elements = request.batch * size(program.input_shape)
        if elements > MAX_INPUT_ELEMENTS or request.output not in program.outputs:
            outputs = ", ".join(program.outputs)
            refusal = (
                f"P{rank}: request: expected at most {MAX_INPUT_ELEMENTS} input elements and an output of {outputs}, "
                f"got {elements} and {request.output}"
            )
            connection.close(refusal)
            raise FrameError(refusal)
        return self._row.slot_bytes(rank, elements)


def _measured(request: Request, stats: RunStats, offline: tuple[int, int] | None) -> Answer:
    layers: dict[str, LayerCost] = {}
    for span in stats.spans:
        old = layers.get(span.layer, LayerCost(span.layer, 0, 0, 0, 0))
        layers[span.layer] = LayerCost(
            span.layer,
            old.elapsed_ns + span.elapsed_ns,
            old.wait_ns + span.wait_ns,
            old.bytes_sent + span.bytes_sent,
            old.frames_sent + span.frames_sent,
        )
    return Answer(
        request.request,
        elapsed_ns=stats.elapsed_ns,
        wait_ns=stats.wait_ns,
        bytes_sent=stats.bytes_sent,
        frames_sent=stats.frames_sent,
        rounds=stats.rounds,
        offline_ns=None if offline is None else offline[0],
        offline_bytes=0 if offline is None else offline[1],
        layers=tuple(layers.values()),
    )
