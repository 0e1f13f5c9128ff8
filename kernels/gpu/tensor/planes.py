"""Operands as planes of signed byte digits (`cuda/limbs.cu`), and the way back from sums.

Planes: (groups, rows, 8 * pitch) int8, row r's digit d of element k at [r, d * pitch + k]. cuBLAS asks for a pitch of a
multiple of 16 bytes, and a multiple of 4 rows where they count the columns of the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sottovoce.kernels.gpu.device import THREADS, Argument, Array, Device, blocks_for
from sottovoce.kernels.gpu.linear import Convolution
from sottovoce.kernels.gpu.tensor.shapes import MOST_GRID_YZ

UNIT = "limbs"
LIMBS = 8
PIECE = 16
BLOCK = (32, 8, 1)
"""Threads: neighbours in memory, then the other direction."""


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of x (rows, inner)."""

    x: Array

    def split(self, device: Device, first: int, depth: int, *, padded: bool = False, descending: bool = False) -> Array:
        """Planes of the elements first .. first + depth - 1 of every row. `padded`: to a multiple of 4 rows;
        `descending`: plane d holds digit 7 - d."""
        rows, inner = self.x.shape
        planes, tail = _planes(device, 1, rows, depth, padded, descending)
        sizes = (np.int64(rows), np.int64(planes.shape[1]), np.int64(inner), np.int64(first))
        _launch(device, "limbs_rows", (_pieces(depth), planes.shape[1], 1), (self.x, *sizes, *tail, planes))
        return planes


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of each group of w (groups, inner, columns)."""

    w: Array

    def split(self, device: Device, first: int, depth: int, *, padded: bool = False, descending: bool = False) -> Array:
        """As Rows.split."""
        groups, inner, columns = self.w.shape
        planes, tail = _planes(device, groups, columns, depth, padded, descending)
        sizes = (np.int64(columns), np.int64(planes.shape[1]), np.int64(inner), np.int64(first))
        grid = (planes.shape[1], _pieces(depth), groups)
        _launch(device, "limbs_columns", grid, (self.w, *sizes, *tail, planes))
        return planes


@dataclass(frozen=True, slots=True)
class Windows:
    """What the filters of a convolution see at each output position of each clip of x (batch, channels, time)."""

    x: Array
    shape: Convolution

    def split(self, device: Device, first: int, depth: int, *, padded: bool = False, descending: bool = False) -> Array:
        """As Rows.split."""
        shape, rows = self.shape, self.x.shape[0] * self.shape.time_out
        planes, tail = _planes(device, shape.groups, rows, depth, padded, descending)
        sizes = (np.uint32(rows), np.uint32(planes.shape[1]), np.int32(shape.groups), np.int32(shape.channels))
        strides = (np.int32(shape.stride), np.int32(shape.pad_left), np.uint32(shape.dilation), np.int32(first))
        arguments = (self.x, *sizes, np.uint32(shape.time), np.uint32(shape.time_out), *strides, *tail, planes)
        _launch(device, "limbs_windows", (planes.shape[1], _pieces(depth), shape.groups), arguments)
        return planes


Operand = Rows | Columns | Windows


@dataclass(frozen=True, slots=True)
class Target:
    """Where a product goes: `columns` columns of every row and group, column n to clip n / time_out of `out`.

    out: (batch, groups * rows, time_out), or (rows, columns) with time_out = columns.
    """

    out: Array
    columns: int
    time_out: int
    add: bool

    def join(self, device: Device, unit: str, sums: Array) -> None:
        """out (+)= the words whose limb sums, or residues, are sums (…, groups, rows, pitch) int32."""
        groups, rows, pitch = sums.shape[1:]
        sizes = (np.int64(rows), np.uint32(self.columns), np.int64(pitch), np.uint32(self.time_out))
        arguments = (sums, *sizes, self.out, np.int32(self.add))
        device.launch(unit, f"{unit}_join", _grid(self.columns, rows, groups), BLOCK, arguments)


def clear(device: Device, out: Array) -> None:
    """out = 0."""
    device.launch(UNIT, "limbs_clear", blocks_for(out.size, THREADS), (THREADS, 1, 1), (out, np.int64(out.size)))


def _planes(
    device: Device, groups: int, rows: int, depth: int, padded: bool, descending: bool
) -> tuple[Array, tuple[np.int32, np.int32, np.int32]]:
    """The memory, and the arguments that come before it."""
    pitch = PIECE * _pieces(depth)
    planes = device.empty((groups, -(-rows // 4) * 4 if padded else rows, LIMBS * pitch), np.int8)
    return planes, (np.int32(depth), np.int32(pitch), np.int32(descending))


def _pieces(depth: int) -> int:
    return -(-depth // PIECE)


def _launch(device: Device, kernel: str, items: tuple[int, int, int], arguments: Sequence[Argument]) -> None:
    device.launch(UNIT, kernel, _grid(*items), BLOCK, arguments)


def _grid(across: int, down: int, groups: int) -> tuple[int, int, int]:
    return (-(-int(across) // BLOCK[0]), min(-(-int(down) // BLOCK[1]), MOST_GRID_YZ), groups)
