"""Matrix product mod 2^64."""

from __future__ import annotations

import numpy as np

from sottovoce.kernels.cpu.jit import Words, kernel
from sottovoce.kernels.cpu.tile import PANEL, tile_one, tile_two

DEPTH = 256
"""Rows of w in one panel: 16 KB with 8 columns, which leaves room for x in the first-level cache."""
BLOCK = 64
"""Rows of x used with one packed panel before the next: BLOCK * DEPTH words stay in the second-level cache."""
PACK_ROWS = 16
"""From this many rows of x on, copying a panel of w pays: its rows lie a whole row of w apart in memory."""


@kernel
def matmul(x: Words, w: Words, out: Words, accumulate: bool) -> None:
    """out = x @ w, or out += x @ w if `accumulate`; mod 2^64.

    x: (rows, inner) uint64, w: (inner, columns) uint64, out: (rows, columns) uint64, all C-contiguous; out must not
    overlap x or w. Raises ValueError if the shapes do not match.
    """
    rows, inner = x.shape
    columns = w.shape[1]
    if w.shape[0] != inner or out.shape[0] != rows or out.shape[1] != columns:
        raise ValueError("matmul: x, w and out do not have matching shapes")
    if inner == 0 and not accumulate:
        out[:] = np.uint64(0)
    pack = rows >= PACK_ROWS and columns > PANEL
    depth = min(inner, DEPTH) if rows > 2 else inner
    panel = np.empty((depth if pack else 0, PANEL), np.uint64)
    source = panel if pack else w
    step = PANEL if pack else columns
    for start in range(0, inner, max(depth, 1)):
        length = min(depth, inner - start)
        add = accumulate or start > 0
        for block in range(0, rows, BLOCK):
            end = min(rows, block + BLOCK)
            for column in range(0, columns, PANEL):
                cols = min(PANEL, columns - column)
                w_at = 0 if pack else start * columns + column
                if pack and cols == PANEL:
                    for k in range(length):
                        for c in range(PANEL):  # a constant: the compiler makes vector copies of it
                            panel[k, c] = w[start + k, column + c]
                elif pack:
                    for k in range(length):
                        for c in range(cols):
                            panel[k, c] = w[start + k, column + c]
                for row in range(block, end, 2):
                    at = row * inner + start
                    to = row * columns + column
                    if row + 1 < end:
                        ats, tos = (at, at + inner), (to, to + columns)
                        tile_two(x, ats, 1, 0, length, 1, source, w_at, step, out, tos, add, cols)
                    else:
                        tile_one(x, (at,), 1, 0, length, 1, source, w_at, step, out, (to,), add, cols)
