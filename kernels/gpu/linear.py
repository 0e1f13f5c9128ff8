"""Launchers of `cuda/linear.cu`: products of linear layers and window sums. Same names, arguments and meaning as
kernels.cpu.gemm, conv, beaver_linear and pool, and the same layouts of weights.

Every array is C-contiguous uint64; `out` must not overlap x or w.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sottovoce.kernels.gpu.device import MAX_BLOCKS, THREADS, Array, Device, blocks_for, check

UNIT = "linear"
STAGE = 16
"""Depth that a block has in shared memory at once, as in linear.cuh."""
TILES = ((64, 64, 2), (16, 64, 3), (64, 16, 3))
"""Rows, columns, and the cost of an output, estimated from instructions: 16 outputs of a thread share more than 4."""
BLOCKS_PER_MULTIPROCESSOR = 2
"""As the kernels' launch bounds promise."""
MIN_STAGES = 2
"""In a block at least: an estimate of what is worth adding its sums to memory, not measured."""
MAX_SPLITS = 65535
MAX_INDEX = 1 << 30
"""Rows, depth and positions are counted in 32 bits, and the end of the last tile or split lies behind the last."""
POOL_COLUMNS = 32


@dataclass(frozen=True, slots=True)
class Convolution:
    """The convolution of a batch, channels and columns of one group: (batch, groups * channels, time) by (groups, taps,
    channels, columns) gives (batch, groups * columns, time_out). A matrix product has one position, tap and group."""

    batch: int
    channels: int
    columns: int
    groups: int = 1
    time: int = 1
    taps: int = 1
    time_out: int = 1
    stride: int = 1
    pad_left: int = 0
    dilation: int = 1

    @property
    def rows(self) -> int:
        """Output positions of all clips."""
        return self.batch * self.time_out

    @property
    def depth(self) -> int:
        """Products in one sum."""
        return self.taps * self.channels

    @property
    def is_dense(self) -> bool:
        """Whether it is a matrix product."""
        return self.time == self.taps == self.time_out == 1 and self.pad_left == 0

    def check(self, kernel: str, parts: int = 1) -> None:
        """ValueError if an index would not fit into 32 bits, or a step does not advance."""
        if self.stride < 1 or self.dilation < 1:
            raise ValueError(f"{kernel}: stride and dilation must be positive")
        reach = self.time_out * self.stride + (self.taps + 3 * STAGE) * self.dilation + abs(self.pad_left)
        most = max(self.rows, parts * self.depth, self.groups * self.columns, self.time, reach)
        if most > MAX_INDEX or max(self.tiles(rows, columns) for rows, columns, _ in TILES) > MAX_BLOCKS:
            raise ValueError(f"{kernel}: expected sizes up to {MAX_INDEX}, got {most}: cut the batch")

    def tiles(self, rows: int, columns: int) -> int:
        """Tiles of that size."""
        return -(-self.rows // rows) * -(-self.columns // columns) * self.groups


def matmul(device: Device, x: Array, w: Array, out: Array, accumulate: bool) -> None:
    """out = x @ w, or out += x @ w if `accumulate`. x: (rows, inner), w: (inner, columns), out: (rows, columns)."""
    rows, inner = x.shape
    if w.shape[0] != inner or out.shape != (rows, w.shape[1]):
        raise ValueError("matmul: x, w and out do not have matching shapes")
    _launch(device, "matmul", Convolution(rows, inner, w.shape[1]), x, w, out, add=accumulate)


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
    """out[b, o, t] (+)= sum over tap, i of x[b, i, t * stride + tap * dilation - pad_left] * w[group, tap, i, o].

    x: (batch, c_in, time), w: (groups, kernel, c_in / groups, c_out / groups), out: (batch, c_out, time_out).
    """
    c = _convolution("conv1d", x, w.shape, out, stride, pad_left, dilation, groups)
    _launch(device, "conv1d", c, x, w, out, add=accumulate)


def beaver_conv1d(
    device: Device, d: Array, a: Array, w: Array, out: Array, stride: int, pad_left: int, dilation: int, groups: int
) -> None:
    """out += D * W' + A * E for every clip.

    d, a: (batch, c_in, time), w: from `pack_beaver_conv1d`, out: (batch, c_out, time_out).
    """
    name = "beaver_conv1d"
    apart, *packed = w.shape
    if apart == 1 and packed[2] % 2 == 0:
        packed[2] //= 2
    elif apart != 2:
        raise ValueError(f"{name}: w does not hold W' and E, got {w.shape}")
    c = _convolution(name, d, tuple(packed), out, stride, pad_left, dilation, groups)
    if a.shape != d.shape:
        raise ValueError(f"{name}: d and a do not have matching shapes")
    part = w.size // 2 if apart == 2 else c.channels * c.columns
    _launch(device, name, c, d, w, out, second=a, w_tap=w.shape[3] * c.columns, w_part=part, add=True)


def beaver_matmul(device: Device, d: Array, a: Array, w: Array, out: Array) -> None:
    """out += D @ W' + A @ E. d, a: (rows, inner), w: (2, inner, columns), out: (rows, columns)."""
    rows, inner = d.shape
    if a.shape != d.shape or w.shape[:2] != (2, inner) or out.shape != (rows, w.shape[2]):
        raise ValueError("beaver_matmul: d, a, w and out do not have matching shapes")
    c = Convolution(rows, inner, w.shape[2])
    _launch(device, "beaver_matmul", c, d, w, out, second=a, w_part=w.size // 2, add=True)


def sum_pool(device: Device, x: Array, out: Array, kernel_size: int, stride: int, pad_left: int) -> None:
    """out[r, t] = sum of x[r, t * stride - pad_left + k] for 0 <= k < kernel_size; outside x is zero.

    x: (rows, time), out: (rows, time_out).
    """
    (rows, time), (rows_out, time_out) = x.shape, out.shape
    if rows_out != rows:
        raise ValueError("sum_pool: x and out do not have matching shapes")
    reach = max(time, time_out * abs(stride) + abs(pad_left) + abs(kernel_size))
    if reach > MAX_INDEX:
        raise ValueError(f"sum_pool: expected positions up to {MAX_INDEX}, got {reach}")
    check("sum_pool", x, rows * time)
    check("sum_pool", out, rows * time_out)
    if not out.size:
        return
    block = (POOL_COLUMNS, THREADS // POOL_COLUMNS, 1)
    numbers = map(np.int32, (time, time_out, kernel_size, stride, pad_left))
    device.launch(UNIT, "sum_pool", blocks_for(rows, block[1]), block, (x, out, np.int64(rows), *numbers))


def stages_per_block(device: Device, stages: int) -> int:
    """How much of the depth one block takes, so that all blocks together fill the device: stages of all tiles."""
    return max(MIN_STAGES, -(-stages // (BLOCKS_PER_MULTIPROCESSOR * device.multiprocessors)))


def _convolution(
    name: str, x: Array, w_shape: tuple[int, ...], out: Array, stride: int, pad_left: int, dilation: int, groups: int
) -> Convolution:
    (batch, c_in, time), (batch_out, c_out, time_out) = x.shape, out.shape
    w_groups, taps, channels, columns = w_shape
    if w_groups != groups or channels * groups != c_in or batch_out != batch or columns * groups != c_out:
        raise ValueError(f"{name}: x, w, out and groups do not have matching shapes")
    return Convolution(batch, channels, columns, groups, time, taps, time_out, stride, pad_left, dilation)


def _launch(
    device: Device,
    name: str,
    c: Convolution,
    x: Array,
    w: Array,
    out: Array,
    *,
    second: Array | None = None,
    w_tap: int | None = None,
    w_part: int = 0,
    add: bool = False,
) -> None:
    """out (+)= x * w + second * (w at w_part). The depth is split if the tiles are few."""
    parts = 1 if second is None else 2
    for array in (x, second):
        if array is not None:
            check(name, array, c.batch * c.groups * c.channels * c.time)
    check(name, w, parts * c.groups * c.depth * c.columns)
    check(name, out, c.rows * c.groups * c.columns)
    c.check(name, parts)
    if not out.size:
        return
    rows, columns, _ = min(TILES, key=lambda tile: c.tiles(tile[0], tile[1]) * tile[0] * tile[1] * tile[2])
    tiles, stages = c.tiles(rows, columns), max(-(-parts * c.depth // STAGE), 1)
    in_block = max(stages_per_block(device, tiles * stages), -(-stages // MAX_SPLITS))
    splits = -(-stages // in_block)
    if splits > 1 and not add:
        grid = blocks_for(out.size, THREADS)
        device.launch(UNIT, "linear_begin", grid, (THREADS, 1, 1), (out, np.int64(out.size)))
    clips = (c.groups * c.channels * c.time, c.groups * c.columns * c.time_out)
    strides = (*clips, w_tap or c.channels * c.columns, w_part)
    sizes = (c.rows, c.time, c.time_out, c.taps, c.channels, c.columns, c.groups)
    steps = (c.stride, c.pad_left, c.dilation, parts, add, in_block * STAGE)
    arrays = (x, x if second is None else second, w, out)
    arguments = (*arrays, *map(np.int64, strides), *map(np.int32, (*sizes, *steps)))
    kernel = f"linear_{'dense' if c.is_dense else 'conv'}_{rows}x{columns}"
    device.launch(UNIT, kernel, (tiles, splits, 1), (THREADS, 1, 1), arguments)
