"""The dealer as a process: it hands two parties correlated randomness, ahead of time, and sees no data.

It learns which program they prepare for and how many clips, draws nothing itself, and keeps nothing: both parties
send it their seeds, it derives what follows from them chunk by chunk, sends it, and forgets. Neither party may work
together with it: with one party's messages it could read everything (see `engine.preprocessing.dealer`).
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from sottovoce.engine.backend.cpu import CpuBackend
from sottovoce.engine.cost import demand
from sottovoce.engine.errors import ConfigError, FrameError, PreprocessingError, SottovoceError, TransportError
from sottovoce.engine.preprocessing.dealer import deal, weight_masks
from sottovoce.engine.preprocessing.items import Layout
from sottovoce.engine.program import Program, from_json
from sottovoce.engine.protocols.table import ProtocolRow, find
from sottovoce.engine.tensors import U64
from sottovoce.engine.transport.connection import Connection, peer_name
from sottovoce.engine.transport.listener import Listener
from sottovoce.engine.transport.tcp import Cancel
from sottovoce.engine.transport.tls import Address, TlsContexts
from sottovoce.serving.requests import reason_of
from sottovoce.serving.standing import MAX_ORDER, MAX_PLAN, PREPARE, Order, Plan, check_layout, chunks, prepare_digest

PARTIES = 2
MAX_SEATS = 32
MAX_CLIP_WORDS = 1 << 28
"""2 GiB for the parts of one clip."""
AHEAD = 2
"""Chunks that are dealt while others are sent."""
_SLICE_S = 0.1
_SHUTTING_DOWN = "the dealer is shutting down"


@dataclass(slots=True, eq=False)
class _Seat:
    """A party that has said what it wants. key: what its partner must want, too.

    Its connection belongs to the thread that admitted it; while it waits for its partner, to whoever holds the lock.
    """

    connection: Connection
    rank: int
    plan: Plan
    program: Program
    row: ProtocolRow
    layout: Layout
    key: bytes
    since: float = field(default_factory=time.monotonic)


class DealerServer:
    """Deals to pairs of parties, several at the same time, until `stop` is set."""

    def __init__(
        self,
        address: Address,
        tls: TlsContexts | None,
        *,
        insecure_loopback: bool = False,
        deadline_s: float = 60.0,
        log: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._address = address
        self._tls = tls
        self._insecure = insecure_loopback
        self._deadline_s = deadline_s
        self._log = log
        self._fill = CpuBackend().fill
        self._changed = threading.Condition()
        self._waiting: list[_Seat] = []
        self._open: set[Connection] = set()
        self._ending = Cancel()

    def serve(self, stop: threading.Event) -> None:
        """Listen, bring partners together, deal. Raises ConfigError if it cannot listen."""
        with Listener(
            self._address,
            rank=None,
            parties=PARTIES,
            tls=self._tls,
            insecure_loopback=self._insecure,
            on_refused=lambda text: self._log(f"refused: {text}"),
        ) as listener:
            host, port = listener.address
            self._log(f"the dealer listens at {host}:{port}{'' if self._tls else ', INSECURE: plain TCP'}")
            threads: list[threading.Thread] = []
            try:
                while not stop.is_set():
                    connection = listener.take_role(deadline_s=_SLICE_S)
                    self._look_after_seats()
                    threads = [thread for thread in threads if thread.is_alive()]
                    if connection is not None:
                        threads.append(threading.Thread(target=self._admit, args=(connection,), daemon=True))
                        threads[-1].start()
            finally:
                self._end_all(_SHUTTING_DOWN)
                listener.close(_SHUTTING_DOWN)
                for thread in threads:
                    thread.join()

    # Bringing partners together.

    def _admit(self, connection: Connection) -> None:
        """In a thread of its own: take a plan, and deal if the partner waits for this one."""
        who = peer_name(connection.identity)
        connection.adopt(deadline_s=self._deadline_s, cancel=self._ending)
        try:
            with self._changed:
                full = len(self._open) >= MAX_SEATS
                self._open.add(connection)
            if full:
                raise FrameError(f"busy: at most {MAX_SEATS} parties at a time; try again later")
            seat = self._seat(connection)
            self._log(f"{who} wants {seat.plan.standing.clips} clips of {seat.program.name} under {seat.row.name}")
            with self._changed:
                if self._ending.is_set():
                    raise TransportError(self._ending.reason)
                partner = next((s for s in self._waiting if s.key == seat.key and s.rank != seat.rank), None)
                if partner is None:
                    self._waiting.append(seat)
                    return
                self._waiting.remove(partner)
        except SottovoceError as error:
            self._log(f"refused: {who}: {error}")
            self._leave(connection, self._ending.reason or reason_of(error))
            return
        first, second = (seat, partner) if seat.rank == 0 else (partner, seat)
        self._serve_pair((first, second))

    def _seat(self, connection: Connection) -> _Seat:
        opening, rank = connection.opening, connection.identity.rank
        if opening is None or opening.detail != PREPARE or rank is None:
            raise FrameError(f"a dealer deals to parties only, got {connection.identity}")
        plan = connection.recv_struct(Plan, MAX_PLAN)
        row = find(plan.protocol)
        if not row.preprocessing:
            raise ConfigError(f"{row.name} needs no preprocessing")
        program = from_json(plan.program)
        layout = demand(program, row)
        check_layout("dealer", layout.digest, plan.standing.layout)
        if layout.own + layout.derived + layout.common > MAX_CLIP_WORDS:
            raise PreprocessingError(f"dealer: expected at most {MAX_CLIP_WORDS} words for a clip, got {layout}")
        return _Seat(connection, rank, plan, program, row, layout, prepare_digest(program.digest, row))

    def _look_after_seats(self) -> None:
        """Send away who waits too long, and forget who has gone."""
        with self._changed:
            leaving = [(seat, reason) for seat in self._waiting if (reason := self._over_for(seat))]
            for seat, _ in leaving:
                self._waiting.remove(seat)
        for seat, reason in leaving:
            self._log(f"P{seat.rank}: {reason}")
            self._leave(seat.connection, reason)

    def _over_for(self, seat: _Seat) -> str:
        """Why a seat's wait is over, with the lock held; empty if it goes on."""
        if time.monotonic() - seat.since > self._deadline_s:
            return self._no_partner(seat)
        try:
            seat.connection.check_open("wait for a partner")
        except TransportError as error:
            return reason_of(error)
        return ""

    def _no_partner(self, seat: _Seat) -> str:
        peer = f"P{1 - seat.rank}"
        others = sorted(f"{s.program.name} under {s.row.name}" for s in self._waiting if s.rank != seat.rank)
        instead = f"; it asks for {', '.join(others)}, or another version of it" if others else ""
        wanted = f"{seat.program.name} under {seat.row.name}"
        return f"{peer} did not ask for {wanted} within {self._deadline_s:g} s{instead}: run `sottovoce prepare` there"

    def _leave(self, connection: Connection, reason: str) -> None:
        connection.close(reason)
        with self._changed:
            self._open.discard(connection)

    def _end_all(self, reason: str) -> None:
        """The threads close their own connections, within a fraction of a second or when a chunk is done."""
        with self._changed:
            self._ending.because(reason)
            left, self._waiting = self._waiting, []
        for seat in left:
            self._leave(seat.connection, reason)

    # Dealing.

    def _serve_pair(self, seats: tuple[_Seat, _Seat]) -> None:
        what = f"{seats[0].plan.standing.clips} clips of {seats[0].program.name} under {seats[0].row.name}"
        began = time.monotonic()
        reason = ""
        try:
            self._deal_all(seats)
            self._log(f"dealt {what} in {time.monotonic() - began:.1f} s")
        except SottovoceError as error:
            reason = self._ending.reason or reason_of(error)
            self._log(f"gave up {what}: {self._ending.reason or error}")
        except BaseException as error:
            reason = reason_of(error)
            raise
        finally:
            for seat in seats:
                self._leave(seat.connection, reason)

    def _deal_all(self, seats: tuple[_Seat, _Seat]) -> None:
        layout = seats[0].layout
        for seat, other in (seats, seats[::-1]):
            seat.connection.send_message(other.plan.standing)
        left = min(seat.plan.standing.clips for seat in seats)
        with ThreadPoolExecutor(AHEAD, thread_name_prefix="deal") as pool:
            while left > 0:
                orders = [seat.connection.recv_struct(Order, MAX_ORDER) for seat in seats]
                if (orders[0].start, orders[0].clips) != (orders[1].start, orders[1].clips) or orders[0].clips > left:
                    raise FrameError(f"expected the same order of both parties, for at most {left} clips, got {orders}")
                for derived, common in self._segment(layout, orders[0], orders[1], pool):
                    seats[0].connection.send_arrays([common])
                    seats[1].connection.send_arrays([derived, common])
                left -= orders[0].clips

    def _segment(
        self, layout: Layout, first: Order, second: Order, pool: ThreadPoolExecutor
    ) -> Iterator[tuple[U64, U64]]:
        """Chunk by chunk: P_1's derived words and the common ones; the next ones are made meanwhile."""
        masks = weight_masks(layout, (first.mask_seed, second.mask_seed), self._fill)
        seeds = (first.seed, second.seed)
        made: deque[Future[tuple[U64, U64]]] = deque()
        try:
            for clips in chunks(layout, first.start, first.clips):
                made.append(pool.submit(deal, layout, masks, seeds, clips, self._fill))
                if len(made) > AHEAD:
                    yield made.popleft().result()
            while made:
                yield made.popleft().result()
        finally:
            for future in made:
                future.cancel()
