"""The CUDA kernels of linear layers: every tile, depths that are split and that are not, slices of arrays, outputs over
inputs, and what the launchers refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sottovoce.bench.gpu.twin import run_both
from sottovoce.kernels.catalog import CATALOG
from sottovoce.kernels.gpu import linear_triples
from sottovoce.kernels.gpu.linear import MAX_INDEX, STAGE, Convolution
from sottovoce.kernels.products import ProductLayer
from tests.gpu.compare import compare
from tests.gpu.devices import Awkward, Unaligned
from tests.gpu.linear_cases import CONV1D, MATMUL, NAMES, PRODUCTS, ROWS
from tests.gpu.require import needs_compiler
from tests.gpu.sanitizer import assert_clean
from tests.gpu.shim.host import HostDevice

pytestmark = needs_compiler


DEVICES = {"one block": (HostDevice, 1), "many blocks": (HostDevice, 200), "unaligned": (Unaligned, 2)}


def ring(rng: np.random.Generator, *shape: int) -> np.ndarray[Any, Any]:
    return rng.integers(0, 2**64, shape, dtype=np.uint64)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("kind", "multiprocessors"), DEVICES.values(), ids=DEVICES)
def test_splits_and_alignments(name: str, kind: type[HostDevice], multiprocessors: int) -> None:
    compare(ROWS[name], kind(multiprocessors=multiprocessors))


@pytest.mark.parametrize(
    ("rows", "columns", "tile"),
    [
        (64, 64, "64x64"),
        (128, 192, "64x64"),
        (1, 64, "16x64"),
        (17, 130, "16x64"),
        (200, 8, "64x16"),
        (65, 16, "64x16"),
    ],
)
@pytest.mark.parametrize("kind", ["dense", "conv"])
def test_every_tile(rng: np.random.Generator, kind: str, rows: int, columns: int, tile: str) -> None:
    device = HostDevice()
    if kind == "dense":
        w = ring(rng, 34, columns)
        run_both(MATMUL, device, (ring(rng, rows, 34), w, ring(rng, rows, columns), True), tile)
    else:
        x, w, out = ring(rng, 1, 7, rows + 4), ring(rng, 1, 5, 7, columns), ring(rng, 1, columns, rows)
        run_both(CONV1D, device, (x, w, out, 1, 0, 1, 1, True), tile)
    assert [launch.kernel for launch in device.launches] == [f"linear_{kind}_{tile}"]


@pytest.mark.parametrize("seed", range(6))
def test_convolutions_at_random(seed: int) -> None:
    """Sizes on both sides of the tiles, every step, groups, padding beyond the input on both sides."""
    rng = np.random.default_rng(seed)
    batch, groups, taps = (int(rng.integers(1, n)) for n in (4, 4, 6))
    c_in, c_out, time = (int(rng.integers(1, n)) for n in (40, 70, 50))
    stride, dilation, pad_left = (int(n) for n in (rng.integers(1, 4), rng.integers(1, 4), rng.integers(-2, 9)))
    time_out = int(rng.integers(1, 50))
    geometry = (stride, pad_left, dilation, groups)
    x, out = ring(rng, batch, groups * c_in, time), ring(rng, batch, groups * c_out, time_out)
    w = ring(rng, groups, taps, c_in, c_out)
    device = HostDevice(multiprocessors=int(rng.integers(1, 40)))
    run_both(CONV1D, device, (x, w, out, *geometry, bool(seed % 2)), f"conv1d {seed}")
    layers = (ProductLayer(0, 0, 0, groups * c_in, groups * c_out, time, taps, time_out, *geometry),)
    a0, c0 = x.reshape(batch, -1), out.reshape(batch, -1)
    shares = (a0, ring(rng, *a0.shape), w.reshape(-1), c0, c0.copy())
    run_both(CATALOG["triple_products"], device, (layers, *shares), f"triple {seed}")


def test_a_split_depth_that_accumulates_is_one_launch(rng: np.random.Generator) -> None:
    x, w, out = ring(rng, 3, 40 * STAGE), ring(rng, 40 * STAGE, 5), ring(rng, 3, 5)
    for accumulate, launches in ((True, 1), (False, 2)):
        device = HostDevice()
        run_both(MATMUL, device, (x, w, out, accumulate), "split")
        assert len(device.launches) == launches


@pytest.mark.parametrize("multiprocessors", [1, 200], ids=["whole", "split"])
def test_a_triple_takes_the_place_of_the_other_share(rng: np.random.Generator, multiprocessors: int) -> None:
    a0, a1, b, c0 = ring(rng, 5, 99), ring(rng, 5, 99), ring(rng, 99, 7), ring(rng, 5, 7)
    device = HostDevice(multiprocessors=multiprocessors)
    on_device = [device.upload(array) for array in (a0, a1, b.reshape(-1), c0)]
    layers = (ProductLayer(0, 0, 0, c_in=99, c_out=7),)
    linear_triples.triple_products(device, layers, *on_device, on_device[3])
    np.testing.assert_array_equal(device.download(on_device[3]).wait(), (a0 + a1) @ b - c0)


def test_no_access_is_misaligned_or_beside_an_array() -> None:
    """Two words at once only where each address allows it; nothing is gathered for channels that do not exist."""
    assert_clean(NAMES, "tests.gpu.linear_cases")


def test_window_sums_of_more_rows_than_blocks() -> None:
    compare(CATALOG["sum_pool"], Awkward())


# ---- what the launchers refuse --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*PRODUCTS, "sum_pool"])
def test_shapes_types_and_layouts_that_do_not_match(name: str) -> None:
    """Each array of the largest sample in turn: a row more, another type, every other column."""
    row, device = ROWS[name], HostDevice()
    assert row.gpu is not None
    samples = row.samples(np.random.default_rng(1))
    sample = max(samples, key=lambda arguments: sum(np.size(a) for a in arguments))
    on_device = [device.upload(a) if isinstance(a, np.ndarray) else a for a in sample]
    for position, array in enumerate(sample):
        if not isinstance(array, np.ndarray):
            continue
        wide = device.empty((*array.shape[:-1], 2 * array.shape[-1]), np.uint64)
        for wrong in (
            device.empty((array.shape[0] + 1, *array.shape[1:]), np.uint64),
            device.empty(array.shape, np.int64),
            wide[..., ::2],
        ):
            with pytest.raises(ValueError, match=name):
                row.gpu(device, *on_device[:position], wrong, *on_device[position + 1 :])
    assert not device.launches


@pytest.mark.parametrize(
    "sizes",
    [
        {"stride": 0},
        {"dilation": 0},
        {"batch": MAX_INDEX // 4, "time_out": 5},
        {"channels": MAX_INDEX, "taps": 2},
        {"time_out": 1 << 15, "stride": 1 << 15, "dilation": 2},
        {"pad_left": -MAX_INDEX},
    ],
    ids=str,
)
def test_sizes_beyond_32_bits(sizes: dict[str, int]) -> None:
    plain = {"batch": 1, "channels": 1, "columns": 1}
    Convolution(**plain).check("conv1d")
    with pytest.raises(ValueError, match="conv1d: "):
        Convolution(**{**plain, **sizes}).check("conv1d")
