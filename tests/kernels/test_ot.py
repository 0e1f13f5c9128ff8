"""The kernels of oblivious transfer without AES instructions give the same words."""

from __future__ import annotations

import numpy as np
import pytest

from sottovoce.kernels.catalog import CATALOG
from sottovoce.kernels.cpu import ot_portable


@pytest.mark.parametrize("name", ["field_vole", "leaf_sums"])
def test_portable_twin(name: str) -> None:
    row = CATALOG[name]
    for sample in row.samples(np.random.default_rng(23)):
        expected = tuple(a.copy() if isinstance(a, np.ndarray) else a for a in sample)
        row.cpu(*sample)
        getattr(ot_portable, f"portable_{name}")(*expected)
        for position in row.outputs:
            np.testing.assert_array_equal(sample[position], expected[position])
