"""Every kernel on a real GPU, beside the CPU's and big integers: `pytest -m gpu`. Skipped without one."""

from __future__ import annotations

import pytest

from sottovoce.bench.gpu.check import load_references
from sottovoce.bench.gpu.compare import ROWS, Effort, check_row
from sottovoce.bench.kernels.devices import make_device


@pytest.mark.gpu
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", ROWS)
def test_kernel_equals_the_cpu_and_big_integers(name: str) -> None:
    found = check_row(name, make_device(0), Effort(), load_references())
    assert (found.status, found.problem) == ("equal", "")
    assert found.calls and found.references
