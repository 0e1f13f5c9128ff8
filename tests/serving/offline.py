"""Two parties, a dealer and stores, in threads of this process: for tests of preprocessing over connections."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from sottovoce.engine.cost import demand
from sottovoce.engine.preprocessing.store import Store, StoreIdentity
from sottovoce.engine.program import Program
from sottovoce.engine.protocols.table import find
from sottovoce.engine.transport.certificates import create_certificates, role_folder
from sottovoce.engine.transport.tls import Identity, TlsContexts, load_tls
from sottovoce.models.compiler.compile import Compiled
from sottovoce.serving.client import RemoteCluster
from sottovoce.serving.cluster import Cluster, free_addresses
from sottovoce.serving.dealer import DealerServer
from sottovoce.serving.owner import deploy
from sottovoce.serving.party import PartyServer
from sottovoce.serving.prepare import FromDealer, Prepared, Side, Source, prepare
from sottovoce.serving.prepare_ot import FromTransfers
from sottovoce.serving.store import StoreAt

DEADLINE_S = 10.0
RANKS = (0, 1)


@dataclass(slots=True)
class Pair:
    """Two parties' stores, a cluster with a dealer, and who has which certificates (None: plain TCP)."""

    folder: Path
    cluster: Cluster
    stores: tuple[StoreAt, StoreAt]
    certificates: Path | None = None
    deadline_s: float = DEADLINE_S

    def tls(self, role: Identity) -> TlsContexts | None:
        """A role's contexts."""
        return None if self.certificates is None else load_tls(self.certificates / role_folder(role))

    @property
    def insecure(self) -> bool:
        """Whether everything goes over plain TCP."""
        return self.certificates is None

    def source(self, rank: int, program: Program, name: str = "dealer", deadline_s: float | None = None) -> Source:
        """A party's connection to where its material comes from."""
        tls = self.tls(Identity.party(rank))
        side = Side(self.cluster, rank, program, tls, deadline_s or self.deadline_s, self.insecure)
        return FromTransfers(side) if name == "ot" else FromDealer(side)

    def prepare(self, program: Program, clips: int, name: str = "dealer") -> list[Prepared]:
        """Both parties' side, at the same time; raises the first failure."""

        def one(rank: int) -> Prepared:
            row, connect = find(self.cluster.protocol), partial(self.source, rank, program, name)
            return prepare(program, row, rank, clips, connect, self.stores[rank])

        results = both(one)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return [result for result in results if isinstance(result, Prepared)]


def both(work: Callable[[int], object]) -> list[object]:
    """What each party's work comes to, an exception included."""
    results: list[object] = [None, None]

    def body(rank: int) -> None:
        try:
            results[rank] = work(rank)
        except BaseException as error:
            results[rank] = error

    threads = [threading.Thread(target=body, args=(rank,), name=f"P{rank}") for rank in RANKS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    return results


def make_pair(folder: Path, *, protocol: str = "beaver2", tls: bool = False) -> Pair:
    """Nothing runs yet and no store exists."""
    addresses = free_addresses(3)
    certificates = folder / "certs" if tls else None
    if certificates is not None:
        create_certificates(certificates, 2, clients=["alice"], owners=["bob", "eve"], dealer=())
    stores = tuple(StoreAt(folder / f"p{rank}", secrets.token_bytes(32)) for rank in RANKS)
    return Pair(folder, Cluster(addresses[:2], protocol, dealer=addresses[2]), (stores[0], stores[1]), certificates)


@dataclass(slots=True)
class Log:
    """What servers said, and what ended them before they were told to end. stop: tells them."""

    stop: threading.Event = field(default_factory=threading.Event)
    lines: dict[str, list[str]] = field(default_factory=dict)
    errors: dict[str, BaseException] = field(default_factory=dict)

    def says(self, role: str, text: str) -> bool:
        """Whether a role says so, now or within a few seconds."""
        end = time.monotonic() + DEADLINE_S
        while text not in self.of(role) and time.monotonic() < end:
            time.sleep(0.02)
        return text in self.of(role)

    def of(self, role: str) -> str:
        """All lines of a role."""
        return "\n".join(self.lines.get(role, []))


@contextmanager
def dealing(pair: Pair, *, deadline_s: float | None = None) -> Iterator[Log]:
    """A dealer, which must end when it is told to."""
    log = Log()
    assert pair.cluster.dealer is not None
    server = DealerServer(
        pair.cluster.dealer,
        pair.tls(Identity.dealer()),
        insecure_loopback=pair.insecure,
        deadline_s=deadline_s or pair.deadline_s,
        log=log.lines.setdefault("dealer", []).append,
    )
    thread = threading.Thread(target=server.serve, args=(log.stop,))
    thread.start()
    try:
        yield log
    finally:
        log.stop.set()
        thread.join(30)
        assert not thread.is_alive()


@contextmanager
def serving(pair: Pair, stores: tuple[StoreAt, StoreAt] | None = None) -> Iterator[Log]:
    """Both parties with their stores, waiting for a model."""
    log = Log()

    def serve(rank: int) -> None:
        server = PartyServer(
            rank,
            pair.cluster,
            pair.tls(Identity.party(rank)),
            insecure_loopback=pair.insecure,
            deadline_s=pair.deadline_s,
            log=log.lines.setdefault(f"P{rank}", []).append,
            store=(stores or pair.stores)[rank],
        )
        try:
            server.serve(log.stop)
        except BaseException as error:
            if not log.stop.is_set():
                log.errors[f"P{rank}"] = error

    threads = [threading.Thread(target=serve, args=(rank,)) for rank in RANKS]
    for thread in threads:
        thread.start()
    try:
        yield log
    finally:
        log.stop.set()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()


def opened(pair: Pair, compiled: Compiled, rank: int) -> Store:
    """A party's store, as it is on the disk."""
    at = pair.stores[rank]
    layout = demand(compiled.program, find(pair.cluster.protocol)).digest
    identity = StoreIdentity(compiled.program.digest, pair.cluster.protocol, rank, layout)
    return Store.open(at.folder, key=at.key, identity=identity)


def client_of(pair: Pair) -> RemoteCluster:
    """Alice, connected."""
    tls = pair.tls(Identity("client", "alice"))
    return RemoteCluster(pair.cluster, tls, insecure_loopback=pair.insecure, deadline_s=3 * DEADLINE_S)


def deploy_to(pair: Pair, compiled: Compiled, owner: str = "bob") -> None:
    """By an owner of that name."""
    tls = pair.tls(Identity("owner", owner))
    deploy(compiled, pair.cluster, tls, insecure_loopback=pair.insecure, deadline_s=DEADLINE_S)
