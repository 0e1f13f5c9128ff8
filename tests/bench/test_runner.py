"""The runner: systems are asked in turn, failures become rows, agreement is with the network in the clear."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sottovoce.bench.runner import Effort, Plan, in_turn, measure, sample_features
from sottovoce.bench.schema import LOOPBACK, Row
from sottovoce.bench.systems.base import Description, Job, Running, Sample
from sottovoce.engine.errors import ConfigError, DeadlineError
from sottovoce.models.evaluate import evaluate
from sottovoce.models.zoo import build


class Here:
    used = LOOPBACK

    def prefix(self, node: int) -> tuple[str, ...]:
        return ()

    def address(self, node: int) -> str:
        return "127.0.0.1"


class Fake:
    """Answers at once with given times; `wrong` labels; fails at a batch size."""

    def __init__(
        self, name: str, log: list[str], *, ms: float = 1.0, wrong: int = 0, fails_at: int = 0, ready: int = 0
    ) -> None:
        self.name = f"{name} proto"
        self.asked_for: list[tuple[int, int, int]] = []
        self._ready = ready
        self._log, self._ms, self._wrong, self._fails_at = log, ms, wrong, fails_at
        self.job: Job | None = None

    def describe(self) -> Description:
        return Description(self.name.split()[0], "1", "proto", "semi-honest", "one of two", 2, True)

    @contextmanager
    def start(self, job: Job) -> Iterator[Running]:
        self.job = job
        yield self
        self._log.append(self.name[0].upper())

    def prepare(self, batch: int, least: int, most: int) -> int:
        self.asked_for.append((batch, least, most))
        return self._ready or most

    def run(self, batch: int) -> Sample:
        self._log.append(self.name[0])
        if batch == self._fails_at:
            raise DeadlineError("P1 is late")
        assert self.job is not None
        labels = evaluate(self.job.graph, self.job.batch(batch)).argmax(axis=1)
        labels[: self._wrong] += 1
        number = len(self._log)
        return Sample(self._ms * number, labels, party_ms=(3.0, 5.0), wait_ms=(1.0, 2.0), bytes_sent=(10, 20), rounds=7)

    def memory_mb(self) -> tuple[float, ...]:
        return (1.0, 2.0)


class Absent(Fake):
    def describe(self) -> Description:
        raise ConfigError("pip could not install it")


@pytest.fixture
def job(tmp_path: Path) -> Job:
    graph = build("tiny")
    return Job(graph, sample_features(graph, 3), (1, 4), Here(), tmp_path)


def classes(job: Job, batch: int) -> list[int]:
    labels: list[int] = evaluate(job.graph, job.batch(batch)).argmax(axis=1).tolist()
    return labels


def test_systems_are_asked_in_turn_in_a_rotating_order(job: Job) -> None:
    log: list[str] = []
    rows = measure([Fake("a", log), Fake("b", log)], job, "tiny", Effort(repeat=4, warm_ups=0))
    assert "".join(log) == 2 * "abbabaab" + "BA"
    assert [(row.system, row.batch) for row in rows] == [("a", 1), ("b", 1), ("a", 4), ("b", 4)]
    assert rows[0].samples_ms == (1.0, 4.0, 6.0, 7.0)
    assert rows[0].online_ms is not None and rows[0].online_ms.median == 5.0
    assert rows[2].clips_per_s == pytest.approx(1000 * 4 / 13)
    assert rows[0].compute_ms is not None and rows[0].compute_ms.median == 2.5
    assert rows[0].bytes_sent == (10, 20) and rows[2].labels_seen == len({*classes(job, 4)})
    assert rows[0].party_ms is not None and rows[0].party_ms.median == 5.0


def test_what_is_needed_ahead_of_time_is_done_before_the_first_request_of_a_size(job: Job) -> None:
    log: list[str] = []
    slow, quick = Fake("a", log, ready=5), Fake("b", log)
    rows = measure([slow, quick], job, "tiny", Effort(repeat=9, least=3, warm_ups=2))
    assert slow.asked_for == quick.asked_for == [(1, 5, 11), (4, 5, 11)]
    assert [len(row.samples_ms) for row in rows] == [3, 3, 3, 3], "nobody is asked more often than the one with least"


def test_a_batch_that_nothing_can_be_prepared_for_is_missing_and_the_others_go_on(job: Job) -> None:
    class Full(Fake):
        def prepare(self, batch: int, least: int, most: int) -> int:
            if batch > 1:
                raise ConfigError("expected at most 8 GB, got 9 GB")
            return super().prepare(batch, least, most)

    log: list[str] = []
    of = {(row.system, row.batch): row for row in measure([Full("a", log), Fake("b", log)], job, "tiny", Effort(3))}
    assert (of["a", 1].status, of["a", 4].status) == ("measured", "missing")
    assert of["a", 4].reason == "expected at most 8 GB, got 9 GB" and len(of["b", 4].samples_ms) == 3


def test_each_system_has_ports_of_its_own(job: Job) -> None:
    systems = [Fake(name, []) for name in "abc"]
    measure(systems, job, "tiny", Effort(repeat=1))
    assert len({system.job.port for system in systems if system.job}) == 3


def test_warm_ups_are_not_in_the_figures(job: Job) -> None:
    row = measure([Fake("a", [])], job, "tiny", Effort(repeat=2, warm_ups=3))[0]
    assert row.samples_ms == (4.0, 5.0)


def test_a_system_that_fails_is_a_row_and_the_others_go_on(job: Job) -> None:
    log: list[str] = []
    rows = measure([Fake("a", log, fails_at=4), Fake("b", log), Absent("c", log)], job, "tiny", Effort(repeat=3))
    of = {(row.system, row.batch): row for row in rows}
    assert of["a", 1].status == "measured" and of["a", 4].status == "failed" and of["a", 4].online_ms is None
    assert of["a", 4].reason == "P1 is late"
    assert "".join(log).index("A") < "".join(log).rindex("b"), "its processes went on beside the others'"
    assert of["b", 4].status == "measured" and len(of["b", 4].samples_ms) == 3
    assert {of["c", batch].status for batch in (1, 4)} == {"missing"}
    assert of["c", 1].reason == "pip could not install it"


def test_wrong_labels_are_seen(job: Job) -> None:
    def agreement(row: Row) -> float | None:
        return row.label_agreement

    assert [agreement(r) for r in measure([Fake("a", [], wrong=1)], job, "tiny", Effort(repeat=2))] == [0.0, 0.75]
    assert [agreement(r) for r in measure([Fake("a", [])], job, "tiny", Effort(repeat=2))] == [1.0, 1.0]


def test_neighbours_change() -> None:
    orders = ["".join(in_turn("abc", number)) for number in range(6)]
    assert orders == ["abc", "bca", "cab", "cba", "acb", "bac"]


def test_bytes_are_means_of_the_runs(job: Job) -> None:
    class Portions(Fake):
        def run(self, batch: int) -> Sample:
            sample = super().run(batch)
            return replace(sample, bytes_sent=(100 * len(self._log), 20))

    assert measure([Portions("a", [])], job, "tiny", Effort(repeat=3, warm_ups=0))[0].bytes_sent == (200, 20)


def test_effort_ends_a_slow_row(monkeypatch: pytest.MonkeyPatch) -> None:
    effort = Effort(repeat=100, seconds=10, least=3)
    assert not effort.enough(2, 25) and effort.enough(3, 11) and effort.enough(1, 31) and not effort.enough(50, 9)


def test_a_plan_that_cannot_be_is_refused_before_anything_starts() -> None:
    for wrong in (
        {"model": "nosuch", "batches": (1,)},
        {"model": "tiny", "batches": ()},
        {"model": "tiny", "batches": (0,)},
        {"model": "tiny", "batches": (1,), "protocols": ("nosuch",)},
        {"model": "tiny", "batches": (1,), "network": "moon"},
        {"model": "tiny", "batches": (1,), "network": "lan", "encrypted": False},
    ):
        with pytest.raises(ConfigError):
            Plan(**wrong)  # type: ignore[arg-type]


def test_batches_larger_than_the_sample_repeat_it(job: Job) -> None:
    assert np.array_equal(job.batch(7)[3:6], job.features)
