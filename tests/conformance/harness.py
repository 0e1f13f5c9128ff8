"""Run single operations of any protocol of the table on shares, in process, and join what comes out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sottovoce.engine.backend.cpu import CpuBackend
from sottovoce.engine.local import make_parties, run_parties
from sottovoce.engine.party import Party
from sottovoce.engine.preprocessing.items import Item
from sottovoce.engine.preprocessing.local import LiveDealer
from sottovoce.engine.prg import Cipher, Observer
from sottovoce.engine.protocols.base import AShare
from sottovoce.engine.protocols.table import AnyProtocol, ProtocolRow
from sottovoce.engine.tensors import size
from sottovoce.engine.transport.base import Counters, Transport
from sottovoce.engine.transport.memory import memory_mesh

DEADLINE_S = 20.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """Each party's output share, its counters, and the items of preprocessing that were taken."""

    shares: list[Any]
    counters: list[Counters]
    items: list[Item]


def share(row: ProtocolRow, values: NDArray[Any], frac_bits: int = 0) -> list[AShare]:
    """A signed or unsigned tensor as one share per party."""
    fill = CpuBackend().fill
    unsigned = np.ascontiguousarray(values).astype(np.int64).view(np.uint64) if values.dtype.kind == "i" else values
    slots = row.split(unsigned, fill)
    return [row.receive(rank, slots[rank], values.shape, frac_bits, fill) for rank in range(row.parties)]


def run(
    row: ProtocolRow,
    operation: Callable[[AnyProtocol, int], Any],
    rotation: int = 0,
    *,
    mesh: Sequence[Transport] | None = None,
    pair_keys: dict[tuple[int, int], bytes] | None = None,
    cipher: Cipher = "aes128ctr",
    observer: Observer | None = None,
    supply: Callable[[Party], Party] | None = None,
) -> Outcome:
    """operation(protocol, rank) at every party at once.

    supply: gives a party its preprocessing and its material; without it a dealer makes what is asked for.
    """
    lane = memory_mesh(row.parties, deadline_s=DEADLINE_S) if mesh is None else mesh
    lanes = make_parties(row, [lane], pair_keys=pair_keys, cipher=cipher, observer=observer)
    dealer = LiveDealer(CpuBackend().fill) if row.preprocessing else None

    def supplied(party: Party) -> Party:
        if supply is not None:
            return supply(party)
        if dealer is None:
            return party
        rank = party.rank
        return replace(party, preprocessing=dealer.parties[rank], material=dealer.materials[rank])

    def work(rank: int) -> Callable[[], Any]:
        return lambda: operation(row.make(supplied(lanes[rank][0]), rotation), rank)

    def wake() -> None:
        for transport in lane:
            transport.close("another party failed")

    shares = run_parties([work(rank) for rank in range(row.parties)], wake)
    return Outcome(shares, [transport.counters for transport in lane], [] if dealer is None else dealer.items)


def join(row: ProtocolRow, outcome: Outcome) -> NDArray[np.int64]:
    """The output tensor: signed numbers, or bits as 0 and 1."""
    shares = outcome.shares
    if isinstance(shares[0], np.ndarray):
        for other in shares[1:]:
            np.testing.assert_array_equal(shares[0], other)
        return shares[0].view(np.int64)
    parts = [row.export(s) for s in shares]
    if isinstance(shares[0], AShare):
        return row.join(parts).view(np.int64).reshape(shares[0].shape)
    shape = shares[0].shape
    bits = np.unpackbits(row.join_bits(parts), count=size(shape), bitorder="little")
    return bits.reshape(shape).astype(np.int64)
