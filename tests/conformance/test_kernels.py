"""The kernels that a row of the table names are those that its protocol calls: none is compiled in mid-protocol."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sottovoce.engine import local
from sottovoce.engine.backend.cpu import CpuBackend
from sottovoce.engine.protocols.table import PROTOCOLS
from sottovoce.models.compiler.compile import compile_graph
from tests.serving.small import small_graph


@pytest.mark.parametrize("name", PROTOCOLS)
def test_no_kernel_is_missing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    called: set[str] = set()

    def noted(kernel: str, function: Callable[..., None]) -> Callable[..., None]:
        def call(*arguments: Any) -> None:
            called.add(kernel)
            function(*arguments)

        return call

    class Noting(CpuBackend):
        def __init__(self) -> None:
            super().__init__()
            self.kernels = SimpleNamespace(**{k: noted(k, v) for k, v in vars(self.kernels).items()})

    monkeypatch.setattr(local, "CpuBackend", Noting)
    compiled = compile_graph(small_graph())
    with local.LocalCluster(compiled.program, compiled.weights, name) as cluster:
        cluster.run(np.zeros((3, *compiled.program.input_shape), np.uint64))
    named = {kernel.name for kernel in PROTOCOLS[name].kernels}
    assert called
    assert called <= named
