"""The gates that every CUDA kernel must pass on a machine without a GPU; driven by the catalog.

1. It compiles for every GPU that we name, within its budget of registers, without spills or local memory.
2. Executed on the CPU (plain, with the schedule reversed, under the sanitizers; masks from memory and from keystreams)
   it gives what the CPU kernel gives, bit for bit, and leaves its inputs alone.
3. Every kernel of the catalog has a twin, and every kernel of a source is launched by one.
"""

from __future__ import annotations

from collections import defaultdict
from functools import lru_cache
from typing import Any

import numpy as np
import pytest

from sottovoce.bench.gpu.twin import stream_positions
from sottovoce.kernels.catalog import CATALOG, Arguments, Kernel
from sottovoce.kernels.gpu.device import Keystream
from sottovoce.kernels.gpu.sources import ARCHITECTURES, source, units
from tests.gpu.budget import MORE_REGISTERS, STACK_BYTES, usage
from tests.gpu.compare import gate, samples
from tests.gpu.recorder import Recorder, call, record
from tests.gpu.require import needs_compiler, needs_nvrtc
from tests.gpu.sanitizer import MOST_SECONDS, assert_clean
from tests.gpu.shim.arrays import DeviceArray
from tests.gpu.shim.build import entries
from tests.gpu.shim.host import Launch, Mode
from tests.gpu.tensor_cases import ROWS as TENSOR_ROWS
from tests.gpu.tensor_cases import larger

ROWS = [pytest.param(row, id=name) for name, row in CATALOG.items()]
SHARES_OF_THE_SANITIZER = 4
FREE_ROWS = {
    ("slice_halves", 0),
    ("chacha20_fill", 3),
    ("aes128_ctr_fill", 3),
    ("slice_bits", 0),
    ("leaf_sums", 0),
    ("add_runs", 3),
}
"""(kernel, argument) whose first dimension nothing else determines; a slice's last word need not be full."""
FREE_COLUMNS = {("conv1d", 0), ("conv1d", 2), ("sum_pool", 0), ("sum_pool", 1), ("beaver_conv1d", 3)}
"""The same of the last dimension: time, padded or cut as the other one asks."""
MAY_BE_LARGER = {("triple_products", 3)}


# ---- gate 1 -------------------------------------------------------------------------------------------------------


@needs_nvrtc
@needs_compiler
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("unit", units())
def test_compiles_within_its_budget(unit: str, architecture: str) -> None:
    found = usage(unit, source(unit), architecture)
    assert {kernel.kernel for kernel in found} == {entry.name for entry in entries(source(unit))}
    assert [problem for kernel in found for problem in kernel.problems()] == []


@needs_compiler
def test_the_exceptions_from_the_budget_name_kernels() -> None:
    names = {entry.name for unit in units() for entry in entries(source(unit))}
    assert {*MORE_REGISTERS, *STACK_BYTES} <= names


# ---- gate 2 -------------------------------------------------------------------------------------------------------


@needs_compiler
@pytest.mark.parametrize("mode", ["plain", "reversed"])
@pytest.mark.parametrize("row", ROWS)
def test_equals_the_cpu_kernel(row: Kernel, mode: Mode) -> None:
    assert gate(row, mode)


@needs_compiler
@pytest.mark.timeout(MOST_SECONDS + 20)
@pytest.mark.parametrize("share", range(SHARES_OF_THE_SANITIZER))
def test_no_access_outside_of_an_array(share: int) -> None:
    names = sorted(CATALOG, key=lambda name: str(CATALOG[name].gpu and CATALOG[name].gpu.__module__))
    mine = names[share * len(names) // SHARES_OF_THE_SANITIZER : (share + 1) * len(names) // SHARES_OF_THE_SANITIZER]
    assert_clean(mine)


# ---- gate 3 -------------------------------------------------------------------------------------------------------


@lru_cache
def launched() -> frozenset[Launch]:
    """Every launch of gate 2, and of the same for the variants on tensor cores (test_tensor.py)."""
    device = Recorder()
    for row in CATALOG.values():
        record(row, device, samples(row))
    for row in TENSOR_ROWS.values():
        record(row, device, [*samples(row), *larger(row.name, np.random.default_rng(5))])
    return frozenset(device.launches)


def test_every_kernel_of_the_catalog_has_a_twin() -> None:
    assert [name for name, row in CATALOG.items() if row.gpu is None] == []


@needs_compiler
def test_every_kernel_of_a_source_is_launched() -> None:
    defined = {(unit, entry.name) for unit in units() for entry in entries(source(unit))}
    assert defined == {(launch.unit, launch.kernel) for launch in launched()}


@needs_compiler
def test_every_mask_came_from_memory_and_from_a_keystream() -> None:
    from_stream, from_memory = defaultdict(set), defaultdict(set)
    for launch in launched():
        from_stream[launch.kernel].update(launch.streams)
        from_memory[launch.kernel].update(launch.arrays)
    for unit in units():
        for entry in entries(source(unit)):
            assert from_memory[entry.name] == set(entry.words), entry.name
            assert from_stream[entry.name] == set(entry.words), entry.name


# ---- refusals: a launcher takes nothing that its kernel would read or write beyond --------------------------------


def largest(row: Kernel) -> Arguments:
    """The sample with the most elements none of whose arrays is empty."""

    def elements(sample: Arguments) -> int:
        sizes = [a.size for a in sample if isinstance(a, np.ndarray)]
        return sum(sizes) if all(sizes) else 0

    return max(samples(row), key=elements)


def another_type(array: np.ndarray) -> np.ndarray:
    """Of the same size: int64 for uint64."""
    other = array.dtype.str.translate(str.maketrans("ui", "iu"))
    return array.view(other) if other != array.dtype.str else array.view(np.uint8 if array.itemsize == 1 else np.int64)


ALTERATIONS = {
    "type": lambda device, a: device.upload(another_type(a)),
    "another width of type": lambda device, a: device.upload(
        np.zeros(a.shape, f"u{2 * a.itemsize}" if a.itemsize < 8 else "u4")
    ),
    "one row less": lambda device, a: device.upload(a[1:]),
    "one row more": lambda device, a: device.upload(np.concatenate([a, a[:1]])),
    "one column less": lambda device, a: device.upload(np.ascontiguousarray(a[..., 1:])),
    "strided": lambda device, a: device.upload(np.repeat(a, 2, -1))[..., ::2],
}


def may_be(kernel: str, position: int, name: str, array: np.ndarray, altered: DeviceArray) -> bool:
    """Whether the kernel can take it: nothing was altered, or nothing else determines what was."""
    at = (kernel, position)
    return (
        (name == "strided" and altered.flags.c_contiguous)
        or (name.startswith("one row") and at in FREE_ROWS)
        or (name.startswith("one column") and (at in FREE_COLUMNS or (array.ndim == 1 and at in FREE_ROWS)))
        or (name == "one row more" and at in MAY_BE_LARGER)
    )


@needs_compiler
@pytest.mark.parametrize("row", [*ROWS, *[pytest.param(row, id=name) for name, row in TENSOR_ROWS.items()]])
def test_refuses_what_its_kernel_would_run_beyond(row: Kernel) -> None:
    sample, accepted = largest(row), []
    for position, array in enumerate(sample):
        if not isinstance(array, np.ndarray):
            continue
        for name, alter in ALTERATIONS.items():
            device = Recorder()
            altered = alter(device, array)
            if may_be(row.name, position, name, array, altered):
                continue
            try:
                call(row, device, sample, {position: altered})
            except ValueError:
                assert device.launches == [], (position, name, "refused after the first launch")
                continue
            accepted.append((position, name))
    assert accepted == []


def too_short(array: Any) -> Keystream:
    return Keystream((1, 2, 3, 4), 5, 6, (array.size - 1,))


@needs_compiler
@pytest.mark.parametrize("row", [row for row in ROWS if row.values[0].gpu and stream_positions(row.values[0])])
def test_refuses_a_keystream_of_another_length(row: Kernel) -> None:
    sample, device = largest(row), Recorder()
    for position in stream_positions(row):
        with pytest.raises(ValueError, match="keystream"):
            call(row, device, sample, {position: too_short(sample[position])})
    assert device.launches == []
