"""The CUDA kernels of oblivious transfer: every number of leaves, short and long rows, odd addresses, refusals."""

from __future__ import annotations

import numpy as np
import pytest

from sottovoce.bench.gpu.twin import run_both
from sottovoce.kernels.catalog import CATALOG, Arguments
from tests.gpu.devices import Awkward
from tests.gpu.require import needs_compiler
from tests.gpu.shim.host import HostDevice

pytestmark = needs_compiler

OPERATION = np.uint64(2**64 - 2)


@pytest.fixture(params=[HostDevice, Awkward], ids=["as the engine", "awkward"])
def device(request: pytest.FixtureRequest) -> HostDevice:
    device: HostDevice = request.param()
    return device


class Samples:
    """Uniform arguments of a kernel."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def ring(self, *shape: int) -> np.ndarray:
        return self.rng.integers(0, 2**64, shape, dtype=np.uint64)

    def leaves(self, values: int, trees: int) -> np.ndarray:
        return self.rng.integers(0, 256, (values, trees, 16), dtype=np.uint8)

    def field_vole(self, bits: int, trees: int, words: int) -> Arguments:
        return self.leaves(1 << bits, trees), OPERATION, self.ring(trees, words), self.ring(trees * bits, words)

    def leaf_sums(self, values: int, offsets: np.ndarray, narrow: bool, n: int) -> Arguments:
        trees = offsets.size - 1
        holes = self.rng.integers(-1, values, trees)
        return self.leaves(values, trees), holes, OPERATION, offsets, narrow, self.ring(n), self.ring(n)

    def vole_correct(self, n: int, shift: int) -> Arguments:
        r = self.ring
        return r(n), r(n), r(n), shift, r(n), r(-(-n * (64 - shift) // 64))

    def vole_join(self, offsets: np.ndarray, shift: int, n: int) -> Arguments:
        r = self.ring
        digits = self.rng.integers(0, 256, offsets.size - 1, dtype=np.uint64)
        return r(-(-n * (64 - shift) // 64)), r(n), r(n), digits, offsets, shift, r(n)


def _offsets(*lengths: int, first: int = 0) -> np.ndarray:
    return np.cumsum([first, *lengths]).astype(np.int64)


@pytest.mark.parametrize(("bits", "trees", "words"), [(8, 2, 5), (5, 1, 9), (6, 3, 2), (3, 40, 3), (1, 128, 7)])
def test_field_vole(device: HostDevice, rng: np.random.Generator, bits: int, trees: int, words: int) -> None:
    """Several leaves to a lane, or several trees to a warp; more trees than blocks have room for at once."""
    run_both(CATALOG["field_vole"], device, Samples(rng).field_vole(bits, trees, words), "field_vole")


@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("values", [1, 2, 3, 33, 64, 256])
def test_leaf_sums(device: HostDevice, rng: np.random.Generator, values: int, narrow: bool) -> None:
    """Rows of one word, empty ones between others, and long ones."""
    for lengths in ((1,) * 9, (0, 0, 3, 0, 7, 1, 0), (4, 21)):
        sample = Samples(rng).leaf_sums(values, _offsets(*lengths), narrow, sum(lengths))
        run_both(CATALOG["leaf_sums"], device, sample, f"leaf_sums {lengths}")


@pytest.mark.parametrize("kernel", ["leaf_sums", "vole_join"])
def test_what_lies_outside_of_all_rows_stays(device: HostDevice, rng: np.random.Generator, kernel: str) -> None:
    offsets = _offsets(5, 2, first=3)
    samples = Samples(rng)
    sample = samples.leaf_sums(4, offsets, False, 16) if kernel == "leaf_sums" else samples.vole_join(offsets, 6, 16)
    run_both(CATALOG[kernel], device, sample, kernel)


def test_transpose_of_several_blocks(device: HostDevice, rng: np.random.Generator) -> None:
    """A block takes 8 words of each plane at a time."""
    for words in (19, 16):
        sample = Samples(rng).ring(128, words), Samples(rng).ring(64 * words, 2)
        run_both(CATALOG["transpose_bits"], device, sample, f"transpose_bits {words}")


@pytest.mark.parametrize("shift", [0, 1, 6, 31, 32, 60, 63])
def test_corrections_of_several_blocks(device: HostDevice, rng: np.random.Generator, shift: int) -> None:
    """A block takes 512 numbers at a time, a warp 64."""
    samples = Samples(rng)
    for n in (1091, 1024):
        run_both(CATALOG["vole_correct"], device, samples.vole_correct(n, shift), f"vole_correct {n}")
        rows = _offsets(*[1] * 300, 0, 0, n - 301, 1)
        run_both(CATALOG["vole_join"], device, samples.vole_join(rows, shift, n), f"vole_join {n}")


@pytest.mark.parametrize("run", [1, 2, 5, 700])
def test_runs_on_top_of_each_other(device: HostDevice, rng: np.random.Generator, run: int) -> None:
    samples = Samples(rng)
    starts = rng.integers(0, 50, 40)
    run_both(CATALOG["add_runs"], device, (samples.ring(40 * run), starts, run, samples.ring(50 + run)), "add_runs")


def test_arguments_that_do_not_fit(rng: np.random.Generator) -> None:
    samples = Samples(rng)
    offsets = _offsets(3, 2)
    vole, sums = samples.field_vole(2, 3, 5), samples.leaf_sums(4, offsets, False, 5)
    correct, join = samples.vole_correct(5, 6), samples.vole_join(offsets, 6, 5)
    words = samples.ring(4)
    for kernel, sample, position, value, message in (
        ("field_vole", vole, 0, samples.leaves(3, 3), "a power of two of leaves, at most 256, got 3"),
        ("field_vole", vole, 0, samples.leaves(512, 3), "at most 256, got 512"),
        ("field_vole", vole, 0, vole[0][:, :, :8], "leaves of 16 bytes, got 8"),
        ("field_vole", vole, 3, words, "expected 30 contiguous uint64"),
        ("leaf_sums", sums, 1, np.zeros(2, np.int32), "expected 2 contiguous int64"),
        ("leaf_sums", sums, 3, offsets[:2], "expected 3 contiguous int64"),
        ("leaf_sums", sums, 6, words, "expected 5 contiguous uint64"),
        (
            "transpose_bits",
            (samples.ring(128, 2), samples.ring(128, 2)),
            0,
            samples.ring(127, 2),
            "expected 128 contig",
        ),
        ("vole_correct", correct, 3, 64, "a shift of 0 to 63, got 64"),
        ("vole_correct", correct, 3, -1, "a shift of 0 to 63, got -1"),
        ("vole_correct", correct, 5, words, "expected 5 contiguous uint64"),
        ("vole_join", join, 5, 64, "a shift of 0 to 63"),
        ("vole_join", join, 0, words, "expected 5 contiguous uint64"),
        ("vole_join", join, 3, words[:1], "expected 2 contiguous int64"),
        ("add_runs", (words, np.zeros(2, np.int64), 2, words), 2, 3, "expected 6 contiguous uint64"),
    ):
        changed = [*sample]
        changed[position] = value
        _refused(kernel, tuple(changed), message)


def _refused(kernel: str, sample: Arguments, message: str) -> None:
    device, row = HostDevice(), CATALOG[kernel]
    assert row.gpu is not None
    with pytest.raises(ValueError, match=message):
        row.gpu(device, *(device.upload(a) if isinstance(a, np.ndarray) else a for a in sample))
    assert device.launches == []
