"""Products mod 2^64 from int8 matrix products modulo 18 coprime numbers (`cuda/crt.cu`): the Chinese remainder theorem.

Let m_1 .. m_18 be the moduli, M their product (2^140.45), and H = 0x8080808080808080. An element's balanced digits (see
`planes`) denote an integer of magnitude at most H, congruent to the element mod 2^64; the integer matrix product C of K
terms has |C| <= K H^2, and C mod 2^64 is what we want. Residues are in -128 .. 127, so the sums of their products stay
below 2^14 K in magnitude: exact in s32.

With v_j = C (M / m_j)^{-1} mod m_j, 0 <= v_j < m_j, the sum of v_j M / m_j is congruent to C modulo every m_j, hence
equal to C + q M for one integer q, and q is what S = sum_j v_j / m_j = q + C / M rounds to if |C| / M < 1/2. S is
computed as F = sum_j v_j floor(2^59 / m_j), which is below 18 * 2^59 < 2^64 and falls short of 2^59 S by less than
sum_j m_j < 2^12. So floor((F + 2^58) / 2^59) = q whenever |C| / M <= 1/2 - 2^-46: then 2^59 (S - q) + 2^58 lies in
[2^13, 2^59 - 2^13] and remains in [0, 2^59) when less than 2^12 is taken away. The result is
sum_j v_j (M / m_j) - q M, all mod 2^64.

DEPTH is the largest multiple of 16 with K H^2 <= M (1/2 - 2^-46). A longer inner dimension is computed in pieces.
After the scheme of Ozaki, Uchino and Imamura (arXiv 2504.08009), which emulates floating point so; here nothing is
rounded.
"""

from __future__ import annotations

from math import prod

import numpy as np

from sottovoce.kernels.gpu.device import Array, Device
from sottovoce.kernels.gpu.tensor.planes import BLOCK, LIMBS, PIECE, Operand, Target
from sottovoce.kernels.gpu.tensor.shapes import MOST_GRID_YZ

UNIT = "crt"
MODULI = (256, 255, 253, 251, 247, 241, 239, 233, 229, 227, 223, 217, 211, 199, 197, 193, 191, 181)
"""As in crt.cu."""
LARGEST = 0x8080808080808080
"""The magnitude of an element's digits as an integer."""
DEPTH = (prod(MODULI) // 2 - (prod(MODULI) >> 46) - 1) // LARGEST**2 // PIECE * PIECE
"""11120: products of words that one sum can hold."""


class Residues:
    """See `blocked.Scheme`."""

    name = "crt_s8"
    depth = DEPTH
    bytes_per_word = LIMBS + len(MODULI)
    bytes_per_sum = 4 * len(MODULI)

    def left(self, device: Device, operand: Operand, first: int, depth: int) -> Array:
        return self._residues(device, operand.split(device, first, depth))

    def right(self, device: Device, operand: Operand, first: int, depth: int) -> Array:
        return self._residues(device, operand.split(device, first, depth, padded=True))

    def _residues(self, device: Device, planes: Array) -> Array:
        """(18 * groups, rows, pitch) from (groups, rows, 8 * pitch)."""
        groups, rows, width = planes.shape
        pitch = width // LIMBS
        residues = device.empty((len(MODULI) * groups, rows, pitch), np.int8)
        grid = (-(-pitch // (4 * BLOCK[0])), min(-(-groups * rows // BLOCK[1]), MOST_GRID_YZ), 1)
        arguments = (planes, np.int64(groups * rows), np.int32(pitch), residues)
        device.launch(UNIT, "crt_residues", grid, BLOCK, arguments)
        return residues

    def multiply(self, device: Device, left: Array, right: Array, target: Target) -> None:
        sums = device.empty((left.shape[0], left.shape[1], right.shape[1]), np.int32)
        device.int8_gemm(right, left, sums)
        target.join(device, UNIT, sums.reshape(len(MODULI), -1, *sums.shape[1:]))
