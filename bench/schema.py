"""The result rows of the benchmarks, as JSON. The rows are the truth: tables, CSV and plots are made from them.

A file is one `Results`: who measured what, on which machine, from which commit. `SCHEMA` grows when a field changes its
meaning or goes; a new optional field leaves it as it is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from sottovoce.bench.gpu.schema import GpuReport
from sottovoce.engine.errors import ConfigError
from sottovoce.engine.files import read_bounded
from sottovoce.engine.structs import parse_json

SCHEMA: Final = 1
MAX_BYTES: Final = 1 << 26
"""Of a file of results."""

ByParty = Annotated[tuple[int, ...], msgspec.Meta(max_length=4)]
Positive = Annotated[int, msgspec.Meta(ge=1)]
Status = Literal["measured", "missing", "failed"]
NetworkMethod = Literal["loopback", "netem", "user-space"]


class Summary(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Of `n` values: median, quartiles, smallest and largest, all in the values' unit."""

    n: int
    median: float
    lower: float
    upper: float
    smallest: float
    largest: float


class Environment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Where and when. load: the machine's 1, 5 and 15 minute averages before the first measurement.

    commit: of the checkout, "" for an installed package; dirty: it had uncommitted changes.
    """

    created: str
    sottovoce: str
    commit: str = ""
    dirty: bool = False
    platform: str
    python: str
    processor: str
    cores: int
    memory_gb: float
    load: tuple[float, ...]
    device: str = "cpu"
    packages: dict[str, str] = {}


class NetworkUsed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What the messages passed. rtt_ms and mbit_s are what was asked for; the rest was measured on that very network.

    method: loopback of this machine; netem (the kernel delays); user-space (a process of ours delays).
    mbit_s: of each node's link, in each direction. measured_rtt_ms: a small message there and back.
    """

    name: str
    method: NetworkMethod
    rtt_ms: float | None = None
    mbit_s: float | None = None
    measured_rtt_ms: Summary | None = None
    measured_mbit_s: Summary | None = None


LOOPBACK: Final = NetworkUsed(name="loopback", method="loopback")


class Row(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One system, protocol, model, batch and network; or why there is no figure for it.

    system, version: "sottovoce" or a peer. adversary: "semi-honest", "malicious", or "" where there is none (in the
    clear). security: for humans. preprocessing: the protocol has an offline phase. online_ms: from sending the shares
    to holding the answers, as the client sees it; samples_ms: its values, in the order of measurement. party_ms: the
    slowest party, from its first step to its last; compute_ms, wait_ms: means over the parties and their lanes.
    offline_ms, offline_bytes: of the batch's preprocessing; what a dealer sends to a party counts as that party's.
    offline_bytes, bytes_sent: of each party for the whole batch, means of the runs, frame headers included, TLS records
    not. memory_mb: peak resident size of each party since its start. label_agreement: share of labels equal to those of
    the network in the clear, in the worst of the runs; labels_seen: how many different ones those are. device: what the
    parties compute with, as --device says it: one for all of them, or one for each with commas between.
    """

    system: str = "sottovoce"
    version: str = ""
    protocol: str
    adversary: str = ""
    security: str = ""
    parties: int
    model: str
    random_weights: bool = False
    batch: Positive
    lanes: Positive = 1
    network: NetworkUsed = LOOPBACK
    encrypted: bool = True
    status: Status = "measured"
    reason: str = ""
    preprocessing: bool = False
    online_ms: Summary | None = None
    samples_ms: tuple[float, ...] = ()
    party_ms: Summary | None = None
    compute_ms: Summary | None = None
    wait_ms: Summary | None = None
    sharing_ms: Summary | None = None
    opening_ms: Summary | None = None
    offline_ms: Summary | None = None
    offline_bytes: ByParty = ()
    clips_per_s: float | None = None
    bytes_sent: ByParty = ()
    rounds: int | None = None
    input_bytes: int = 0
    output_bytes: int = 0
    memory_mb: tuple[float, ...] = ()
    label_agreement: float | None = None
    labels_seen: int = 0
    device: str = "cpu"
    settings: dict[str, str] = {}


class AccuracyRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Correct labels among `rows` test rows of one network, computed three ways. seed: of split and training.

    label_changes: labels under MPC that differ from those in floating point; fixed_differs_from_mpc: labels in fixed
    point in the clear that differ from those under MPC. data: SHA-256 of the feature file.
    """

    model: str
    split: Literal["random", "speaker"]
    seed: int
    rows: Positive
    float_correct: int
    fixed_correct: int
    mpc_correct: int
    protocol: str
    label_changes: int
    fixed_differs_from_mpc: int
    data: str


class NetworkRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One network, asked and measured. used: with one transfer at a time.

    message_ms: 32 KB one way and one byte back. together_mbit_s: each node receiving from the next, all at once.
    shaper_share: CPU time of the process that carries the packets over the time of those transfers; 1 is one core.
    """

    used: NetworkUsed
    nodes: int
    message_ms: Summary
    together_mbit_s: Annotated[tuple[float, ...], msgspec.Meta(min_length=1)]
    shaper_share: float


class OfflineRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Preprocessing by itself, from one source, `clips` in one run; or why there is no figure.

    source: a dealer, or oblivious transfer between the two parties. clip_ms: of the slower party, per clip.
    clip_bytes: by party, per clip: what the dealer sent to it, or it to the other party, set-up included.
    clip_stored_bytes: by party, per clip, on the disk.
    """

    model: str
    protocol: str
    source: Literal["dealer", "ot"]
    clips: Positive
    network: NetworkUsed = LOOPBACK
    encrypted: bool = True
    status: Status = "measured"
    reason: str = ""
    clip_ms: Summary | None = None
    clip_bytes: ByParty = ()
    clip_stored_bytes: ByParty = ()


class Results(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One run of one command. command: as typed, without paths of this machine."""

    schema: int = SCHEMA
    kind: Literal["paper", "sweep", "peers", "accuracy", "network", "offline", "gpu"]
    command: str
    environment: Environment
    rows: tuple[Row, ...] = ()
    accuracy: tuple[AccuracyRow, ...] = ()
    networks: tuple[NetworkRow, ...] = ()
    offline: tuple[OfflineRow, ...] = ()
    gpu: GpuReport | None = None
    notes: tuple[str, ...] = ()


def encode_results(results: Results) -> bytes:
    """The JSON text of a file of results."""
    return msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n"


def write_results(path: Path, results: Results) -> None:
    """Write a file of results; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_results(results))


def read_results(path: Path) -> Results:
    """Read a file of results, strictly. Raises ConfigError that names the file and what is wrong."""
    try:
        data = read_bounded(path, MAX_BYTES)
        version = parse_json(data, _Version).schema
        if version != SCHEMA:
            raise ConfigError(f"results {path}: expected schema {SCHEMA}, got {version}: measure again")
        return parse_json(data, Results)
    except OSError as error:
        raise ConfigError(f"results {path}: {error.strerror}") from None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"results {path}: not a file of results: {error}") from None


class _Version(msgspec.Struct):
    schema: int
