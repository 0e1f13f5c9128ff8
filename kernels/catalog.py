"""THE table of kernels: one row each. Tests, warm-up and benchmarks are parametrised by it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from sottovoce.kernels import samples, share_samples
from sottovoce.kernels.cpu import bits, conv, gemm, pool, prg, ring, select, trunc

Arguments = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Kernel:
    """One kernel.

    name: public name, the same on every device.
    cpu: the CPU function; writes into its output arguments, returns nothing.
    outputs: positions of the arguments that it writes.
    samples: fresh argument tuples (random and extreme) with the dtypes and layouts that the engine uses; the first is
        the smallest, and all of one kernel compile to the same machine code.
    gpu: dotted name of the CUDA twin, None until there is one.
    """

    name: str
    cpu: Callable[..., None]
    outputs: tuple[int, ...]
    samples: Callable[[np.random.Generator], list[Arguments]]
    gpu: str | None = None


RING = (
    Kernel("add", ring.add, (2,), samples.elementwise(3)),
    Kernel("sub", ring.sub, (2,), samples.elementwise(3)),
    Kernel("neg", ring.neg, (1,), samples.elementwise(2)),
    Kernel("mul", ring.mul, (2,), samples.elementwise(3)),
    Kernel("mul_add", ring.mul_add, (3,), samples.elementwise(4)),
    Kernel("scale", ring.scale, (2,), samples.scaled),
    Kernel("mul_cross", ring.mul_cross, (5,), samples.elementwise(6)),
    Kernel("xor", ring.xor, (2,), samples.elementwise(3)),
    Kernel("sum3", ring.sum3, (3,), samples.elementwise(4)),
)
LINEAR = (
    Kernel("matmul", gemm.matmul, (2,), samples.matmul),
    Kernel("conv1d", conv.conv1d, (2,), samples.conv1d),
    Kernel("sum_pool", pool.sum_pool, (1,), samples.sum_pool),
)
STREAMS = (
    Kernel("chacha20_fill", prg.chacha20_fill, (3,), samples.chacha20),
    Kernel("aes128_ctr_fill", prg.aes128_ctr_fill, (3,), samples.aes128_ctr),
)

BITS = (
    Kernel("slice_bits", bits.slice_bits, (2,), share_samples.slice_bits),
    Kernel("monomials", bits.monomials, (2,), share_samples.monomials),
    Kernel("contract_leaves", bits.contract_leaves, (4,), share_samples.contract_leaves),
    Kernel("and_cross", bits.and_cross, (6,), samples.elementwise(7)),
    Kernel("carry_level", bits.carry_level, (4,), share_samples.carry_level),
)
SHARES = (
    Kernel("trunc_left", trunc.trunc_left, (5, 6, 7), share_samples.trunc_left),
    Kernel("trunc_left_finish", trunc.trunc_left_finish, (6,), share_samples.trunc_left_finish),
    Kernel("trunc_right", trunc.trunc_right, (8, 9, 10), share_samples.trunc_right),
    Kernel("trunc_deal", trunc.trunc_deal, (5, 6), share_samples.trunc_deal),
    Kernel("select_share", select.select_share, (6, 7), share_samples.select_share),
    Kernel("select_eval", select.select_eval, (6,), share_samples.select_eval),
)

CATALOG: Mapping[str, Kernel] = MappingProxyType({row.name: row for row in (*RING, *LINEAR, *STREAMS, *BITS, *SHARES)})
