"""Results as the runner writes them, with invented figures: for tests of what is made from them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
import numpy as np

from sottovoce.bench.schema import LOOPBACK, AccuracyRow, Environment, NetworkRow, NetworkUsed, Results, Row, Summary
from sottovoce.bench.stats import summarise

BATCHES = tuple(2**power for power in range(13))
MODELS = ("paper", "paper-large", "wide", "deep", "tiny")
NETWORKS = (
    LOOPBACK,
    NetworkUsed(name="lan", method="user-space", rtt_ms=0.1, mbit_s=10_000),
    NetworkUsed(name="metro", method="user-space", rtt_ms=5, mbit_s=1_000),
    NetworkUsed(name="wan", method="user-space", rtt_ms=40, mbit_s=100),
)
ENVIRONMENT = Environment(
    created="2026-01-02T03:04:05+00:00",
    sottovoce="0.1.0",
    commit="0123456789abcdef0123456789abcdef01234567",
    platform="Linux 6.1, x86_64",
    python="3.11.2",
    processor="Invented Processor",
    cores=2,
    memory_gb=8.0,
    load=(0.5, 0.25, 0.125),
)


def summary(values: Sequence[float]) -> Summary:
    """As bench.stats makes it."""
    lowest, lower, median, upper, largest = np.percentile(values, [0, 25, 50, 75, 100]).tolist()
    return Summary(n=len(values), median=median, lower=lower, upper=upper, smallest=lowest, largest=largest)


def row(
    model: str = "paper",
    batch: int = 1,
    *,
    system: str = "sottovoce",
    protocol: str = "rep3",
    network: NetworkUsed = LOOPBACK,
    lanes: int = 1,
    slower: float = 1.0,
    seed: int = 0,
) -> Row:
    """A measured row: a fixed part, a part for each round trip and one for each clip, and noise."""
    rng = np.random.default_rng(seed)
    weight = 1.0 if model not in MODELS else 1.0 + 1.6 * MODELS.index(model)
    clip_ms = weight * slower * (3.0 + 5.0 / lanes)
    rounds, sent = 22, int(160_000 * weight)
    wire_ms = (network.rtt_ms or 0.0) * rounds + 8e-3 * sent * batch / (network.mbit_s or 1e6)
    samples = (15 * slower + clip_ms * batch**0.97 + wire_ms) * rng.lognormal(0.0, 0.05, 12)
    return Row(
        system=system,
        protocol=protocol,
        adversary="semi-honest",
        security="one of three",
        parties=3,
        model=model,
        batch=batch,
        lanes=lanes,
        network=network,
        online_ms=summary(samples),
        samples_ms=tuple(samples.tolist()),
        clips_per_s=1000 * batch / float(np.median(samples)),
        bytes_sent=(sent * batch, sent * batch + 64, sent * batch + 128),
        rounds=rounds,
        memory_mb=(150 + 0.3 * batch * weight, 151 + 0.3 * batch * weight, 149 + 0.3 * batch * weight),
        label_agreement=1.0,
    )


def sweep(models: Sequence[str] = MODELS) -> Results:
    """Batch sizes, networks and lanes, with one row that failed."""
    rows = [row(model, batch, seed=batch) for model in models for batch in BATCHES]
    rows += [row("paper", 128, lanes=lanes) for lanes in (2, 4)]
    rows.append(Row(protocol="rep3", parties=3, model="paper", batch=8192, status="failed", reason="out of | memory"))
    return Results(kind="sweep", command="sottovoce bench sweep", environment=ENVIRONMENT, rows=tuple(rows))


def network(models: Sequence[str] = MODELS) -> Results:
    """One clip on each network."""
    rows = [row(model, 1, network=used) for model in models for used in NETWORKS]
    return Results(kind="sweep", command="sottovoce bench sweep", environment=ENVIRONMENT, rows=tuple(rows))


def validated() -> Results:
    """The networks themselves."""
    took = summarise([1.5, 2.5, 4.5])
    networks = tuple(
        NetworkRow(
            used=msgspec.structs.replace(used, measured_rtt_ms=took, measured_mbit_s=took),
            nodes=3,
            message_ms=took,
            together_mbit_s=(1.0, 2.0, 3.0),
            shaper_share=0.25,
        )
        for used in NETWORKS
    )
    return Results(kind="network", command="sottovoce bench network", environment=ENVIRONMENT, networks=networks)


def peers() -> Results:
    """Two peers that ran, one that is missing."""
    rows: list[Row] = []
    for place, batch in enumerate((1, 32, 128, 1024)):
        rows.append(row(batch=batch, seed=1))
        rows.append(row(batch=batch, system="crypten", protocol="2pc", slower=9 + 2 * place, seed=2))
        rows.append(row(batch=batch, system="spu", protocol="aby3", slower=5 - place, seed=3))
        rows.append(
            Row(
                system="mp-spdz", protocol="mp-spdz", parties=0, model="paper", batch=batch,
                status="missing", reason="no build at the given path",
            )
        )  # fmt: skip
    return Results(kind="peers", command="sottovoce bench peers", environment=ENVIRONMENT, rows=tuple(rows))


def accuracy() -> Results:
    """Two splits, two seeds."""

    def rows() -> Iterator[AccuracyRow]:
        for split, correct in (("random", 101), ("speaker", 61)):
            for seed in (0, 1):
                yield AccuracyRow(
                    model="paper",
                    split="random" if split == "random" else "speaker",
                    seed=seed,
                    rows=144,
                    float_correct=correct + seed,
                    fixed_correct=correct + seed,
                    mpc_correct=correct,
                    protocol="rep3",
                    label_changes=seed,
                    fixed_differs_from_mpc=0,
                    data="ab" * 32,
                )

    return Results(
        kind="accuracy",
        command="sottovoce bench accuracy corpus.npz",
        environment=ENVIRONMENT,
        accuracy=tuple(rows()),
    )


def paper() -> Results:
    """One clip on each network, and the same network in the clear."""
    clear = row(protocol="plain")
    rows = [row(network=used) for used in NETWORKS]
    rows.append(msgspec.structs.replace(clear, parties=1, adversary="", bytes_sent=(), encrypted=False))
    return Results(kind="paper", command="sottovoce bench paper", environment=ENVIRONMENT, rows=tuple(rows))
