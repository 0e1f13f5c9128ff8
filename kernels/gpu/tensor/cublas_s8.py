"""Products mod 2^64 from 8 int8 matrix products of cuBLAS: one for each limb sum, with the limbs concatenated along K.

Invariant: x = sum_i x_i 256^i and w = sum_j w_j 256^j mod 2^64 with digits in -128 .. 127, so
x w = sum_{s=0}^{7} 256^s sum_{i+j=s} x_i w_j mod 2^64. The planes of one operand lie in rising order of the digits,
those of the other in falling order; then the first s + 1 planes of the one against the last s + 1 of the other are the
limb sum s, as one product with (s + 1) K terms: 36 K in all.

Exactness: a sum is at most (s + 1) K 2^14 <= 8 * 16368 * 2^14 < 2^31 in magnitude, so no s32 accumulator overflows,
whether it would wrap or saturate (cuBLAS does not say). A longer inner dimension is computed in pieces of 16368.
"""

from __future__ import annotations

import numpy as np

from sottovoce.kernels.gpu.device import Array, Device
from sottovoce.kernels.gpu.tensor.planes import LIMBS, PIECE, UNIT, Operand, Target

DEPTH = ((1 << 31) - 1) // (LIMBS << 14) // PIECE * PIECE
"""16368: products of words that one sum can hold."""


class Limbs:
    """See `blocked.Scheme`."""

    name = "cublas_s8"
    depth = DEPTH
    bytes_per_word = LIMBS
    bytes_per_sum = 4 * LIMBS

    def left(self, device: Device, operand: Operand, first: int, depth: int) -> Array:
        return operand.split(device, first, depth)

    def right(self, device: Device, operand: Operand, first: int, depth: int) -> Array:
        return operand.split(device, first, depth, padded=True, descending=True)

    def multiply(self, device: Device, left: Array, right: Array, target: Target) -> None:
        groups, rows, width = left.shape
        sums = device.empty((LIMBS, groups, rows, right.shape[1]), np.int32)
        for s in range(LIMBS):
            used = (s + 1) * width // LIMBS
            device.int8_gemm(right[:, :, width - used :], left[:, :, :used], sums[s])
        target.join(device, UNIT, sums)
