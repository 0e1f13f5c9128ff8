"""Check a range of seeds in a process of its own: `python -m tests.fuzz.onnx_run FIRST COUNT`.

Each seed damages one fixture. The process may allocate MAX_BYTES beyond what it has after its imports, and a case may
take SECONDS of processor time; a warning is an error. Prints the outcomes as JSON; ends with a traceback behind the
seed otherwise.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
import warnings
from collections import Counter
from pathlib import Path
from types import FrameType

import numpy as np
from tests.fuzz.onnx_check import check_bytes
from tests.fuzz.onnx_mutations import mutate

FIXTURES = Path(__file__).resolve().parent.parent / "models" / "onnx" / "fixtures"
MAX_BYTES = 1 << 30
SECONDS = 10  # a case takes milliseconds, a compilation tenths of a second


def corpus() -> list[bytes]:
    """The fixtures' bytes, in the order of their names."""
    return [path.read_bytes() for path in sorted(FIXTURES.glob("*/*.onnx"))]


def damaged(seed: int, models: list[bytes]) -> bytes:
    """The case that a seed names."""
    return mutate(models[seed % len(models)], np.random.default_rng(seed), models)


def address_space() -> int:
    """Bytes that this process has mapped."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()


def too_slow(signum: int, frame: FrameType | None) -> None:
    """SIGPROF."""
    raise TimeoutError(f"one case took more than {SECONDS} s of processor time")


def main(first: int, count: int) -> None:
    warnings.simplefilter("error")
    models = corpus()
    for model in models[:4]:  # what is allocated once
        check_bytes(model)
    limit = address_space() + MAX_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    signal.signal(signal.SIGPROF, too_slow)
    outcomes: Counter[str] = Counter()
    for seed in range(first, first + count):
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        try:
            outcomes[check_bytes(damaged(seed, models))] += 1
        except BaseException:
            print(f"seed {seed}", file=sys.stderr)
            raise
    signal.setitimer(signal.ITIMER_PROF, 0)
    print(json.dumps(outcomes))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
