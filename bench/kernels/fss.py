"""The sizes of the kernels of function secret sharing: one clip, since the keys of 128 take gigabytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from sottovoce.bench.kernels import shapes
from sottovoce.bench.kernels.sizes import ALL_ONES, COMPARE_BITS, ELEMENTS, Workload, random_words
from sottovoce.kernels.catalog import Arguments
from sottovoce.kernels.cpu.dcf import correction_rows

PAPER_COMPARISONS = 6428
"""Of the network `paper` for one clip: 5,120 and 1,280 ReLUs, 28 pairs of classes."""


def _comparisons(build: Callable[[np.random.Generator, int], Arguments]) -> list[Workload]:
    """build: (rng, comparisons) -> arguments."""

    def workload(name: str, n: int) -> Workload:
        return Workload(name, n, ELEMENTS, lambda rng: build(rng, n), resize=workload)

    return [workload(f"{name}-b1", n) for name, n in (*shapes.activations(), ("paper", PAPER_COMPARISONS))]


def _gen(rng: np.random.Generator, n: int) -> Arguments:
    roots = (random_words(rng, 2, n) for _ in range(2))
    return random_words(rng, n), COMPARE_BITS, *roots, random_words(rng, correction_rows(COMPARE_BITS), n)


def _eval(rng: np.random.Generator, n: int) -> Arguments:
    root, correction = random_words(rng, 2, n), random_words(rng, correction_rows(COMPARE_BITS), n)
    packed = (random_words(rng, -(-n // 64)) for _ in range(2))
    return random_words(rng, n), COMPARE_BITS, ALL_ONES, root, correction, *packed


FSS: Mapping[str, Callable[[], list[Workload]]] = MappingProxyType(
    {"dcf_gen": lambda: _comparisons(_gen), "dcf_eval": lambda: _comparisons(_eval)}
)
