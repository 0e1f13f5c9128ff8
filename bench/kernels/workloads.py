"""What is timed: for each kernel of the catalog, arguments of the sizes that matter.

Arrays hold random words: no kernel's time depends on its data.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sottovoce.bench.kernels import shapes
from sottovoce.kernels.catalog import Arguments, Kernel
from sottovoce.kernels.cpu.bits import leaf_rows
from sottovoce.models.graph import AvgPool, Conv1d

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
    outputs are read as well as written.
    """

    size: str
    operations: int
    unit: str
    make: Callable[[np.random.Generator], Arguments]
    small: bool = True
    updates: bool = False


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


def _elementwise(arrays: int, per_element: int, unit: str) -> list[Workload]:
    def workload(name: str, size: int) -> Workload:
        n = size // (WORD * arrays)

        def make(rng: np.random.Generator) -> Arguments:
            return tuple(random_words(rng, n) for _ in range(arrays))

        return Workload(name, per_element * n, unit, make, small=name != "memory")

    return [workload(name, size) for name, size in WORKING_SETS.items()]


def _scale() -> list[Workload]:
    def workload(plain: Workload) -> Workload:
        def make(rng: np.random.Generator) -> Arguments:
            x, out = plain.make(rng)
            return x, np.uint64(0x9E3779B97F4A7C15), out

        return Workload(plain.size, plain.operations, plain.unit, make, plain.small)

    return [workload(plain) for plain in _elementwise(2, 1, MULTIPLICATIONS)]


def _keystream(key_words: int, dtype: type[np.unsignedinteger[Any]]) -> list[Workload]:
    def workload(name: str, size: int) -> Workload:
        def make(rng: np.random.Generator) -> Arguments:
            return random_words(rng, key_words, dtype=dtype), 1, 0, np.zeros(size // WORD, np.uint64)

        return Workload(name, size, KEYSTREAM, make, small=name != "memory")

    return [workload(name, size) for name, size in WORKING_SETS.items()]


# ---- layers: by the zoo's shapes ------------------------------------------------------------------------------------


def _batched(name: str, workload: Callable[[str, int], Workload]) -> list[Workload]:
    return [workload(f"{name}-b{batch}", batch) for batch in shapes.BATCHES]


def _conv1d() -> list[Workload]:
    def workload(row: shapes.Layer, name: str, batch: int) -> Workload:
        node = row.node
        assert isinstance(node, Conv1d)
        c_out, c_in, taps = node.weight.shape

        def make(rng: np.random.Generator) -> Arguments:
            x = random_words(rng, batch, *row.in_shape)
            w = random_words(rng, node.groups, taps, c_in, c_out // node.groups)
            out = random_words(rng, batch, *row.out_shape)
            return x, w, out, node.stride, node.padding[0], node.dilation, node.groups, True

        count = batch * shapes.multiplications(row)
        return Workload(name, count, MULTIPLICATIONS, make, small=batch == 1, updates=True)

    rows = shapes.convolutions()
    return [w for row in rows for w in _batched(row.name, partial(workload, row))]


def _matmul() -> list[Workload]:
    def workload(row: shapes.Layer, name: str, batch: int) -> Workload:
        (inner,), (columns,) = row.in_shape, row.out_shape

        def make(rng: np.random.Generator) -> Arguments:
            x, w, out = ((batch, inner), (inner, columns), (batch, columns))
            return random_words(rng, *x), random_words(rng, *w), random_words(rng, *out), True

        return Workload(name, batch * inner * columns, MULTIPLICATIONS, make, updates=True)

    rows = shapes.dense_layers()
    return [w for row in rows for w in _batched(row.name, partial(workload, row))]


def _sum_pool() -> list[Workload]:
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

    def workload(name: str, n: int, batch: int) -> Workload:
        words = -(-n // 64)

        def make(rng: np.random.Generator) -> Arguments:
            return build(rng, n, words)

        return Workload(name, count(n, words), unit, make, small=batch == 1, updates=updates)

    return [
        workload(f"{name}-b{batch}", size * batch, batch)
        for name, size in shapes.activations()
        for batch in shapes.BATCHES
    ]


def _elements(build: Make, *, updates: bool = False) -> list[Workload]:
    return _per_activation(ELEMENTS, lambda n, words: n, build, updates=updates)


def _ands(per_word: int, build: Make) -> list[Workload]:
    return _per_activation(ANDS, lambda n, words: per_word * words, build)


def _gamma(rng: np.random.Generator, n: int) -> NDArray[Any]:
    return random_words(rng, n, dtype=np.uint32)


BLOCKS = [min(4, COMPARE_BITS - 1 - base) for base in range(0, COMPARE_BITS - 1, 4)]
"""Bits of each radix-4 block below the top bit."""
LEAVES = leaf_rows(COMPARE_BITS)
PAIRS = 2 * len(BLOCKS) - 1
GATES = 2 * (len(BLOCKS) // 2) - 1
MERGED = 2 * ((len(BLOCKS) + 1) // 2) - 1

WORKLOADS: Mapping[str, Callable[[], list[Workload]]] = MappingProxyType(
    {
        "add": lambda: _elementwise(3, 1, ADDITIONS),
        "sub": lambda: _elementwise(3, 1, ADDITIONS),
        "neg": lambda: _elementwise(2, 1, ADDITIONS),
        "mul": lambda: _elementwise(3, 1, MULTIPLICATIONS),
        "mul_add": lambda: _elementwise(4, 1, MULTIPLICATIONS),
        "scale": _scale,
        "mul_cross": lambda: _elementwise(6, 2, MULTIPLICATIONS),
        "xor": lambda: _elementwise(3, 1, XORS),
        "sum3": lambda: _elementwise(4, 2, ADDITIONS),
        "matmul": _matmul,
        "conv1d": _conv1d,
        "sum_pool": _sum_pool,
        "chacha20_fill": lambda: _keystream(8, np.uint32),
        "aes128_ctr_fill": lambda: _keystream(16, np.uint8),
        "slice_bits": lambda: _elements(
            lambda rng, n, w: (random_words(rng, n), COMPARE_BITS, random_words(rng, COMPARE_BITS, w))
        ),
        "monomials": lambda: _ands(
            sum(2**size - 1 - size for size in BLOCKS),
            lambda rng, n, w: (
                random_words(rng, COMPARE_BITS, w),
                *(random_words(rng, LEAVES, w) for _ in range(2)),
            ),
        ),
        "contract_leaves": lambda: _ands(
            sum(2**size - 1 + size for size in BLOCKS),
            lambda rng, n, w: (
                *(random_words(rng, rows, w) for rows in (COMPARE_BITS, LEAVES)),
                ALL_ONES,
                *(random_words(rng, PAIRS, w) for _ in range(2)),
            ),
        ),
        "and_cross": lambda: _elementwise(7, 2, ANDS),
        "carry_level": lambda: _ands(
            2 * GATES,
            lambda rng, n, w: tuple(random_words(rng, rows, w) for rows in (PAIRS, PAIRS, GATES, GATES, MERGED)),
        ),
        "trunc_left": lambda: _elements(
            lambda rng, n, w: (
                *(random_words(rng, n) for _ in range(3)),
                random_words(rng, w),
                FRAC_BITS,
                *(random_words(rng, w) for _ in range(2)),
                random_words(rng, n),
            )
        ),
        "trunc_left_finish": lambda: _elements(
            lambda rng, n, w: (
                *(random_words(rng, w) for _ in range(4)),
                _gamma(rng, n),
                FRAC_BITS,
                random_words(rng, n),
            ),
            updates=True,
        ),
        "trunc_right": lambda: _elements(
            lambda rng, n, w: (
                *(random_words(rng, n) for _ in range(4)),
                random_words(rng, w),
                _gamma(rng, n),
                random_words(rng, w),
                FRAC_BITS,
                random_words(rng, w),
                *(random_words(rng, n) for _ in range(2)),
            )
        ),
        "trunc_deal": lambda: _elements(
            lambda rng, n, w: (
                *(random_words(rng, n) for _ in range(2)),
                *(random_words(rng, w) for _ in range(2)),
                _gamma(rng, n),
                random_words(rng, n),
                _gamma(rng, n),
            )
        ),
        "select_share": lambda: _elements(
            lambda rng, n, w: (
                *(random_words(rng, w) for _ in range(2)),
                *(random_words(rng, n) for _ in range(6)),
            )
        ),
        "select_eval": lambda: _elements(
            lambda rng, n, w: (
                random_words(rng, w),
                *(random_words(rng, n) for _ in range(2)),
                np.uint64(1),
                *(random_words(rng, n) for _ in range(3)),
            )
        ),
    }
)
"""The sizes of each kernel of the catalog. A kernel without a row here fails a test."""
