"""A computing party as a process: takes a model's shares from its owner, joins the other parties, answers clients.

It sees the public program, its slots of weights and features, and masked messages; never weights, features, labels.
P_0 orders the requests: it announces each to the others, and all run it once all hold their share of it.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

from sottovoce.engine.backend.base import Backend
from sottovoce.engine.backend.cpu import CpuBackend
from sottovoce.engine.errors import ConfigError, ProtocolError, TransportError
from sottovoce.engine.protocols.table import ProtocolRow, find
from sottovoce.engine.session import clips_at_once
from sottovoce.engine.tracing.tracer import Tracer
from sottovoce.engine.transport.listener import Listener
from sottovoce.engine.transport.tls import TlsContexts
from sottovoce.serving.cluster import Cluster
from sottovoce.serving.deployment import SLICE_S, Deployed, Reception, Setting
from sottovoce.serving.desk import ClientDesk
from sottovoce.serving.messages import CLASSIFY, DEPLOY, Offer
from sottovoce.serving.requests import Pending, RequestBook, reason_of
from sottovoce.serving.sequencer import Sequencer
from sottovoce.serving.store import StoreAt, prepare_command


def check_store(row: ProtocolRow, rank: int, given: bool) -> None:
    """Whether a party has a store exactly if its protocol needs one. Raises ConfigError."""
    if row.preprocessing and not given:
        raise ConfigError(
            f"party {rank}: {row.name} needs a store of preprocessed material (--store DIR), which "
            f"{prepare_command(rank)} makes, while party {1 - rank} runs the same"
        )
    if given and not row.preprocessing:
        raise ConfigError(f"party {rank}: store: {row.name} needs no preprocessing; expected none")


class PartyServer:
    """Party `rank` of a cluster. `serve` runs until `stop` is set, a peer goes away, or enough requests are done.

    store: this party's preprocessed material, for a protocol that needs some. Raises ConfigError without it.
    backend: what it computes with; default: the CPU.
    """

    def __init__(
        self,
        rank: int,
        cluster: Cluster,
        tls: TlsContexts | None,
        *,
        insecure_loopback: bool = False,
        deadline_s: float = 30.0,
        log: Callable[[str], None] = lambda text: None,
        tracer: Tracer | None = None,
        store: StoreAt | None = None,
        backend: Backend | None = None,
    ) -> None:
        self.rank = rank
        self.cluster = cluster
        self.row = row = find(cluster.protocol)
        if not 0 <= rank < row.parties:
            raise ProtocolError(f"party: expected a rank below {row.parties}, got {rank}")
        check_store(row, rank, store is not None)
        self._tls = tls
        self._deadline_s = deadline_s
        self._log = log
        self._tracer = tracer
        self._setting = Setting(
            rank, row, cluster, tls, insecure_loopback, deadline_s, log, tracer, store, backend or CpuBackend()
        )
        self._stop = threading.Event()

    def serve(self, stop: threading.Event, *, max_requests: int | None = None) -> None:
        """Listen, take a model, join the others, answer. Raises SottovoceError that names who failed."""
        self._stop = stop
        with Listener(
            self.cluster.addresses[self.rank],
            rank=self.rank,
            parties=self.row.parties,
            tls=self._tls,
            insecure_loopback=self._setting.insecure_loopback,
            on_refused=lambda text: self._log(f"refused: {text}"),
        ) as listener:
            host, port = listener.address
            self._log(f"P{self.rank} listens at {host}:{port}{'' if self._tls else ', INSECURE: plain TCP'}")
            reception = Reception(self._setting, listener, stop)
            try:
                deployed = reception.next()
            except BaseException as error:
                reception.refuse_all(reason_of(error))
                raise
            if deployed is None:
                return
            session = deployed.session
            name, lanes = session.program.name, len(deployed.lanes)
            most = clips_at_once(session.program, session.chunk_elements)
            where = f"{self._setting.backend.name}, chunks of up to {most:,} clips"
            prepared = "" if deployed.supply is None else f", clips prepared: {deployed.supply.left}"
            self._log(f"P{self.rank} is ready: {name}, {self.row.name}, {lanes} lane(s) on {where}{prepared}")
            self._answer(listener, reception, deployed, max_requests)

    def _answer(self, listener: Listener, reception: Reception, deployed: Deployed, max_requests: int | None) -> None:
        ended = threading.Event()
        deploy, lanes, session = deployed.deploy, deployed.lanes, deployed.session
        encrypted = all(lane.transport.encrypted for lane in lanes)
        offer = Offer(self.rank, self.row.name, deploy.session, deploy.program, encrypted)
        book = RequestBook()
        desk = ClientDesk(self.row, session.program, offer, book, deadline_s=self._deadline_s, log=self._log)
        for connection in reception.early:
            desk.take(connection)
        acceptor = threading.Thread(target=self._accept, args=(listener, desk, ended), name="accept", daemon=True)
        acceptor.start()
        sequencer = Sequencer(
            lanes[0].transport, book, self._deadline_s, self._stop.is_set, deployed.refusal, self._log
        )
        reason = f"P{self.rank} is shutting down"
        try:
            done = 0
            while (max_requests is None or done < max_requests) and (pending := sequencer.next()) is not None:
                self._run(deployed, book, pending)
                done += 1
            with contextlib.suppress(TransportError):
                sequencer.say_stop()
        except BaseException as error:
            if not self._stop.is_set():
                reason = reason_of(error)
                raise
        finally:
            ended.set()
            book.close(reason)
            desk.drain(self._deadline_s)
            deployed.close(reason)
            acceptor.join()

    def _run(self, deployed: Deployed, book: RequestBook, pending: Pending) -> None:
        try:
            session, request = deployed.session, pending.request
            program, fill = session.program, self._setting.backend.fill
            shape = (request.batch, *program.input_shape)
            share = self.row.receive(self.rank, pending.slots, shape, program.input_frac_bits, fill)
            if deployed.supply is not None:
                pending.offline = deployed.supply.cost_of_next(request.batch)
            pending.output, pending.stats = session.run(share, request.output)
        except BaseException as error:
            book.finish(pending, reason_of(error))
            raise
        book.finish(pending)
        if self._tracer is not None:
            self._tracer.finish()

    def _accept(self, listener: Listener, desk: ClientDesk, ended: threading.Event) -> None:
        while not ended.is_set():
            try:
                connection = listener.take_role(deadline_s=SLICE_S, cancel=ended)
            except TransportError:
                return
            if connection is None:
                continue
            purpose = self._setting.purpose(connection)
            if purpose == DEPLOY:
                connection.close("this party serves a model already; to deploy another, restart all parties")
            elif purpose == CLASSIFY:
                desk.take(connection)
