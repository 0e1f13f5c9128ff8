"""Launcher of `cuda/linear_triples.cu`: kernels.cpu.triples on the GPU, same name, arguments and meaning."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sottovoce.kernels.gpu.device import MAX_BLOCKS, THREADS, Array, Device, check
from sottovoce.kernels.gpu.linear import STAGE, Convolution, stages_per_block
from sottovoce.kernels.products import ProductLayer, check_layers

UNIT = "linear_triples"
NAME = "triple_products"
TILE = 64
"""Rows and columns of a tile, as in linear_triples.cu."""
BEGIN_BLOCKS = 8
MAX_GRID = 65535
"""Of the second and third dimension."""


def triple_products(
    device: Device, layers: Sequence[ProductLayer], a0: Array, a1: Array, b: Array, c0: Array, out: Array
) -> None:
    """out = (a0 + a1) * b - c0 for every layer of every clip, in one launch, or two if the depth of a layer is split.

    a0, a1: (clips, words of A), b: (words of B,), weights as `pack_conv1d` and a transposed matrix lay them, c0, out:
    (clips, words of C); out may be c0. Words of `out` that belong to no layer stay as they are.
    """
    check_layers(layers, a0, a1, b, c0, out)
    for array in (a0, a1, b, c0, out):
        check(NAME, array, array.size)
    clips = a0.shape[0]
    layers = [layer for layer in layers if clips * layer.c_out * layer.time_out]
    if not layers:
        return
    table, blocks = _table(device, layers, clips)
    on_device = device.upload(table)
    if (table[:, 1] > 1).any():
        grid = (BEGIN_BLOCKS, len(table), min(clips, MAX_GRID))
        sizes = (np.int32(clips), np.int64(out.shape[1]))
        device.launch(UNIT, "triple_begin", grid, (THREADS, 1, 1), (on_device, c0, out, *sizes))
    widths = (np.int64(a0.shape[1]), np.int64(out.shape[1]))
    arguments = (on_device, np.int32(len(table)), a0, a1, b, c0, out, np.int32(clips), *widths)
    device.launch(UNIT, NAME, (blocks, 1, 1), (THREADS, 1, 1), arguments)


def _table(device: Device, layers: Sequence[ProductLayer], clips: int) -> tuple[np.ndarray, int]:
    """(layers, fields of linear_triples.cu) int64, deepest first, and how many blocks they take."""
    if len(layers) > MAX_GRID:
        raise ValueError(f"{NAME}: expected up to {MAX_GRID} layers, got {len(layers)}")
    shapes = []
    for layer in layers:
        channels, columns = layer.c_in // layer.groups, layer.c_out // layer.groups
        steps = (layer.stride, layer.pad_left, layer.dilation)
        c = Convolution(clips, channels, columns, layer.groups, layer.time, layer.taps, layer.time_out, *steps)
        c.check(NAME)
        shapes.append((c, c.tiles(TILE, TILE), max(-(-c.depth // STAGE), 1)))
    in_block = stages_per_block(device, sum(tiles * stages for _, tiles, stages in shapes))
    rows, blocks = [], 0
    for (c, tiles, stages), layer in sorted(zip(shapes, layers, strict=True), key=lambda pair: -pair[0][2]):
        splits = -(-stages // in_block)
        places = (blocks, splits, in_block * STAGE, layer.a_at, layer.b_at, layer.c_at)
        sizes = (c.channels, c.time, c.taps, c.groups, c.columns, c.time_out, c.stride, c.pad_left, c.dilation)
        rows.append((*places, *sizes))
        blocks += tiles * splits
    if blocks > MAX_BLOCKS:
        raise ValueError(f"{NAME}: expected up to {MAX_BLOCKS} blocks, got {blocks}: cut the batch")
    return np.array(rows, np.int64), blocks
