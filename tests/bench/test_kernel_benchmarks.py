"""The kernel suite: every kernel has sizes, one really runs, a slowed one is caught and an equal one is not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sottovoce.bench.comparison.compare import Comparison, compare_sides
from sottovoce.bench.comparison.observations import read_side
from sottovoce.bench.kernels import devices, shapes, suite
from sottovoce.bench.kernels.ceilings import Bound, Ceilings
from sottovoce.bench.kernels.run import SUITE, command, run_kernels
from sottovoce.bench.kernels.sizes import RANDOM_WORDS, moved_bytes, random_words
from sottovoce.bench.kernels.table import read_timings, render_timings
from sottovoce.bench.kernels.workloads import WORKLOADS
from sottovoce.engine.errors import ConfigError
from sottovoce.kernels import catalog
from sottovoce.kernels.catalog import CATALOG, Kernel


def test_every_kernel_of_the_catalog_has_workloads() -> None:
    assert set(WORKLOADS) == set(CATALOG), "add a row to WORKLOADS in bench/kernels/workloads.py"


@pytest.mark.parametrize("kernel", CATALOG.values(), ids=CATALOG)
def test_workloads_are_what_the_kernel_takes(kernel: Kernel, rng: np.random.Generator) -> None:
    """Types, dimensions and relations between shapes as in the catalog's samples: the call that checks them passes."""
    workloads = WORKLOADS[kernel.name]()
    assert len({workload.size for workload in workloads}) == len(workloads)
    smallest = min(workloads, key=lambda workload: workload.operations)
    arguments = smallest.make(rng)
    for ours, sample in zip(arguments, kernel.samples(rng)[0], strict=True):
        assert type(ours) is type(sample)
        if isinstance(ours, np.ndarray):
            assert (ours.dtype, ours.ndim) == (sample.dtype, sample.ndim)
            assert ours.flags.c_contiguous and ours.flags.writeable
    kernel.cpu(*arguments)
    moved = moved_bytes(kernel, smallest, arguments)
    plain = sum(argument.nbytes for argument in arguments if isinstance(argument, np.ndarray))
    assert moved - plain == sum(arguments[at].nbytes for at in kernel.outputs) * smallest.updates
    assert any(workload.small for workload in workloads)


def test_shapes_are_those_of_the_zoo() -> None:
    found = {row.name: row for row in shapes.convolutions()}
    assert found["paper.conv2"].in_shape == (128, 10) and "max.conv1" not in found
    # Same padding, five taps, ten positions: 6 of 50 products of a channel pair fall into the padding.
    assert shapes.multiplications(found["paper.conv2"]) == 128 * 128 * (50 - 6)
    assert dict(shapes.activations())["paper.conv1"] == 128 * 40


def test_random_words_are_memory_of_their_own(rng: np.random.Generator) -> None:
    words = random_words(rng, 2, RANDOM_WORDS)
    words[0] = 0
    assert words[1].any()
    assert (random_words(rng, 64) >> np.uint64(63)).any()


def test_the_scarcer_resource_bounds() -> None:
    ceilings = Ceilings({"memcpy at 4 KiB": 1000.0, "ring multiplications": 10.0})
    assert ceilings.bound(4000, 0) == Bound(4.0, "memcpy at 4 KiB")
    assert ceilings.bound(4000, 50) == Bound(5.0, "ring multiplications")


def test_gpu_twins_take_part_when_they_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [case.name for case in suite.cases("add/L1*", small=True, device="gpu")]
    assert names == ["add/L1/gpu"] and [case.device for case in suite.cases("add", small=True)] == ["cpu"] * 2
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="--device cuda:3: CuPy is not installed"):
        devices.gpu("cuda:3")
    with pytest.raises(ConfigError, match="expected cuda or cuda:N, got 'cuda:x'"):
        devices.gpu("cuda:x")


def test_one_kernel_runs_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A user's folder with a pytest configuration that would break everything: it does not count."""
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --no-such-option\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTEST_ADDOPTS", "--no-such-option")
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw0")
    (file,) = run_kernels(Path("out"), passes=1, select="xor/L1/*", quick=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "pytest.ini"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["pass-01.json"]
    data = json.loads(file.read_text())
    (benchmark,) = data["benchmarks"]
    info = benchmark["extra_info"]
    assert benchmark["param"] == "xor/L1/cpu" and benchmark["group"] == "xor"
    assert info["device"] == "cpu" and info["bytes"] == 3 * 8 * info["operations"] and info["unit"] == "64-bit XORs"
    assert info["ceiling"] == "memcpy at 16 KiB" and info["fraction_of_ceiling"] > 0
    assert not data["machine_info"]["node"] and data["sottovoce"]["cores"]
    assert len(read_side([file]).timings["xor/L1/cpu"][0]) == benchmark["stats"]["rounds"]
    (timing,) = read_timings([file, file])
    assert timing.seconds == benchmark["stats"]["median"] and timing.fraction == info["fraction_of_ceiling"]
    assert timing.rate == pytest.approx(info["operations"] / timing.seconds)
    assert render_timings([timing]).row_count == 1
    assert "pass 1 of 1" in capfd.readouterr().err
    with pytest.raises(ConfigError, match=r"pass-01\.json exists"):
        run_kernels(Path("out"), passes=1)


def test_a_slowed_kernel_is_caught_and_an_equal_one_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The suite as it is, over a catalog in which one kernel does its work three times; passes are taken in turn."""
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)  # else pytest-benchmark would measure nothing
    monkeypatch.setattr(Ceilings, "bound", lambda *arguments: Bound(1.0, "not measured"))

    def slowed(*arguments: np.ndarray) -> None:
        for _ in range(3):
            CATALOG["xor"].cpu(*arguments)

    catalogs = {"a": CATALOG, "equal": CATALOG, "slow": {**CATALOG, "xor": replace(CATALOG["xor"], cpu=slowed)}}
    for number in range(3):
        for side, chosen in catalogs.items():
            monkeypatch.setattr(catalog, "CATALOG", chosen)
            file = tmp_path / side / f"pass-{number}.json"
            file.parent.mkdir(exist_ok=True)
            _, _, _, *options = command(file, tmp_path / "storage", select="xor/L2/*", quick=True)
            assert pytest.main([*options, "--benchmark-max-time=0.01"]) == 0

    def against(side: str) -> Comparison:
        return compare_sides(read_side([tmp_path / "a"]), read_side([tmp_path / side]), paired=True)

    assert against("slow").failed
    assert not against("equal").failed


def test_the_configuration_is_part_of_the_package() -> None:
    assert (SUITE / "pytest.ini").is_file() and (SUITE / "suite.py").is_file()
