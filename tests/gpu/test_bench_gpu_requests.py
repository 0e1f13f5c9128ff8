"""Part three of `sottovoce bench gpu`, without a GPU: what is asked, where, and what there is no time for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from sottovoce.bench.gpu import end_to_end
from sottovoce.bench.gpu.budget import Budget
from sottovoce.bench.runner import Plan, run_plan
from sottovoce.bench.schema import Row
from sottovoce.bench.systems.base import Description, Job, Running, Sample
from sottovoce.bench.systems.ours import Sottovoce
from sottovoce.engine.errors import ConfigError
from tests.gpu.false_meter import Clock


class FalseSystem:
    """A clip takes a second of the clock, and half a second to prepare after four that preparation takes to begin."""

    name = "sottovoce rep3 on cuda:0"

    def __init__(self, clock: Clock, preprocessing: bool = False) -> None:
        self.clock = clock
        self.asked: list[tuple[int, int, int]] = []
        self.jobs: list[Job] = []
        self._preprocessing = preprocessing

    def describe(self) -> Description:
        return Description("sottovoce", "1", "rep3", "semi-honest", "", 3, True, self._preprocessing, {}, "cuda:0")

    @contextmanager
    def start(self, job: Job) -> Iterator[Running]:
        self.jobs.append(job)
        yield self

    def prepare(self, batch: int, least: int, most: int) -> int:
        self.asked.append((batch, least, most))
        self.clock.now += 4.0 + 0.5 * batch * most if self._preprocessing else 0.0
        return most

    def run(self, batch: int) -> Sample:
        self.clock.now += batch
        offline_ms = 500.0 * batch if self._preprocessing else None
        return Sample(1000.0 * batch, np.zeros(batch, np.int64), bytes_sent=(1, 2, 3), offline_ms=offline_ms)

    def memory_mb(self) -> tuple[float, ...]:
        return ()


def test_batches_that_would_take_longer_than_is_left_are_rows_with_the_reason() -> None:
    clock = Clock()
    budget, system = Budget(60, clock), FalseSystem(clock)
    plan = Plan("tiny", (1, 4, 16, 64), ("rep3",))
    effort = end_to_end.Effort(repeat=2, seconds=1e9, least=2, warm_ups=1)
    rows = run_plan(plan, effort, wrap=lambda ours: end_to_end.Bounded(system, budget))
    assert [(row.batch, row.status) for row in rows] == [
        (1, "measured"),
        (4, "measured"),
        (16, "missing"),
        (64, "missing"),
    ]
    assert rows[2].reason == "not measured from batch 16: expected to take 48 s, 45 s are left"
    assert budget.cut == ["sottovoce rep3 on cuda:0, batch 16: expected to take 48 s, 45 s are left"]
    assert {row.device for row in rows} == {"cuda:0"} and rows[0].bytes_sent == (1, 2, 3)
    assert system.asked == [(1, 3, 3), (4, 3, 3)] and system.jobs[0].batches == plan.batches


def test_material_is_prepared_for_the_requests_that_there_is_time_for() -> None:
    clock = Clock()
    budget, system = Budget(100, clock), FalseSystem(clock, preprocessing=True)
    effort = end_to_end.Effort(repeat=9, seconds=1e9, least=2, warm_ups=1)
    run_plan(Plan("tiny", (1, 8), ("rep3",)), effort, wrap=lambda ours: end_to_end.Bounded(system, budget))
    assert system.asked == [(1, 3, 10), (8, 3, 6)], "4, 5 and 10 s are spent, 81 - 4 s are left for 12 s each"
    assert system.jobs[0].batches == (), "nothing for sizes that may never be asked"


def test_plans_get_even_parts_of_the_time_and_their_devices() -> None:
    clock, plans = Clock(), []

    def run(plan: Plan, effort: object, **options: object) -> list[Row]:
        plans.append((plan, len(options["peers"])))  # type: ignore[arg-type]
        clock.now += 30
        return [Row(protocol=plan.protocols[0], parties=3, model=plan.model, batch=1)]

    grid = end_to_end.Grid(models=("paper", "medium"), protocols=("rep3", "beaver2"))
    budget = Budget(100, clock)
    found = list(end_to_end.measure(grid, 1, 2, budget, run=run))
    assert len(found) == 4 and budget.left() == 0
    assert [(plan.model, plan.protocols[0], peers) for plan, peers in plans] == [
        ("paper", "rep3", 1), ("medium", "rep3", 1), ("paper", "beaver2", 0), ("medium", "beaver2", 0)
    ]  # fmt: skip
    assert plans[0][0].devices == ("cuda:1", "cpu")
    assert plans[2][0].devices == ("cuda:1", "cuda:1,cuda:0", "cpu")
    clock.now = 71
    late = Budget(0, clock)
    assert list(end_to_end.measure(grid, 0, 1, late, run=run)) == [] and late.cut[0] == "paper rep3: no time left"


def test_devices_of_a_system_are_options_of_its_parties(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = Sottovoce("rep3", device="cuda:0,cuda:1,cpu")
    assert [options[-2:] for options in ours._party_options] == [
        ("--device", "cuda:0"), ("--device", "cuda:1"), ("--device", "cpu")
    ]  # fmt: skip
    assert Sottovoce("rep3").name == "sottovoce rep3" and ours.name == "sottovoce rep3 on cuda:0,cuda:1,cpu"
    monkeypatch.setattr("sottovoce.bench.systems.ours.missing_gpu", lambda: "CUDA sees no device")
    for device, text in (
        ("cuda", "CUDA sees no device"),
        ("cpu,cpu", "one for all parties or 3"),
        ("auto", "got 'auto'"),
    ):
        with pytest.raises(ConfigError, match=text):
            Sottovoce("rep3", device=device).describe()
    assert Sottovoce("rep3").describe().device == "cpu"


def test_crypten_is_missing_with_the_reason() -> None:
    peer = end_to_end.CrypTen(0)
    assert peer.name == "crypten beaver on cuda:0"
    with pytest.raises(ConfigError, match="crypten"):
        peer.describe()
