"""Convolutions and matrix products under two-party masks, of a whole batch, on the tile of `conv1d` and `matmul`.

With D = X - A and E = W - B opened and C = A * B dealt, P_i's share of X * W is C_i + D * W'_i + A_i * E, W'_i = B_i,
plus E at P_0 [Beaver 91, SecureML 2017/396]. With few channels a tile's inner loop is short, and both products are done
as one of twice the channels: D and A of a block of clips are laid side by side, as are W' and E.
"""

from __future__ import annotations

import numpy as np

from sottovoce.kernels.cpu.conv import CHUNK_WORDS, conv1d, pack_conv1d
from sottovoce.kernels.cpu.gemm import matmul
from sottovoce.kernels.cpu.jit import Words, kernel

SHALLOW = 16
"""With fewer channels in a group than this, laying side by side pays."""


def pack_beaver_conv1d(w: Words, e: Words, groups: int = 1) -> Words:
    """W' and E, (c_out, c_in / groups, kernel) each -> what `beaver_conv1d` takes.

    (2, groups, kernel, c_in / groups, c_out / groups), W' before E; with fewer than SHALLOW channels in a group
    (1, groups, kernel, 2 c_in / groups, c_out / groups), the channels of W' before those of E.
    """
    if w.shape[1] < SHALLOW:
        return pack_conv1d(np.concatenate([w, e], axis=1), groups)[None]
    return np.stack([pack_conv1d(w, groups), pack_conv1d(e, groups)])


def pack_beaver_matmul(w: Words, e: Words) -> Words:
    """W' and E, (columns, inner) each -> what `beaver_matmul` takes: (2, inner, columns)."""
    return np.ascontiguousarray(np.stack([w.T, e.T]))


@kernel
def beaver_conv1d(
    d: Words, a: Words, w: Words, out: Words, stride: int, pad_left: int, dilation: int, groups: int
) -> None:
    """out += D * W' + A * E for every clip; `conv1d` says what * is.

    d, a: (batch, c_in, time), w: from `pack_beaver_conv1d`, out: (batch, c_out, time_out). Raises ValueError if the
    shapes do not match or stride or dilation is not positive.
    """
    batch, c_in, time = d.shape
    if a.shape != d.shape or out.shape[0] != batch or groups < 1:
        raise ValueError("beaver_conv1d: d, a, out and groups do not have matching shapes")
    if w.shape[0] == 2:
        conv1d(d, w[0], out, stride, pad_left, dilation, groups, True)
        conv1d(a, w[1], out, stride, pad_left, dilation, groups, True)
        return
    part = c_in // groups * time  # words of a group's channels
    block = min(max(CHUNK_WORDS // max(2 * c_in * time, 1), 1), batch)
    both = np.empty((block, 2 * c_in, time), np.uint64)
    flat, flat_d, flat_a = both.reshape(-1), d.reshape(-1), a.reshape(-1)
    for first in range(0, batch, max(block, 1)):
        count = min(block, batch - first)
        for run in range(count * groups):
            source = first * c_in * time + run * part
            for i in range(part):
                flat[2 * run * part + i] = flat_d[source + i]
                flat[(2 * run + 1) * part + i] = flat_a[source + i]
        conv1d(both[:count], w[0], out[first : first + count], stride, pad_left, dilation, groups, True)


@kernel
def beaver_matmul(d: Words, a: Words, w: Words, out: Words) -> None:
    """out += D @ W' + A @ E.

    d, a: (rows, inner), w: (2, inner, columns) from `pack_beaver_matmul`, out: (rows, columns). Raises ValueError if
    the shapes do not match.
    """
    if a.shape != d.shape or w.shape[0] != 2:
        raise ValueError("beaver_matmul: d, a and w do not have matching shapes")
    matmul(d, w[0], out, True)
    matmul(a, w[1], out, True)
