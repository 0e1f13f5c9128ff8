"""Damaged ONNX files: refused with ModelError or imported, in bounded time and memory, never anything else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.fuzz.onnx_check import check_bytes
from tests.fuzz.onnx_run import corpus, damaged

CRASHES = Path(__file__).resolve().parent / "crashes"
SEEDS = 300


def test_damaged_models_in_bounded_time_and_memory(repository: Path) -> None:
    """In a process of its own, whose address space and time per case are limited (tests/fuzz/onnx_run.py)."""
    command = [sys.executable, "-m", "tests.fuzz.onnx_run", "0", str(SEEDS)]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr[-3000:]
    outcomes = json.loads(done.stdout)
    assert sum(outcomes.values()) == SEEDS
    # Damage that nothing survives, or that everything survives, would test little.
    assert outcomes["refused"] > SEEDS / 2
    assert outcomes["compiled"] > SEEDS / 20


@pytest.mark.parametrize("path", sorted(CRASHES.glob("*.onnx")), ids=lambda path: path.stem)
def test_what_was_found_before(path: Path) -> None:
    """wide_input: 2^24 values per clip, which once took longer than the fuzzer's limit on a busy machine."""
    check_bytes(path.read_bytes())


def test_a_seed_names_one_case() -> None:
    models = corpus()
    cases = [damaged(seed, models) for seed in range(50)]
    assert cases == [damaged(seed, models) for seed in range(50)]
    changed = [case != models[seed % len(models)] for seed, case in enumerate(cases)]
    assert sum(changed) > 40
