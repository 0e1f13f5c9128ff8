"""Every row of the catalog against plain Python integers, and the catalog against the folder."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numba.core.dispatcher import Dispatcher

import sottovoce.kernels.cpu
from sottovoce.kernels.catalog import CATALOG, Kernel


def _load_references() -> list[ModuleType]:
    modules = []
    for path in sorted(Path(__file__).parent.glob("reference*.py")):
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        modules.append(module)
    return modules


REFERENCES = _load_references()
ROWS = [pytest.param(row, id=name) for name, row in CATALOG.items()]


def _reference(name: str) -> Any:
    found = [getattr(module, name) for module in REFERENCES if hasattr(module, name)]
    assert len(found) == 1, f"{name}: expected one reference in tests/kernels/reference*.py, found {len(found)}"
    return found[0]


def _copy(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(a.copy() if isinstance(a, np.ndarray) else a for a in arguments)


def _cpu_dispatchers() -> dict[str, Dispatcher]:
    found = {}
    for info in pkgutil.iter_modules(sottovoce.kernels.cpu.__path__):
        module = importlib.import_module(f"sottovoce.kernels.cpu.{info.name}")
        for name, value in vars(module).items():
            if isinstance(value, Dispatcher) and value.__module__ == module.__name__:
                found[f"{info.name}.{name}"] = value
    return found


@pytest.mark.parametrize("row", ROWS)
def test_kernel_equals_big_integers(row: Kernel) -> None:
    for number, sample in enumerate(row.samples(np.random.default_rng(11))):
        expected, got = _copy(sample), _copy(sample)
        _reference(row.name)(*expected)
        row.cpu(*got)
        for position, (before, want, have) in enumerate(zip(sample, expected, got, strict=True)):
            if isinstance(before, np.ndarray):
                want = want if position in row.outputs else before
                np.testing.assert_array_equal(have, want, f"{row.name}, sample {number}, argument {position}")


@pytest.mark.parametrize("row", ROWS)
def test_samples_hold_extreme_and_random_values(row: Kernel) -> None:
    arrays = [a for sample in row.samples(np.random.default_rng(3)) for a in sample if isinstance(a, np.ndarray)]
    assert all(array.flags.c_contiguous for array in arrays)
    values = np.concatenate([array.reshape(-1) for array in arrays if array.dtype == np.uint64])
    assert {0, 1, 2**63, 2**64 - 1} <= set(values.tolist())
    assert len(set(values.tolist())) > 20


def test_every_public_kernel_has_a_row() -> None:
    listed = {(row.cpu.__module__, row.name) for row in CATALOG.values()}
    public = {(d.__module__, d.__name__) for d in _cpu_dispatchers().values() if not d.__name__.startswith("_")}
    assert public <= listed


def test_rows_are_named_after_their_functions() -> None:
    assert [row.cpu.__name__ for row in CATALOG.values()] == list(CATALOG)


def test_every_kernel_is_serial_cached_and_without_the_gil() -> None:
    dispatchers = _cpu_dispatchers()
    assert len(dispatchers) >= len(CATALOG)
    for name, dispatcher in dispatchers.items():
        assert dispatcher.targetoptions.get("nogil") is True, name
        assert not dispatcher.targetoptions.get("parallel"), name
        assert type(dispatcher._cache).__name__ != "NullCache", name


@pytest.mark.parametrize("row", ROWS)
def test_all_samples_share_one_compilation(row: Kernel) -> None:
    """Warm-up compiles for the first sample only: another dtype or layout would compile in the middle of a protocol."""

    def kinds(sample: tuple[Any, ...]) -> list[object]:
        return [(a.dtype, a.ndim) if isinstance(a, np.ndarray) else type(a) for a in sample]

    first, *rest = row.samples(np.random.default_rng(0))
    assert all(kinds(sample) == kinds(first) for sample in rest)


@pytest.mark.parametrize("row", ROWS)
def test_two_threads_on_their_own_arrays(row: Kernel) -> None:
    samples = row.samples(np.random.default_rng(5))
    expected = [_copy(sample) for sample in samples]
    for sample in expected:
        row.cpu(*sample)
    results = [[_copy(sample) for sample in samples] for _ in range(2)]

    def work(mine: list[tuple[Any, ...]]) -> None:
        for _ in range(3):
            for sample, fresh in zip(mine, samples, strict=True):
                for position in row.outputs:
                    sample[position][...] = fresh[position]
                row.cpu(*sample)

    threads = [threading.Thread(target=work, args=(mine,)) for mine in results]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for mine in results:
        for sample, want in zip(mine, expected, strict=True):
            for position in row.outputs:
                np.testing.assert_array_equal(sample[position], want[position])
