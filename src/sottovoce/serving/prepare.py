"""One party's side of making material ahead of time: it agrees with the other party, and fills its store.

Where the material comes from is a `Source`: a dealer (here) or oblivious transfer (`prepare_ot.py`).
"""

from __future__ import annotations

import secrets
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import msgspec
import numpy as np

from sottovoce.engine.cost import demand
from sottovoce.engine.errors import ConfigError
from sottovoce.engine.preprocessing.items import Layout
from sottovoce.engine.preprocessing.segment import Source as SourceName
from sottovoce.engine.preprocessing.store import Store, StoreIdentity
from sottovoce.engine.prg import KEY_BYTES
from sottovoce.engine.program import Program
from sottovoce.engine.protocols.table import ProtocolRow, find
from sottovoce.engine.tensors import U64
from sottovoce.engine.transport.mesh import connect_role
from sottovoce.engine.transport.tls import Identity, TlsContexts
from sottovoce.serving.cluster import Cluster
from sottovoce.serving.ledger import SegmentCost, record
from sottovoce.serving.standing import MAX_ORDER, PREPARE, Order, Plan, Standing, chunks, join_standings, segment_clips
from sottovoce.serving.store import StoreAt

Progress = Callable[[int], None]
"""progress(done): clips that this party has of those to be made."""


@dataclass(frozen=True, slots=True)
class Side:
    """One party's side: who it is, what is prepared, and how it reaches the others. cancel: ends every wait."""

    cluster: Cluster
    rank: int
    program: Program
    tls: TlsContexts | None
    deadline_s: float
    insecure_loopback: bool = False
    cancel: threading.Event | None = None

    @property
    def row(self) -> ProtocolRow:
        """The cluster's protocol."""
        return find(self.cluster.protocol)


class Source(ABC):
    """Where one party's material comes from, connected. A context manager."""

    name: SourceName
    rank: int

    @abstractmethod
    def exchange(self, mine: Standing) -> Standing:
        """The other party's standing for one's own."""

    @abstractmethod
    def derived_words(self, layout: Layout) -> int:
        """Words of a clip that this party must store, besides the common ones."""

    @abstractmethod
    def segment(
        self, layout: Layout, start: int, clips: int, seed: bytes, mask_seed: bytes, progress: Progress
    ) -> Iterator[tuple[U64 | None, U64 | None]]:
        """The material of the clips from `start` on, k at a time: derived (k, words) and common (k, words).

        progress: told how many of these clips are made.
        """

    @property
    @abstractmethod
    def bytes_sent(self) -> int:
        """What counts as sent so far: by the dealer to this party, or by this party to the other."""

    @abstractmethod
    def close(self, reason: str = "") -> None:
        """Give the connection back; the other side is told the reason. Idempotent."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        why = "it was interrupted" if kind is KeyboardInterrupt else getattr(kind, "__name__", "")
        self.close("" if kind is None else f"party {self.rank} stopped: {why}")


class FromDealer(Source):
    """A connection to the dealer, which waits for the other party's."""

    name: SourceName = "dealer"

    def __init__(self, side: Side) -> None:
        check_protocol(side.row, self.name)
        if side.cluster.dealer is None:
            raise ConfigError('cluster file: expected dealer = "host:port" in it, or --source ot')
        self.rank = side.rank
        self._side = side
        self._connection = connect_role(
            side.cluster.dealer,
            party=None,
            tls=side.tls,
            role=Identity.party(side.rank),
            detail=PREPARE,
            deadline_s=side.deadline_s,
            insecure_loopback=side.insecure_loopback,
            cancel=side.cancel,
        )
        self._connection.deadline_s = side.deadline_s

    def exchange(self, mine: Standing) -> Standing:
        """See Source. The dealer waits for the other party for as long as its own deadline says."""
        connection, usual = self._connection, self._connection.deadline_s
        connection.send_message(Plan(self._side.program.to_json(), self._side.row.name, mine))
        connection.deadline_s = 2 * usual
        theirs = connection.recv_struct(Standing, MAX_ORDER)
        connection.deadline_s = usual
        return theirs

    def derived_words(self, layout: Layout) -> int:
        """P_0's come from its seed."""
        return layout.derived if self.rank == 1 else 0

    def segment(
        self, layout: Layout, start: int, clips: int, seed: bytes, mask_seed: bytes, progress: Progress
    ) -> Iterator[tuple[U64 | None, U64 | None]]:
        """See Source."""
        self._connection.send_message(Order(start, clips, seed, mask_seed))
        widths = (self.derived_words(layout), layout.common)
        for chunk in chunks(layout, start, clips):
            derived, common = (np.empty((len(chunk), width), np.uint64) if width else None for width in widths)
            self._connection.recv_arrays([part for part in (derived, common) if part is not None])
            progress(chunk.stop - start)
            yield derived, common

    @property
    def bytes_sent(self) -> int:
        """By the dealer, headers included."""
        return sum(self._connection.counters.bytes_received.values())

    def close(self, reason: str = "") -> None:
        """See Source."""
        self._connection.close(reason)


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a call of `prepare` made. start, end: of the new clips. stored_bytes: on the disk."""

    source: SourceName
    start: int
    end: int
    left: int
    elapsed_s: float
    bytes_sent: int
    stored_bytes: int


def prepare(
    program: Program,
    row: ProtocolRow,
    rank: int,
    clips: int,
    connect: Callable[[], Source],
    at: StoreAt,
    progress: Progress = lambda done: None,
    kept: Progress = lambda done: None,
) -> Prepared:
    """Add the material of so many clips to this party's store, which is made if need be; the other party does the same.

    It is added segment by segment: what is complete stays, whatever happens then; `kept` is told how many clips that
    are. connect: called when the store is open, so that a store that cannot be used disturbs nobody else. Raises
    ConfigError, PreprocessingError, TransportError.
    """
    layout = demand(program, row)
    identity = StoreIdentity(program.digest, row.name, rank, layout.digest)
    with ExitStack() as stack:
        old = Store.open_or_none(at.folder, key=at.key, identity=identity)
        mine = Standing(clips, secrets.token_bytes(16), layout.digest)
        if old is not None:
            stack.enter_context(old)
            mine = msgspec.structs.replace(mine, pair=old.pair, position=old.position, end=old.end)
        source = stack.enter_context(connect())
        theirs = source.exchange(mine)
        pair = join_standings(rank, mine, theirs)
        store = old or stack.enter_context(Store.create(at.folder, key=at.key, identity=identity, pair=pair))
        if theirs.pair:
            store.align(theirs.position, theirs.end)
        began, first, stored = time.monotonic(), store.end, 0
        while (done := store.end - first) < clips:
            wanted = min(segment_clips(layout), clips - done)
            stored += _add(store, layout, wanted, source, at.folder, program.name, done, progress)
            kept(store.end - first)
        return Prepared(
            source.name,
            first,
            store.end,
            store.end - store.position,
            time.monotonic() - began,
            source.bytes_sent,
            stored,
        )


def check_protocol(row: ProtocolRow, source: SourceName) -> None:
    """Whether there is something to prepare, and this source can. Raises ConfigError."""
    if not row.preprocessing:
        raise ConfigError(f"prepare: {row.name} needs no preprocessing; expected beaver2 or beaver2-fss")
    if source == "ot" and row.name == "beaver2-fss":
        raise ConfigError(
            "prepare: the keys of beaver2-fss come from a dealer only: --source dealer, or the protocol beaver2"
        )


def _add(
    store: Store, layout: Layout, clips: int, source: Source, folder: Path, model: str, before: int, progress: Progress
) -> int:
    """One segment; returns its bytes on the disk."""
    start, sent, began = store.end, source.bytes_sent, time.perf_counter_ns()
    seed, words = secrets.token_bytes(KEY_BYTES), source.derived_words(layout)
    with store.add(start, clips, seed, source=source.name, derived_words=words, common_words=layout.common) as writer:
        made = source.segment(
            layout, start, clips, seed, store.mask_seed, progress=lambda done: progress(before + done)
        )
        for derived, common in made:
            if derived is not None or common is not None:
                writer.write(derived, common)
    elapsed_ns = time.perf_counter_ns() - began
    record(folder, SegmentCost(start, clips, elapsed_ns, source.bytes_sent - sent, model))
    return store.segments[-1].file_bytes
