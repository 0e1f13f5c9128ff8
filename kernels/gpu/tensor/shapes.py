"""What a product is made of, checked: the launchers here compute addresses from these numbers."""

from __future__ import annotations

from sottovoce.kernels.gpu.device import Array, check
from sottovoce.kernels.gpu.linear import Convolution

MOST_GRID_YZ = 65535
"""Blocks in these directions of a grid; groups count in z."""


def matmul_shape(variant: str, x: Array, w: Array, out: Array) -> Convolution:
    """ValueError if the shapes do not match, or the arrays are not what a kernel reads."""
    name = f"matmul ({variant})"
    if len(x.shape) != 2 or len(w.shape) != 2 or w.shape[0] != x.shape[1] or out.shape != (x.shape[0], w.shape[1]):
        raise ValueError(f"{name}: x {x.shape}, w {w.shape} and out {out.shape} do not have matching shapes")
    return _checked(name, Convolution(x.shape[0], x.shape[1], w.shape[1]), x, w, out)


def conv1d_shape(
    variant: str, x: Array, w: Array, out: Array, stride: int, pad_left: int, dilation: int, groups: int
) -> Convolution:
    """The same for a convolution."""
    name = f"conv1d ({variant})"
    if len(x.shape) != 3 or len(w.shape) != 4 or len(out.shape) != 3:
        raise ValueError(f"{name}: expected x, w, out of 3, 4, 3 dimensions, got {x.shape}, {w.shape}, {out.shape}")
    (batch, c_in, time), (w_groups, taps, channels, columns), time_out = x.shape, w.shape, out.shape[2]
    if w_groups != groups or channels * groups != c_in or out.shape != (batch, columns * groups, time_out):
        raise ValueError(f"{name}: x {x.shape}, w {w.shape}, out {out.shape} and {groups} groups do not match")
    shape = Convolution(batch, channels, columns, groups, time, taps, time_out, stride, pad_left, dilation)
    return _checked(name, shape, x, w, out)


def _checked(name: str, shape: Convolution, *arrays: Array) -> Convolution:
    for array in arrays:
        check(name, array, array.size)
    shape.check(name)
    if shape.groups > MOST_GRID_YZ:
        raise ValueError(f"{name}: expected at most {MOST_GRID_YZ} groups, got {shape.groups}")
    return shape
