"""The products of several layers for a whole batch of clips in one call, straight from and to the clips' words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sottovoce.kernels.cpu.conv import CHUNK_WORDS, conv1d
from sottovoce.kernels.cpu.gemm import BLOCK, matmul
from sottovoce.kernels.cpu.jit import Words, kernel
from sottovoce.kernels.products import ProductLayer, check_layers, layer_table

ZERO = np.uint64(0)


def triple_products(layers: Sequence[ProductLayer], a0: Words, a1: Words, b: Words, c0: Words, out: Words) -> None:
    """out = (a0 + a1) * b - c0 for every layer of every clip: the second shares of C = A * B.

    a0, a1: (clips, words of A), b: (words of B,), weights as `pack_conv1d` and a transposed matrix lay them, c0, out:
    (clips, words of C); out may be c0. Words of `out` that belong to no layer stay as they are. Raises ValueError if a
    layer lies outside of an array, two of them write the same words, or shapes do not match.
    """
    check_layers(layers, a0, a1, b, c0, out)
    _triple_products(layer_table(layers), a0, a1, b, c0, out)


@kernel
def _triple_products(table: Words, a0: Words, a1: Words, b: Words, c0: Words, out: Words) -> None:
    clips = a0.shape[0]
    for n in range(table.shape[0]):
        row = table[n]
        a_at, b_at, c_at, c_in, c_out, time = row[0], row[1], row[2], row[3], row[4], row[5]
        taps, time_out, stride, pad_left, dilation, groups = row[6], row[7], row[8], row[9], row[10], row[11]
        given, made = c_in * time, c_out * time_out
        weights = b[b_at : b_at + taps * c_in // groups * c_out]
        dense = time == 1 and taps == 1 and time_out == 1 and pad_left == 0 and groups == 1
        block = min(max(CHUNK_WORDS // max(given, made, 1), BLOCK if dense else 1), clips)
        joined, sums = np.empty(block * given, np.uint64), np.empty(block * made, np.uint64)
        for first in range(0, clips, max(block, 1)):
            count = min(block, clips - first)
            for clip in range(count):
                for i in range(given):
                    joined[clip * given + i] = a0[first + clip, a_at + i] + a1[first + clip, a_at + i]
                for i in range(made):
                    sums[clip * made + i] = ZERO - c0[first + clip, c_at + i]
            x, z = joined[: count * given], sums[: count * made]
            if dense:
                w = weights.reshape(c_in, c_out)
                matmul(x.reshape(count, c_in), w, z.reshape(count, c_out), True)
            else:
                packed = weights.reshape(groups, taps, c_in // groups, c_out // groups)
                x_clips, z_clips = x.reshape(count, c_in, time), z.reshape(count, c_out, time_out)
                conv1d(x_clips, packed, z_clips, stride, pad_left, dilation, groups, True)
            for clip in range(count):
                for i in range(made):
                    out[first + clip, c_at + i] = z[clip * made + i]
