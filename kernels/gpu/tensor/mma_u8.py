"""Products mod 2^64 in one kernel on the int8 tensor cores (`cuda/mma.cu`): the bytes of a word are its limbs.

Exactness: see mma.cu; a block sums at most 16384 products. A longer inner dimension is sliced, and so is one whose
tiles are too few to fill the device: the slices add to `out` atomically, and their order does not matter mod 2^64.
"""

from __future__ import annotations

import numpy as np

from sottovoce.kernels.gpu.device import Array, Device
from sottovoce.kernels.gpu.tensor.planes import clear
from sottovoce.kernels.gpu.tensor.shapes import MOST_GRID_YZ, conv1d_shape, matmul_shape

UNIT = "mma"
TILE_COLUMNS, TILE_ROWS, TILE_INNER = 64, 32, 32
BLOCK = (256, 1, 1)
BLOCKS_PER_MULTIPROCESSOR = 2
MOST_DEPTH = 16384
"""Products that an accumulator can hold."""
LEAST_DEPTH = 256
"""Below this many products a slice is not worth its additions."""
STORE, ADD, ATOMIC_ADD = np.int32(0), np.int32(1), np.int32(2)


def matmul(device: Device, x: Array, w: Array, out: Array, accumulate: bool) -> None:
    """out (+)= x @ w, as kernels.cpu.gemm.matmul."""
    shape = matmul_shape("mma_u8", x, w, out)
    if out.size == 0:
        return
    grid, depth = _grid(device, shape.rows, shape.depth, shape.columns, 1)
    sizes = (np.int32(shape.rows), np.int32(shape.depth), np.int32(shape.columns), depth)
    mode = _mode(device, out, accumulate, sliced=grid[2] > 1)
    device.launch(UNIT, "mma_matmul", grid, BLOCK, (x, w, out, *sizes, mode))


def conv1d(
    device: Device,
    x: Array,
    w: Array,
    out: Array,
    stride: int,
    pad_left: int,
    dilation: int,
    groups: int,
    accumulate: bool,
) -> None:
    """As kernels.cpu.conv.conv1d."""
    shape = conv1d_shape("mma_u8", x, w, out, stride, pad_left, dilation, groups)
    if out.size == 0:
        return
    grid, depth = _grid(device, shape.rows, shape.depth, shape.columns, groups)
    batch = (np.int32(shape.batch), np.int32(groups), np.int32(shape.channels), np.int32(shape.columns))
    taps = (np.int32(shape.time), np.int32(shape.taps), np.int32(shape.time_out))
    steps = (np.int32(stride), np.int32(pad_left), np.int32(dilation))
    mode = _mode(device, out, accumulate, sliced=grid[2] > groups)
    device.launch(UNIT, "mma_conv1d", grid, BLOCK, (x, w, out, *batch, *taps, *steps, depth, mode))


def _grid(device: Device, rows: int, inner: int, columns: int, groups: int) -> tuple[tuple[int, int, int], np.int32]:
    """The grid, and how much of the inner dimension a block sums."""
    across, down = -(-rows // TILE_ROWS), -(-columns // TILE_COLUMNS)
    wanted = -(-BLOCKS_PER_MULTIPROCESSOR * device.multiprocessors // (across * down * groups))
    depth = max(-(-inner // wanted), min(inner, LEAST_DEPTH), 1)
    depth = min(-(-depth // TILE_INNER) * TILE_INNER, MOST_DEPTH)
    slices = max(-(-inner // depth), 1)
    if down > MOST_GRID_YZ or groups * slices > MOST_GRID_YZ:
        raise ValueError(
            f"mma_u8: {columns} columns, {groups} groups and {inner} terms are {down} tiles and {groups * slices} "
            f"slices, at most {MOST_GRID_YZ} of each: split the product"
        )
    return (across, down, groups * slices), np.int32(depth)


def _mode(device: Device, out: Array, accumulate: bool, *, sliced: bool) -> np.int32:
    """What a block does with its sums. Clears `out` first if it must."""
    if not sliced:
        return ADD if accumulate else STORE
    if not accumulate:
        clear(device, out)
    return ATOMIC_ADD
