"""Run the kernel suite in processes of its own, one file of results for each pass."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from sottovoce.bench.kernels.devices import gpu_number
from sottovoce.engine.errors import ConfigError

SUITE = Path(__file__).parent
NOTHING_COLLECTED = 5
SHOWN_LINES = 20


def run_kernels(
    out: Path, *, passes: int, select: str | None = None, quick: bool = False, device: str = "cpu"
) -> list[Path]:
    """Time the kernels `passes` times over; return the pytest-benchmark files out/pass-01.json, ….

    Each pass is a new process that goes through all benchmarks, so that what changes with time shows as variance
    between passes. select: a glob for kernels ("matmul") or benchmarks ("conv1d/paper*"). quick: batch 1 and what fits
    a cache. device: cpu, cuda or cuda:N. A line on stderr tells of each pass. Raises ConfigError if nothing matches, a
    file is there already, pytest-benchmark is missing or the device cannot be used; anything else that fails is shown
    as pytest printed it.
    """
    if passes < 1:
        raise ConfigError(f"kernel benchmarks: expected 1 pass or more, got {passes}")
    if device != "cpu":
        gpu_number(device)
    files = [out.resolve() / f"pass-{number:02}.json" for number in range(1, passes + 1)]
    for file in files:
        if file.exists():
            raise ConfigError(f"kernel benchmarks: {file} exists: choose another folder or remove it")
    out.mkdir(parents=True, exist_ok=True)
    for number, file in enumerate(files, start=1):
        start = time.monotonic()
        sys.stderr.write(f"kernels: pass {number} of {passes} …")
        sys.stderr.flush()
        run_pass(file, select=select, quick=quick, device=device)
        sys.stderr.write(f" {time.monotonic() - start:.0f} s\n")
    return files


def run_pass(
    file: Path,
    *,
    select: str | None = None,
    quick: bool = False,
    suite: Path = SUITE,
    environment: Mapping[str, str] | None = None,
    device: str = "cpu",
) -> None:
    """One pass, written to `file`. suite: the folder of this package, maybe of another checkout; environment: added."""
    file = file.resolve()
    with tempfile.TemporaryDirectory(prefix="sottovoce-kernels-") as folder:
        done = subprocess.run(
            command(file, Path(folder), select=select, quick=quick, suite=suite, device=device),
            cwd=folder,  # whatever pytest or a plugin leaves behind goes with it
            env={**_plain_environment(), **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    if done.returncode == NOTHING_COLLECTED:
        raise ConfigError(
            f"kernel benchmarks: nothing matches {select!r}: expected a kernel such as 'matmul', or a glob"
        )
    if done.returncode != 0:
        tail = "\n".join(done.stdout.splitlines()[-SHOWN_LINES:])
        raise ConfigError(f"kernel benchmarks: pytest ended with {done.returncode}:\n{tail}{_hint(tail)}")


def _plain_environment() -> dict[str, str]:
    """Without the variables that configure pytest, or make pytest-benchmark believe that xdist is at work."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}


def command(
    file: Path, storage: Path, *, select: str | None, quick: bool, suite: Path = SUITE, device: str = "cpu"
) -> list[str]:
    """The command line of one pass; nothing of the user's or the project's pytest configuration counts."""
    result = [sys.executable, "-m", "pytest", "-c", str(suite / "pytest.ini"), "--rootdir", str(suite)]
    result += [str(suite / "suite.py"), "-q", f"--benchmark-json={file}", f"--benchmark-storage=file://{storage}"]
    result += ["--kernels", select] if select is not None else []
    result += ["--device", device] if device != "cpu" else []
    return [*result, "--small"] if quick else result


def _hint(output: str) -> str:
    missing = "pytest" in output and ("No module named" in output or "unrecognized arguments" in output)
    return "\ninstall pytest-benchmark: pip install 'sottovoce[bench]'" if missing else ""
