"""matmul, conv1d and sum_pool on arbitrary shapes, against products of Python integers and of padded copies."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sottovoce.kernels.cpu.conv import DEEP, conv1d, pack_conv1d
from sottovoce.kernels.cpu.gemm import BLOCK, DEPTH, matmul
from sottovoce.kernels.cpu.pool import sum_pool
from sottovoce.kernels.cpu.tile import PANEL
from sottovoce.kernels.samples import ring_array

SEEDS = st.integers(0, 2**32 - 1)
FEW = settings(max_examples=60, deadline=None)


def exact_matmul(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """x @ w with Python integers, reduced mod 2^64 at the end."""
    product = x.astype(object) @ w.astype(object) if x.shape[1] else np.zeros((x.shape[0], w.shape[1]), object)
    return (product % 2**64).astype(np.uint64)


@FEW
@given(SEEDS, st.integers(0, 9), st.integers(0, 20), st.integers(0, 2 * PANEL + 3), st.booleans())
def test_matmul_shapes(seed: int, rows: int, inner: int, columns: int, accumulate: bool) -> None:
    rng = np.random.default_rng(seed)
    x, w, out = (ring_array(rng, shape) for shape in ((rows, inner), (inner, columns), (rows, columns)))
    expected = exact_matmul(x, w) + (out if accumulate else np.uint64(0))
    matmul(x, w, out, accumulate)
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("rows", [1, 3, BLOCK - 1, BLOCK + 1, 2 * BLOCK + 2])
@pytest.mark.parametrize("inner", [DEPTH - 1, DEPTH, 2 * DEPTH + 1])
def test_matmul_across_cache_blocks(rows: int, inner: int) -> None:
    rng = np.random.default_rng(rows * inner)
    x, w, out = (ring_array(rng, shape) for shape in ((rows, inner), (inner, 11), (rows, 11)))
    expected = out + exact_matmul(x, w)
    matmul(x, w, out, True)
    np.testing.assert_array_equal(out, expected)


@FEW
@given(
    seed=SEEDS,
    batch=st.integers(0, 4),
    groups=st.integers(1, 3),
    c_in=st.sampled_from([1, 2, 3, DEEP - 1, DEEP]),
    c_out=st.integers(1, PANEL + 2),
    time=st.integers(1, 12),
    kernel_size=st.integers(1, 5),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 3),
    pad_left=st.integers(0, 7),
    pad_right=st.integers(0, 7),
    accumulate=st.booleans(),
)
def test_conv1d_shapes(
    seed: int, batch: int, groups: int, c_in: int, c_out: int, time: int, kernel_size: int, stride: int, dilation: int,
    pad_left: int, pad_right: int, accumulate: bool,
) -> None:  # fmt: skip
    """Equal to products with an explicitly padded copy, in the (c_out, c_in / groups, kernel) layout."""
    rng = np.random.default_rng(seed)
    x = ring_array(rng, (batch, groups * c_in, time))
    w = ring_array(rng, (groups * c_out, c_in, kernel_size))
    padded = np.pad(x, ((0, 0), (0, 0), (pad_left, pad_right)))
    span = (kernel_size - 1) * dilation + 1
    time_out = max((padded.shape[2] - span) // stride + 1, 0)
    out = ring_array(rng, (batch, groups * c_out, time_out))
    expected = out.copy() if accumulate else np.zeros_like(out)
    for t in range(time_out):
        window = padded[:, :, t * stride : t * stride + span : dilation]
        for group in range(groups):
            mine = slice(group * c_out, (group + 1) * c_out)
            patch = window[:, group * c_in : (group + 1) * c_in].reshape(batch, c_in * kernel_size)
            expected[:, mine, t] += exact_matmul(patch, w[mine].reshape(c_out, -1).T)
    conv1d(x, pack_conv1d(w, groups), out, stride, pad_left, dilation, groups, accumulate)
    np.testing.assert_array_equal(out, expected)


def test_conv1d_over_several_chunks_of_the_batch() -> None:
    rng = np.random.default_rng(1)
    x, w = ring_array(rng, (21, 130, 17)), ring_array(rng, (9, 130, 2))
    out, single = np.zeros((21, 9, 16), np.uint64), np.zeros((1, 9, 16), np.uint64)
    conv1d(x, pack_conv1d(w), out, 1, 0, 1, 1, False)
    for clip in range(21):
        conv1d(x[clip : clip + 1].copy(), pack_conv1d(w), single, 1, 0, 1, 1, False)
        np.testing.assert_array_equal(out[clip], single[0])
    np.testing.assert_array_equal(out[20, :, 3], exact_matmul(x[20:, :, 3:5].reshape(1, -1), w.reshape(9, -1).T)[0])


def test_pack_conv1d_puts_each_weight_where_the_kernel_reads_it() -> None:
    w = np.arange(6 * 2 * 3, dtype=np.uint64).reshape(6, 2, 3)
    packed = pack_conv1d(w, groups=2)
    assert packed.shape == (2, 3, 2, 3) and packed.flags.c_contiguous
    for o, i, tap in np.ndindex(w.shape):
        assert packed[o // 3, tap, i, o % 3] == w[o, i, tap]


@pytest.mark.parametrize("groups", [0, 4])
def test_pack_conv1d_refuses_groups_that_do_not_divide(groups: int) -> None:
    with pytest.raises(ValueError, match="multiple of groups"):
        pack_conv1d(np.zeros((6, 2, 3), np.uint64), groups)


@FEW
@given(SEEDS, st.integers(0, 3), st.integers(1, 12), st.integers(1, 5), st.integers(1, 4), st.integers(0, 6))
def test_sum_pool_shapes(seed: int, rows: int, time: int, size: int, stride: int, pad_left: int) -> None:
    x = ring_array(np.random.default_rng(seed), (rows, time))
    time_out = (time + pad_left) // stride + 1
    padded = np.pad(x, ((0, 0), (pad_left, time_out * stride + size)))
    windows = [padded[:, t * stride : t * stride + size] for t in range(time_out)]
    out = np.empty((rows, time_out), np.uint64)
    sum_pool(x, out, size, stride, pad_left)
    np.testing.assert_array_equal(out, np.stack([w.sum(axis=1, dtype=np.uint64) for w in windows], axis=1))


@pytest.mark.parametrize("dtype", [np.int64, np.uint32, np.float64])
def test_linear_kernels_refuse_other_dtypes(dtype: type) -> None:
    """No silent fall-back: a signed or float array must not compile into another kernel."""
    x, w, out = np.zeros((2, 3), dtype), np.zeros((3, 4), np.uint64), np.zeros((2, 4), np.uint64)
    with pytest.raises(TypeError, match="uint64"):
        matmul(x, w, out, False)
    with pytest.raises(TypeError, match="uint64"):
        conv1d(x[None], np.zeros((1, 1, 3, 4), np.uint64), out[None], 1, 0, 1, 1, False)


@pytest.mark.parametrize(("w_shape", "out_shape"), [((4, 5), (2, 5)), ((3, 5), (3, 5)), ((3, 5), (2, 4))])
def test_matmul_refuses_shapes_that_do_not_match(w_shape: tuple[int, int], out_shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="matching shapes"):
        matmul(np.zeros((2, 3), np.uint64), np.zeros(w_shape, np.uint64), np.zeros(out_shape, np.uint64), False)


@pytest.mark.parametrize(
    ("x", "out", "groups"),
    [((2, 5, 9), (2, 8, 9), 2), ((2, 6, 9), (1, 8, 9), 2), ((2, 6, 9), (2, 7, 9), 2), ((2, 6, 9), (2, 8, 9), 1)],
)
def test_conv1d_refuses_shapes_that_do_not_match(
    x: tuple[int, int, int], out: tuple[int, int, int], groups: int
) -> None:
    w = np.zeros((2, 3, 3, 4), np.uint64)
    with pytest.raises(ValueError, match="matching shapes"):
        conv1d(np.zeros(x, np.uint64), w, np.zeros(out, np.uint64), 1, 1, 1, groups, False)


@pytest.mark.parametrize(("stride", "dilation"), [(0, 1), (1, 0), (-1, 1)])
def test_conv1d_refuses_steps_that_do_not_advance(stride: int, dilation: int) -> None:
    x, w, out = np.zeros((1, 1, 4), np.uint64), np.zeros((1, 2, 1, 1), np.uint64), np.zeros((1, 1, 3), np.uint64)
    with pytest.raises(ValueError, match="positive"):
        conv1d(x, w, out, stride, 0, dilation, 1, False)
