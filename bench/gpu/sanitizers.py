"""NVIDIA's compute-sanitizer over small samples of all kernels: memcheck and racecheck, where the tool is there."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Literal

from sottovoce.bench.gpu.budget import Budget
from sottovoce.bench.gpu.compare import ROWS
from sottovoce.bench.gpu.schema import Sanitized

Tool = Literal["memcheck", "racecheck"]
TOOLS: Final[tuple[Tool, ...]] = ("memcheck", "racecheck")
PROGRAM: Final = "compute-sanitizer"
FOUND: Final = 99
"""Its exit status if it found errors."""
GROUP: Final = 8
"""Kernels of one process: what a stop loses."""
PADDING: Final = 64
"""Bytes behind each array that nobody may touch."""
CHARACTERS: Final = 600


def find_tool() -> str | None:
    """On PATH, or where CUDA puts it."""
    cuda = [os.environ.get(name, "") for name in ("CUDA_HOME", "CUDA_PATH")]
    places = [os.environ.get("PATH", ""), *(f"{folder}/bin" for folder in (*cuda, "/usr/local/cuda") if folder)]
    return shutil.which(PROGRAM, path=os.pathsep.join(places))


@dataclass(frozen=True, slots=True)
class _Group:
    """What became of some kernels."""

    kernels: tuple[str, ...]
    status: Literal["clean", "errors", "unavailable", "stopped"]
    reason: str = ""


def sanitize(
    tool: Tool,
    command: Sequence[str],
    folder: Path,
    budget: Budget,
    count: int,
    program: str | None = None,
    names: Sequence[str] = tuple(ROWS),
) -> Sanitized:
    """All kernels, `count` processes at a time. command: `check.command(small=True)`. program: None: as found."""
    program = program or find_tool()
    if program is None:
        return Sanitized(tool=tool, status="unavailable", reason=f"{PROGRAM} is not on PATH nor in CUDA's folder")
    options = [program, "--tool", tool, "--error-exitcode", str(FOUND)]
    options += ["--padding", str(PADDING)] if tool == "memcheck" else []
    groups = [tuple(names[start : start + GROUP]) for start in range(0, len(names), GROUP)]
    with ThreadPoolExecutor(count) as executor:
        found = list(executor.map(partial(_run, [*options, *command], folder, budget), groups))
    clean = tuple(kernel for group in found if group.status == "clean" for kernel in group.kernels)
    for kind in ("errors", "unavailable"):
        if bad := [group for group in found if group.status == kind]:
            reason = f"{', '.join(bad[0].kernels)}: {bad[0].reason}"
            status: Literal["errors", "unavailable"] = "errors" if kind == "errors" else "unavailable"
            return Sanitized(tool=tool, status=status, kernels=clean, reason=reason)
    stopped = [kernel for group in found if group.status == "stopped" for kernel in group.kernels]
    if stopped:
        budget.cut.append(f"{tool}: {', '.join(stopped)}")
    if not clean:
        return Sanitized(tool=tool, status="unavailable", reason=f"nothing ended within {budget.seconds:.0f} s")
    return Sanitized(tool=tool, status="clean", kernels=clean)


def _run(command: Sequence[str], folder: Path, budget: Budget, kernels: tuple[str, ...]) -> _Group:
    if not budget.left():
        return _Group(kernels, "stopped")
    try:
        process = subprocess.Popen(
            [*command, *kernels],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # the tool starts Python: both are to end
        )
    except OSError as error:
        return _Group(kernels, "unavailable", str(error))
    try:
        output, _ = process.communicate(timeout=budget.left())
    except subprocess.TimeoutExpired:
        return _Group(kernels, "stopped")
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    if process.returncode == FOUND:
        return _Group(kernels, "errors", _marked(output))
    answered = sum(line.startswith('{"kernel"') for line in output.splitlines())
    if process.returncode == 0 and answered == len(kernels):
        return _Group(kernels, "clean")
    return _Group(kernels, "unavailable", f"status {process.returncode}: {output.strip()[-CHARACTERS:]}")


def _marked(output: str) -> str:
    """The first of what the tool says, which begins with =========."""
    lines = [line.strip("= ") for line in output.splitlines() if line.startswith("=========")]
    said = [line for line in lines if line and not line.startswith("COMPUTE-SANITIZER")]
    return "; ".join(said)[:CHARACTERS]
