"""`triple_products`: the same as layer by layer, in place too, and tables that are refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sottovoce.kernels.cpu.conv import conv1d
from sottovoce.kernels.cpu.gemm import matmul
from sottovoce.kernels.cpu.triples import triple_products
from sottovoce.kernels.products import ProductLayer

CONV = ProductLayer(3, 1, 2, c_in=4, c_out=6, time=9, taps=3, time_out=5, stride=2, pad_left=1, groups=2)
DENSE = ProductLayer(40, 40, 33, c_in=30, c_out=4)
CLIPS = 200
"""More than a block of clips."""


def ring(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.integers(0, 2**64, shape, dtype=np.uint64)


def arrays(rng: np.random.Generator, clips: int) -> tuple[np.ndarray, ...]:
    return ring(rng, clips, 71), ring(rng, clips, 71), ring(rng, 160), ring(rng, clips, 38), ring(rng, clips, 38)


def test_equals_layer_by_layer_in_place(rng: np.random.Generator) -> None:
    a0, a1, b, c0, _ = arrays(rng, CLIPS)
    expected = c0.copy()
    a = a0 + a1
    inputs, out = np.ascontiguousarray(a[:, 3:39]).reshape(CLIPS, 4, 9), np.empty((CLIPS, 6, 5), np.uint64)
    conv1d(inputs, b[1:37].reshape(2, 3, 2, 3), out, 2, 1, 1, 2, False)
    expected[:, 2:32] = out.reshape(CLIPS, -1) - c0[:, 2:32]
    dense = np.empty((CLIPS, 4), np.uint64)
    matmul(np.ascontiguousarray(a[:, 40:70]), b[40:160].reshape(30, 4), dense, False)
    expected[:, 33:37] = dense - c0[:, 33:37]
    triple_products((DENSE, CONV), a0, a1, b, c0, c0)
    np.testing.assert_array_equal(c0, expected)


@pytest.mark.parametrize(
    ("layers", "why"),
    [
        ((replace(DENSE, a_at=42),), "expected A inside 71 words, got 30 from word 42"),
        ((replace(DENSE, b_at=41),), "expected B inside 160 words"),
        ((replace(DENSE, c_at=-1),), "expected C inside 38 words"),
        ((CONV, replace(DENSE, c_at=31)), "two layers write the words from 31 on"),
        ((DENSE, DENSE), "two layers write"),
        ((CONV, replace(DENSE, stride=0)), "layer 1: stride, dilation and groups must be positive"),
        ((replace(CONV, groups=3),), "groups divide"),
        ((replace(CONV, time_out=-5),), "must not be negative"),
    ],
)
def test_layers_outside_of_the_arrays(rng: np.random.Generator, layers: tuple[ProductLayer, ...], why: str) -> None:
    given = arrays(rng, 2)
    before = given[-1].copy()
    with pytest.raises(ValueError, match=why):
        triple_products(layers, *given)
    np.testing.assert_array_equal(given[-1], before)


@pytest.mark.parametrize("position", [0, 1, 3, 4])
def test_clips_that_do_not_match(rng: np.random.Generator, position: int) -> None:
    given = list(arrays(rng, 3))
    given[position] = given[position][:2]
    with pytest.raises(ValueError, match="do not have matching shapes"):
        triple_products((DENSE,), *given)
