"""Material from oblivious transfer: the two parties connect with each other and need nobody else."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack

import msgspec
import numpy as np

from sottovoce.engine.backend.cpu import CpuBackend
from sottovoce.engine.cost import demand
from sottovoce.engine.errors import FrameError
from sottovoce.engine.preprocessing.items import Layout
from sottovoce.engine.preprocessing.ot.source import OtSource
from sottovoce.engine.preprocessing.segment import Source as SourceName
from sottovoce.engine.structs import unpack
from sottovoce.engine.tensors import U64
from sottovoce.engine.transport.handshake import Hello
from sottovoce.engine.transport.listener import Listener
from sottovoce.engine.transport.mesh import connect_mesh
from sottovoce.serving.prepare import Progress, Side, Source, check_protocol
from sottovoce.serving.standing import MAX_ORDER, Standing, chunks

STANDING_TAG = 0x6001


class FromTransfers(Source):
    """A lane to the other party. P_0 listens at its address of the cluster, so its party must not run meanwhile."""

    name: SourceName = "ot"

    def __init__(self, side: Side) -> None:
        row = side.row
        check_protocol(row, self.name)
        self.rank = side.rank
        hello = Hello(
            chunk_elements=CpuBackend.chunk_elements,
            session=hashlib.sha256(b"sottovoce/1/prepare").digest()[:16],
            program=side.program.digest,
            protocol=f"{row.name}/prepare",
            rank=side.rank,
            parties=row.parties,
        )
        with ExitStack() as stack:
            listener = None
            if side.rank == 0:
                listener = stack.enter_context(
                    Listener(
                        side.cluster.addresses[0],
                        rank=0,
                        parties=row.parties,
                        tls=side.tls,
                        insecure_loopback=side.insecure_loopback,
                    )
                )
            (lane,) = connect_mesh(
                side.rank,
                side.cluster.addresses,
                listener,
                side.tls,
                hello,
                deadline_s=side.deadline_s,
                wait_s=side.deadline_s,
                insecure_loopback=side.insecure_loopback,
                cancel=side.cancel,
            )
        self._transport = lane.transport
        self._source = OtSource(lane.transport, demand(side.program, row), CpuBackend().fill)

    def exchange(self, mine: Standing) -> Standing:
        """See Source."""
        transport, peer = self._transport, 1 - self._transport.rank
        transport.send(peer, STANDING_TAG, [np.frombuffer(msgspec.msgpack.encode(mine), np.uint8)])
        data = transport.recv_bytes(peer, STANDING_TAG, MAX_ORDER)
        try:
            return unpack(data, Standing)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise FrameError(f"P{transport.rank}: prepare: expected a standing of P{peer}, got other bytes") from None

    def derived_words(self, layout: Layout) -> int:
        """Both parties store theirs."""
        return layout.derived

    def segment(
        self, layout: Layout, start: int, clips: int, seed: bytes, mask_seed: bytes, progress: Progress
    ) -> Iterator[tuple[U64 | None, U64 | None]]:
        """See Source."""
        for chunk in chunks(layout, start, clips):

            def tell(done: float, before: int = chunk.start - start) -> None:
                progress(before + int(done))

            yield self._source.generate(seed, mask_seed, chunk.start, chunk.stop, tell), None

    @property
    def bytes_sent(self) -> int:
        """By this party, headers included."""
        return sum(self._transport.counters.bytes_sent.values())

    def close(self, reason: str = "") -> None:
        """See Source."""
        self._transport.close(reason)
