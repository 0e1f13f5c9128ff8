"""The CUDA kernels on two-party masks: more than a block's work, slices of arrays, outputs over inputs, refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sottovoce.bench.gpu.twin import run_both
from sottovoce.kernels.catalog import CATALOG, Arguments
from sottovoce.kernels.cpu.beaver_bits import leaf_product_rows, merge_mask_rows, merge_monomials
from sottovoce.kernels.gpu import beaver_bits
from tests.gpu.devices import Awkward
from tests.gpu.require import needs_compiler
from tests.gpu.shim.host import HostDevice

pytestmark = needs_compiler

ONE = np.uint64(1)
ALL_ONES = np.uint64(2**64 - 1)


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

    def numbers(self, kernel: str, n: int) -> Arguments:
        """For n elements."""
        r, w = self.ring, -(-n // 64)
        match kernel:
            case "wrap_open":
                return r(n), np.uint64(3 << 62), np.uint64(5), 17, r(w), r(w), r(w), r(n)
            case "wrap_finish":
                halves = self.rng.integers(0, 2**32, n, dtype=np.uint32)
                return r(w), r(w), r(w), r(w), halves, ONE, 17, r(n)
            case "select_open":
                return r(w), r(n), r(n), r(w), r(n), r(w)
            case "select_finish":
                return r(w), r(n), r(n), r(w), r(w), r(w), r(n), r(n), r(n)
            case "beaver_mul":
                return r(n), r(n), r(n), r(n), r(n), ONE, r(n)
            case "triple_mul":
                return tuple(r(n) for _ in range(6))
        raise AssertionError(kernel)

    def rows(self, kernel: str, m: int, w: int, one: np.uint64) -> Arguments:
        """For m bits, blocks or inputs, w words each."""
        r = self.ring
        match kernel:
            case "leaf_eval":
                return r(m, w), r(m, w), r(m, w), r(leaf_product_rows(m), w), one, r(2 * -(-m // 2) - 1, w)
            case "merge_open":
                return r(2 * m - 1, w), r(merge_mask_rows(m), w), r(merge_mask_rows(m), w)
            case "merge_eval":
                masks = merge_mask_rows(m), w
                products = r(len(merge_monomials(m)), w)
                return r(2 * m - 1, w), r(*masks), r(*masks), products, one, r(2 * -(-m // 4) - 1, w)
            case "ands_eval":
                return r(m, w), r(m, w), r((1 << m) - 1 - m, w), one, r(w)
        raise AssertionError(kernel)


NUMBERS = ("wrap_open", "wrap_finish", "select_open", "select_finish", "beaver_mul", "triple_mul")
ROWS = {"leaf_eval": (1, 31, 64), "merge_open": (1, 5, 32), "merge_eval": (1, 15, 32), "ands_eval": (2, 8)}


@pytest.mark.parametrize("kernel", NUMBERS)
def test_elements_of_several_blocks(device: HostDevice, rng: np.random.Generator, kernel: str) -> None:
    """A block takes 512 elements at a time."""
    for n in (1153, 1024, 1):
        run_both(CATALOG[kernel], device, Samples(rng).numbers(kernel, n), f"{kernel}, {n} elements")


@pytest.mark.parametrize("kernel", ROWS)
def test_rows_of_several_blocks(device: HostDevice, rng: np.random.Generator, kernel: str) -> None:
    """A block takes 256 words of a row at a time, in pairs if every row begins at 16 bytes."""
    for m in ROWS[kernel]:
        for w, one in ((258, ALL_ONES), (2, np.uint64(0)), (257, np.uint64(0)), (1, ALL_ONES)):
            run_both(CATALOG[kernel], device, Samples(rng).rows(kernel, m, w, one), f"{kernel}, {m} x {w}")


@pytest.mark.parametrize(
    ("kernel", "source"),
    [
        ("wrap_open", 0),
        ("select_open", 1),
        ("select_open", 2),
        *(("select_finish", i) for i in (1, 2, 6, 7)),
        *(("beaver_mul", i) for i in range(5)),
        *(("triple_mul", i) for i in range(5)),
    ],
)
def test_output_may_be_an_input(rng: np.random.Generator, kernel: str, source: int) -> None:
    row, sample, device = CATALOG[kernel], Samples(rng).numbers(kernel, 1100), HostDevice()
    assert row.gpu is not None
    out = next(i for i in reversed(row.outputs) if sample[i].size == 1100)
    expected = [a.copy() if isinstance(a, np.ndarray) else a for a in sample]
    row.cpu(*expected)
    on_device = [device.upload(a) if isinstance(a, np.ndarray) else a for a in sample]
    on_device[out] = on_device[source]
    row.gpu(device, *on_device)
    np.testing.assert_array_equal(device.download(on_device[out]).wait(), expected[out])


REFUSED = [
    ("wrap_open", 3, 0, "1 to 32 bits"),
    ("wrap_open", 3, 33, "1 to 32 bits"),
    ("wrap_open", 5, np.zeros(2, np.uint64), "expected 3 contiguous uint64"),
    ("wrap_finish", 6, 33, "1 to 32 bits"),
    ("wrap_finish", 4, np.zeros(150, np.uint64), "expected 150 contiguous uint32"),
    ("select_open", 3, np.zeros(4, np.uint64), "expected 3 contiguous uint64"),
    ("select_finish", 6, np.zeros(149, np.uint64), "expected 150 contiguous uint64"),
    ("beaver_mul", 2, np.zeros(151, np.uint64), "expected 150 contiguous uint64"),
    ("triple_mul", 4, np.zeros(150, np.int64), "expected 150 contiguous uint64"),
]
REFUSED_ROWS = [
    ("leaf_eval", 4, 3, np.zeros((7, 2), np.uint64), "expected 16 contiguous uint64"),
    ("leaf_eval", 65, 0, None, "1 to 64 bits"),
    ("merge_open", 5, 2, np.zeros((1, 2), np.uint64), "expected 12 contiguous uint64"),
    ("merge_eval", 5, 0, np.zeros((8, 2), np.uint64), "odd number of rows"),
    ("merge_eval", 5, 3, np.zeros((14, 2), np.uint64), "expected 30 contiguous uint64"),
    ("ands_eval", 3, 2, np.zeros((3, 2), np.uint64), "expected 8 contiguous uint64"),
    ("ands_eval", 9, 0, None, "2 to 8 inputs"),
]


@pytest.mark.parametrize(("kernel", "position", "value", "message"), REFUSED)
def test_numbers_that_do_not_fit(
    rng: np.random.Generator, kernel: str, position: int, value: Any, message: str
) -> None:
    sample = list(Samples(rng).numbers(kernel, 150))
    sample[position] = value
    _refused(kernel, tuple(sample), message)


@pytest.mark.parametrize(("kernel", "m", "position", "value", "message"), REFUSED_ROWS)
def test_rows_that_do_not_fit(
    rng: np.random.Generator, kernel: str, m: int, position: int, value: Any, message: str
) -> None:
    sample = list(Samples(rng).rows(kernel, m, 2, ALL_ONES))
    sample[position] = sample[position] if value is None else value
    _refused(kernel, tuple(sample), message)


def test_rows_that_are_not_contiguous() -> None:
    device = HostDevice()
    wide, mask = device.empty((3, 4), np.uint64), device.empty((2, 2), np.uint64)
    with pytest.raises(ValueError, match="strided"):
        beaver_bits.merge_open(device, wide[:, ::2], mask, mask)
    assert device.launches == []


def _refused(kernel: str, sample: Arguments, message: str) -> None:
    device, row = HostDevice(), CATALOG[kernel]
    assert row.gpu is not None
    with pytest.raises(ValueError, match=message):
        row.gpu(device, *(device.upload(a) if isinstance(a, np.ndarray) else a for a in sample))
    assert device.launches == []
