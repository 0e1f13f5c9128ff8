"""The backend's products of a Linear step against the numpy ones of `plain`, and two parties' against each other."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest

from sottovoce.engine.backend.cpu import CpuBackend
from sottovoce.engine.preprocessing.kinds import Product
from sottovoce.engine.program import Linear, Shape, TensorSpec
from sottovoce.engine.protocols.plain.protocol import Plain, PlainAShare, PlainWeights
from sottovoce.kernels.cpu.beaver_linear import SHALLOW
from sottovoce.kernels.cpu.conv import CHUNK_WORDS
from sottovoce.kernels.cpu.gemm import BLOCK
from sottovoce.kernels.samples import ring_array


def step(kind: Literal["conv1d", "dense"], in_shape: Shape, weight: Shape, **geometry: Any) -> Linear:
    """A layer; what follows its product is left out."""
    w, bias = TensorSpec("w", weight, 0), TensorSpec("b", weight[:1], 0)
    return Linear("layer", kind, in_shape, (1,), 0, w, bias, **geometry)


STEPS = {
    "one channel": step("conv1d", (1, 40), (9, 1, 5), padding=(2, 2)),
    "groups": step("conv1d", (6, 11), (4, 3, 3), padding=(1, 0), stride=2, groups=2),
    "below shallow": step("conv1d", (SHALLOW - 1, 7), (3, SHALLOW - 1, 3), padding=(3, 1), dilation=2),
    "deep groups": step("conv1d", (2 * SHALLOW, 6), (6, SHALLOW, 5), padding=(2, 2), groups=2),
    "dense": step("dense", (21,), (18, 21)),
}
EVERY = pytest.mark.parametrize("layer", [pytest.param(s, id=name) for name, s in STEPS.items()])
BATCHES = pytest.mark.parametrize("batch", [1, 3, BLOCK + 1])


def product(layer: Linear, x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """With numpy, by the oracle."""
    return Plain().linear(PlainAShare(x, 0), PlainWeights(w, np.zeros(1, np.uint64)), layer).values


def operands(rng: np.random.Generator, layer: Linear, batch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x, w and an output that is full of something else."""
    shapes = ((batch, *layer.in_shape), layer.weight.shape, (batch, *layer.linear_shape))
    x, w, out = (ring_array(rng, shape) for shape in shapes)
    return x, w, out


def other_share(layer: Linear, a: list[np.ndarray], b: np.ndarray, c0: np.ndarray) -> np.ndarray:
    """The second share of C = (A_0 + A_1) * B, as a dealer computes it. a: (batch, *in_shape), both shares."""
    backend, c1 = CpuBackend(), np.empty_like(c0)
    a0, a1, c, out = (v.reshape(len(v), -1) for v in (*a, c0, c1))
    packed = backend.pack_linear(layer, b).reshape(-1)
    backend.kernels.triple_products(tuple(Product(layer).layers(0, 0, 0)), a0, a1, packed, c, out)
    return c1


@EVERY
@BATCHES
def test_linear_is_the_ring_product(rng: np.random.Generator, layer: Linear, batch: int) -> None:
    x, w, out = operands(rng, layer, batch)
    backend = CpuBackend()
    backend.linear(layer, x, backend.pack_linear(layer, w), out, False)
    np.testing.assert_array_equal(out, product(layer, x, w))


@EVERY
@BATCHES
def test_beaver_shares_join_to_the_product(rng: np.random.Generator, layer: Linear, batch: int) -> None:
    """A triple whose second share comes from `triple_products`, then both parties' recombination."""
    backend = CpuBackend()
    x, w, c0 = operands(rng, layer, batch)
    a, b = ([ring_array(rng, v.shape) for _ in range(2)] for v in (x, w))
    c1 = other_share(layer, a, b[0] + b[1], c0)
    np.testing.assert_array_equal(c0 + c1, product(layer, a[0] + a[1], b[0] + b[1]))
    d, e = x - a[0] - a[1], w - b[0] - b[1]
    out = [c0.copy(), c1.copy()]
    backend.beaver_linear(layer, d, a[0], backend.pack_beaver(layer, b[0] + e, e), out[0])
    backend.beaver_linear(layer, d, a[1], backend.pack_beaver(layer, b[1], e), out[1])
    np.testing.assert_array_equal(out[0] + out[1], product(layer, x, w))


def test_products_over_several_blocks_of_the_batch(rng: np.random.Generator) -> None:
    """Each clip of a batch that is worked on in blocks, the last of them smaller, is what it is alone."""
    layer = step("conv1d", (3, 400), (2, 3, 3), padding=(1, 1))
    batch = 2 * CHUNK_WORDS // (3 * 400) + 5
    backend = CpuBackend()
    x, w, out = operands(rng, layer, batch)
    a, c0 = ring_array(rng, x.shape), ring_array(rng, out.shape)
    packed = backend.pack_beaver(layer, w, ring_array(rng, w.shape))
    expected = out.copy()
    backend.beaver_linear(layer, x, a, packed, out)
    c1 = other_share(layer, [x, a], w, c0)
    for clip in range(batch):
        one = slice(clip, clip + 1)
        backend.beaver_linear(layer, x[one], a[one], packed, expected[one])
        np.testing.assert_array_equal(out[clip], expected[clip])
        np.testing.assert_array_equal(c1[one], other_share(layer, [x[one], a[one]], w, c0[one]))


@pytest.mark.parametrize("name", ["groups", "deep groups", "dense"])
def test_shapes_that_do_not_match_are_refused(rng: np.random.Generator, name: str) -> None:
    """A batch of another size, and another layer's weights."""
    backend, layer = CpuBackend(), STEPS[name]
    x, w, out = operands(rng, layer, 2)
    packed = backend.pack_beaver(layer, w, w)
    for wrong in (x[:1], np.concatenate([x, x], axis=1)):
        with pytest.raises(ValueError, match="matching shapes"):
            backend.beaver_linear(layer, x, wrong, packed, out)
        with pytest.raises(ValueError, match="matching shapes"):
            other_share(layer, [x, wrong], w, out)
    with pytest.raises(ValueError, match="matching shapes"):
        backend.beaver_linear(layer, x, x, np.concatenate([packed, packed], axis=-1), out)
    with pytest.raises(ValueError, match="matching shapes"):
        backend.beaver_linear(layer, x, x, packed, out[:1])
    with pytest.raises(ValueError, match="matching shapes"):
        other_share(layer, [x, x], w, out[:1])
