"""Products with bits, one transfer for each: with numbers (`Wrap`, `Select`), with bits (`Leaves`, `Merge`, `Ands`).

The chooser has a bit b, the holder a number m. The holder sends c = m + pad_0 - pad_1 and keeps -pad_0; the chooser
computes pad_b + b c; together that is b m [correlated OT, ALSZ 2013/552]. Mod 2^32 and for bits the pads are cut; up
to 128 products of bits share a transfer, each under a bit of its own of the pads.

A job works on columns of 64 elements: bits are (rows, C) words, numbers (64 C,).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sottovoce.engine.backend.cpu import CpuBackend
from sottovoce.engine.errors import ProtocolError
from sottovoce.engine.preprocessing.items import Item
from sottovoce.engine.preprocessing.kinds import Ands, Leaves, Merge, Select, Wrap
from sottovoce.engine.preprocessing.ot.growth import schedule
from sottovoce.engine.preprocessing.ot.link import Link
from sottovoce.engine.tensors import U64
from sottovoce.kernels.cpu.beaver_bits import LEAF_PRODUCTS, merge_monomials

Columns = Mapping[str, NDArray[Any]]
Parts = list[NDArray[Any]]
Steps = Generator[tuple[Parts, Parts], None, None]
"""Yields (arrays to send, arrays to receive into); goes on when they are filled."""
WORD_BITS = 64
PAIR_PAYLOAD = 5
"""Bits that two transfers carry for a pair of leaves."""


@dataclass(frozen=True, slots=True)
class Pads:
    """Pads by row. chosen: (rows of this party's choosing, 64 C, 2). both: (2, rows of the other's, 64 C, 2)."""

    chosen: U64
    both: U64


class Job(ABC):
    """How one kind of item is computed, at party `rank`."""

    def __init__(self, rank: int) -> None:
        self.rank = rank

    @abstractmethod
    def chosen(self, rank: int) -> tuple[str, tuple[int, ...]]:
        """The own field and its rows that party `rank` puts into transfers as choices."""

    @abstractmethod
    def steps(self, own: Columns, pads: Pads, derived: Columns) -> Steps:
        """Fill `derived`."""


class WrapJob(Job):
    """P_1 chooses by beta, P_0 holds alpha; mod 2^32."""

    def chosen(self, rank: int) -> tuple[str, tuple[int, ...]]:
        return "bit", (0,) if rank == 1 else ()

    def steps(self, own: Columns, pads: Pads, derived: Columns) -> Steps:
        bit = unpacked(own["bit"][0]).astype(np.uint32)
        out = derived["product"]
        if self.rank == 0:
            first, second = pads.both[:, 0, :, 0].astype(np.uint32)
            np.negative(first, out=out)
            yield [bit + first - second], []
        else:
            correction = np.empty_like(bit)
            yield [], [correction]
            out[:] = pads.chosen[0, :, 0].astype(np.uint32) + bit * correction


class SelectJob(Job):
    """Both choose by their bit and hold their value."""

    def chosen(self, rank: int) -> tuple[str, tuple[int, ...]]:
        return "bit", (0,)

    def steps(self, own: Columns, pads: Pads, derived: Columns) -> Steps:
        bit = unpacked(own["bit"][0]).astype(np.uint64)
        first, second = pads.both[:, 0, :, 0]
        held, taken = (derived[name] for name in (("left", "right") if self.rank == 0 else ("right", "left")))
        correction = np.empty_like(bit)
        np.negative(first, out=held)
        yield [own["value"] + first - second], [correction]
        taken[:] = pads.chosen[0, :, 0] + bit * correction


class LeavesJob(Job):
    """P_1 chooses by beta, P_0 holds the monomials of alpha.

    The second transfer of a pair also carries P_0's share of a product of the first: with alpha_0 beta_0 = s ^ r, s at
    P_0, it is alpha_0 beta_0 beta_1 = s beta_1 ^ r beta_1, and P_1 knows r beta_1. So five bits make four rows.
    """

    def __init__(self, rank: int, bits: int) -> None:
        super().__init__(rank)
        self._bits = bits

    def chosen(self, rank: int) -> tuple[str, tuple[int, ...]]:
        return "mask", tuple(range(self._bits)) if rank == 1 else ()

    def steps(self, own: Columns, pads: Pads, derived: Columns) -> Steps:
        mask, out = own["mask"], derived["products"]
        message = np.empty((self._bits // 2 * PAIR_PAYLOAD + self._bits % 2, mask.shape[1]), np.uint64)
        if self.rank == 0:
            for low, sent, made in self._pairs():
                self._hold(mask[low : low + 2], pads.both[:, low : low + 2], message[sent], out[made])
            yield [message], []
        else:
            yield [], [message]
            for low, sent, made in self._pairs():
                self._choose(mask[low : low + 2], pads.chosen[low : low + 2], message[sent], out[made])

    def _pairs(self) -> list[tuple[int, slice, slice]]:
        """The first bit of each pair, its rows of the message and of what is made."""
        payload, rows = PAIR_PAYLOAD, len(LEAF_PRODUCTS)
        pairs = range(-(-self._bits // 2))
        return [(2 * i, slice(payload * i, payload * (i + 1)), slice(rows * i, rows * (i + 1))) for i in pairs]

    @staticmethod
    def _hold(alpha: U64, both: U64, message: U64, out: U64) -> None:
        if alpha.shape[0] == 1:
            out[:] = planes(both[0, 0], 1)
            message[:] = out ^ planes(both[1, 0], 1) ^ alpha
            return
        first, second = planes(both[0, 0], 3), planes(both[0, 1], 2)
        message[:3] = first ^ planes(both[1, 0], 3) ^ np.stack([alpha[0], alpha[1], alpha[0] & alpha[1]])
        message[3:] = second ^ planes(both[1, 1], 2) ^ np.stack([alpha[0], alpha[1] ^ first[0]])
        out[:2], out[2], out[3] = first[:2], second[0], second[1] ^ first[2]

    @staticmethod
    def _choose(beta: U64, chosen: U64, message: U64, out: U64) -> None:
        if beta.shape[0] == 1:
            out[:] = planes(chosen[0], 1) ^ (message & beta)
            return
        first = planes(chosen[0], 3) ^ (message[:3] & beta[0])
        second = planes(chosen[1], 2) ^ (message[3:] & beta[1])
        out[:2], out[2], out[3] = first[:2], second[0], second[1] ^ first[2] ^ (first[0] & beta[1])


class ProductsJob(Job):
    """Products of shared bits, one more factor at a time: (m_0 ^ m_1)(r_0 ^ r_1), m the masks' row that both choose by.

    Each party holds its share of the smaller product for the other's choice. The transfers of a row serve all its
    products, at every stage under other bits of the pads.
    """

    def __init__(self, rank: int, sets: Sequence[Sequence[int]]) -> None:
        super().__init__(rank)
        self._schedule = schedule(sets)

    def chosen(self, rank: int) -> tuple[str, tuple[int, ...]]:
        return "mask", tuple(self._schedule.payloads)

    def steps(self, own: Columns, pads: Pads, derived: Columns) -> Steps:
        mask, out = own["mask"], derived["products"]
        chosen, first, second = (
            {row: planes(pads_of[i], count) for i, (row, count) in enumerate(self._schedule.payloads.items())}
            for pads_of in (pads.chosen, *pads.both)
        )
        shares = {frozenset({row}): mask[row] for row in range(mask.shape[0])}
        for stage in self._schedule.stages:
            rest = np.stack([shares[growth.rest] for growth in stage])
            hidden, other, got = (
                np.stack([rows[growth.multiplier][growth.payload] for growth in stage])
                for rows in (first, second, chosen)
            )
            correction = np.empty_like(rest)
            yield [hidden ^ other ^ rest], [correction]
            mine = mask[[growth.multiplier for growth in stage]]
            product = (mine & (rest ^ correction)) ^ hidden ^ got
            for growth, row in zip(stage, product, strict=True):
                out[growth.to] = shares[growth.whole] = row


def job_of(item: Item, rank: int) -> Job:
    """The job for one of the items that this file knows."""
    match item:
        case Wrap():
            return WrapJob(rank)
        case Select():
            return SelectJob(rank)
        case Leaves():
            return LeavesJob(rank, item.bits)
        case Merge():
            return ProductsJob(rank, merge_monomials(item.blocks))
        case Ands():
            return ProductsJob(rank, subsets(item.inputs))
    raise ProtocolError(f"oblivious transfer: expected an item of a known kind, got {type(item).__name__}")


def subsets(inputs: int) -> list[tuple[int, ...]]:
    """Sets of at least two of the rows, as `Ands` lists them."""
    every = (tuple(i for i in range(inputs) if s >> i & 1) for s in range(1 << inputs))
    return [chosen for chosen in every if len(chosen) > 1]


def run(link: Link, work: Sequence[tuple[Job, Columns, Columns]]) -> None:
    """Do the jobs, (job, own, derived) each, together: one message for all choices, one for each stage of all."""
    choices: list[U64] = []
    theirs: list[int] = []
    for job, own, _ in work:
        name, rows = job.chosen(job.rank)
        choices.append(own[name][list(rows)].reshape(-1))
        theirs.append(len(job.chosen(1 - job.rank)[1]) * own[name].shape[1])
    chosen, both = link.transfers(np.concatenate(choices), sum(theirs))
    running: list[Steps] = []
    at, other = 0, 0
    for (job, own, derived), mine, count in zip(work, choices, theirs, strict=True):
        columns = own[job.chosen(job.rank)[0]].shape[1]
        pads = Pads(
            chosen[at : at + WORD_BITS * mine.size].reshape(-1, WORD_BITS * columns, 2),
            both[:, other : other + WORD_BITS * count].reshape(2, -1, WORD_BITS * columns, 2),
        )
        at, other = at + WORD_BITS * mine.size, other + WORD_BITS * count
        running.append(job.steps(own, pads, derived))
    while running:
        waiting = [(steps, parts) for steps in running if (parts := next(steps, None)) is not None]
        link.swap([a for _, (out, _) in waiting for a in out], [a for _, (_, into) in waiting for a in into])
        running = [steps for steps, _ in waiting]


def planes(pads: U64, count: int) -> U64:
    """The low `count` bits of each pad, bit-sliced: (64 C, 2) -> (count, C)."""
    out = np.empty((count, pads.shape[0] // WORD_BITS), np.uint64)
    slice_bits = CpuBackend().kernels.slice_bits
    for word in range(-(-count // WORD_BITS)):
        part = out[WORD_BITS * word : WORD_BITS * (word + 1)]
        slice_bits(np.ascontiguousarray(pads[:, word]), part.shape[0], part)
    return out


def unpacked(row: U64) -> NDArray[np.uint8]:
    """(C,) packed -> (64 C,) of 0 and 1."""
    return np.unpackbits(row.view(np.uint8), bitorder="little")
