"""How a party comes to serve a model: an owner hands over its shares, then the parties connect with each other.

An owner asks the parties to connect only when all of them hold their shares and can run the program. What fails before
that leaves the party as it was; so does preprocessing that turns out not to fit the other party's. Both are told to
the owner.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np

from sottovoce.engine.backend.base import Backend
from sottovoce.engine.errors import (
    HandshakeError,
    ModelError,
    PreprocessingError,
    SottovoceError,
    TransportError,
)
from sottovoce.engine.keys import streams_of
from sottovoce.engine.party import Party
from sottovoce.engine.profile import Profile
from sottovoce.engine.program import Program, from_json
from sottovoce.engine.protocols.base import AShare
from sottovoce.engine.protocols.table import ProtocolRow
from sottovoce.engine.session import Session
from sottovoce.engine.staging import lane_for
from sottovoce.engine.tensors import size
from sottovoce.engine.tracing.tracer import Tracer
from sottovoce.engine.transport.connection import Connection
from sottovoce.engine.transport.handshake import Hello
from sottovoce.engine.transport.listener import Listener
from sottovoce.engine.transport.mesh import MeshLane, connect_mesh
from sottovoce.engine.transport.tls import Identity, TlsContexts
from sottovoce.serving.cluster import Cluster
from sottovoce.serving.messages import CLASSIFY, DEPLOY, MAX_CONTROL, MAX_MESSAGE, Deploy, Join, Ready, Received
from sottovoce.serving.requests import reason_of
from sottovoce.serving.store import StoreAt, Supply, open_supply

MAX_EARLY_CLIENTS = 64
SLICE_S = 0.1


@dataclass(frozen=True, slots=True)
class Setting:
    """What a party was started with."""

    rank: int
    row: ProtocolRow
    cluster: Cluster
    tls: TlsContexts | None
    insecure_loopback: bool
    deadline_s: float
    log: Callable[[str], None]
    tracer: Tracer | None
    store: StoreAt | None
    backend: Backend

    def purpose(self, connection: Connection) -> bytes:
        """What the peer may ask for: deploying is for owners, classifying for clients. b"" if neither."""
        detail = connection.opening.detail if connection.opening is not None else b""
        allowed = {"owner": DEPLOY, "client": CLASSIFY}.get(connection.identity.kind)
        if detail == allowed:
            connection.deadline_s = self.deadline_s
            return detail
        self.log(f"refused: {connection.identity} may not do that")
        connection.close(f"a {connection.identity.kind} may not do that here")
        return b""


@dataclass(frozen=True, slots=True)
class Deployed:
    """A model that is ready to be run together with the other parties."""

    deploy: Deploy
    lanes: Sequence[MeshLane]
    session: Session
    supply: Supply | None

    def refusal(self, clips: int) -> str:
        """Why a request of so many clips cannot be run here; empty if it can."""
        return "" if self.supply is None else self.supply.refusal(clips)

    def close(self, reason: str) -> None:
        """Leave the other parties, and give the store back."""
        for lane in self.lanes:
            lane.transport.close(reason)
        if self.supply is not None:
            self.supply.preprocessing.close()


@dataclass(frozen=True, slots=True)
class _Model:
    """What an owner has handed over. claim: whose weights they are, and which; empty if nothing depends on it."""

    deploy: Deploy
    program: Program
    supply: Supply | None
    claim: bytes = field(repr=False)
    tensors: Mapping[str, AShare] = field(repr=False)


class _NotStarted(SottovoceError):
    """The parties are connected, and one of them cannot go on: all wait for the next deployment."""


def claim_of(owner: Identity, weights: bytes) -> bytes:
    """What a party binds masks of weights to: SHA-256 of the owner, as its certificate says it, and its tag.

    The tag alone would not do. Both parties know it: one of them could give it to somebody else, who deploys weights
    of its own under the same masks, and see the difference of the two models. Empty without a tag.
    """
    return hashlib.sha256(b"sottovoce/1/claim" + owner.urn.encode() + b"\0" + weights).digest() if weights else b""


class Reception:
    """Waits for a model. early: clients that came before it; they wait for their offer."""

    def __init__(self, setting: Setting, listener: Listener, stop: threading.Event) -> None:
        self._setting = setting
        self._listener = listener
        self._stop = stop
        self.early: list[Connection] = []

    def next(self) -> Deployed | None:
        """The first deployment that succeeds; None when it is time to stop."""
        setting = self._setting
        while (owner := self._await_owner()) is not None:
            try:
                model = self._take_model(owner)
            except (ModelError, PreprocessingError, TransportError) as error:
                self._refuse(owner, error, Received(refusal=reason_of(error)))
                continue
            with owner:
                try:
                    deployed = self._set_up(model)
                except BaseException as error:
                    if model.supply is not None:
                        model.supply.preprocessing.close()
                    if not isinstance(error, _NotStarted):
                        raise
                    self._refuse(owner, error, Ready(setting.rank, reason_of(error)))
                    continue
                owner.send_message(Ready(setting.rank))
            return deployed
        return None

    def refuse_all(self, reason: str) -> None:
        """Send the waiting clients away."""
        for connection in self.early:
            connection.close(reason)

    def _refuse(self, owner: Connection, error: Exception, answer: Received | Ready) -> None:
        with suppress(TransportError):  # it may have gone
            owner.send_message(answer)
        owner.close(reason_of(error))
        self._setting.log(f"{owner.identity}: deployment failed: {error}")

    def _await_owner(self) -> Connection | None:
        """The first owner that wants to deploy."""
        setting = self._setting
        while not self._stop.is_set():
            connection = self._listener.take_role(deadline_s=SLICE_S, cancel=self._stop)
            if connection is None:
                continue
            purpose = setting.purpose(connection)
            if purpose == DEPLOY:
                return connection
            if purpose == CLASSIFY and len(self.early) < MAX_EARLY_CLIENTS:
                self.early.append(connection)
                me = f"P{setting.rank}"
                setting.log(f"{connection.identity} waits: {me} has no model yet (its owner: `sottovoce deploy`)")
            else:
                connection.close("this party waits for a model and has no room for more clients")
        self.refuse_all("this party is shutting down")
        return None

    def _take_model(self, owner: Connection) -> _Model:
        """Program and shares; returns when the owner has heard the same of all parties."""
        setting = self._setting
        rank, row = setting.rank, setting.row
        deploy = owner.recv_struct(Deploy, MAX_MESSAGE)
        program = from_json(deploy.program)
        if deploy.protocol != row.name or deploy.lanes != setting.cluster.lanes:
            raise HandshakeError(
                f"P{rank}: deploy: expected {row.name} on {setting.cluster.lanes} lane(s), "
                f"got {deploy.protocol} on {deploy.lanes}"
            )
        tensors: dict[str, AShare] = {}
        for tensor in program.tensors:
            slots = [np.empty(length, np.uint8) for length in row.slot_bytes(rank, size(tensor.shape))]
            owner.recv_arrays(slots)
            tensors[tensor.name] = row.receive(rank, slots, tensor.shape, tensor.frac_bits, setting.backend.fill)
        setting.log(f"P{rank} holds its shares of {program.name}: {program.parameters:,} secret numbers")
        supply, claim = None, claim_of(owner.identity, deploy.weights)
        if setting.store is not None:
            supply = open_supply(setting.store, rank, program, row, claim, setting.backend.fill)
        try:
            owner.send_message(Received(program.digest))
            owner.recv_struct(Join, MAX_CONTROL)
        except BaseException:
            if supply is not None:
                supply.preprocessing.close()
            raise
        return _Model(deploy, program, supply, claim, tensors)

    def _set_up(self, model: _Model) -> Deployed:
        """Raises _NotStarted if the stores do not fit, or one cannot be claimed: then both parties do."""
        lanes = self._join(model)
        try:
            return Deployed(model.deploy, lanes, self._session(lanes, model), model.supply)
        except BaseException as error:
            for lane in lanes:
                lane.transport.close(reason_of(error))
            if isinstance(error, PreprocessingError | TransportError):
                raise _NotStarted(str(error)) from error
            raise

    def _join(self, model: _Model) -> list[MeshLane]:
        setting = self._setting
        hello = Hello(
            session=model.deploy.session,
            program=model.program.digest,
            protocol=setting.row.name,
            ciphers=setting.backend.ciphers,
            chunk_elements=setting.backend.chunk_elements,
            rank=setting.rank,
            parties=setting.row.parties,
        )
        return connect_mesh(
            setting.rank,
            setting.cluster.addresses,
            self._listener,
            setting.tls,
            hello,
            setting.cluster.lanes,
            setting.deadline_s,
            wait_s=setting.deadline_s,
            insecure_loopback=setting.insecure_loopback,
            cancel=self._stop,
        )

    def _session(self, lanes: Sequence[MeshLane], model: _Model) -> Session:
        setting = self._setting
        parties = []
        for lane in lanes:
            transport, backend, profile = lane.transport, setting.backend.for_lane(), Profile()
            if setting.tracer is not None:
                transport, backend, profile = setting.tracer.means(transport, backend)
            transport = lane_for(transport, backend)
            streams = streams_of(setting.row, setting.rank, lane.pair_keys, lane.ciphers, lane.lane, backend)
            supply = None if model.supply is None else model.supply.preprocessing
            parties.append(
                Party(setting.rank, setting.row.parties, transport, streams, backend, profile, preprocessing=supply)
            )
        make = Session if setting.tracer is None else setting.tracer.session
        chunk = min(lane.chunk_elements for lane in lanes)
        return make(setting.row, parties, model.program, model.tensors, model.claim or None, chunk)
