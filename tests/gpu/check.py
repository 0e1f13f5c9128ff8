"""Kernels of the catalog on the host device: `python -m tests.gpu.check KERNEL...` (none: every one with a twin).

Each runs plain, with the schedule reversed and under AddressSanitizer, with arrays and with keystreams, and must give
what the CPU kernel gives, bit for bit.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence

from sottovoce.bench.gpu.twin import MismatchError, stream_positions
from sottovoce.kernels.catalog import CATALOG
from tests.gpu.compare import gate, samples
from tests.gpu.sanitizer import sanitize
from tests.gpu.shim.host import MODES, KernelError


def main(names: Sequence[str]) -> int:
    """Check them and print a line for each. 1 if one of them fails."""
    unknown = [name for name in names if name not in CATALOG]
    without = [name for name in names if name in CATALOG and CATALOG[name].gpu is None]
    if unknown or without:
        print(f"not in the catalog: {unknown}; without a twin in the catalog: {without}", file=sys.stderr)
        return 2
    names = names or [name for name, row in CATALOG.items() if row.gpu is not None]
    failed = 0
    for name in names:
        row = CATALOG[name]
        problems, launched = [], Counter[str]()
        start = time.perf_counter()
        for mode in MODES[:2]:
            try:
                launched.update(launch.kernel for launch in gate(row, mode))
            except (MismatchError, KernelError, ValueError, TypeError) as error:
                problems.append(f"{mode}: {type(error).__name__}: {error}")
        elapsed_ms = (time.perf_counter() - start) * 1e3
        print(
            f"{name:20} {len(samples(row))} samples, streams at {stream_positions(row)}, {elapsed_ms:.0f} ms, ", end=""
        )
        print(", ".join(f"{kernel} x{count}" for kernel, count in launched.items()) or "NOTHING LAUNCHED")
        for problem in problems:
            print(f"  FAILED {problem}")
        failed += bool(problems)
    for verdict in sanitize(names, most_seconds=900):
        print(f"{verdict.kernel:20} sanitizers: {verdict.problem or 'ok'}")
        failed += bool(verdict.problem)
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
