"""A process that is killed, at any moment: no clip comes twice, and nothing is lost but what was marked."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is one: a killed process loses nothing that it has written, on any disk."""
    shm = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=shm if os.access(shm, os.W_OK) else tmp_path))
    yield folder
    shutil.rmtree(folder)


def test_killed_before_every_step_and_at_random(memory: Path, repository: Path) -> None:
    command = [sys.executable, "-m", "tests.engine.preprocessing.crash_run", str(memory)]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    steps, handed_out = map(int, done.stdout.split())
    assert steps > 100 and handed_out > 0
