"""Options, fixtures and notes of the kernel suite; pytest.ini beside this file loads it."""

from __future__ import annotations

import platform
from typing import Any

import msgspec
import numpy as np
import pytest

from sottovoce.bench.environment import environment
from sottovoce.bench.kernels.ceilings import Ceilings

SEED = 0


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("sottovoce kernels")
    group.addoption("--kernels", metavar="GLOB", default="*", help="such as matmul, 'trunc_*' or 'conv1d/paper*'")
    group.addoption("--device", default="cpu", help="cpu, cuda or cuda:N")
    group.addoption("--small", action="store_true", help="batch 1 and what fits a cache")


@pytest.fixture(scope="session")
def ceilings() -> Ceilings:
    """What the machine can do, measured once for each session."""
    return Ceilings()


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(SEED)


@pytest.hookimpl(tryfirst=True)  # pytest-benchmark asks each plugin until one answers
def pytest_benchmark_generate_machine_info() -> dict[str, Any]:
    """The same in every session on one machine, so that pytest-benchmark's own comparison has nothing to warn of."""
    where = environment()
    return {
        "node": "",
        "machine": platform.machine(),
        "system": platform.system(),
        "processor": where.processor,
        "cores": where.cores,
        "python_implementation": platform.python_implementation(),
        "python_version": where.python,
        "cpu": {"brand_raw": where.processor, "count": where.cores},
        "packages": where.packages,
    }


def pytest_benchmark_update_json(output_json: dict[str, Any]) -> None:
    """Add when, from which commit and under which load; `sottovoce bench compare` shows it."""
    output_json["sottovoce"] = msgspec.to_builtins(environment())
