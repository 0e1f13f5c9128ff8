"""The sizes of the kernels of oblivious transfer: a chunk of transfers, and rows of a layer's weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from sottovoce.bench.kernels.sizes import ADDITIONS, KEYSTREAM, MULTIPLICATIONS, XORS, Workload, random_words
from sottovoce.kernels.catalog import Arguments
from sottovoce.kernels.cpu.ot import PLANES

FIELD_BITS = 4
CHUNK_WORDS = 512
WIDTH = 6
TREES = 64
ROWS: Mapping[str, int] = MappingProxyType({"dense-8": 8, "conv-640": 640})
"""Words of a row: the outputs that an input of `paper`'s dense layer reaches, and one of its second convolution."""


def _field_vole() -> list[Workload]:
    values, trees = 1 << FIELD_BITS, PLANES // FIELD_BITS

    def make(rng: np.random.Generator) -> Arguments:
        leaves = random_words(rng, values, trees, 16, dtype=np.uint8)
        return leaves, np.uint64(1), random_words(rng, trees, CHUNK_WORDS), random_words(rng, PLANES, CHUNK_WORDS)

    return [Workload(f"{64 * CHUNK_WORDS} transfers", 8 * values * trees * CHUNK_WORDS, KEYSTREAM, make)]


def _leaf_sums() -> list[Workload]:
    def workload(name: str, row: int, narrow: bool) -> Workload:
        def make(rng: np.random.Generator) -> Arguments:
            leaves = random_words(rng, 1 << WIDTH, TREES, 16, dtype=np.uint8)
            sums = (random_words(rng, TREES * row) for _ in range(2))
            return leaves, np.full(TREES, -1), np.uint64(1), _offsets(row), narrow, *sums

        size = 4 if narrow else 8
        return Workload(f"{name}-{8 * size} bits", size * TREES * row << WIDTH, KEYSTREAM, make)

    return [workload(name, row, narrow) for name, row in ROWS.items() for narrow in (False, True)]


def _transpose() -> list[Workload]:
    def make(rng: np.random.Generator) -> Arguments:
        return random_words(rng, PLANES, CHUNK_WORDS), random_words(rng, 64 * CHUNK_WORDS, 2)

    # Six butterfly levels of 32 exchanges, three XORs each, for every square of 64 words.
    return [Workload(f"{64 * CHUNK_WORDS} transfers", 6 * 32 * 3 * 2 * CHUNK_WORDS, XORS, make)]


def _digit(build: Callable[[np.random.Generator, int, int], Arguments]) -> list[Workload]:
    """build: (rng, row, shift) -> arguments, for TREES rows; the lowest digit and one half-way."""

    def workload(name: str, row: int, shift: int) -> Workload:
        return Workload(
            f"{name}-digit {shift}",
            TREES * row,
            MULTIPLICATIONS,
            lambda rng: build(rng, row, shift),
            updates=True,
        )

    return [workload(name, row, shift) for name, row in ROWS.items() for shift in (0, 5 * WIDTH)]


def _correct(rng: np.random.Generator, row: int, shift: int) -> Arguments:
    y, u, v, z = (random_words(rng, TREES * row) for _ in range(4))
    return y, u, v, shift, z, random_words(rng, _packed(row, shift))


def _join(rng: np.random.Generator, row: int, shift: int) -> Arguments:
    u, v, z = (random_words(rng, TREES * row) for _ in range(3))
    digits = random_words(rng, TREES) >> np.uint64(64 - WIDTH)
    return random_words(rng, _packed(row, shift)), u, v, digits, _offsets(row), shift, z


def _add_runs() -> list[Workload]:
    def workload(name: str, row: int) -> Workload:
        def make(rng: np.random.Generator) -> Arguments:
            starts = rng.integers(0, TREES, TREES) * row
            return random_words(rng, TREES * row), starts, row, random_words(rng, TREES * row)

        return Workload(name, TREES * row, ADDITIONS, make, updates=True)

    return [workload(name, row) for name, row in ROWS.items()]


def _offsets(row: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    return np.arange(TREES + 1, dtype=np.int64) * row


def _packed(row: int, shift: int) -> int:
    return -(-TREES * row * (64 - shift) // 64)


OT: Mapping[str, Callable[[], list[Workload]]] = MappingProxyType(
    {
        "field_vole": _field_vole,
        "leaf_sums": _leaf_sums,
        "transpose_bits": _transpose,
        "vole_correct": lambda: _digit(_correct),
        "vole_join": lambda: _digit(_join),
        "add_runs": _add_runs,
    }
)
