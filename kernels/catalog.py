"""THE table of kernels: one row each. Tests, warm-up and benchmarks are parametrised by it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from sottovoce.kernels import beaver_samples, dcf_samples, ot_samples, samples, share_samples
from sottovoce.kernels.cpu import (
    beaver,
    beaver_bits,
    beaver_linear,
    bits,
    conv,
    dcf,
    gemm,
    ot,
    pool,
    prg,
    ring,
    select,
    trunc,
)

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

BEAVER = (
    Kernel("wrap_open", beaver.wrap_open, (5, 6, 7), beaver_samples.wrap_open),
    Kernel("wrap_finish", beaver.wrap_finish, (7,), beaver_samples.wrap_finish),
    Kernel("leaf_eval", beaver_bits.leaf_eval, (5,), beaver_samples.leaf_eval),
    Kernel("merge_open", beaver_bits.merge_open, (2,), beaver_samples.merge_open),
    Kernel("merge_eval", beaver_bits.merge_eval, (5,), beaver_samples.merge_eval),
    Kernel("ands_eval", beaver_bits.ands_eval, (4,), beaver_samples.ands_eval),
    Kernel("select_open", beaver.select_open, (4, 5), beaver_samples.select_open),
    Kernel("select_finish", beaver.select_finish, (8,), beaver_samples.select_finish),
    Kernel("beaver_mul", beaver.beaver_mul, (6,), beaver_samples.beaver_mul),
    Kernel("beaver_conv1d", beaver_linear.beaver_conv1d, (3,), beaver_samples.beaver_conv1d),
    Kernel("beaver_matmul", beaver_linear.beaver_matmul, (3,), beaver_samples.beaver_matmul),
    Kernel("triple_mul", beaver.triple_mul, (5,), samples.elementwise(6)),
    Kernel("triple_conv1d", beaver_linear.triple_conv1d, (4,), beaver_samples.triple_conv1d),
    Kernel("triple_matmul", beaver_linear.triple_matmul, (4,), beaver_samples.triple_matmul),
)

FSS = (
    Kernel("dcf_gen", dcf.dcf_gen, (4,), dcf_samples.dcf_gen),
    Kernel("dcf_eval", dcf.dcf_eval, (6,), dcf_samples.dcf_eval),
)

TRANSFERS = (
    Kernel("field_vole", ot.field_vole, (2, 3), ot_samples.field_vole),
    Kernel("leaf_sums", ot.leaf_sums, (5, 6), ot_samples.leaf_sums),
    Kernel("transpose_bits", ot.transpose_bits, (1,), ot_samples.transpose_bits),
    Kernel("vole_correct", ot.vole_correct, (4, 5), ot_samples.vole_correct),
    Kernel("vole_join", ot.vole_join, (6,), ot_samples.vole_join),
    Kernel("add_runs", ot.add_runs, (3,), ot_samples.add_runs),
)

CATALOG: Mapping[str, Kernel] = MappingProxyType(
    {row.name: row for row in (*RING, *LINEAR, *STREAMS, *BITS, *SHARES, *BEAVER, *FSS, *TRANSFERS)}
)
