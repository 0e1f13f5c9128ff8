"""What owners, clients and parties say to each other, besides shares. All of it is checked when it is read."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

from sottovoce.engine.program import MAX_JSON_BYTES, OutputKind

DEPLOY: Final = b"deploy"
CLASSIFY: Final = b"classify"
MAX_MESSAGE: Final = MAX_JSON_BYTES + (8 << 10)
MAX_CONTROL: Final = 4 << 10
MAX_BATCH: Final = 1 << 16
MAX_INPUT_ELEMENTS: Final = 1 << 24
MAX_QUEUED_BYTES: Final = 1 << 30
CONTROL_TAG: Final = 0x7000
WEIGHTS_BYTES: Final = 32

Id = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
Batch = Annotated[int, msgspec.Meta(ge=1, le=MAX_BATCH)]
Reason = Annotated[str, msgspec.Meta(max_length=512)]
Count = Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]


class Deploy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Owner -> party, followed by one frame of slots per parameter tensor. session: fresh, the same for all parties.

    weights: empty, or 32 bytes that name the weights, to nobody but the owner, for protocols whose preprocessing is
    bound to them; see `owner.weights_tag`. A party uses it only together with who sent it (`deployment.claim_of`).
    """

    session: Id
    protocol: Annotated[str, msgspec.Meta(max_length=32)]
    lanes: Annotated[int, msgspec.Meta(ge=1, le=16)]
    program: Annotated[bytes, msgspec.Meta(max_length=MAX_JSON_BYTES)]
    weights: Annotated[bytes, msgspec.Meta(max_length=WEIGHTS_BYTES)] = b""

    def __post_init__(self) -> None:
        if len(self.weights) not in (0, WEIGHTS_BYTES):
            raise ValueError(f"weights: expected none or {WEIGHTS_BYTES} bytes, got {len(self.weights)}")

    def __repr__(self) -> str:
        return f"Deploy(protocol={self.protocol!r}, lanes={self.lanes})"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        return [("protocol", self.protocol), ("lanes", self.lanes)]


class Received(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Party -> owner: the shares are here; refusal: why this party does not take them, and waits for others."""

    digest: bytes = b""
    refusal: Reason = ""


class Join(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Owner -> party: all parties hold their shares and can run the program; connect with each other."""


class Ready(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Party -> owner: connected with the other parties, which run the same program; refusal: why it does not go on."""

    rank: int
    refusal: Reason = ""


class Offer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Party -> client: what it serves. All parties must offer the same but for the rank."""

    rank: int
    protocol: Annotated[str, msgspec.Meta(max_length=32)]
    session: Id
    program: Annotated[bytes, msgspec.Meta(max_length=MAX_JSON_BYTES)]
    encrypted: bool


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Client -> party, followed by one frame of slots. request: fresh random bytes, the same for all parties."""

    request: Id
    batch: Batch
    output: OutputKind


class LayerCost(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Measured at one party: one layer of one request."""

    layer: Annotated[str, msgspec.Meta(max_length=64)]
    elapsed_ns: Count
    wait_ns: Count
    bytes_sent: Count
    frames_sent: Count


class Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Party -> client, followed by one frame with its part of the output unless `error` says why there is none.

    offline_ns, offline_bytes: what it cost this party to prepare the batch's material; no time if it is not known.
    """

    request: Id
    error: Reason = ""
    elapsed_ns: Count = 0
    wait_ns: Count = 0
    bytes_sent: Count = 0
    frames_sent: Count = 0
    rounds: Count = 0
    offline_ns: Count | None = None
    offline_bytes: Count = 0
    layers: Annotated[tuple[LayerCost, ...], msgspec.Meta(max_length=512)] = ()


class Control(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Between parties, about the request `request` of `client`.

    From P_0: begin (who holds a share of this?), go (run it now), later (somebody does not hold it yet), drop (it
    failed), idle (no work, but alive), stop. To P_0: accept, missing (no share yet), decline (not the same request).
    """

    kind: Literal["begin", "accept", "missing", "decline", "go", "later", "drop", "idle", "stop"]
    client: Annotated[str, msgspec.Meta(max_length=64)] = ""
    request: Id = bytes(16)
    batch: Annotated[int, msgspec.Meta(ge=0, le=MAX_BATCH)] = 0
    output: OutputKind = "label"
    reason: Reason = ""
