"""Workloads of the kernels of two-party masks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from sottovoce.bench.kernels import shapes
from sottovoce.bench.kernels.sizes import (
    ALL_ONES,
    COMPARE_BITS,
    FRAC_BITS,
    MULTIPLICATIONS,
    Workload,
    ands,
    changed,
    convolutions,
    elements,
    elementwise,
    halves,
    matrix_products,
    random_words,
)
from sottovoce.kernels.catalog import Arguments
from sottovoce.kernels.cpu.beaver_bits import leaf_product_rows, merge_mask_rows, merge_monomials
from sottovoce.kernels.cpu.beaver_linear import pack_beaver_conv1d
from sottovoce.kernels.products import ProductLayer
from sottovoce.models.graph import Conv1d, Dense, Shape
from sottovoce.models.zoo import MODELS

ONE = np.uint64(1)
BITS = COMPARE_BITS - 1
"""Low bits of a comparison, and blocks of its first merge level."""
BLOCKS = (BITS + 1) // 2
MERGED = (BLOCKS + 3) // 4
AND_INPUTS = 8
LEAF_ANDS = 12
"""Of a pair of bits, in `leaf_eval`."""


def _words(rng: np.random.Generator, *lengths: int | Shape) -> Arguments:
    """Arrays of these shapes."""
    return tuple(random_words(rng, *(n if isinstance(n, tuple) else (n,))) for n in lengths)


def _beaver_mul() -> list[Workload]:
    """The last but one argument is a scalar."""
    return [changed(plain, lambda xs: (*xs[:-1], ONE, xs[-1])) for plain in elementwise(6, 3, MULTIPLICATIONS)]


def _beaver_conv1d(rng: np.random.Generator, x: Shape, w: Shape, out: Shape) -> Arguments:
    groups, taps, c_in, c_out = w
    weight, opened = _words(rng, *((groups * c_out, c_in, taps),) * 2)
    packed = pack_beaver_conv1d(weight, opened, groups)
    return *_words(rng, x, x), packed, *_words(rng, out)


def _beaver_matmul(rng: np.random.Generator, x: Shape, w: Shape, out: Shape) -> Arguments:
    return _words(rng, x, x, (2, *w), out)


def _networks() -> list[Workload]:
    """All products of a model in one call."""

    def workload(model: str, batch: int) -> Workload:
        rows = [row for row in shapes.layers() if row.name.startswith(f"{model}.")]
        found = [layer for row in rows if (layer := _product(row)) is not None]
        placed: list[ProductLayer] = []
        a = b = c = 0
        for layer in found:
            placed.append(replace(layer, a_at=a, b_at=b, c_at=c))
            a, b, c = a + layer.c_in * layer.time, b + layer.weights, c + layer.c_out * layer.time_out

        def make(rng: np.random.Generator) -> Arguments:
            return tuple(placed), *_words(rng, (batch, a), (batch, a), b, (batch, c), (batch, c))

        count = batch * sum(_multiplications(row) for row in rows)
        return Workload(f"{model}-b{batch}", count, MULTIPLICATIONS, make, small=batch == 1)

    return [workload(model, batch) for model in MODELS for batch in shapes.BATCHES]


def _product(row: shapes.Layer) -> ProductLayer | None:
    """A convolution or a matrix product, at the beginning of each array."""
    node = row.node
    if isinstance(node, Dense):
        return ProductLayer(0, 0, 0, *row.in_shape, *row.out_shape)
    if not isinstance(node, Conv1d):
        return None
    (c_in, time), (c_out, time_out) = row.in_shape, row.out_shape
    geometry = (node.stride, node.padding[0], node.dilation, node.groups)
    return ProductLayer(0, 0, 0, c_in, c_out, time, node.weight.shape[2], time_out, *geometry)


def _multiplications(row: shapes.Layer) -> int:
    """For one clip."""
    if isinstance(row.node, Dense):
        return math.prod((*row.in_shape, *row.out_shape))
    return shapes.multiplications(row) if isinstance(row.node, Conv1d) else 0


def _merge_eval(rng: np.random.Generator, n: int, w: int) -> Arguments:
    masks = (merge_mask_rows(BLOCKS), w)
    given = _words(rng, (2 * BLOCKS - 1, w), masks, masks, (len(merge_monomials(BLOCKS)), w))
    return *given, ALL_ONES, *_words(rng, (2 * MERGED - 1, w))


BEAVER: Mapping[str, Callable[[], list[Workload]]] = MappingProxyType(
    {
        "wrap_open": lambda: elements(
            lambda rng, n, w: (*_words(rng, n), np.uint64(1 << 62), ONE, FRAC_BITS, *_words(rng, w, w, w, n))
        ),
        "wrap_finish": lambda: elements(
            lambda rng, n, w: (*_words(rng, w, w, w, w), halves(rng, n), ONE, FRAC_BITS, *_words(rng, n)),
            updates=True,
        ),
        "leaf_eval": lambda: ands(
            LEAF_ANDS * (BITS // 2),
            lambda rng, n, w: (
                *_words(rng, (BITS, w), (BITS, w), (BITS, w), (leaf_product_rows(BITS), w)),
                ALL_ONES,
                *_words(rng, (2 * BLOCKS - 1, w)),
            ),
        ),
        "merge_open": lambda: elements(
            lambda rng, n, w: _words(rng, (2 * BLOCKS - 1, w), *((merge_mask_rows(BLOCKS), w),) * 2)
        ),
        "merge_eval": lambda: ands(len(merge_monomials(BLOCKS)) + merge_mask_rows(BLOCKS), _merge_eval),
        "ands_eval": lambda: ands(
            2**AND_INPUTS - 1,
            lambda rng, n, w: (
                *_words(rng, (AND_INPUTS, w), (AND_INPUTS, w), (2**AND_INPUTS - 1 - AND_INPUTS, w)),
                ALL_ONES,
                *_words(rng, w),
            ),
        ),
        "select_open": lambda: elements(lambda rng, n, w: _words(rng, w, n, n, w, n, w)),
        "select_finish": lambda: elements(lambda rng, n, w: _words(rng, w, n, n, w, w, w, n, n, n)),
        "beaver_mul": _beaver_mul,
        "beaver_conv1d": lambda: convolutions(_beaver_conv1d, products=2, updates=True),
        "beaver_matmul": lambda: matrix_products(_beaver_matmul, products=2, updates=True),
        "triple_mul": lambda: elementwise(6, 1, MULTIPLICATIONS),
        "triple_products": _networks,
    }
)
