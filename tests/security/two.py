"""Two parties with material that a test knows: what each receives, and exact coupling of views.

Everything that the corrupt party has is fixed: its shares, its own words of every item, its share of what is derived.
The other party's own words are the unknown ones. `couple` takes them from one secret to another so that the corrupt
party receives the very same messages: in the order of the protocol, every bit that the other party sends is one bit of
its own words, XORed or added, which masks nothing else. Each step is a bijection of the unknown words, so the views of
the two secrets have the same distribution, exactly. What the other party holds of a derived field follows from the
rest, and it is not sent.

The comparison by function secret sharing is replaced by its functionality here: the keys' own security rests on the
pseudorandom generator (test_fss.py).
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sottovoce.engine.backend.cpu import CpuBackend
from sottovoce.engine.party import Party
from sottovoce.engine.preprocessing.base import Material
from sottovoce.engine.preprocessing.fss import Dcf
from sottovoce.engine.preprocessing.items import Field, Fields, Item, Layout, Unit, pack_rows, views
from sottovoce.engine.preprocessing.kinds import Product
from sottovoce.engine.preprocessing.local import LiveDealer
from sottovoce.engine.program import Linear
from sottovoce.engine.protocols.beaver2.protocol import Tag
from sottovoce.engine.protocols.beaver2.share import Beaver2AShare
from sottovoce.engine.protocols.table import ProtocolRow
from sottovoce.engine.tensors import U64
from sottovoce.engine.transport.memory import memory_mesh
from tests.conformance.harness import run
from tests.security.coupling import NoCouplingError
from tests.security.views import Received, RecordingTransport, Run

PARTIES = 2
WEIGHTS = -1
"""In place of an item's number: the masks of the weights."""
UNSENT = ("root",)
"""Own fields that mask nothing: they make an FSS key."""
Script = dict[tuple[int, str], U64]
"""(number of the item, field) -> the other party's own words."""
Operate = Callable[[Any, Sequence[Any]], Any]
Shares = Sequence[Sequence[U64]]
"""For each input the parts of P_0 and P_1."""


class FixedDealer:
    """Material as a function of a seed, but for scripted words of the party that is not corrupt.

    taken: the items, in order. own: what masks a party's messages, by rank, in the order of use.
    """

    def __init__(self, seed: int, corrupt: int, script: Mapping[tuple[int, str], U64] | None = None) -> None:
        self.seed, self.corrupt, self.script = seed, corrupt, script or {}
        self.taken: list[Item] = []
        self.own: list[Script] = [{}, {}]
        self.weights: dict[int, U64] = {}
        self._made: list[tuple[Fields, Fields]] = []
        self._lock = threading.Lock()

    def supply(self, party: Party) -> Party:
        """A party with its side of this dealer."""
        source = LiveDealer(CpuBackend().fill).parties[party.rank]
        source.mask = lambda step: self.mask(step, party.rank)
        return replace(party, preprocessing=source, material=_Side(self, party.rank))

    def mask(self, step: Linear, rank: int) -> U64:
        """A party's share of B."""
        with self._lock:
            words = self._words(WEIGHTS, "b", rank, int(np.prod(step.weight.shape)))
            self.weights[rank] = words.reshape(step.weight.shape)
            return self.weights[rank].copy()

    def fields(self, number: int, item: Item, rank: int) -> Fields:
        """A party's fields of an item; the first to ask has both made."""
        with self._lock:
            if number == len(self._made):
                self.taken.append(item)
                self._made.append(self._make(number, item))
            assert self.taken[number] == item
            return self._made[number][rank]

    def _words(self, number: int, name: str, rank: int, count: int) -> U64:
        key = (number, name)
        words = _random(self.seed, number, f"{name} of {rank}", count)
        if rank != self.corrupt and key in self.script:
            words = self.script[key].copy()
        if name not in UNSENT:
            self.own[rank][key] = words
        return words

    def _make(self, number: int, item: Item) -> tuple[Fields, Fields]:
        own = [_own(item, lambda f, r=rank: self._words(number, f.name, r, f.words)) for rank in range(PARTIES)]
        mask = sum(self.weights.values(), np.uint64(0)) if isinstance(item, Product) else None
        joined = item.derive((own[0], own[1]), mask)
        out: list[dict[str, Any]] = [dict(own[0]), dict(own[1])]
        for f in item.fields:
            if f.part == "common":
                out[0][f.name] = out[1][f.name] = joined[f.name]
            elif f.part == "derived":
                part = views(item, "derived", _random(self.seed, number, "derived", Layout([item]).derived)[None])
                whole, known = joined[f.name], part[f.name]
                out[self.corrupt][f.name] = known
                out[1 - self.corrupt][f.name] = whole ^ known if f.unit in (Unit.BITS, Unit.FLAGS) else whole - known
        if isinstance(item, Dcf):
            r = (own[0]["mask"] + own[1]["mask"]).astype(np.uint64)
            known = _random(self.seed, number, "sign", -(-item.n // 64))
            for rank in range(PARTIES):
                out[rank]["ideal"] = (r, known, rank == self.corrupt)
        return out[0], out[1]


def _random(seed: int, number: int, name: str, count: int) -> U64:
    rng = np.random.default_rng([seed, number + 1, zlib.crc32(name.encode())])
    return rng.integers(0, 2**64, count, dtype=np.uint64)


def _own(item: Item, words: Callable[[Field], U64]) -> Fields:
    flat = np.concatenate([words(f) for f in item.fields if f.part == "own"])
    return views(item, "own", flat[None])


class _Side(Material):
    def __init__(self, dealer: FixedDealer, rank: int) -> None:
        self._dealer, self._rank, self._next = dealer, rank, 0

    def take(self, item: Item) -> Fields:
        self._next += 1
        return self._dealer.fields(self._next - 1, item, self._rank)


def ideal_sign(backend: CpuBackend, item: Dcf, fields: Fields, opened: NDArray[Any], one: np.uint64) -> U64:
    """The functionality of the comparison: one party gets random bits, the other what makes them the sign."""
    r, known, corrupt = fields["ideal"]
    if corrupt:
        return known.copy()
    bits = (opened.astype(np.uint64) - r) >> np.uint64(item.bits - 1) & np.uint64(1)
    return known ^ pack_rows(bits.astype(np.uint8)[None])[0]


@dataclass(frozen=True, slots=True)
class Two:
    """One run, by rank: messages received and sent, own masks, all words of preprocessing that it had, outputs."""

    received: list[list[Received]]
    sent: list[list[Received]]
    own: list[Script]
    known: list[dict[Any, U64]] = field(repr=False)
    outputs: list[Any] = field(repr=False)

    def as_run(self) -> Run:
        """For the checks of test_views.py."""
        return Run(self.received, self.sent, self.known, self.outputs)


def run_two(
    row: ProtocolRow, operate: Operate, shares: Shares, dealer: FixedDealer, make: Callable[..., Any] | None = None
) -> Two:
    """operate(protocol, [inputs]) at both parties under a dealer's material; make: in place of the row's protocol."""
    mesh = [RecordingTransport(t) for t in memory_mesh(PARTIES)]
    used = row if make is None else replace(row, make=make)
    inputs = [[Beaver2AShare(pair[rank].copy(), 0) for pair in shares] for rank in range(PARTIES)]
    outcome = run(used, lambda p, rank: operate(p, inputs[rank]), mesh=mesh, supply=dealer.supply)
    known: list[dict[Any, U64]] = [{}, {}]
    for number, made in enumerate(dealer._made):
        for rank in range(PARTIES):
            for name, value in made[rank].items():
                if name != "ideal":
                    known[rank][number, name, 0] = np.ascontiguousarray(value).reshape(-1)
    return Two([t.received for t in mesh], [t.sent for t in mesh], dealer.own, known, outcome.shares)


def masked_units(messages: Sequence[Received]) -> bytes:
    """All that is sent but openings, in order."""
    return b"".join(m.payload for m in messages if m.tag != Tag.OPEN)


@dataclass(frozen=True, slots=True)
class Place:
    """One own field as it masks what is sent: which, how many bytes, in which units; sign: 1 added, 0 XORed, -1."""

    key: tuple[int, str]
    size: int
    dtype: str
    sign: int


@dataclass(frozen=True, slots=True)
class Experiment:
    """An operation under fixed material of the corrupt party."""

    row: ProtocolRow
    operate: Operate
    corrupt: int
    seed: int = 1
    make: Callable[..., Any] | None = None

    def run(self, shares: Shares, script: Script | None = None) -> tuple[Two, FixedDealer]:
        """One run; script: the other party's own words."""
        dealer = FixedDealer(self.seed, self.corrupt, script)
        return run_two(self.row, self.operate, shares, dealer, self.make), dealer

    def couple(self, first: Shares, second: Shares) -> tuple[Two, Two, Script]:
        """Runs on both secrets with the same messages to the corrupt party, and the words that make it so.

        Raises NoCouplingError where a message is not masked, word for word, by the other party's own words.
        """
        target, dealer = self.run(first)
        other = 1 - self.corrupt
        wanted = target.received[self.corrupt]
        script = {key: words.copy() for key, words in target.own[other].items()}
        for _ in range(len(wanted) + 1):
            now, dealer = self.run(second, script)
            received = now.received[self.corrupt]
            places = mask_places(dealer, other)
            if sum(len(m.payload) for m in received) != sum(place.size for place in places):
                raise NoCouplingError("the other party does not send as many words as it has of its own")
            wrong = next((i for i, (a, b) in enumerate(zip(wanted, received, strict=True)) if a != b), None)
            if wrong is None:
                return target, now, script
            start = sum(len(m.payload) for m in received[:wrong])
            self._correct(script, places, start, received[wrong].payload, wanted[wrong].payload)
        raise NoCouplingError(f"message {wrong} cannot be made equal")

    @staticmethod
    def _correct(script: Script, places: Sequence[Place], at: int, now: bytes, wanted: bytes) -> None:
        """Move the masks of one message by what it is off."""
        low = high = 0
        for place in places:
            low, high = high, high + place.size
            if high <= at or low >= at + len(now):
                continue
            assert at <= low and high <= at + len(now)  # a field lies in one message
            x, y = (np.frombuffer(data[low - at : high - at], place.dtype) for data in (now, wanted))
            words = script[place.key].view(place.dtype)[: x.size]
            if place.sign == 0:
                words ^= x ^ y
            elif place.sign > 0:
                words += y - x
            else:
                words += x - y


def mask_places(dealer: FixedDealer, rank: int) -> list[Place]:
    """A party's masks, in the order in which the messages use them: weights, then field by field, item by item."""
    out = []
    if rank in dealer.weights:
        out.append(Place((WEIGHTS, "b"), dealer.weights[rank].nbytes, "<u8", -1))
    for number, item in enumerate(dealer.taken):
        for f in item.fields:
            if f.part != "own" or f.name in UNSENT:
                continue
            if f.unit is Unit.HALVES:
                place = Place((number, f.name), 4 * f.count, "<u4", 1)
            elif f.unit is Unit.WORDS:
                place = Place((number, f.name), 8 * f.words, "<u8", 1 if isinstance(item, Dcf) else -1)
            else:
                place = Place((number, f.name), 8 * f.words, "<u8", 0)
            out.append(place)
    return out


def halves_of(value: NDArray[np.int64], corrupt: int, own: U64 | int) -> list[U64]:
    """The parts of P_0 and P_1 of a secret, where the corrupt party's is given."""
    mine = np.broadcast_to(np.asarray(own, np.uint64), value.shape).copy()
    rest = value.view(np.uint64) - mine
    return [mine, rest] if corrupt == 0 else [rest, mine]
