"""The two implementations of the comparison kernels give the same bytes."""

from __future__ import annotations

import numpy as np
import pytest

from sottovoce.kernels.catalog import CATALOG
from sottovoce.kernels.cpu import dcf_portable


@pytest.mark.parametrize("name", ["dcf_gen", "dcf_eval"])
def test_portable_code_gives_the_same_bytes(rng: np.random.Generator, name: str) -> None:
    row = CATALOG[name]
    for sample in row.samples(rng):
        portable = tuple(a.copy() if isinstance(a, np.ndarray) else a for a in sample)
        row.cpu(*sample)
        getattr(dcf_portable, name)(*portable)
        for got, want in zip(portable, sample, strict=True):
            np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("name", ["dcf_gen", "dcf_eval"])
def test_large_batches_too(rng: np.random.Generator, name: str) -> None:
    """More comparisons than go through the tree together, whole groups and a rest."""
    n, bits = 1100, 32
    rows = 2 * (dcf_portable.levels(bits) + 1)
    numbers, root, other = (rng.integers(0, 2**64, shape, dtype=np.uint64) for shape in ((n,), (2, n), (2, n)))
    correction = rng.integers(0, 2**64, (rows, n), dtype=np.uint64)
    top, out = (rng.integers(0, 2**64, -(-n // 64), dtype=np.uint64) for _ in range(2))
    if name == "dcf_gen":
        arguments = [numbers, bits, root, other, correction]
    else:
        arguments = [numbers, bits, np.uint64(2**64 - 1), root, correction, top, out]
    portable = [a.copy() if isinstance(a, np.ndarray) else a for a in arguments]
    CATALOG[name].cpu(*arguments)
    getattr(dcf_portable, name)(*portable)
    np.testing.assert_array_equal(portable[-1], arguments[-1])
