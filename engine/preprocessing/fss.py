"""Comparison by function secret sharing: the item, and how a party uses it.

c = y + r mod 2^m is opened, r dealt; the sign of y is c_top ^ r_top ^ 1{c_low < r_low}. The last term comes from a
distributed comparison function: two keys for the secret r_low, whose holders turn any public c_low into XOR shares of
the bit, each on its own. Construction, proof and cost: `docs/protocols/fss.md`. Kernels: `kernels/cpu/dcf.py`.

A key answers one comparison: two points masked by one r reveal their difference. `Material.take` sees to that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sottovoce.engine.backend.base import Backend
from sottovoce.engine.backend.cpu import CpuBackend
from sottovoce.engine.errors import ProtocolError
from sottovoce.engine.preprocessing.items import Field, Fields, Scaled, Unit, pack_rows, plus
from sottovoce.engine.tensors import U64, words
from sottovoce.kernels.cpu.dcf import correction_rows

HALF_BITS = 32
"""Numbers of so many bits are masked and opened as uint32."""
RING_BITS = 64
BLOCK_WORDS = 2


@dataclass(frozen=True, slots=True)
class Dcf(Scaled):
    """For the signs of n numbers mod 2^bits, 2 <= bits <= 64, in one round [BGI 2018/707, Grotto 2023/108].

    own: mask (n,), a summand of r, of which the low `bits` bits count; root (2, n), the party's root node, low words
    first. derived: top (W,), bit `bits` - 1 of r. common: correction (correction_rows(bits), n), see `dcf_gen`.
    """

    bits: int

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= RING_BITS:
            raise ProtocolError(f"preprocessing: comparison: expected numbers of 2 to 64 bits, got {self.bits}")

    @property
    def fields(self) -> tuple[Field, ...]:
        """mask, root, top and correction."""
        return (
            Field("mask", "own", Unit.HALVES if self.bits <= HALF_BITS else Unit.WORDS, self.n),
            Field("root", "own", Unit.WORDS, self.n, BLOCK_WORDS),
            Field("top", "derived", Unit.FLAGS, self.n),
            Field("correction", "common", Unit.WORDS, self.n, correction_rows(self.bits)),
        )

    def derive(self, own: tuple[Fields, Fields], mask: U64 | None) -> Fields:
        """The top bits of r and the correction words for its low bits."""
        r = plus(own, "mask").astype(np.uint64, copy=False)
        top = (r >> np.uint64(self.bits - 1)).astype(np.uint8) & np.uint8(1)
        correction = np.empty((correction_rows(self.bits), self.n), np.uint64)
        CpuBackend().kernels.dcf_gen(r, self.bits, own[0]["root"], own[1]["root"], correction)
        return {"top": pack_rows(top[None, :])[0], "correction": correction}


def sign_share(backend: Backend, item: Dcf, fields: Fields, opened: NDArray[Any], one: np.uint64) -> U64:
    """This party's XOR share of the sign bits of y = opened - r, (W,).

    opened: (n,) uint32 or uint64, y + r mod 2^bits; higher bits do not count. one: all ones at P_0, 0 at P_1.
    """
    out = backend.empty(words(item.n))
    point = opened if opened.dtype == np.uint64 else opened.astype(np.uint64)
    backend.kernels.dcf_eval(point, item.bits, one, fields["root"], fields["correction"], fields["top"], out)
    return out


def dcf_key_bytes(bits: int) -> int:
    """Bytes of correction words of one comparison mod 2^bits, which both parties get."""
    return 8 * correction_rows(bits)
