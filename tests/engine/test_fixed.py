"""Fixed point: rounding, range, views."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sottovoce.engine import fixed
from sottovoce.engine.errors import InputError


@given(st.floats(-(2.0**40), 2.0**40), st.integers(0, 22))
def test_encode_is_pythons_rounding_of_the_exact_product(value, frac_bits):
    exact = round(Fraction(value) * 2**frac_bits)  # ties to even
    assert int(fixed.encode(value, frac_bits)) == exact % 2**64


@given(st.integers(-(2**63), 2**63 - 1), st.integers(0, 62))
def test_decode_is_the_nearest_float(value, frac_bits):
    ring = np.array([value % 2**64], dtype=np.uint64)
    assert fixed.decode(ring, frac_bits)[0] == float(Fraction(value, 2**frac_bits))


@pytest.mark.parametrize(("value", "expected"), [(0.5, 0), (1.5, 2), (2.5, 2), (-0.5, 0), (-1.5, 2**64 - 2)])
def test_ties_go_to_even(value, expected):
    assert int(fixed.encode(value, 0)) == expected


@pytest.mark.parametrize("value", [2.0**47, -(2.0**47), 1e300, np.inf, -np.inf, np.nan])
def test_what_does_not_fit_is_refused(value):
    with pytest.raises(InputError, match=r"below 2\^47"):
        fixed.encode([0.0, value], 16)


def test_the_largest_that_fits():
    value = np.nextafter(2.0**47, 0)
    assert fixed.decode(fixed.encode([value, -value], 16), 16).tolist() == [value, -value]


def test_shapes_are_kept_and_views_copy_nothing():
    ring = fixed.encode(np.zeros((2, 3, 4)), 5)
    assert ring.shape == (2, 3, 4) and fixed.encode(1.0, 1).shape == ()
    signed = fixed.as_signed(ring)
    signed[0, 0, 0] = -1
    assert int(ring[0, 0, 0]) == 2**64 - 1
    assert np.shares_memory(fixed.as_ring(signed), ring)


def test_wrong_dtypes_and_bits_are_refused():
    with pytest.raises(InputError, match="expected uint64, got int64"):
        fixed.as_signed(np.zeros(1, dtype=np.int64))
    with pytest.raises(InputError, match="expected int64, got uint64"):
        fixed.as_ring(np.zeros(1, dtype=np.uint64))
    for bits in (-1, 63):
        with pytest.raises(InputError, match="fraction bits"):
            fixed.encode(0.0, bits)
