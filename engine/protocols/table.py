"""THE table of protocols: a folder and a row each. Tests, sessions, benchmarks and the command line read it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sottovoce.engine.errors import ConfigError
from sottovoce.engine.party import Party
from sottovoce.engine.prg import Fill
from sottovoce.engine.program import Shape
from sottovoce.engine.protocols.base import AShare, Declared, Demands, Protocol
from sottovoce.engine.protocols.beaver2 import share as beaver2_share
from sottovoce.engine.protocols.beaver2.protocol import Beaver2, Beaver2Fss
from sottovoce.engine.protocols.beaver2.schedule import Comparison, Schedules
from sottovoce.engine.protocols.beaver2.schedule import Demands as BeaverDemands
from sottovoce.engine.protocols.rep3 import schedule as rep3_schedule
from sottovoce.engine.protocols.rep3 import share as rep3_share
from sottovoce.engine.protocols.rep3.protocol import Rep3
from sottovoce.engine.tensors import U64
from sottovoce.kernels.catalog import BEAVER, BITS, FSS, LINEAR, RING, SHARES, STREAMS, Kernel

Slots = Sequence[NDArray[np.uint8]]
AnyProtocol = Protocol[Any, Any, Any, Any]


@dataclass(frozen=True, slots=True)
class ProtocolRow:
    """One protocol.

    adversary, security: the model of the adversary; with the corruption threshold, for humans.
    make: one party's side, on one lane, under a rotation of roles.
    keys: for a rank, the slots whose pairwise key it holds and the peer that holds it too.
    split: what an owner of plaintext sends: for each party the bytes of its slots; slot_bytes: their lengths.
    receive: a party's share from those bytes. export: a party's part of an output share, for a client.
    join, join_bits: the output from all parts.
    kernels: groups of the catalog that a party needs, so that they can be compiled before the first message.
    schedules: declared messages of each operation; demands: declared preprocessing, where there is any.
    """

    name: str
    parties: int
    adversary: Literal["semi-honest", "malicious"]
    security: str
    make: Callable[[Party, int], AnyProtocol]
    keys: Callable[[int], Mapping[int, int]]
    split: Callable[[NDArray[np.uint64], Fill], Sequence[Slots]]
    slot_bytes: Callable[[int, int], tuple[int, ...]]
    receive: Callable[[int, Slots, Shape, int, Fill], AShare]
    export: Callable[[Any], NDArray[Any]]
    join: Callable[[Sequence[U64]], U64]
    join_bits: Callable[[Sequence[NDArray[np.uint8]]], NDArray[np.uint8]]
    schedules: Declared
    kernels: tuple[Kernel, ...]
    demands: Demands | None = None

    @property
    def preprocessing(self) -> bool:
        """Whether it needs an offline phase that makes correlated randomness."""
        return self.demands is not None


def _beaver2(protocol: type[Beaver2], comparison: Comparison) -> ProtocolRow:
    return ProtocolRow(
        name=protocol.name,
        parties=protocol.parties,
        adversary="semi-honest",
        security="semi-honest, one of two parties; preprocessing by a dealer"
        + ("" if comparison == "fss" else " or by oblivious transfer"),
        make=protocol,
        keys=beaver2_share.key_holders,
        split=beaver2_share.split,
        slot_bytes=beaver2_share.slot_bytes,
        receive=beaver2_share.receive,
        export=beaver2_share.export,
        join=beaver2_share.join,
        join_bits=beaver2_share.join_bits,
        schedules=Schedules(comparison),
        kernels=(*RING, *LINEAR, *STREAMS, *BITS, *BEAVER, *(FSS if comparison == "fss" else ())),
        demands=BeaverDemands(comparison),
    )


PROTOCOLS: Mapping[str, ProtocolRow] = {
    row.name: row
    for row in (
        ProtocolRow(
            name="rep3",
            parties=3,
            adversary="semi-honest",
            security="semi-honest, one of three parties",
            make=Rep3,
            keys=rep3_share.key_holders,
            split=rep3_share.split,
            slot_bytes=rep3_share.slot_bytes,
            receive=rep3_share.receive,
            export=rep3_share.export,
            join=rep3_share.join,
            join_bits=rep3_share.join_bits,
            schedules=rep3_schedule,
            kernels=(*RING, *LINEAR, *STREAMS, *BITS, *SHARES),
        ),
        _beaver2(Beaver2, "boolean"),
        _beaver2(Beaver2Fss, "fss"),
    )
}


def find(name: str) -> ProtocolRow:
    """The protocol of that name. Raises ConfigError with the known names."""
    if name not in PROTOCOLS:
        raise ConfigError(f"protocol: expected one of {', '.join(PROTOCOLS)}, got {name!r}")
    return PROTOCOLS[name]
