"""One-dimensional convolution mod 2^64, without an im2col copy and without multiplying by padding."""

from __future__ import annotations

import numpy as np

from sottovoce.kernels.cpu.jit import Words, kernel
from sottovoce.kernels.cpu.tile import PANEL, tile_one, tile_two

CHUNK_WORDS = 1 << 15
"""Words of x (256 KB) that are gone over with one panel of w before the next panel."""
CHUNK_ROWS = 256
"""Output positions in such a chunk, at most: their sums are kept in a buffer of this many times PANEL words."""
PACK_ROWS = 32
"""From this many output positions on, copying a panel of w pays."""
DEEP = 32
"""From this many channels on, one tap at a time is worth a tile: every position that the tap reaches is paired up."""


def pack_conv1d(w: Words, groups: int = 1) -> Words:
    """Return a copy of w: (c_out, c_in / groups, kernel) as (groups, kernel, c_in / groups, c_out / groups).

    A permutation, so it may be applied to shares. Raises ValueError if c_out is not a multiple of groups.
    """
    c_out, c_in, kernel_size = w.shape
    if groups < 1 or c_out % groups:
        raise ValueError(f"pack_conv1d: c_out must be a multiple of groups, got {c_out} and {groups}")
    split = w.reshape(groups, c_out // groups, c_in, kernel_size)
    return np.ascontiguousarray(split.transpose(0, 3, 2, 1))


@kernel
def conv1d(
    x: Words,
    w: Words,
    out: Words,
    stride: int,
    pad_left: int,
    dilation: int,
    groups: int,
    accumulate: bool,
) -> None:
    """out[b, o, t] (+)= sum over tap, i of x[b, i, t * stride + tap * dilation - pad_left] * w[group, tap, i, o].

    x: (batch, c_in, time) uint64, w: (groups, kernel, c_in / groups, c_out / groups) uint64 from `pack_conv1d`,
    out: (batch, c_out, time_out) uint64, all C-contiguous; out must not overlap x or w. Positions outside x count as
    zero and are skipped, so the padding on the right is whatever time_out asks for. Adds to out if `accumulate`.
    Raises ValueError if the shapes do not match or stride or dilation is not positive.
    """
    batch, c_in, time = x.shape
    taps, i_size, o_size = w.shape[1:]
    time_out = out.shape[2]
    if w.shape[0] != groups or i_size * groups != c_in or out.shape[0] != batch or out.shape[1] != o_size * groups:
        raise ValueError("conv1d: x, w, out and groups do not have matching shapes")
    if stride < 1 or dilation < 1:
        raise ValueError("conv1d: stride and dilation must be positive")
    if batch == 0 or time_out == 0:
        return
    passes = _passes(time, time_out, taps, stride, pad_left, dilation, i_size >= DEEP)
    chunk = min(max(min(CHUNK_WORDS // max(c_in * time, 1), CHUNK_ROWS // time_out), 1), batch)
    sums = np.empty((chunk * time_out, PANEL), np.uint64)
    depth = taps * i_size
    w_rows = w.reshape(groups * depth, o_size)
    pack = batch * time_out >= PACK_ROWS and o_size > PANEL
    panel = np.empty((depth if pack else 0, PANEL), np.uint64)
    source = panel if pack else w_rows
    step = PANEL if pack else o_size
    for first in range(0, batch, chunk):
        last = min(batch, first + chunk)
        for group in range(groups):
            for column in range(0, o_size, PANEL):
                cols = min(PANEL, o_size - column)
                if pack and cols == PANEL:
                    for k in range(depth):
                        for c in range(PANEL):  # a constant: the compiler makes vector copies of it
                            panel[k, c] = w_rows[group * depth + k, column + c]
                elif pack:
                    for k in range(depth):
                        for c in range(cols):
                            panel[k, c] = w_rows[group * depth + k, column + c]
                for row in range((last - first) * time_out):
                    for c in range(PANEL):
                        sums[row, c] = np.uint64(0)
                for index in range(passes.shape[0]):
                    low, high, start, end = passes[index, 0], passes[index, 1], passes[index, 2], passes[index, 3]
                    # With one channel the taps are the inner loop, which is the fast one.
                    n_taps, tap_step, chans, chan_step = high - low, dilation, i_size, time
                    if i_size == 1:
                        n_taps, tap_step, chans, chan_step = 1, 0, high - low, dilation
                    w_at = low * i_size * step + (0 if pack else group * depth * o_size + column)
                    x_at = (first * c_in + group * i_size) * time + low * dilation - pad_left
                    to = 0
                    t = start
                    rows = (last - first) * (end - start)
                    for row in range(0, rows, 2):
                        at1, to1 = x_at + t * stride, (to + t) * PANEL
                        t += 1
                        if t == end:
                            t, to, x_at = start, to + time_out, x_at + c_in * time
                        if row + 1 == rows:
                            ats, tos = (at1,), (to1,)
                            tile_one(
                                x, ats, n_taps, tap_step, chans, chan_step, source, w_at, step, sums, tos, True, cols
                            )
                        else:
                            at2, to2 = x_at + t * stride, (to + t) * PANEL
                            t += 1
                            if t == end:
                                t, to, x_at = start, to + time_out, x_at + c_in * time
                            pair, to_pair = (at1, at2), (to1, to2)
                            tile_two(
                                x,
                                pair,
                                n_taps,
                                tap_step,
                                chans,
                                chan_step,
                                source,
                                w_at,
                                step,
                                sums,
                                to_pair,
                                True,
                                cols,
                            )
                for b in range(first, last):
                    row = (b - first) * time_out
                    for c in range(cols):
                        o = group * o_size + column + c
                        for t in range(time_out):
                            held = out[b, o, t] if accumulate else np.uint64(0)
                            out[b, o, t] = held + sums[row + t, c]


@kernel
def _passes(time: int, time_out: int, taps: int, stride: int, pad_left: int, dilation: int, deep: bool) -> Words:
    """Rows (low, high, start, end): taps low .. high - 1 fall inside x at all output positions start .. end - 1.

    Together they hold each pair of a position and a tap inside x once. `deep`: one row for a tap; else as few rows as
    there are runs of positions that share all their taps. Unused rows are zero.
    """
    result = np.zeros((taps if deep else time_out, 4), np.int64)
    count = 0
    if deep:
        for tap in range(taps):
            offset = tap * dilation - pad_left
            start = min(max(-(offset // stride), 0), time_out)
            end = min(max(-((offset - time) // stride), start), time_out)
            if start < end:
                result[count, 0], result[count, 1], result[count, 2], result[count, 3] = tap, tap + 1, start, end
                count += 1
        return result
    for t in range(time_out):
        offset = t * stride - pad_left
        low = min(max(-(offset // dilation), 0), taps)
        high = min(max(-((offset - time) // dilation), low), taps)
        if count and result[count - 1, 0] == low and result[count - 1, 1] == high and result[count - 1, 3] == t:
            result[count - 1, 3] = t + 1
        elif low < high:
            result[count, 0], result[count, 1], result[count, 2], result[count, 3] = low, high, t, t + 1
            count += 1
    return result
