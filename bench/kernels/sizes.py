"""How workloads are made: arrays of random words, sized by caches, by the zoo's layers or by their activations.

Arrays hold random words: no kernel's time depends on its data.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sottovoce.bench.kernels import shapes
from sottovoce.kernels.catalog import Arguments, Kernel
from sottovoce.models.graph import AvgPool, Conv1d, Shape

WORD = 8
WORKING_SETS: Mapping[str, int] = MappingProxyType({"L1": 16 << 10, "L2": 256 << 10, "memory": 128 << 20})
"""Bytes of all arrays of a call together: inside the first-level cache of any current core, inside the second-level
cache, and outside all caches of most machines. Fixed, so that files from two machines have the same benchmarks."""
COMPARE_BITS = 32
FRAC_BITS = 16
RANDOM_WORDS = 1 << 16
ALL_ONES = np.uint64(2**64 - 1)

MULTIPLICATIONS = "ring multiplications"
ADDITIONS = "ring additions"
ANDS = "64-bit ANDs"
XORS = "64-bit XORs"
ELEMENTS = "elements"
KEYSTREAM = "keystream bytes"


@dataclass(frozen=True, slots=True)
class Workload:
    """One size of one kernel.

    size: its name. operations: of one call, in `unit`. make: fresh arguments. small: part of a quick run. updates: the
    outputs are read as well as written. resize: the same with another name and number of elements (keystreams: words;
    layers: clips), None where there is no such number.
    """

    size: str
    operations: int
    unit: str
    make: Callable[[np.random.Generator], Arguments]
    small: bool = True
    updates: bool = False
    resize: Callable[[str, int], Workload] | None = None


def moved_bytes(kernel: Kernel, workload: Workload, arguments: Arguments) -> int:
    """Bytes that one call must read and write: each array once, outputs twice where they are updated."""
    sizes = [argument.nbytes if isinstance(argument, np.ndarray) else 0 for argument in arguments]
    return sum(sizes) + (sum(sizes[position] for position in kernel.outputs) if workload.updates else 0)


def random_words(
    rng: np.random.Generator, *shape: int, dtype: type[np.unsignedinteger[Any]] = np.uint64
) -> NDArray[Any]:
    """A C-contiguous array in memory of its own; beyond RANDOM_WORDS its content repeats, which is fast to make."""
    count = math.prod(shape)
    block = rng.integers(0, np.iinfo(dtype).max, min(count, RANDOM_WORDS), dtype=dtype, endpoint=True)
    return np.resize(block, count).reshape(shape)


# ---- elementwise kernels and keystreams: by working set -------------------------------------------------------------


def elementwise(arrays: int, per_element: int, unit: str) -> list[Workload]:
    """By working set; all arguments are arrays of one length."""

    def workload(name: str, n: int) -> Workload:
        def make(rng: np.random.Generator) -> Arguments:
            return tuple(random_words(rng, n) for _ in range(arrays))

        return Workload(name, per_element * n, unit, make, small=name != "memory", resize=workload)

    return [workload(name, size // (WORD * arrays)) for name, size in WORKING_SETS.items()]


def changed(plain: Workload, change: Callable[[Arguments], Arguments]) -> Workload:
    """A workload whose arguments are changed after they are made."""
    resize = plain.resize
    return replace(
        plain,
        make=lambda rng: change(plain.make(rng)),
        resize=None if resize is None else lambda name, n: changed(resize(name, n), change),
    )


def scale() -> list[Workload]:
    """By working set, times a scalar."""
    by = np.uint64(0x9E3779B97F4A7C15)
    return [changed(plain, lambda xs: (xs[0], by, xs[1])) for plain in elementwise(2, 1, MULTIPLICATIONS)]


def keystream(key_words: int, dtype: type[np.unsignedinteger[Any]]) -> list[Workload]:
    """By size of the keystream."""

    def workload(name: str, words: int) -> Workload:
        def make(rng: np.random.Generator) -> Arguments:
            return random_words(rng, key_words, dtype=dtype), 1, 0, np.zeros(words, np.uint64)

        return Workload(name, WORD * words, KEYSTREAM, make, small=name != "memory", resize=workload)

    return [workload(name, size // WORD) for name, size in WORKING_SETS.items()]


# ---- layers: by the zoo's shapes ------------------------------------------------------------------------------------


def _batched(name: str, workload: Callable[[str, int], Workload]) -> list[Workload]:
    return [replace(workload(f"{name}-b{batch}", batch), resize=workload) for batch in shapes.BATCHES]


LayerMake = Callable[[np.random.Generator, Shape, Shape, Shape], Arguments]
"""(rng, shapes of the input, of the packed weight and of the output) -> the arrays of a product's arguments."""


def convolutions(build: LayerMake, *last: bool, products: int = 1, updates: bool = False) -> list[Workload]:
    """Behind the arrays come stride, padding, dilation, groups and `last`. products: of a call, on all inputs."""

    def workload(row: shapes.Layer, name: str, batch: int) -> Workload:
        node = row.node
        assert isinstance(node, Conv1d)
        c_out, c_in, taps = node.weight.shape
        weight = (node.groups, taps, c_in, c_out // node.groups)

        def make(rng: np.random.Generator) -> Arguments:
            arrays = build(rng, (batch, *row.in_shape), weight, (batch, *row.out_shape))
            return *arrays, node.stride, node.padding[0], node.dilation, node.groups, *last

        count = products * batch * shapes.multiplications(row)
        return Workload(name, count, MULTIPLICATIONS, make, small=batch == 1, updates=updates)

    rows = shapes.convolutions()
    return [w for row in rows for w in _batched(row.name, partial(workload, row))]


def matrix_products(build: LayerMake, *last: bool, products: int = 1, updates: bool = False) -> list[Workload]:
    """Behind the arrays comes `last`. products: of a call, on all inputs."""

    def workload(row: shapes.Layer, name: str, batch: int) -> Workload:
        (inner,), (columns,) = row.in_shape, row.out_shape

        def make(rng: np.random.Generator) -> Arguments:
            return *build(rng, (batch, inner), (inner, columns), (batch, columns)), *last

        return Workload(name, products * batch * inner * columns, MULTIPLICATIONS, make, updates=updates)

    rows = shapes.dense_layers()
    return [w for row in rows for w in _batched(row.name, partial(workload, row))]


def sum_pools() -> list[Workload]:
    """The zoo's average pools."""

    def workload(row: shapes.Layer, name: str, batch: int) -> Workload:
        node = row.node
        assert isinstance(node, AvgPool)
        channels, time = row.in_shape
        time_out = row.out_shape[1]

        def make(rng: np.random.Generator) -> Arguments:
            rows = batch * channels
            out = random_words(rng, rows, time_out)
            return random_words(rng, rows, time), out, node.kernel, node.stride, node.padding[0]

        return Workload(name, batch * channels * time_out * node.kernel, ADDITIONS, make, small=batch == 1)

    rows = shapes.average_pools()
    return [w for row in rows for w in _batched(row.name, partial(workload, row))]


# ---- bits and shares: by the values of a layer ----------------------------------------------------------------------

Make = Callable[[np.random.Generator, int, int], Arguments]
"""(rng, elements n, words ceil(n / 64)) -> arguments."""


def _per_activation(
    unit: str, count: Callable[[int, int], int], build: Make, *, updates: bool = False
) -> list[Workload]:
    """count: operations of a call for (elements, words)."""

    def workload(name: str, n: int, batch: int = 0) -> Workload:
        words = -(-n // 64)

        def make(rng: np.random.Generator) -> Arguments:
            return build(rng, n, words)

        return Workload(name, count(n, words), unit, make, small=batch == 1, updates=updates, resize=workload)

    return [
        workload(f"{name}-b{batch}", size * batch, batch)
        for name, size in shapes.activations()
        for batch in shapes.BATCHES
    ]


def elements(build: Make, *, updates: bool = False) -> list[Workload]:
    """The values of each model's first layer, counted one by one."""
    return _per_activation(ELEMENTS, lambda n, words: n, build, updates=updates)


def ands(per_word: int, build: Make) -> list[Workload]:
    """The values of each model's first layer, counted in word operations."""
    return _per_activation(ANDS, lambda n, words: per_word * words, build)


def halves(rng: np.random.Generator, n: int) -> NDArray[Any]:
    """(n,) uint32."""
    return random_words(rng, n, dtype=np.uint32)
