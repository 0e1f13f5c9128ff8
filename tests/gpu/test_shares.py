"""The CUDA kernels on bits and shares: rows wider than a block, keystreams at odd places, few threads for much work,
outputs over inputs, slices of arrays, and what the launchers refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sottovoce.bench.gpu.twin import run_both, stream_words
from sottovoce.kernels.catalog import CATALOG, Arguments
from sottovoce.kernels.cpu.bits import RADIX, leaf_rows
from sottovoce.kernels.gpu import bits, ring, shares
from sottovoce.kernels.gpu.device import Keystream
from tests.gpu.devices import Narrow
from tests.gpu.require import needs_compiler
from tests.gpu.shim.arrays import DeviceArray
from tests.gpu.shim.host import HostDevice

pytestmark = needs_compiler

ALL_ONES = np.uint64(2**64 - 1)
KEY = (2**64 - 1, 3, 2**63, 5)


@pytest.fixture(params=["all blocks", "one block, backwards"])
def device(request: pytest.FixtureRequest) -> HostDevice:
    return HostDevice() if request.param == "all blocks" else Narrow("reversed")


class Samples:
    """Uniform arguments of a kernel."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def ring(self, *shape: int) -> np.ndarray:
        return self.rng.integers(0, 2**64, shape, dtype=np.uint64)

    def halves(self, n: int) -> np.ndarray:
        return self.rng.integers(0, 2**32, n, dtype=np.uint32)

    def of(self, kernel: str, n: int) -> Arguments:
        """For n elements, or for n words of bits."""
        r, w = self.ring, -(-n // 64)
        match kernel:
            case "trunc_left":
                return *(r(n) for _ in range(4)), r(w), 17, r(w), r(w), r(n), r(n)
            case "trunc_left_finish":
                return r(w), r(w), r(w), r(w), self.halves(n), 17, r(n)
            case "trunc_right":
                return *(r(n) for _ in range(4)), r(w), self.halves(n), r(w), 17, r(w), self.halves(n), r(n), r(n)
            case "trunc_deal":
                return r(n), r(n), r(w), r(w), self.halves(n), r(n), self.halves(n)
            case "select_share":
                return r(w), r(w), *(r(n) for _ in range(6))
            case "select_eval":
                return r(w), r(n), r(n), np.uint64(1), r(n), r(n), r(n)
            case "mask_zero":
                return r(n), r(n), r(n), r(n)
            case "remask_pair":
                return tuple(r(n) for _ in range(5))
            case "and_cross":
                return tuple(r(n) for _ in range(7))
        raise AssertionError(kernel)

    def rows(self, kernel: str, m: int, w: int) -> Arguments:
        """For m planes or m blocks, w words each."""
        r = self.ring
        match kernel:
            case "monomials":
                return r(m, w), r(leaf_rows(m), w), r(leaf_rows(m), w)
            case "contract_leaves":
                pairs = 2 * -(-(m - 1) // RADIX) - 1
                return r(m, w), r(leaf_rows(m), w), ALL_ONES, r(pairs, w), r(pairs, w)
            case "carry_level":
                gates, merged = 2 * (m // 2) - 1, 2 * -(-m // 2) - 1
                return r(2 * m - 1, w), r(2 * m - 1, w), r(gates, w), r(gates, w), r(merged, w)
        raise AssertionError(kernel)


STREAMS = {
    "trunc_left": (1, 2, 3),
    "trunc_left_finish": (),
    "trunc_right": (2, 3),
    "trunc_deal": (1,),
    "select_share": (4, 5),
    "select_eval": (4, 5),
    "mask_zero": (1, 2),
    "remask_pair": (1, 2),
    "and_cross": (4, 5),
}
ROW_STREAMS = {"monomials": (1,), "contract_leaves": (1, 3), "carry_level": (2, 3)}


def _check(device: HostDevice, kernel: str, sample: Arguments, positions: tuple[int, ...], first: int) -> None:
    """With arrays, then with consecutive parts of one keystream, as one draw gives them, in place of all masks."""
    run_both(CATALOG[kernel], device, sample, kernel)
    streams, changed = {}, list(sample)
    for position in positions:
        stream = Keystream(KEY, 2**48 + position, first, sample[position].shape)
        streams[position], changed[position] = stream, stream_words(stream)
        first += stream.size
    run_both(CATALOG[kernel], device, tuple(changed), f"{kernel}, keystreams", streams)


@pytest.mark.parametrize("kernel", STREAMS)
def test_elements_of_several_blocks(device: HostDevice, rng: np.random.Generator, kernel: str) -> None:
    """Of an odd number, so that the second part of a draw begins inside a block of keystream."""
    for n, first in ((4099, 0), (2048, 3), (9, 7)):
        _check(device, kernel, Samples(rng).of(kernel, n), STREAMS[kernel], first)


@pytest.mark.parametrize("kernel", ROW_STREAMS)
def test_rows_of_several_blocks(device: HostDevice, rng: np.random.Generator, kernel: str) -> None:
    """A block takes 1984 words of a row, a warp 248; rows of 249 words begin at every place of a block of keystream."""
    for m, w, first in ((3, 2 * 1984 + 1, 0), (4, 1984, 0), (13, 249, 5), (5, 7, 8)):
        _check(device, kernel, Samples(rng).rows(kernel, m, w), ROW_STREAMS[kernel], first)


@pytest.mark.parametrize(("kernel", "dtype", "most"), [("slice_bits", np.uint64, 64), ("slice_halves", np.uint32, 32)])
def test_slices_of_several_blocks(
    device: HostDevice, rng: np.random.Generator, kernel: str, dtype: type[np.unsignedinteger], most: int
) -> None:
    """A block takes 4096 elements, a warp 1024."""
    for n, m in ((1024, 32), (3 * 4096 + 1027, 33), (4095, 64), (130, 7)):
        x, m = rng.integers(0, 2**64, n, dtype=np.uint64).astype(dtype), min(m, most)
        run_both(CATALOG[kernel], device, (x, m, np.zeros((m, -(-n // 64)), np.uint64)), f"{kernel} {n}")


def test_slice_of_an_array_that_does_not_begin_at_16_bytes(device: HostDevice, rng: np.random.Generator) -> None:
    x = rng.integers(0, 2**64, 2049, dtype=np.uint64)
    expected = np.zeros((33, 32), np.uint64)
    CATALOG["slice_bits"].cpu(x[1:], 33, expected)
    planes = device.empty((33, 32), np.uint64)
    bits.slice_bits(device, device.upload(x)[1:], 33, planes)
    np.testing.assert_array_equal(device.download(planes).wait(), expected)


@pytest.mark.parametrize(
    ("kernel", "source", "out"),
    [("mask_zero", 0, 3), ("remask_pair", 0, 3), ("and_cross", 0, 6), ("trunc_left", 0, 8), ("select_eval", 2, 6)],
)
def test_output_may_be_an_input(
    device: HostDevice, rng: np.random.Generator, kernel: str, source: int, out: int
) -> None:
    row, sample = CATALOG[kernel], Samples(rng).of(kernel, 3001)
    assert row.gpu is not None
    expected = [a.copy() if isinstance(a, np.ndarray) else a for a in sample]
    row.cpu(*expected)
    on_device = [device.upload(a) if isinstance(a, np.ndarray) else a for a in sample]
    on_device[out] = on_device[source]
    row.gpu(device, *on_device)
    for position in row.outputs:
        np.testing.assert_array_equal(device.download(on_device[position]).wait(), expected[position])


def _uploaded(device: HostDevice, sample: Arguments) -> list[Any]:
    return [device.upload(a) if isinstance(a, np.ndarray) else a for a in sample]


REFUSED = [
    ("trunc_left", 5, 0, "1 to 32 bits"),
    ("trunc_left", 5, 33, "1 to 32 bits"),
    ("trunc_left_finish", 5, 64, "1 to 32 bits"),
    ("trunc_right", 7, 33, "1 to 32 bits"),
    ("trunc_right", 4, np.zeros(2, np.uint64), "expected 3 contiguous uint64"),
    ("trunc_right", 9, np.zeros(150, np.uint64), "expected 150 contiguous uint32"),
    ("trunc_deal", 4, np.zeros(150, np.uint64), "expected 150 contiguous uint32"),
    ("select_share", 0, np.zeros(4, np.uint64), "expected 3 contiguous uint64"),
    ("select_eval", 4, Keystream(KEY, 1, 0, (149,)), "expected a keystream of 150 words"),
    ("mask_zero", 0, np.zeros(149, np.uint64), "expected 150 contiguous uint64"),
    ("remask_pair", 4, np.zeros(149, np.uint64), "expected 150 contiguous uint64"),
    ("remask_pair", 2, Keystream(KEY, 1, 0, (151,)), "expected a keystream of 150 words"),
    ("and_cross", 5, Keystream(KEY, 1, 0, (151,)), "expected a keystream of 150 words"),
]


@pytest.mark.parametrize(("kernel", "position", "value", "message"), REFUSED)
def test_arguments_that_do_not_fit(
    rng: np.random.Generator, kernel: str, position: int, value: Any, message: str
) -> None:
    device = HostDevice()
    sample = list(Samples(rng).of(kernel, 150))
    sample[position] = value
    with pytest.raises(ValueError, match=message):
        CATALOG[kernel].gpu(device, *_uploaded(device, tuple(sample)))  # type: ignore[misc]
    assert device.launches == []


def test_shapes_that_do_not_fit() -> None:
    device = HostDevice()

    def words(*shape: int, dtype: Any = np.uint64) -> DeviceArray:
        return device.empty(shape, dtype)

    with pytest.raises(ValueError, match="expected 64 contiguous uint64"):
        bits.slice_bits(device, words(64, dtype=np.uint32), 8, words(8, 1))
    with pytest.raises(ValueError, match="expected 64 contiguous uint32"):
        bits.slice_halves(device, words(64), 8, words(8, 1))
    with pytest.raises(ValueError, match="1 to 32 bits"):
        bits.slice_halves(device, words(64, dtype=np.uint32), 33, words(33, 1))
    for number in (0, 65):
        with pytest.raises(ValueError, match="1 to 64 bits"):
            bits.slice_bits(device, words(64), number, words(number, 1))
    with pytest.raises(ValueError, match="expected 16 contiguous"):
        bits.slice_bits(device, words(65), 8, words(8, 1))
    with pytest.raises(ValueError, match="strided"):
        bits.monomials(device, words(2, 6)[:, ::2], words(2, 3), words(2, 3))
    with pytest.raises(ValueError, match="at least 2 planes"):
        bits.contract_leaves(device, words(1, 3), words(1, 3), ALL_ONES, words(1, 3), words(1, 3))
    for rows in (1, 4):
        with pytest.raises(ValueError, match="3, 5, 7"):
            bits.carry_level(device, words(rows, 3), words(rows, 3), words(1, 3), words(1, 3), words(3, 3))
    with pytest.raises(ValueError, match="0 for the low or 1"):
        ring.take_half(device, words(3), 2, words(3, dtype=np.uint32))
    with pytest.raises(ValueError, match="expected 3 contiguous uint32"):
        ring.join_halves(device, words(3, dtype=np.uint32), words(3), words(3))
    with pytest.raises(ValueError, match="expected 3 contiguous uint32"):
        shares.trunc_left_finish(device, words(1), words(1), words(1), words(1), words(3), 17, words(3))
    assert device.launches == []
