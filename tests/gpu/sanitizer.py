"""Kernels under AddressSanitizer: in a process of its own, because its library must be loaded before Python is.

    LD_PRELOAD=libasan.so python -m tests.gpu.sanitizer KERNEL...

prints a JSON line after each kernel.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from sottovoce.kernels.catalog import CATALOG
from tests.gpu.compare import gate
from tests.gpu.shim.build import sanitizer_library
from tests.gpu.shim.host import KernelError, Launch

REPOSITORY = Path(__file__).resolve().parents[2]
OPTIONS = "detect_leaks=0:detect_stack_use_after_return=0:allocator_may_return_null=1"
MOST_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Verdict:
    """Of one kernel: what is wrong with it ("" if nothing), and how many launches there were."""

    kernel: str
    problem: str
    launches: int = 0


def sanitize(
    kernels: Sequence[str], module: str = "tests.gpu.sanitizer", most_seconds: int = MOST_SECONDS
) -> list[Verdict]:
    """Verdicts on kernels of the catalog. A kernel that the sanitizer stops does not keep the others from running."""
    verdicts: list[Verdict] = []
    while len(verdicts) < len(kernels):
        verdicts += _run(kernels[len(verdicts) :], module, most_seconds)
    return verdicts


def assert_clean(kernels: Sequence[str], module: str = "tests.gpu.sanitizer") -> None:
    """For tests: nothing is wrong with any of them, and each launched something."""
    verdicts = sanitize(kernels, module)
    assert [(verdict.kernel, verdict.problem) for verdict in verdicts] == [(kernel, "") for kernel in kernels]
    assert all(verdict.launches for verdict in verdicts)


def _run(kernels: Sequence[str], module: str, most_seconds: int) -> list[Verdict]:
    """Verdicts on the first kernels, up to one that was stopped."""
    environment = {
        **os.environ,
        "LD_PRELOAD": sanitizer_library(),
        "ASAN_OPTIONS": OPTIONS,
        "PYTHONMALLOC": "malloc",
        "PYTHONPATH": os.pathsep.join(filter(None, (str(REPOSITORY), os.environ.get("PYTHONPATH")))),
    }
    command = [sys.executable, "-m", module, *kernels]
    result = subprocess.run(
        command, env=environment, cwd=REPOSITORY, capture_output=True, text=True, timeout=most_seconds, check=False
    )
    verdicts = [Verdict(**json.loads(line)) for line in result.stdout.splitlines() if line.startswith("{")]
    if len(verdicts) < len(kernels):
        found = re.search(r"[^\n]*(runtime error:|ERROR: AddressSanitizer).*", result.stderr, re.DOTALL)
        tail = found[0][:3000] if found else result.stderr[-3000:]
        verdicts.append(Verdict(kernels[len(verdicts)], f"stopped with {result.returncode}:\n{tail}"))
    return verdicts


def report(kernels: Sequence[str], check: Callable[[str], Sequence[Launch]]) -> None:
    """What the process does: a JSON line after each kernel. check: returns what was launched, or raises."""
    for kernel in kernels:
        try:
            verdict = Verdict(kernel, "", len(check(kernel)))
        except (AssertionError, KernelError, ValueError, TypeError) as error:
            verdict = Verdict(kernel, f"{type(error).__name__}: {error}")
        print(json.dumps(asdict(verdict)), flush=True)


def _check(kernel: str) -> Sequence[Launch]:
    return gate(CATALOG[kernel], "asan")


if __name__ == "__main__":
    report(sys.argv[1:], _check)
