"""What a request cost: measured by parties and client, in one shape for local and remote clusters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


class Measured(Protocol):
    """What a party reports."""

    @property
    def elapsed_ns(self) -> int: ...
    @property
    def wait_ns(self) -> int: ...
    @property
    def bytes_sent(self) -> int: ...
    @property
    def frames_sent(self) -> int: ...
    @property
    def rounds(self) -> int: ...


@dataclass(frozen=True, slots=True)
class OfflineCost:
    """What the material of a batch cost before anybody asked for the batch. elapsed_ns: None: not recorded.

    bytes_sent: by party: what was sent to it by a dealer, or by it to the other party.
    """

    elapsed_ns: int | None = None
    bytes_sent: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class RequestCost:
    """One request of `batch` clips. Times in ms as the client sees them; party figures by rank.

    online_ms: from sending the shares to holding all answers. party_ms, party_wait_ms: computing and, of that, waiting
    for peers. bytes_sent: each party's to its peers, headers included, TLS records not. input_bytes, output_bytes:
    between client and all parties. encrypted: False if anything went over plain TCP. calibrated: the ranges rest on
    sample data, not on a proof. offline_ms, offline_bytes: preprocessing of this batch, made before online_ms began;
    None and empty where the protocol needs none; None where nobody recorded it.
    """

    batch: int
    sharing_ms: float
    online_ms: float
    opening_ms: float
    party_ms: tuple[float, ...]
    party_wait_ms: tuple[float, ...]
    bytes_sent: tuple[int, ...]
    frames_sent: tuple[int, ...]
    rounds: int
    input_bytes: int
    output_bytes: int
    encrypted: bool
    calibrated: bool = False
    offline_ms: float | None = None
    offline_bytes: tuple[int, ...] = ()


def request_cost(
    parties: Sequence[Measured],
    *,
    batch: int,
    sharing_ns: int,
    online_ns: int,
    opening_ns: int,
    input_bytes: int,
    output_bytes: int,
    encrypted: bool,
    offline: OfflineCost | None = None,
) -> RequestCost:
    """Collect what all parties measured."""
    prepared = offline or OfflineCost()
    return RequestCost(
        batch=batch,
        sharing_ms=sharing_ns / 1e6,
        online_ms=online_ns / 1e6,
        opening_ms=opening_ns / 1e6,
        party_ms=tuple(p.elapsed_ns / 1e6 for p in parties),
        party_wait_ms=tuple(p.wait_ns / 1e6 for p in parties),
        bytes_sent=tuple(p.bytes_sent for p in parties),
        frames_sent=tuple(p.frames_sent for p in parties),
        rounds=max(p.rounds for p in parties),
        input_bytes=input_bytes,
        output_bytes=output_bytes,
        encrypted=encrypted,
        offline_ms=None if prepared.elapsed_ns is None else prepared.elapsed_ns / 1e6,
        offline_bytes=prepared.bytes_sent,
    )


def add_costs(costs: Sequence[RequestCost]) -> RequestCost:
    """The cost of requests made one after the other."""

    def total(values: Sequence[tuple[float, ...]]) -> tuple[float, ...]:
        return tuple(sum(column) for column in zip(*values, strict=True))

    return RequestCost(
        batch=sum(c.batch for c in costs),
        sharing_ms=sum(c.sharing_ms for c in costs),
        online_ms=sum(c.online_ms for c in costs),
        opening_ms=sum(c.opening_ms for c in costs),
        party_ms=total([c.party_ms for c in costs]),
        party_wait_ms=total([c.party_wait_ms for c in costs]),
        bytes_sent=tuple(int(v) for v in total([c.bytes_sent for c in costs])),
        frames_sent=tuple(int(v) for v in total([c.frames_sent for c in costs])),
        rounds=sum(c.rounds for c in costs),
        input_bytes=sum(c.input_bytes for c in costs),
        output_bytes=sum(c.output_bytes for c in costs),
        encrypted=all(c.encrypted for c in costs),
        calibrated=any(c.calibrated for c in costs),
        offline_ms=None if any(c.offline_ms is None for c in costs) else sum(c.offline_ms or 0.0 for c in costs),
        offline_bytes=tuple(int(v) for v in total([c.offline_bytes for c in costs])),
    )
