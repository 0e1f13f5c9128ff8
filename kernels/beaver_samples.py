"""Sample arguments for the catalog's kernels of two-party masks."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from sottovoce.kernels.cpu.beaver_bits import leaf_product_rows, merge_mask_rows, merge_monomials
from sottovoce.kernels.products import ProductLayer
from sottovoce.kernels.samples import conv1d, matmul, ring_array

Arguments = tuple[Any, ...]
Sampler = Callable[[np.random.Generator], list[Arguments]]

BIT_ONES = (np.uint64(2**64 - 1), np.uint64(0))
ONES = (np.uint64(1), np.uint64(0))
LENGTHS = (1, 0, 63, 64, 65, 300)


def _words(bits: int) -> int:
    return -(-bits // 64)


def _arrays(rng: np.random.Generator, *shapes: int | tuple[int, ...]) -> Iterator[np.ndarray]:
    return (ring_array(rng, shape if isinstance(shape, tuple) else (shape,)) for shape in shapes)


def wrap_open(rng: np.random.Generator) -> list[Arguments]:
    """Every length, small and large shifts, both parties' constants."""
    result: list[Arguments] = []
    for n, (bits, one) in itertools.product(LENGTHS, ((16, 1), (1, 0), (31, 1), (32, 1))):
        z, mask, top, opened, out = _arrays(rng, n, *(_words(n),) * 3, n)
        correction = np.uint64((1 - 2 ** (62 - bits)) % 2**64) if one else np.uint64(0)
        result.append((z, np.uint64(one << 62), correction, bits, mask, top, opened, out))
    return result


def wrap_finish(rng: np.random.Generator) -> list[Arguments]:
    """Every length, small and large shifts, both parties."""
    return [
        (*_arrays(rng, *(_words(n),) * 4), rng.integers(0, 2**32, n, dtype=np.uint32), one, bits, *_arrays(rng, n))
        for n, bits, one in itertools.product(LENGTHS, (16, 1, 32), ONES)
    ]


def leaf_eval(rng: np.random.Generator) -> list[Arguments]:
    """Even and odd numbers of bits, both parties."""
    return [
        (*_arrays(rng, *((bits, w),) * 3, (leaf_product_rows(bits), w)), one, *_arrays(rng, (2 * -(-bits // 2) - 1, w)))
        for bits, w, one in itertools.product((1, 2, 3, 31, 47, 63), (1, 70), BIT_ONES)
        if bits < 4 or w == 1
    ]


def merge_open(rng: np.random.Generator) -> list[Arguments]:
    """Every size of a last group."""
    return [
        tuple(_arrays(rng, (2 * blocks - 1, w), *((merge_mask_rows(blocks), w),) * 2))
        for blocks, w in itertools.product((2, 3, 4, 5, 6, 7, 8, 16, 24, 32), (1, 3, 70))
    ]


def merge_eval(rng: np.random.Generator) -> list[Arguments]:
    """Every size of a last group, both parties."""
    result: list[Arguments] = []
    for blocks, w, one in itertools.product((2, 3, 4, 5, 6, 7, 8, 16, 32), (1, 3, 70), BIT_ONES):
        masks = (merge_mask_rows(blocks), w)
        given = _arrays(rng, (2 * blocks - 1, w), masks, masks, (len(merge_monomials(blocks)), w))
        result.append((*given, one, *_arrays(rng, (2 * -(-blocks // 4) - 1, w))))
    return result


def ands_eval(rng: np.random.Generator) -> list[Arguments]:
    """Every number of inputs, both parties, more than one block of words."""
    return [
        (*_arrays(rng, (k, w), (k, w), ((1 << k) - 1 - k, w)), one, *_arrays(rng, w))
        for k, w, one in itertools.product(range(2, 9), (1, 3, 35), BIT_ONES)
    ]


def select_open(rng: np.random.Generator) -> list[Arguments]:
    """Every length."""
    return [tuple(_arrays(rng, _words(n), n, n, _words(n), n, _words(n))) for n in LENGTHS]


def select_finish(rng: np.random.Generator) -> list[Arguments]:
    """Every length."""
    return [tuple(_arrays(rng, _words(n), n, n, *(_words(n),) * 3, n, n, n)) for n in LENGTHS]


def beaver_mul(rng: np.random.Generator) -> list[Arguments]:
    """Every length, both parties."""
    return [(*_arrays(rng, *(n,) * 5), one, *_arrays(rng, n)) for n in LENGTHS for one in ONES]


def beaver_conv1d(rng: np.random.Generator) -> list[Arguments]:
    """The shapes of `conv1d`, with weights side by side and apart."""
    result: list[Arguments] = []
    for x, w, out, *geometry, accumulate in conv1d(rng):
        groups, taps, c_in, c_out = w.shape
        shape = (1, groups, taps, 2 * c_in, c_out) if accumulate else (2, *w.shape)
        result.append((x, *_arrays(rng, x.shape, shape), out, *geometry))
    return result


def beaver_matmul(rng: np.random.Generator) -> list[Arguments]:
    """The shapes of `matmul`."""
    return [(x, *_arrays(rng, x.shape, (2, *w.shape)), out) for x, w, out, accumulate in matmul(rng) if not accumulate]


def triple_products(rng: np.random.Generator) -> list[Arguments]:
    """A layer, a small network (one batch over several tiles), every kind of convolution, nothing; words in between."""
    networks = [
        ([(1, 1, 1, 1, 1, 1, 0, 1, 1, 1)], 1),
        ([(1, 70, 9, 5, 9, 1, 2, 1, 1, 1), (70, 6, 4, 5, 4, 1, 2, 1, 1, 1), (24, 3, 1, 1, 1, 1, 0, 1, 1, 1)], 9),
        ([(9, 5, 1, 1, 1, 1, 0, 1, 1, 1), (6, 10, 11, 3, 6, 2, 1, 1, 2, 1), (33, 9, 7, 3, 5, 2, 3, 2, 1, 1)], 3),
        ([(0, 2, 1, 1, 1, 1, 0, 1, 1, 1), (4, 2, 4, 3, 0, 1, 0, 1, 1, 1), (3, 3, 7, 2, 9, 1, 3, 2, 3, 1)], 2),
        ([(300, 8, 1, 1, 1, 1, 0, 1, 1, 1)], 70),
        ([(5, 2, 1, 1, 1, 1, 0, 1, 1, 1)], 0),
        ([], 2),
    ]
    result: list[Arguments] = []
    for network, clips in networks:
        layers: list[ProductLayer] = []
        a, b, c = 1, 1, 2
        for c_in, c_out, time, taps, time_out, stride, pad_left, dilation, groups, gap in network:
            geometry = (time, taps, time_out, stride, pad_left, dilation, groups)
            layers.append(ProductLayer(a, b, c, c_in, c_out, *geometry))
            a += c_in * time + gap
            b += layers[-1].weights
            c += c_out * time_out + gap
        masks = _arrays(rng, (clips, a), (clips, a), b, *((clips, c),) * 2)
        result.append((tuple(layers), *masks))
    return result
