"""Sum pooling mod 2^64 (an average is a sum whose divisor goes into the scale)."""

from __future__ import annotations

import numpy as np

from sottovoce.kernels.cpu.jit import Words, kernel


@kernel
def sum_pool(x: Words, out: Words, kernel_size: int, stride: int, pad_left: int) -> None:
    """out[r, t] = sum of x[r, t * stride - pad_left + k] for 0 <= k < kernel_size; positions outside x count as zero.

    x: (rows, time) uint64, out: (rows, time_out) uint64, C-contiguous; rows are channels of all clips.
    """
    rows, time = x.shape
    time_out = out.shape[1]
    for row in range(rows):
        for t in range(time_out):
            position = max(t * stride - pad_left, 0)
            end = min(t * stride - pad_left + kernel_size, time)
            total = np.uint64(0)
            while position < end:  # not a `range`: a vectorised inner loop is slower for the few terms there are
                total += x[row, position]
                position += 1
            out[row, t] = total
