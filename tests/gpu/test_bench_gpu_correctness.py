"""Part one of `sottovoce bench gpu`, without a GPU: kernels on the device that executes their sources here."""

from __future__ import annotations

import stat
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sottovoce.bench.gpu import compare
from sottovoce.bench.gpu.budget import Budget
from sottovoce.bench.gpu.check import answers, command, load_references
from sottovoce.bench.gpu.compare import ROWS, Effort, check_row, larger
from sottovoce.bench.gpu.correctness import check_all
from sottovoce.bench.gpu.sanitizers import FOUND, find_tool, sanitize
from sottovoce.bench.gpu.twin import KEY, stream_words
from sottovoce.kernels.catalog import CATALOG
from sottovoce.kernels.gpu.device import STREAM_WORDS, Keystream
from tests.gpu.require import needs_compiler
from tests.gpu.shim.host import HostDevice


def program(path: Path, text: str) -> Path:
    path.write_text(f"#!{sys.executable}\nimport sys, json, time\n{text}")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@needs_compiler
def test_a_kernel_is_compared_with_the_cpu_s_and_with_big_integers() -> None:
    references = load_references()
    assert set(references) == set(CATALOG), "a kernel without a reference in big integers"
    found = check_row("mask_zero", HostDevice(), Effort(seeds=2, sizes=1, most_bytes=1 << 12), references)
    assert (found.status, found.kernel, found.problem) == ("equal", "mask_zero", "")
    samples = len(CATALOG["mask_zero"].samples(np.random.default_rng(0)))
    assert found.references == samples and found.streams == 3 * found.calls // 4 > 6 * samples, "either mask, and both"
    assert check_row("crt_s8.conv1d", HostDevice(), replace(compare.SMALL, step=9)).calls


@needs_compiler
def test_a_wrong_kernel_is_found_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    effort = Effort(seeds=1, sizes=1, most_bytes=1 << 12)
    rows = {
        "add": replace(ROWS["add"], gpu=ROWS["sub"].gpu),
        "sub": replace(ROWS["sub"], cpu=ROWS["add"].cpu, gpu=ROWS["add"].gpu),
    }
    monkeypatch.setattr(compare, "ROWS", rows)
    found = check_row("add", HostDevice(), effort)
    assert found.status == "wrong" and found.calls >= 1
    assert "seed 0, sample 0, output argument 2" in found.problem
    found = check_row("sub", HostDevice(), effort, load_references())
    assert "the CPU kernel beside big integers" in found.problem


def test_larger_arguments_have_random_sizes_within_their_limit() -> None:
    effort = Effort(sizes=3, most_bytes=1 << 18)
    for name in ("add", "trunc_left", "dcf_eval", "chacha20_fill", "slice_bits"):
        sizes = {
            sum(a.nbytes for a in sample if isinstance(a, np.ndarray))
            for _, sample in larger(name, effort, np.random.default_rng(1))
        }
        assert len(sizes) > 3 and max(sizes) < 1.1 * effort.most_bytes, name
    shapes = [
        sample[0].shape for where, sample in larger("matmul", effort, np.random.default_rng(1)) if "random" in where
    ]
    assert len(set(shapes)) == 3


def test_keystreams_are_those_of_the_engine_up_to_the_last_word() -> None:
    out = np.zeros(40, np.uint64)
    CATALOG["chacha20_fill"].cpu(np.frombuffer(np.array(KEY, "<u8").tobytes(), "<u4").copy(), 9, 0, out)
    np.testing.assert_array_equal(stream_words(Keystream(KEY, 9, 5, (5, 7))).ravel(), out[5:])
    assert stream_words(Keystream(KEY, 9, STREAM_WORDS - 3, (3,))).shape == (3,)


@needs_compiler
def test_a_checking_process_answers_until_the_device_is_gone() -> None:
    class Gone(HostDevice):
        def upload(self, host: np.ndarray) -> object:  # type: ignore[override]
            raise RuntimeError("cudaErrorIllegalAddress")

    found = list(answers(["add", "sub"], Gone(), compare.SMALL, {}))
    assert found == [{"kernel": "add", "error": "add: RuntimeError: cudaErrorIllegalAddress"}]
    assert [answer["status"] for answer in answers(["neg", "xor"], HostDevice(), compare.SMALL, {})] == ["equal"] * 2
    assert "--small" in command(2, small=True) and command(2)[-2:] == ["--device", "2"]


CHECKER = """
for line in sys.stdin:
    name = json.loads(line)["kernel"]
    if name == "crash": sys.exit(3)
    if name == "slow": time.sleep(60)
    answer = {"error": "cudaErrorIllegalAddress"} if name == "dead" else {"kernel": name, "status": "equal", "calls": 1}
    print(json.dumps(answer), flush=True)
    if name == "dead": break
"""


def test_a_crash_loses_one_kernel_and_a_budget_none(tmp_path: Path) -> None:
    checker = [str(program(tmp_path / "checker", CHECKER))]
    names = ["a", "crash", "b", "dead", "c", "d"]
    found = {row.kernel: row for row in check_all(checker, tmp_path, Budget(60), names, count=2)}
    assert {name for name, row in found.items() if row.status == "equal"} == {"a", "b", "c", "d"}
    assert found["crash"].status == "wrong" and "ended without an answer" in found["crash"].problem
    assert "cudaErrorIllegalAddress" in found["dead"].problem
    budget = Budget(0.4)
    found = {row.kernel: row for row in check_all(checker, tmp_path, budget, ["slow", "a"], count=1)}
    assert [row.status for row in found.values()] == ["skipped"] * 2
    assert sorted(budget.cut) == ["a: not checked", "slow: not checked"]


SANITIZER = f"""
names = sys.argv[sys.argv.index("check") + 1:]
if "slow" in names: time.sleep(60)
if "refused" in names: sys.exit("Error: Device not supported")
for name in names: print(json.dumps({{"kernel": name, "status": "equal"}}))
if "bad" in names:
    print("========= COMPUTE-SANITIZER"); print("========= Invalid __global__ read of size 8 bytes")
    sys.exit({FOUND})
"""


@pytest.mark.parametrize(
    ("names", "status", "reason"),
    [
        ([*"abcdefghij"], "clean", ""),
        (["a", "bad"], "errors", "a, bad: Invalid __global__ read of size 8 bytes"),
        (["refused"], "unavailable", "refused: status 1: Error: Device not supported"),
        (["slow"], "unavailable", "nothing ended within 1 s"),
    ],
)
def test_what_a_sanitizer_says(tmp_path: Path, names: list[str], status: str, reason: str) -> None:
    tool = str(program(tmp_path / "compute-sanitizer", SANITIZER))
    budget = Budget(1.0 if names == ["slow"] else 60.0)
    found = sanitize("memcheck", ["check"], tmp_path, budget, 2, tool, names)
    assert (found.status, found.reason) == (status, reason)
    assert found.kernels == (tuple(names) if status == "clean" else ())
    assert budget.cut == (["memcheck: slow"] if names == ["slow"] else [])


def test_without_the_sanitizer_the_reason_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PATH", "CUDA_HOME", "CUDA_PATH"):
        monkeypatch.setenv(name, str(tmp_path))
    if find_tool() is not None:
        pytest.skip("CUDA's folder has compute-sanitizer")
    found = sanitize("racecheck", ["check"], tmp_path, Budget(60), 1)
    assert found.status == "unavailable" and "compute-sanitizer is not on PATH" in found.reason
