"""What preprocessing costs by itself: each source of correlated randomness, for each protocol, per clip of a model.

The processes are those of `sottovoce prepare` and `sottovoce dealer`, each in its node of the network. Time runs from
the agreement of the two parties to the last record on the disk of the slower one; start-up of the processes is not in
it, and neither is a first run that is not counted.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Final

import msgspec

from sottovoce.bench.network.open import open_network
from sottovoce.bench.network.profiles import parse_profile
from sottovoce.bench.runner import SEED, Say, quiet, sample_features
from sottovoce.bench.schema import NetworkUsed, OfflineRow
from sottovoce.bench.stats import summarise
from sottovoce.bench.systems.base import Job
from sottovoce.bench.systems.deployment import Deployment, Prepared, nodes_of
from sottovoce.engine.errors import ConfigError, SottovoceError
from sottovoce.engine.preprocessing.segment import Source
from sottovoce.engine.protocols.table import PROTOCOLS, find
from sottovoce.models.zoo import MODELS, build, random_weights
from sottovoce.serving.prepare import check_protocol

SOURCES: Final[Sequence[Source]] = ("dealer", "ot")
WARM_UP_CLIPS: Final = 1


@dataclass(frozen=True, slots=True)
class OfflinePlan:
    """What to measure: every source for every protocol and model on every network, `repeat` times `clips` clips."""

    models: Sequence[str] = ("paper",)
    protocols: Sequence[str] = tuple(name for name, row in PROTOCOLS.items() if row.preprocessing)
    sources: Sequence[Source] = SOURCES
    networks: Sequence[str] = ("loopback",)
    clips: int = 32
    repeat: int = 3
    encrypted: bool = True

    def __post_init__(self) -> None:
        for model in self.models:
            if model not in MODELS:
                raise ConfigError(f"bench: model: expected one of {', '.join(MODELS)}, got {model!r}")
        for protocol in self.protocols:
            if not find(protocol).preprocessing:
                known = ", ".join(name for name, row in PROTOCOLS.items() if row.preprocessing)
                raise ConfigError(f"bench: protocol: expected one with preprocessing ({known}), got {protocol!r}")
        for network in self.networks:
            if parse_profile(network).link is not None and not self.encrypted:
                raise ConfigError(f"bench: network {network}: plain TCP is for loopback only")


def measure_offline(plan: OfflinePlan, *, say: Say = quiet) -> list[OfflineRow]:
    """A row for each combination; one that cannot be measured says why."""
    rows: list[OfflineRow] = []
    for model, network in product(plan.models, plan.networks):
        for protocol, source in product(plan.protocols, plan.sources):
            say(f"{model}, {protocol}, {source}, {network}")
            row = OfflineRow(
                model=model,
                protocol=protocol,
                source=source,
                clips=plan.clips,
                network=NetworkUsed(name=network, method="loopback" if network == "loopback" else "user-space"),
                encrypted=plan.encrypted,
            )
            try:
                check_protocol(find(protocol), source)
                rows.append(_measured(row, plan.repeat, say))
            except (SottovoceError, OSError) as error:
                status = "missing" if isinstance(error, ConfigError) else "failed"
                rows.append(msgspec.structs.replace(row, status=status, reason=str(error)))
                say(str(error))
    return rows


def _measured(row: OfflineRow, repeat: int, say: Say) -> OfflineRow:
    """The row with its figures."""
    protocol = find(row.protocol)
    graph = build(row.model, None if MODELS[row.model].weights else random_weights(row.model, SEED))
    with (
        tempfile.TemporaryDirectory(prefix="sottovoce-bench-") as scratch,
        open_network(row.network.name, nodes_of(protocol)) as network,
    ):
        job = Job(graph, sample_features(graph, 1), (), network, Path(scratch), encrypted=row.encrypted)
        deployment = Deployment(protocol, job, Path(scratch) / "deployment")
        runs: list[tuple[Prepared, ...]] = []
        for number in range(-1, repeat):
            say(f"{row.model}, {row.protocol}, {row.source}", f"run {number + 1} of {repeat}")
            made = deployment.prepare(WARM_UP_CLIPS if number < 0 else row.clips, row.source)
            runs += [made] if number >= 0 else []
        return with_figures(row, runs, network.used)


def with_figures(row: OfflineRow, runs: Sequence[tuple[Prepared, ...]], used: NetworkUsed) -> OfflineRow:
    """Per clip. runs: what both parties said of each."""

    def mean(by_run: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        return tuple(round(sum(column) / len(column) / row.clips) for column in zip(*by_run, strict=True))

    return msgspec.structs.replace(
        row,
        network=used,
        clip_ms=summarise([max(party.elapsed_ms for party in run) / row.clips for run in runs]),
        clip_bytes=mean([tuple(party.bytes_sent for party in run) for run in runs]),
        clip_stored_bytes=mean([tuple(party.stored_bytes for party in run) for run in runs]),
    )
