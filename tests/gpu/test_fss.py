"""The CUDA kernels of function secret sharing: what they compute, more comparisons than threads, what they refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sottovoce.kernels.catalog import CATALOG
from sottovoce.kernels.cpu.dcf import correction_rows
from sottovoce.kernels.gpu import fss
from sottovoce.kernels.gpu.device import THREADS
from sottovoce.kernels.gpu.streams import aes_grid
from tests.gpu.compare import compare
from tests.gpu.require import needs_compiler
from tests.gpu.shim.host import HostDevice

pytestmark = needs_compiler

ALL_ONES, NONE = np.uint64(2**64 - 1), np.uint64(0)


@pytest.fixture
def device() -> HostDevice:
    return HostDevice("plain", multiprocessors=1)


def _uniform(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.integers(0, 2**64, shape, dtype=np.uint64)


@pytest.mark.parametrize("bits", [2, 8, 9, 32, 64])
def test_shares_add_up_to_the_sign(device: HostDevice, rng: np.random.Generator, bits: int) -> None:
    """Both parties' keys from one kernel, both evaluations from the other: c - r mod 2^bits is negative or not."""
    n = 70
    r, roots = _uniform(rng, n), _uniform(rng, 2, 2, n)
    y = np.where(rng.random(n) < 0.3, rng.integers(-1, 2, n).astype(np.uint64), _uniform(rng, n))
    correction = device.empty((correction_rows(bits), n), np.uint64)
    on_device = [device.upload(x) for x in (r, y + r, *roots)]
    fss.dcf_gen(device, on_device[0], bits, on_device[2], on_device[3], correction)
    top = _uniform(rng, 2)
    signs = np.zeros(2, np.uint64)
    for party, one in enumerate((ALL_ONES, NONE)):
        out = device.empty((2,), np.uint64)
        fss.dcf_eval(device, on_device[1], bits, one, on_device[2 + party], correction, device.upload(top * one), out)
        signs ^= device.download(out).wait() ^ top * one
    tops = (r >> np.uint64(bits - 1)) & np.uint64(1)
    got = np.unpackbits(signs.view(np.uint8), bitorder="little")[:n] ^ tops.astype(np.uint8)
    np.testing.assert_array_equal(got, (y >> np.uint64(bits - 1)).astype(np.uint8) & 1)


@pytest.mark.parametrize("name", ["dcf_gen", "dcf_eval"])
def test_more_comparisons_than_threads(rng: np.random.Generator, name: str) -> None:
    """Threads take several, of the last word less than half is used, and the last thread runs first."""
    device = HostDevice("reversed", multiprocessors=1)
    n, bits = 2050, 10
    correction = _uniform(rng, correction_rows(bits), n)
    arguments: tuple[Any, ...]
    if name == "dcf_gen":
        arguments = (_uniform(rng, n), bits, _uniform(rng, 2, n), _uniform(rng, 2, n), correction)
    else:
        packed = [_uniform(rng, -(-n // 64)) for _ in range(2)]
        arguments = (_uniform(rng, n), bits, ALL_ONES, _uniform(rng, 2, n), correction, *packed)
    assert aes_grid(device, n)[0] * THREADS < n
    compare(CATALOG[name], device, [arguments])


def test_out_may_be_the_share_of_the_top_bits(device: HostDevice, rng: np.random.Generator) -> None:
    n, bits = 130, 9
    c, root, correction = _uniform(rng, n), _uniform(rng, 2, n), _uniform(rng, correction_rows(bits), n)
    top = _uniform(rng, 3)
    expected, both = np.zeros(3, np.uint64), device.upload(top)
    CATALOG["dcf_eval"].cpu(c, bits, ALL_ONES, root, correction, top, expected)
    c_, root_, correction_ = map(device.upload, (c, root, correction))
    fss.dcf_eval(device, c_, bits, ALL_ONES, root_, correction_, both, both)
    np.testing.assert_array_equal(device.download(both).wait(), expected)


@pytest.mark.parametrize("bits", [1, 65])
def test_refuses_numbers_of_other_sizes(device: HostDevice, bits: int) -> None:
    x = device.empty((4,), np.uint64)
    pair = device.empty((2, 4), np.uint64)
    with pytest.raises(ValueError, match="2 to 64 bits"):
        fss.dcf_gen(device, x, bits, pair, pair, pair)


def test_refuses_arrays_of_other_sizes(device: HostDevice) -> None:
    """A kernel would read or write beside them."""
    n, bits = 65, 32
    x, root = device.empty((n,), np.uint64), device.empty((2, n), np.uint64)
    correction, packed = device.empty((correction_rows(bits), n), np.uint64), device.empty((2,), np.uint64)
    short = device.empty((2, n - 1), np.uint64)
    with pytest.raises(ValueError, match="correction words"):
        fss.dcf_gen(device, x, bits, root, root, correction[2:])
    with pytest.raises(ValueError, match="correction words"):
        fss.dcf_eval(device, x, bits, ALL_ONES, root, correction.reshape(n, -1), packed, packed)
    for bad in ((short, root, packed, packed), (root, short, packed, packed)):
        with pytest.raises(ValueError, match="expected 130 contiguous"):
            fss.dcf_gen(device, x, bits, bad[0], bad[1], correction)
    for root_, top, out in ((short, packed, packed), (root, packed[:1], packed), (root, packed, packed[:1])):
        with pytest.raises(ValueError, match="contiguous uint64"):
            fss.dcf_eval(device, x, bits, ALL_ONES, root_, correction, top, out)
    assert not device.launches
