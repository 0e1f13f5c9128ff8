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
    triples,
    trunc,
)
from sottovoce.kernels.gpu import beaver as gpu_beaver
from sottovoce.kernels.gpu import beaver_bits as gpu_beaver_bits
from sottovoce.kernels.gpu import bits as gpu_bits
from sottovoce.kernels.gpu import fss as gpu_fss
from sottovoce.kernels.gpu import linear as gpu_linear
from sottovoce.kernels.gpu import linear_triples as gpu_linear_triples
from sottovoce.kernels.gpu import ring as gpu_ring
from sottovoce.kernels.gpu import shares as gpu_shares
from sottovoce.kernels.gpu import streams as gpu_streams
from sottovoce.kernels.gpu import transfers as gpu_transfers
from sottovoce.kernels.gpu.tensor import choose as gpu_choose

Arguments = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Kernel:
    """One kernel.

    name: public name, the same on every device.
    cpu: the CPU function; writes into its output arguments, returns nothing.
    outputs: positions of the arguments that it writes.
    samples: fresh argument tuples (random and extreme) with the dtypes and layouts that the engine uses; the first is
        the smallest, and all of one kernel compile to the same machine code.
    gpu: launches the CUDA twin: a `kernels.gpu.device.Device`, then the same arguments with arrays on that device.
        None for a kernel that has none.
    """

    name: str
    cpu: Callable[..., None]
    outputs: tuple[int, ...]
    samples: Callable[[np.random.Generator], list[Arguments]]
    gpu: Callable[..., None] | None = None


RING = (
    Kernel("add", ring.add, (2,), samples.elementwise(3), gpu_ring.add),
    Kernel("sub", ring.sub, (2,), samples.elementwise(3), gpu_ring.sub),
    Kernel("neg", ring.neg, (1,), samples.elementwise(2), gpu_ring.neg),
    Kernel("mul", ring.mul, (2,), samples.elementwise(3), gpu_ring.mul),
    Kernel("mul_add", ring.mul_add, (3,), samples.elementwise(4), gpu_ring.mul_add),
    Kernel("scale", ring.scale, (2,), samples.scaled, gpu_ring.scale),
    Kernel("mul_cross", ring.mul_cross, (4,), samples.elementwise(5), gpu_ring.mul_cross),
    Kernel("mask_zero", ring.mask_zero, (3,), samples.elementwise(4), gpu_ring.mask_zero),
    Kernel("remask_pair", ring.remask_pair, (3, 4), samples.elementwise(5), gpu_ring.remask_pair),
    Kernel("xor", ring.xor, (2,), samples.elementwise(3), gpu_ring.xor),
    Kernel("sum3", ring.sum3, (3,), samples.elementwise(4), gpu_ring.sum3),
    Kernel("take_half", ring.take_half, (2,), samples.half, gpu_ring.take_half),
    Kernel("join_halves", ring.join_halves, (2,), samples.halves, gpu_ring.join_halves),
)
LINEAR = (
    Kernel("matmul", gemm.matmul, (2,), samples.matmul, gpu_choose.matmul),
    Kernel("conv1d", conv.conv1d, (2,), samples.conv1d, gpu_choose.conv1d),
    Kernel("sum_pool", pool.sum_pool, (1,), samples.sum_pool, gpu_linear.sum_pool),
)
STREAMS = (
    Kernel("chacha20_fill", prg.chacha20_fill, (3,), samples.chacha20, gpu_streams.chacha20_fill),
    Kernel("aes128_ctr_fill", prg.aes128_ctr_fill, (3,), samples.aes128_ctr, gpu_streams.aes128_ctr_fill),
)

BITS = (
    Kernel("slice_bits", bits.slice_bits, (2,), share_samples.slice_bits, gpu_bits.slice_bits),
    Kernel("slice_halves", bits.slice_halves, (2,), share_samples.slice_halves, gpu_bits.slice_halves),
    Kernel("monomials", bits.monomials, (2,), share_samples.monomials, gpu_bits.monomials),
    Kernel("contract_leaves", bits.contract_leaves, (4,), share_samples.contract_leaves, gpu_bits.contract_leaves),
    Kernel("and_cross", bits.and_cross, (6,), samples.elementwise(7), gpu_bits.and_cross),
    Kernel("carry_level", bits.carry_level, (4,), share_samples.carry_level, gpu_bits.carry_level),
)
SHARES = (
    Kernel("trunc_left", trunc.trunc_left, (6, 7, 8, 9), share_samples.trunc_left, gpu_shares.trunc_left),
    Kernel(
        "trunc_left_finish",
        trunc.trunc_left_finish,
        (6,),
        share_samples.trunc_left_finish,
        gpu_shares.trunc_left_finish,
    ),
    Kernel("trunc_right", trunc.trunc_right, (8, 9, 10, 11), share_samples.trunc_right, gpu_shares.trunc_right),
    Kernel("trunc_deal", trunc.trunc_deal, (5, 6), share_samples.trunc_deal, gpu_shares.trunc_deal),
    Kernel("select_share", select.select_share, (6, 7), share_samples.select_share, gpu_shares.select_share),
    Kernel("select_eval", select.select_eval, (6,), share_samples.select_eval, gpu_shares.select_eval),
)

BEAVER = (
    Kernel("wrap_open", beaver.wrap_open, (5, 6, 7), beaver_samples.wrap_open, gpu_beaver.wrap_open),
    Kernel("wrap_finish", beaver.wrap_finish, (7,), beaver_samples.wrap_finish, gpu_beaver.wrap_finish),
    Kernel("leaf_eval", beaver_bits.leaf_eval, (5,), beaver_samples.leaf_eval, gpu_beaver_bits.leaf_eval),
    Kernel("merge_open", beaver_bits.merge_open, (2,), beaver_samples.merge_open, gpu_beaver_bits.merge_open),
    Kernel("merge_eval", beaver_bits.merge_eval, (5,), beaver_samples.merge_eval, gpu_beaver_bits.merge_eval),
    Kernel("ands_eval", beaver_bits.ands_eval, (4,), beaver_samples.ands_eval, gpu_beaver_bits.ands_eval),
    Kernel("select_open", beaver.select_open, (4, 5), beaver_samples.select_open, gpu_beaver.select_open),
    Kernel("select_finish", beaver.select_finish, (8,), beaver_samples.select_finish, gpu_beaver.select_finish),
    Kernel("beaver_mul", beaver.beaver_mul, (6,), beaver_samples.beaver_mul, gpu_beaver.beaver_mul),
    Kernel("beaver_conv1d", beaver_linear.beaver_conv1d, (3,), beaver_samples.beaver_conv1d, gpu_linear.beaver_conv1d),
    Kernel("beaver_matmul", beaver_linear.beaver_matmul, (3,), beaver_samples.beaver_matmul, gpu_linear.beaver_matmul),
    Kernel("triple_mul", beaver.triple_mul, (5,), samples.elementwise(6), gpu_beaver.triple_mul),
    Kernel(
        "triple_products",
        triples.triple_products,
        (5,),
        beaver_samples.triple_products,
        gpu_linear_triples.triple_products,
    ),
)

FSS = (
    Kernel("dcf_gen", dcf.dcf_gen, (4,), dcf_samples.dcf_gen, gpu_fss.dcf_gen),
    Kernel("dcf_eval", dcf.dcf_eval, (6,), dcf_samples.dcf_eval, gpu_fss.dcf_eval),
)

TRANSFERS = (
    Kernel("field_vole", ot.field_vole, (2, 3), ot_samples.field_vole, gpu_transfers.field_vole),
    Kernel("leaf_sums", ot.leaf_sums, (5, 6), ot_samples.leaf_sums, gpu_transfers.leaf_sums),
    Kernel("transpose_bits", ot.transpose_bits, (1,), ot_samples.transpose_bits, gpu_transfers.transpose_bits),
    Kernel("vole_correct", ot.vole_correct, (4, 5), ot_samples.vole_correct, gpu_transfers.vole_correct),
    Kernel("vole_join", ot.vole_join, (6,), ot_samples.vole_join, gpu_transfers.vole_join),
    Kernel("add_runs", ot.add_runs, (3,), ot_samples.add_runs, gpu_transfers.add_runs),
)

CATALOG: Mapping[str, Kernel] = MappingProxyType(
    {row.name: row for row in (*RING, *LINEAR, *STREAMS, *BITS, *SHARES, *BEAVER, *FSS, *TRANSFERS)}
)
