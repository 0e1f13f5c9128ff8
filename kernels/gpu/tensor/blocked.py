"""A product in blocks that a matrix product of bytes can hold exactly and the workspace can hold at all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from sottovoce.kernels.gpu.device import Array, Device
from sottovoce.kernels.gpu.tensor.planes import Columns, Operand, Rows, Target, Windows, clear
from sottovoce.kernels.gpu.tensor.shapes import conv1d_shape, matmul_shape

WORKSPACE_BYTES = 256 << 20
"""Of the digits and sums of x's rows in one block; those of w come on top."""


class Scheme(Protocol):
    """How words become bytes and sums of products become words."""

    name: str
    depth: int
    """Products that one sum can hold exactly."""
    bytes_per_word: int
    """Of an operand's element in the workspace."""
    bytes_per_sum: int
    """Of a result's element."""

    def left(self, device: Device, operand: Operand, first: int, depth: int) -> Array:
        """(…, rows, …) int8 of the operand whose rows count the result's rows; of its elements `first` onwards."""

    def right(self, device: Device, operand: Operand, first: int, depth: int) -> Array:
        """The same of the one whose rows count the result's columns."""

    def multiply(self, device: Device, left: Array, right: Array, target: Target) -> None:
        """target (+)= left @ right^T."""


def matmul(scheme: Scheme, device: Device, x: Array, w: Array, out: Array, accumulate: bool) -> None:
    """out (+)= x @ w. Shapes and errors as kernels.cpu.gemm.matmul; exact for every inner dimension."""
    shape = matmul_shape(scheme.name, x, w, out)
    if out.size == 0:
        return
    if shape.depth == 0 and not accumulate:
        clear(device, out)
    for first, depth in _pieces(shape.depth, scheme.depth):
        right = scheme.right(device, Columns(w.reshape(1, *w.shape)), first, depth)
        for row, count in _pieces(shape.rows, _block(scheme, depth, shape.columns)):
            left = scheme.left(device, Rows(x[row : row + count]), first, depth)
            add = accumulate or first > 0
            target = Target(out[row : row + count], shape.columns, shape.columns, add)
            scheme.multiply(device, left, right, target)


def conv1d(
    scheme: Scheme,
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
    """As kernels.cpu.conv.conv1d; the windows of x exist as bytes, for as many clips as the workspace holds."""
    shape = conv1d_shape(scheme.name, x, w, out, stride, pad_left, dilation, groups)
    if out.size == 0:
        return
    if shape.depth == 0 and not accumulate:
        clear(device, out)
    for first, depth in _pieces(shape.depth, scheme.depth):
        left = scheme.left(device, Columns(w.reshape(groups, shape.depth, shape.columns)), first, depth)
        clips = max(_block(scheme, depth * groups, shape.columns * groups) // shape.time_out, 1)
        for clip, count in _pieces(shape.batch, clips):
            right = scheme.right(device, Windows(x[clip : clip + count], shape), first, depth)
            add = accumulate or first > 0
            target = Target(out[clip : clip + count], count * shape.time_out, shape.time_out, add)
            scheme.multiply(device, left, right, target)


def _block(scheme: Scheme, depth: int, columns: int) -> int:
    """How many rows of x the workspace holds."""
    return max(WORKSPACE_BYTES // (scheme.bytes_per_word * depth + scheme.bytes_per_sum * columns), 1)


def _pieces(size: int, most: int) -> Iterator[tuple[int, int]]:
    """(first, count) of the pieces of 0 .. size - 1."""
    return ((first, min(most, size - first)) for first in range(0, size, most))
