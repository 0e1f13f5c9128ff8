"""A computing party as a process: takes a model's shares from its owner, joins the other parties, answers clients.

It sees the public program, its slots of weights and features, and masked messages; never weights, features, labels.
P_0 orders the requests: it announces each to the others, and all run it once all hold their share of it.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec
import numpy as np
from numpy.typing import NDArray

from sottovoce.engine.backend.cpu import CpuBackend
from sottovoce.engine.errors import (
    FrameError,
    HandshakeError,
    ModelError,
    PeerClosedError,
    ProtocolError,
    SottovoceError,
    TransportError,
)
from sottovoce.engine.keys import streams_of
from sottovoce.engine.party import Party
from sottovoce.engine.program import Program, from_json
from sottovoce.engine.protocols.base import AShare, size
from sottovoce.engine.protocols.table import find
from sottovoce.engine.session import Output, RunStats, Session
from sottovoce.engine.transport.connection import Connection
from sottovoce.engine.transport.handshake import Hello
from sottovoce.engine.transport.listener import Listener
from sottovoce.engine.transport.mesh import MeshLane, connect_mesh
from sottovoce.engine.transport.tls import TlsContexts
from sottovoce.kernels.cpu.blocks import HAS_AES
from sottovoce.serving.cluster import Cluster
from sottovoce.serving.messages import (
    CLASSIFY,
    CONTROL_TAG,
    DEPLOY,
    MAX_CONTROL,
    MAX_INPUT_ELEMENTS,
    MAX_MESSAGE,
    Answer,
    Control,
    Deploy,
    LayerCost,
    Offer,
    Ready,
    Received,
    Request,
)

CLIENT_IDLE_S = 24 * 3600.0
MAX_QUEUE = 64
MAX_CLIENTS = 64
_SLICE_S = 0.1
# In deadlines. A reply takes one where a share is missing; who waits for the verdict waits longer, so that the party that
# is really gone is named; without work P_0 speaks up three times a deadline.
_REPLY_WAITS = 2.0
_VERDICT_WAITS = 3.0
_IDLE_WAITS = 2.0
_IDLE_EVERY = 1 / 3
_REASON_CHARS = 500


@dataclass(slots=True)
class Pending:
    """A request whose share is here."""

    request: Request
    share: AShare = field(repr=False)
    done: threading.Event = field(default_factory=threading.Event)
    error: str = ""
    output: Output | None = field(default=None, repr=False)
    stats: RunStats | None = None


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
        self._backend = CpuBackend()
        self._changed = threading.Condition()
        self._queue: deque[Pending] = deque()
        self._waiting: dict[bytes, Pending] = {}
        self._clients = 0
        self._stop = threading.Event()
        self._over = ""

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
                owner = self._await_owner(listener, early)
                if owner is None:
                    return
                with owner:
                    deploy, program, tensors = self._take_model(owner)
                    lanes = self._join(listener, deploy, program)
                    session = self._session(lanes, deploy, program, tensors)
                    del tensors
                    owner.send_message(Ready(self.rank))
            except BaseException as error:
                for connection in early:
                    connection.close(_reason(error))
                raise
            self._log(f"P{self.rank} is ready: {program.name}, {self.row.name}, {len(lanes)} lane(s)")
            self._answer_all(listener, early, lanes, session, deploy, max_requests)

    # Set-up.

    def _await_owner(self, listener: Listener, early: list[Connection]) -> Connection | None:
        """The first owner that wants to deploy; clients that come before wait for their offer."""
        while not self._stop.is_set():
            connection = listener.take_role(deadline_s=_SLICE_S, cancel=self._stop)
            if connection is None:
                continue
            purpose = self._purpose(connection)
            if purpose == DEPLOY:
                return connection
            if purpose == CLASSIFY and len(early) < MAX_CLIENTS:
                early.append(connection)
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
        try:
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
        except (ModelError, HandshakeError, FrameError) as error:
            owner.close(_reason(error))
            raise
        self._log(f"P{self.rank} holds its shares of {program.parameters} parameters of {program.name}")
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
            streams = streams_of(self.row, self.rank, lane.pair_keys, lane.ciphers, lane.lane, self._backend.fill)
            parties.append(Party(self.rank, self.row.parties, lane.transport, streams, self._backend))
        return Session(self.row, parties, program, tensors)

    # Requests.

    def _answer_all(
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
        for connection in early:
            self._start_client(connection, offer, session.program)
        acceptor = threading.Thread(
            target=self._accept_clients, args=(listener, offer, session.program, ended), name="accept", daemon=True
        )
        acceptor.start()
        reason = "this party is shutting down"
        try:
            done = 0
            while not self._stop.is_set() and (max_requests is None or done < max_requests):
                pending = self._lead(lanes) if self.rank == 0 else self._follow(lanes)
                if pending is None:
                    break
                self._run(session, pending)
                done += 1
            if self.rank == 0:
                for peer in range(1, self.row.parties):
                    with contextlib.suppress(TransportError):
                        self._say(lanes, peer, Control("stop"))
        except BaseException as error:
            reason = _reason(error)
            if not self._stop.is_set():
                raise
        finally:
            ended.set()
            self._fail_all(reason)
            for lane in lanes:
                lane.transport.close(reason)
            acceptor.join()

    def _lead(self, lanes: list[MeshLane]) -> Pending | None:
        """P_0: the next request that all parties hold."""
        others = range(1, self.row.parties)
        while True:
            pending = self._next_request(lanes)
            if pending is None:
                return None
            request = pending.request
            begin = Control("begin", request.request, request.batch, request.output)
            for peer in others:
                self._say(lanes, peer, begin)
            replies = [self._hear(lanes, peer, _REPLY_WAITS * self._deadline_s) for peer in others]
            if any(r.request != request.request or r.kind not in ("accept", "decline") for r in replies):
                raise FrameError("P0: request: a party answered another request")
            declined = [f"P{peer}: {r.reason}" for peer, r in zip(others, replies, strict=True) if r.kind == "decline"]
            verdict = Control("cancel" if declined else "go", request.request)
            for peer in others:
                self._say(lanes, peer, verdict)
            if not declined:
                return pending
            self._finish(pending, "; ".join(declined))

    def _next_request(self, lanes: list[MeshLane]) -> Pending | None:
        """P_0 waits for work, and tells the others meanwhile that it is alive; None when it must stop."""
        spoke = time.monotonic()
        while not self._stop.is_set():
            with self._changed:
                if not self._queue:
                    self._changed.wait(_SLICE_S)
                if self._queue:
                    return self._queue.popleft()
            if time.monotonic() - spoke > _IDLE_EVERY * self._deadline_s:
                for peer in range(1, self.row.parties):
                    self._say(lanes, peer, Control("idle"))
                spoke = time.monotonic()
        return None

    def _follow(self, lanes: list[MeshLane]) -> Pending | None:
        """P_1, P_2: the request that P_0 announces, once its share is here and all agree."""
        while True:
            begin = self._hear(lanes, 0, _IDLE_WAITS * self._deadline_s)
            if begin.kind == "idle":
                continue
            if begin.kind == "stop":
                return None
            if begin.kind != "begin":
                raise FrameError(f"P{self.rank}: request: expected begin from P0, got {begin.kind}")
            pending, refusal = self._held(begin)
            answer = Control("decline" if refusal else "accept", begin.request, reason=refusal)
            self._say(lanes, 0, answer)
            verdict = self._hear(lanes, 0, _VERDICT_WAITS * self._deadline_s)
            if verdict.request != begin.request or verdict.kind not in ("go", "cancel"):
                raise FrameError(f"P{self.rank}: request: expected go or cancel from P0, got {verdict.kind}")
            if pending is None:
                continue
            if verdict.kind == "go" and not refusal:
                return pending
            self._finish(pending, refusal or "another party does not hold its share of this request")

    def _held(self, begin: Control) -> tuple[Pending | None, str]:
        end = time.monotonic() + self._deadline_s
        with self._changed:
            while (pending := self._waiting.get(begin.request)) is None:
                left = end - time.monotonic()
                if left <= 0:
                    return None, f"the client did not send this party its share in {self._deadline_s:g} s"
                self._changed.wait(left)
        if (pending.request.batch, pending.request.output) != (begin.batch, begin.output):
            return pending, "the client asked this party for another batch or output than P0"
        return pending, ""

    def _run(self, session: Session, pending: Pending) -> None:
        try:
            pending.output, pending.stats = session.run(pending.share, pending.request.output)
        except BaseException as error:
            self._finish(pending, _reason(error))
            raise
        self._finish(pending, "")

    def _finish(self, pending: Pending, error: str) -> None:
        with self._changed:
            self._waiting.pop(pending.request.request, None)
        pending.error = error
        pending.done.set()

    def _fail_all(self, reason: str) -> None:
        with self._changed:
            self._over = reason
            left = list(self._waiting.values())
            self._queue.clear()
        for pending in left:
            self._finish(pending, reason)

    # Control messages, on lane 0, never while a request runs.

    def _say(self, lanes: list[MeshLane], peer: int, message: Control) -> None:
        data = np.frombuffer(msgspec.msgpack.encode(message), np.uint8)
        lanes[0].transport.send(peer, CONTROL_TAG, [data])

    def _hear(self, lanes: list[MeshLane], peer: int, wait_s: float) -> Control:
        transport = lanes[0].transport
        transport.deadline_s, usual = wait_s, transport.deadline_s
        try:
            data = transport.recv_bytes(peer, CONTROL_TAG, MAX_CONTROL)
        finally:
            transport.deadline_s = usual
        try:
            return msgspec.msgpack.decode(data, type=Control)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise FrameError(f"P{self.rank}: from P{peer}: expected a control message, got other bytes") from None

    # Clients.

    def _accept_clients(self, listener: Listener, offer: Offer, program: Program, ended: threading.Event) -> None:
        while not ended.is_set():
            try:
                connection = listener.take_role(deadline_s=_SLICE_S, cancel=ended)
            except TransportError:
                return
            if connection is None:
                continue
            purpose = self._purpose(connection)
            if purpose == DEPLOY:
                connection.close("this party serves a model already; restart it to deploy another")
            elif purpose == CLASSIFY:
                self._start_client(connection, offer, program)

    def _start_client(self, connection: Connection, offer: Offer, program: Program) -> None:
        with self._changed:
            full = self._clients >= MAX_CLIENTS
            self._clients += not full
        if full:
            connection.close(f"busy: {MAX_CLIENTS} clients are connected; try again later")
            return
        threading.Thread(
            target=self._client, args=(connection, offer, program), name=str(connection.identity), daemon=True
        ).start()

    def _client(self, connection: Connection, offer: Offer, program: Program) -> None:
        try:
            with connection:
                connection.send_message(offer)
                while not self._over:
                    self._one_request(connection, program)
        except PeerClosedError:
            pass
        except SottovoceError as error:
            self._log(f"{connection.identity}: {error}")
        finally:
            with self._changed:
                self._clients -= 1

    def _one_request(self, connection: Connection, program: Program) -> None:
        connection.deadline_s = CLIENT_IDLE_S
        request = connection.recv_struct(Request, MAX_CONTROL)
        connection.deadline_s = self._deadline_s
        elements = request.batch * size(program.input_shape)
        if elements > MAX_INPUT_ELEMENTS or request.output not in program.outputs:
            connection.close(
                f"P{self.rank}: request: expected at most {MAX_INPUT_ELEMENTS} input elements and an output of "
                f"{', '.join(program.outputs)}"
            )
            raise FrameError(f"request of {request.batch} clips for {request.output}: not offered")
        slots: list[NDArray[np.uint8]] = [np.empty(n, np.uint8) for n in self.row.slot_bytes(self.rank, elements)]
        connection.recv_arrays(slots)
        shape = (request.batch, *program.input_shape)
        share = self.row.receive(self.rank, slots, shape, program.input_frac_bits, self._backend.fill)
        pending = Pending(request, share)
        error = self._enqueue(pending)
        if not error:
            pending.done.wait()
            error = pending.error
        if error or pending.output is None or pending.stats is None:
            connection.send_message(Answer(request.request, error=error[:_REASON_CHARS] or "no result"))
            return
        connection.send_message(_answer(request, pending.stats))
        connection.send_arrays([pending.output.data])

    def _enqueue(self, pending: Pending) -> str:
        """Queue a request; the reason if that is not possible."""
        with self._changed:
            if self._over:
                return self._over
            if len(self._waiting) >= MAX_QUEUE:
                return f"busy: {MAX_QUEUE} requests are waiting; try again later"
            if pending.request.request in self._waiting:
                return "a request with this id is waiting already"
            self._waiting[pending.request.request] = pending
            if self.rank == 0:
                self._queue.append(pending)
            self._changed.notify_all()
        return ""


def _answer(request: Request, stats: RunStats) -> Answer:
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
        layers=tuple(layers.values()),
    )


def _reason(error: BaseException) -> str:
    """What others may be told: our own errors hold no secrets; of foreign ones only the type."""
    text = str(error) if isinstance(error, SottovoceError) else f"internal error: {type(error).__name__}"
    return text[:_REASON_CHARS]
