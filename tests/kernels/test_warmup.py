"""Warm-up reports each kernel once, fills the cache on disk, and a second process compiles nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from sottovoce.kernels.catalog import CATALOG
from sottovoce.kernels.warmup import warm_up

WARM_UP = "from sottovoce.kernels.warmup import is_warm, warm_up; print(is_warm(), warm_up())"


def test_progress_names_every_kernel_in_order() -> None:
    calls: list[tuple[str, int, int]] = []
    warm_up(lambda name, done, total: calls.append((name, done, total)))
    assert [name for name, _, _ in calls] == [*CATALOG, ""]
    assert [done for _, done, _ in calls] == list(range(len(CATALOG) + 1))
    assert {total for _, _, total in calls} == {len(CATALOG)}


def test_second_process_loads_everything_from_disk() -> None:
    for _ in range(2):  # the first compiles what the disk lacks, whatever this process holds in memory
        result = subprocess.run([sys.executable, "-c", WARM_UP], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["True", "0"]


def test_empty_cache_is_not_warm(tmp_path: Path) -> None:
    code = "from sottovoce.kernels.warmup import is_warm; print(is_warm())"
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert result.stdout.split() == ["False"]
