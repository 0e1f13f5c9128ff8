"""Measures: starts systems, asks them in turn, makes rows. Every end-to-end figure of the project comes from here.

Systems of one plan run in one session and are asked in turn, in a rotating order, so that what else happens on the
machine happens to all of them. Starting, compiling, sharing the model and the first requests are not timed.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from sottovoce.bench.network.open import open_network
from sottovoce.bench.network.profiles import parse_profile
from sottovoce.bench.schema import NetworkUsed, Row, Status, Summary
from sottovoce.bench.stats import summarise
from sottovoce.bench.systems.base import Description, Job, Running, Sample, System
from sottovoce.bench.systems.deployment import nodes_of
from sottovoce.bench.systems.ours import Sottovoce
from sottovoce.engine.errors import ConfigError, SottovoceError
from sottovoce.engine.protocols.table import find
from sottovoce.models.evaluate import evaluate
from sottovoce.models.graph import Graph
from sottovoce.models.zoo import MODELS, build, random_weights

T = TypeVar("T")
SEED: Final = 0
MOST_PARTIES: Final = 4
"""Of any peer."""
ROWS: Final = 64
"""Different clips in a job; larger batches repeat them."""


class Say(Protocol):
    """Told what goes on: `what` is worth a line of a log, `detail` is not."""

    def __call__(self, what: str, detail: str = "") -> None: ...


def quiet(what: str, detail: str = "") -> None:
    """Says nothing."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure one batch size: `repeat` rounds, or fewer once the slowest system has used `seconds`.

    least: rounds to make in any case, unless they take three times as long. warm_ups: rounds before, not timed;
    one if that is slow.
    """

    repeat: int = 20
    seconds: float = 20.0
    least: int = 3
    warm_ups: int = 2

    def enough(self, rounds: int, spent_s: float) -> bool:
        """Whether to stop after that many timed rounds."""
        return spent_s > self.seconds * (1 if rounds >= self.least else 3)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure on one network: every protocol and peer on one model, at each batch size.

    model: a name of the zoo; without trained weights it gets random ones. network: see bench/network. devices: of our
    parties, each as for `Sottovoce`.
    """

    model: str
    batches: tuple[int, ...]
    protocols: tuple[str, ...] = ("rep3",)
    network: str = "loopback"
    lanes: int = 1
    encrypted: bool = True
    devices: tuple[str, ...] = ("cpu",)

    def __post_init__(self) -> None:
        if self.model not in MODELS:
            raise ConfigError(f"bench: model: expected one of {', '.join(MODELS)}, got {self.model!r}")
        if not self.batches or min(self.batches) < 1:
            raise ConfigError(f"bench: batch: expected sizes of at least 1, got {self.batches}")
        for protocol in self.protocols:
            find(protocol)
        shaped = parse_profile(self.network).link is not None
        if shaped and not self.encrypted:
            raise ConfigError(f"bench: network {self.network}: plain TCP is for loopback only")


def run_plan(
    plan: Plan,
    effort: Effort,
    *,
    peers: Sequence[System] = (),
    say: Say = quiet,
    wrap: Callable[[System], System] = lambda system: system,
) -> list[Row]:
    """Measure a plan. What cannot be measured is a row with the reason. wrap: makes of each system the one asked."""
    ours = [Sottovoce(protocol, device=device) for protocol in plan.protocols for device in plan.devices]
    systems: list[System] = [*map(wrap, ours), *map(wrap, peers)]
    trained = MODELS[plan.model].weights is not None
    graph = build(plan.model, None if trained else random_weights(plan.model, SEED))
    nodes = max((nodes_of(find(protocol)) for protocol in plan.protocols), default=1)
    say(f"network {plan.network}")
    with tempfile.TemporaryDirectory(prefix="sottovoce-bench-") as scratch, ExitStack() as stack:
        try:
            network = stack.enter_context(open_network(plan.network, max(nodes, 1 + MOST_PARTIES if peers else 0)))
        except ConfigError as error:
            say(str(error))
            nowhere = NetworkUsed(name=plan.network, method="user-space")
            return [
                _row(
                    system.name, None, model=plan.model, batch=batch, lanes=plan.lanes, network=nowhere,
                    status="missing", reason=str(error),
                )
                for batch in plan.batches
                for system in systems
            ]  # fmt: skip
        job = Job(
            graph, sample_features(graph), plan.batches, network, Path(scratch), lanes=plan.lanes,
            encrypted=plan.encrypted,
        )  # fmt: skip
        return measure(systems, job, plan.model, effort, random=not trained, say=say)


def sample_features(graph: Graph, rows: int = ROWS) -> NDArray[np.float64]:
    """Random features in the declared box, (rows, *input_shape): the time does not depend on them."""
    low, high = graph.box()
    return np.random.default_rng(SEED).uniform(low, high, (rows, *graph.input_shape))


def measure(
    systems: Sequence[System],
    job: Job,
    model: str,
    effort: Effort,
    *,
    random: bool = False,
    say: Say = quiet,
) -> list[Row]:
    """One row for each system and batch size."""
    expected = evaluate(job.graph, job.features).argmax(axis=1)
    rows: list[Row] = []
    with ExitStack() as stack:
        entries = [_Entry(system, stack, job.of_system(n), say) for n, system in enumerate(systems)]
        for batch in job.batches:
            least, most = effort.warm_ups + min(effort.least, effort.repeat), effort.warm_ups + effort.repeat
            ready = min([entry.begin(batch, least, most) for entry in entries], default=most)
            for number in range(-effort.warm_ups, ready - effort.warm_ups):
                if number == -1 and max(entry.last_s for entry in entries) > effort.seconds / 4:
                    continue  # one warm-up of something slow is enough
                say(f"{model}, batch {batch}", "warm-up" if number < 0 else f"round {number + 1} of {effort.repeat}")
                for entry in in_turn(entries, number):
                    entry.ask(batch, timed=number >= 0)
                if effort.enough(number + 1, max(entry.spent_s for entry in entries)):
                    break
            labels = np.resize(expected, batch)
            rows += [entry.row(job, model, batch, labels, random) for entry in entries]
    return rows


def in_turn(entries: Sequence[T], number: int) -> list[T]:
    """The order of a round: each goes first once, and every second cycle goes backwards, so that neighbours change."""
    cycle, start = divmod(number, len(entries))
    order = [*entries[start:], *entries[:start]]
    return order[::-1] if cycle % 2 else order


class _Entry:
    """One system of a session: what it said, or why it cannot."""

    def __init__(self, system: System, stack: ExitStack, job: Job, say: Say) -> None:
        self._system = system
        self._say = say
        self._running: Running | None = None
        self._samples: list[Sample] = []
        self._reason = ""
        self._status: Status = "failed"
        self._stack = stack.enter_context(ExitStack())
        self._described: Description | None = None
        self.spent_s = 0.0
        self.last_s = 0.0
        say(f"{system.name}: starting")
        try:
            self._described = system.describe()
            self._running = self._stack.enter_context(system.start(job))
        except (SottovoceError, OSError) as error:
            self._reason = str(error)
            self._status = "missing" if isinstance(error, ConfigError) else "failed"
            say(f"{system.name}: {error}")

    def begin(self, batch: int, least: int, most: int) -> int:
        """The next batch size: what it needs ahead of time is done; returns for how many requests."""
        self._samples = []
        self.spent_s = self.last_s = 0.0
        if self._running is None:
            return most
        if self._described is not None and self._described.preprocessing:
            self._say(f"{self._system.name}: preprocessing for batch {batch}")
        try:
            return self._running.prepare(batch, least, most)
        except Exception as error:
            self._fail(error)
            return most

    def ask(self, batch: int, *, timed: bool) -> None:
        """One batch; a system that fails is not asked again."""
        if self._running is None:
            return
        start = time.monotonic()
        try:
            sample = self._running.run(batch)
        except Exception as error:  # whatever a foreign system answers must not lose the rows of the others
            self._fail(error)
            return
        self.last_s = time.monotonic() - start
        if timed:
            self.spent_s += self.last_s
            self._samples.append(sample)

    def _fail(self, error: Exception) -> None:
        said = str(error) if isinstance(error, SottovoceError) else f"{type(error).__name__}: {error}"
        self._running, self._reason = None, said
        self._status = "missing" if isinstance(error, ConfigError) else "failed"
        self._say(f"{self._system.name}: {said}")
        self._stack.close()  # what it still computes would take the others' time

    def row(self, job: Job, model: str, batch: int, labels: NDArray[np.int64], random: bool) -> Row:
        """What was measured of one batch size."""
        where: dict[str, Any] = {
            "model": model,
            "batch": batch,
            "random_weights": random,
            "lanes": job.lanes,
            "network": job.network.used,
        }
        found = self._described
        if found is not None:
            where["encrypted"] = found.encrypted and job.encrypted
        if found is None or self._running is None:
            return _row(self._system.name, found, **where, status=self._status, reason=self._reason)
        samples = self._samples
        last = samples[-1]
        online = _summary([s.online_ms for s in samples])
        assert online is not None
        agreement = [float(np.mean(s.labels == labels)) if len(s.labels) else math.nan for s in samples]
        return _row(
            self._system.name,
            found,
            **where,
            online_ms=online,
            samples_ms=tuple(round(s.online_ms, 4) for s in samples),
            party_ms=_summary([max(s.party_ms) for s in samples if s.party_ms]),
            compute_ms=_summary([_mean(s.party_ms) - _mean(s.wait_ms) for s in samples if s.wait_ms]),
            wait_ms=_summary([_mean(s.wait_ms) for s in samples if s.wait_ms]),
            sharing_ms=_summary([s.sharing_ms for s in samples if s.sharing_ms is not None]),
            opening_ms=_summary([s.opening_ms for s in samples if s.opening_ms is not None]),
            offline_ms=_summary([s.offline_ms for s in samples if s.offline_ms is not None]),
            offline_bytes=_means([s.offline_bytes for s in samples]),
            clips_per_s=round(1000 * batch / online.median, 4),
            bytes_sent=_means([s.bytes_sent for s in samples]),
            rounds=last.rounds,
            input_bytes=last.input_bytes,
            output_bytes=last.output_bytes,
            memory_mb=tuple(round(value, 1) for value in self._running.memory_mb()),
            labels_seen=len(set(labels.tolist())),
            label_agreement=None if math.isnan(min(agreement)) else min(agreement),
        )


def _row(name: str, found: Description | None, **figures: Any) -> Row:
    """A row of the system called `name`; found: its description, None for one that was not started."""
    if found is None:
        named, _, device = name.partition(" on ")
        system, _, protocol = named.partition(" ")
        return Row(system=system, protocol=protocol or system, parties=0, device=device or "cpu", **figures)
    return Row(
        system=found.system,
        version=found.version,
        protocol=found.protocol,
        adversary=found.adversary,
        security=found.security,
        parties=found.parties,
        preprocessing=found.preprocessing,
        settings=found.settings,
        device=found.device,
        **figures,
    )


def _summary(values: Sequence[float]) -> Summary | None:
    return summarise(values) if values else None


def _means(by_run: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """By party: a protocol that preprocesses in portions does not send the same in each run."""
    return tuple(round(_mean(column)) for column in zip(*by_run, strict=True))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
