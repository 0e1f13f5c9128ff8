"""A computing party as a process: takes a model's shares from its owner, joins the other parties, answers clients.

It sees the public program, its slots of weights and features, and masked messages; never weights, features, labels.
P_0 orders the requests: it announces each to the others, and all run it once all hold their share of it.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

import numpy as np

from sottovoce.engine.backend.cpu import CpuBackend
from sottovoce.engine.errors import HandshakeError, ModelError, ProtocolError, TransportError
from sottovoce.engine.keys import streams_of
from sottovoce.engine.party import Party
from sottovoce.engine.profile import Profile
from sottovoce.engine.program import Program, from_json
from sottovoce.engine.protocols.base import AShare, size
from sottovoce.engine.protocols.table import find
from sottovoce.engine.session import Session
from sottovoce.engine.tracing.tracer import Tracer
from sottovoce.engine.transport.connection import Connection
from sottovoce.engine.transport.handshake import Hello
from sottovoce.engine.transport.listener import Listener
from sottovoce.engine.transport.mesh import MeshLane, connect_mesh
from sottovoce.engine.transport.tls import TlsContexts
from sottovoce.kernels.cpu.blocks import HAS_AES
from sottovoce.serving.cluster import Cluster
from sottovoce.serving.desk import ClientDesk
from sottovoce.serving.messages import CLASSIFY, DEPLOY, MAX_MESSAGE, Deploy, Offer, Ready, Received
from sottovoce.serving.requests import Pending, RequestBook, reason_of
from sottovoce.serving.sequencer import Sequencer

MAX_EARLY_CLIENTS = 64
_SLICE_S = 0.1


class PartyServer:
    """Party `rank` of a cluster. `serve` runs until `stop` is set, a peer goes away, or enough requests are done."""

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
    ) -> None:
        self.rank = rank
        self.cluster = cluster
        self.row = find(cluster.protocol)
        if not 0 <= rank < self.row.parties:
            raise ProtocolError(f"party: expected a rank below {self.row.parties}, got {rank}")
        self._tls = tls
        self._insecure = insecure_loopback
        self._deadline_s = deadline_s
        self._log = log
        self._tracer = tracer
        self._backend = CpuBackend()
        self._stop = threading.Event()

    def serve(self, stop: threading.Event, *, max_requests: int | None = None) -> None:
        """Listen, take a model, join the others, answer. Raises SottovoceError that names who failed."""
        self._stop = stop
        with Listener(
            self.cluster.addresses[self.rank],
            rank=self.rank,
            parties=self.row.parties,
            tls=self._tls,
            insecure_loopback=self._insecure,
            on_refused=lambda text: self._log(f"refused: {text}"),
        ) as listener:
            host, port = listener.address
            self._log(f"P{self.rank} listens at {host}:{port}{'' if self._tls else ', INSECURE: plain TCP'}")
            early: list[Connection] = []
            try:
                taken = self._await_model(listener, early)
                if taken is None:
                    return
                owner, deploy, program, tensors = taken
                with owner:
                    lanes = self._join(listener, deploy, program)
                    session = self._session(lanes, deploy, program, tensors)
                    del tensors
                    owner.send_message(Ready(self.rank))
            except BaseException as error:
                for connection in early:
                    connection.close(reason_of(error))
                raise
            self._log(f"P{self.rank} is ready: {program.name}, {self.row.name}, {len(lanes)} lane(s)")
            self._answer(listener, early, lanes, session, deploy, max_requests)

    # Set-up.

    def _await_model(
        self, listener: Listener, early: list[Connection]
    ) -> tuple[Connection, Deploy, Program, dict[str, AShare]] | None:
        """The first model that an owner sends whole; a deployment that fails before that leaves the party as it was."""
        while (owner := self._await_owner(listener, early)) is not None:
            try:
                return owner, *self._take_model(owner)
            except (ModelError, TransportError) as error:
                owner.close(reason_of(error))
                self._log(f"{owner.identity}: deployment failed: {error}")
        return None

    def _await_owner(self, listener: Listener, early: list[Connection]) -> Connection | None:
        """The first owner that wants to deploy; clients that come before wait for their offer."""
        while not self._stop.is_set():
            connection = listener.take_role(deadline_s=_SLICE_S, cancel=self._stop)
            if connection is None:
                continue
            purpose = self._purpose(connection)
            if purpose == DEPLOY:
                return connection
            if purpose == CLASSIFY and len(early) < MAX_EARLY_CLIENTS:
                early.append(connection)
                self._log(f"{connection.identity} waits: P{self.rank} has no model yet (its owner: `sottovoce deploy`)")
            else:
                connection.close("this party waits for a model and has no room for more clients")
        for connection in early:
            connection.close("this party is shutting down")
        return None

    def _purpose(self, connection: Connection) -> bytes:
        """What the peer may ask for: deploying is for owners, classifying for clients. b"" if neither."""
        detail = connection.opening.detail if connection.opening is not None else b""
        allowed = {"owner": DEPLOY, "client": CLASSIFY}.get(connection.identity.kind)
        if detail == allowed:
            connection.deadline_s = self._deadline_s
            return detail
        self._log(f"refused: {connection.identity} may not do that")
        connection.close(f"a {connection.identity.kind} may not do that here")
        return b""

    def _take_model(self, owner: Connection) -> tuple[Deploy, Program, dict[str, AShare]]:
        deploy = owner.recv_struct(Deploy, MAX_MESSAGE)
        program = from_json(deploy.program)
        if deploy.protocol != self.cluster.protocol or deploy.lanes != self.cluster.lanes:
            raise HandshakeError(
                f"P{self.rank}: deploy: expected {self.cluster.protocol} on {self.cluster.lanes} lane(s), "
                f"got {deploy.protocol} on {deploy.lanes}"
            )
        tensors: dict[str, AShare] = {}
        for tensor in program.tensors:
            lengths = self.row.slot_bytes(self.rank, size(tensor.shape))
            slots = [np.empty(length, np.uint8) for length in lengths]
            owner.recv_arrays(slots)
            tensors[tensor.name] = self.row.receive(
                self.rank, slots, tensor.shape, tensor.frac_bits, self._backend.fill
            )
        self._log(f"P{self.rank} holds its shares of {program.name}: {program.parameters} secret numbers")
        owner.send_message(Received(program.digest))
        return deploy, program, tensors

    def _join(self, listener: Listener, deploy: Deploy, program: Program) -> list[MeshLane]:
        hello = Hello(
            session=deploy.session,
            program=program.digest,
            protocol=self.row.name,
            ciphers=("aes128ctr", "chacha20") if HAS_AES else ("chacha20", "aes128ctr"),
            rank=self.rank,
            parties=self.row.parties,
        )
        return connect_mesh(
            self.rank,
            self.cluster.addresses,
            listener,
            self._tls,
            hello,
            deploy.lanes,
            self._deadline_s,
            wait_s=self._deadline_s,
            insecure_loopback=self._insecure,
            cancel=self._stop,
        )

    def _session(self, lanes: list[MeshLane], deploy: Deploy, program: Program, tensors: dict[str, AShare]) -> Session:
        parties = []
        for lane in lanes:
            transport, backend, profile = lane.transport, self._backend, Profile()
            if self._tracer is not None:
                transport, backend, profile = self._tracer.means(transport, backend)
            streams = streams_of(self.row, self.rank, lane.pair_keys, lane.ciphers, lane.lane, backend.fill)
            parties.append(Party(self.rank, self.row.parties, transport, streams, backend, profile))
        make = Session if self._tracer is None else self._tracer.session
        return make(self.row, parties, program, tensors)

    # Requests.

    def _answer(
        self,
        listener: Listener,
        early: list[Connection],
        lanes: list[MeshLane],
        session: Session,
        deploy: Deploy,
        max_requests: int | None,
    ) -> None:
        ended = threading.Event()
        encrypted = all(lane.transport.encrypted for lane in lanes)
        offer = Offer(self.rank, self.row.name, deploy.session, deploy.program, encrypted)
        book = RequestBook()
        desk = ClientDesk(self.row, session.program, offer, book, deadline_s=self._deadline_s, log=self._log)
        for connection in early:
            desk.take(connection)
        acceptor = threading.Thread(target=self._accept, args=(listener, desk, ended), name="accept", daemon=True)
        acceptor.start()
        sequencer = Sequencer(lanes[0].transport, book, self._deadline_s, self._stop.is_set)
        reason = f"P{self.rank} is shutting down"
        try:
            done = 0
            while (max_requests is None or done < max_requests) and (pending := sequencer.next()) is not None:
                self._run(session, book, pending)
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
            for lane in lanes:
                lane.transport.close(reason)
            acceptor.join()

    def _run(self, session: Session, book: RequestBook, pending: Pending) -> None:
        try:
            program, request = session.program, pending.request
            shape = (request.batch, *program.input_shape)
            share = self.row.receive(self.rank, pending.slots, shape, program.input_frac_bits, self._backend.fill)
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
                connection = listener.take_role(deadline_s=_SLICE_S, cancel=ended)
            except TransportError:
                return
            if connection is None:
                continue
            purpose = self._purpose(connection)
            if purpose == DEPLOY:
                connection.close("this party serves a model already; to deploy another, restart all parties")
            elif purpose == CLASSIFY:
                desk.take(connection)
