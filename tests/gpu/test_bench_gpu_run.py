"""`sottovoce bench gpu`: its parts, its file, its page, and what it says without a GPU."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from sottovoce.bench.environment import environment
from sottovoce.bench.gpu import timings
from sottovoce.bench.gpu.budget import Budget
from sottovoce.bench.gpu.ceilings import Ceilings
from sottovoce.bench.gpu.run import PARTS, Report, file_name, run_gpu, run_parts
from sottovoce.bench.gpu.schema import Checked, GpuReport, Part, Sanitized
from sottovoce.bench.report.page import read_folder, render
from sottovoce.bench.schema import Results, Row, read_results, write_results
from sottovoce.cli import main
from tests.gpu.false_meter import GPU, SMALL, Clock, FalseMeter
from tests.gpu.require import needs_compiler


def report(tmp_path: Path) -> Report:
    results = Results(kind="gpu", command="sottovoce bench gpu", environment=environment(), gpu=GpuReport(gpu=GPU))
    return Report(results, lambda found: write_results(tmp_path / "gpu.json", found))


def test_parts_share_the_time_and_what_is_known_is_written_at_once(tmp_path: Path) -> None:
    clock, given = Clock(), []
    found = report(tmp_path)

    def first(told: Report, budget: Budget) -> None:
        given.append(budget.seconds)
        clock.now += 10
        told.add(checked=(Checked(kernel="add", status="equal", calls=3),))
        kept = read_results(tmp_path / "gpu.json").gpu
        assert kept is not None and kept.checked[0].kernel == "add"
        assert [part.finished for part in kept.parts] == [False]

    def second(told: Report, budget: Budget) -> None:
        given.append(budget.seconds)
        clock.now += 5
        budget.cut.append("sub: no time left")
        raise RuntimeError("cudaErrorIllegalAddress")

    seconds = {"correctness": 60.0, "kernels": 30.0, "end-to-end": 9.0}
    run_parts(found, {"correctness": first, "kernels": second}, seconds, clock)
    assert given == [60.0, 80.0], "what the first part leaves is for the second"
    kept = read_results(tmp_path / "gpu.json").gpu
    assert kept is not None
    assert kept.parts == (
        Part(name="correctness", budget_s=60.0, took_s=10.0, finished=True),
        Part(
            name="kernels",
            budget_s=80.0,
            took_s=5.0,
            finished=False,
            cut=("sub: no time left",),
            reason="RuntimeError: cudaErrorIllegalAddress",
        ),
    )
    assert found.wrong() == ["kernels: RuntimeError: cudaErrorIllegalAddress"]

    def interrupted(told: Report, budget: Budget) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_parts(found, {"end-to-end": interrupted}, seconds, clock)
    kept = read_results(tmp_path / "gpu.json").gpu
    assert kept is not None and [part.finished for part in kept.parts] == [True, False, False]


def test_a_wrong_kernel_an_error_of_a_sanitizer_and_a_failed_row_are_wrong(tmp_path: Path) -> None:
    found = report(tmp_path)
    found.add(
        checked=(Checked(kernel="add", status="equal"),),
        rows=(Row(protocol="rep3", parties=3, model="paper", batch=1),),
    )
    found.add(sanitized=(Sanitized(tool="memcheck", status="unavailable", reason="not there"),))
    assert found.wrong() == []
    failed = {
        "protocol": "rep3",
        "parties": 3,
        "model": "paper",
        "batch": 1,
        "status": "failed",
        "reason": "P0 is late",
    }
    found.add(checked=(Checked(kernel="sub", status="wrong", problem="1 of 2 differ"),))
    found.add(sanitized=(Sanitized(tool="racecheck", status="errors", reason="hazard"),), rows=(Row(**failed),))
    found.add(rows=(Row(**{**failed, "system": "crypten"}),))
    assert found.wrong() == ["sub: 1 of 2 differ", "racecheck: hazard", "paper rep3 on cpu, batch 1: P0 is late"]


def test_the_file_is_named_by_device_and_commit(tmp_path: Path) -> None:
    where = environment()
    found, path = run_gpu([], 0, tmp_path, where, "sottovoce bench gpu", meter=FalseMeter)
    assert found.results.environment.device == GPU.name and path.parent == tmp_path
    clean = msgspec.structs.replace(where, commit="1a2b3c4d5e6f", dirty=False)
    assert file_name(GPU, clean) == "nvidia-test-1-1a2b3c4d5e.json"
    assert file_name(GPU, msgspec.structs.replace(clean, dirty=True)) == "nvidia-test-1-1a2b3c4d5e-changed.json"


@needs_compiler
def test_the_page_shows_a_gpu_s_file_and_only_then(tmp_path: Path) -> None:
    (tmp_path / "gpu").mkdir()
    row = Row(protocol="rep3", parties=3, model="tiny", batch=1, status="missing")
    other = Results(kind="sweep", command="x", environment=environment(), rows=(row,))
    write_results(tmp_path / "sweep.json", other)
    before = render(read_folder(tmp_path), plots=False)
    assert "GPU" not in before
    meter, found = FalseMeter(), report(tmp_path / "gpu")
    ceilings = Ceilings(meter, SMALL)
    effort = timings.Effort(target_bytes=1 << 10, tries=1, every=False)
    found.add(ceilings=ceilings.all, checked=(Checked(kernel="add", status="wrong", calls=2, problem="<b>bad</b>"),))
    found.add(kernels=next(timings.time_kernels(meter, ceilings, effort, Budget(60), ["add"])))
    found.add(
        rows=(Row(protocol="rep3", parties=3, model="paper", batch=64, device="cuda:0", status="missing", reason="no"),)
    )
    found.set_part(Part(name="kernels", budget_s=9, took_s=1, finished=True, cut=("sub: no time left",)))
    page = render(read_folder(tmp_path), plots=False)
    assert page.startswith(before.partition("## All files")[0].rstrip())
    for words in (
        "## On a GPU", "NVIDIA Test 1, compute capability 9.0", "driver 580.1", "clocks.sm 1980 MHz",
        "WRONG: add: &lt;b>bad",
        "left out for lack of time: sub: no time left", "sottovoce rep3 on cuda:0", "| add | 42 elements |",
    ):  # fmt: skip
        assert words in page, words


def test_without_a_gpu_the_command_says_so_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sottovoce.bench.kernels.devices.missing_gpu", lambda: "CUDA sees no device")
    assert main(["bench", "gpu", "--quick"]) == 2
    assert "--device cuda: CUDA sees no device" in capsys.readouterr().err
    assert os.listdir(tmp_path) == []


def test_parts_are_chosen_in_their_order() -> None:
    from sottovoce.cli.bench.gpu import NAMES, parts

    assert parts("kernels,correctness") == ("correctness", "kernels") and NAMES == PARTS


def test_a_budget_never_gives_more_than_is_left() -> None:
    clock = Clock()
    budget = Budget(10, clock)
    shares: Sequence[float] = [mine.seconds for _, mine in budget.shared([1, 2])]
    assert shares == [5.0, 10.0] and budget.part(99).seconds == 10
    clock.now = 30
    assert budget.left() == 0 and budget.part(5).left() == 0
    assert Budget(5).left() <= 5 and time.monotonic() > 0
