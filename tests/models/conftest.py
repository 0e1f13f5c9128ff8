"""Random small models for the compiler's tests."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from sottovoce.models.graph import (
    Affine,
    AvgPool,
    BatchNorm,
    Conv1d,
    Dense,
    Graph,
    Identity,
    LeakyRelu,
    MaxPool,
    Node,
    Relu,
    Reshape,
    SumPool,
    Transpose,
    output_shape,
)

Rng = np.random.Generator


def _norm(name: str, channels: int, rng: Rng) -> BatchNorm:
    mean, beta = rng.normal(size=(2, channels))
    return BatchNorm(name, mean, rng.uniform(0.5, 2, channels), rng.uniform(0.3, 1.5, channels), beta)


def _conv(name: str, shape: tuple[int, ...], rng: Rng) -> Conv1d:
    channels, time = shape
    groups = int(rng.choice([g for g in range(1, channels + 1) if channels % g == 0]))
    dilation = int(rng.integers(1, 3))
    kernel = int(rng.integers(1, max(2, min(5, (time - 1) // dilation + 1))))
    span = dilation * (kernel - 1) + 1
    left, right = (int(p) for p in rng.integers(0, span, 2))
    c_out = groups * int(rng.integers(1, 4))
    weight = rng.normal(size=(c_out, channels // groups, kernel))
    node = Conv1d(name, weight, rng.normal(size=c_out), int(rng.integers(1, 3)), (left, right), dilation, groups)
    if rng.random() < 0.3:
        bias = rng.normal(size=output_shape(node, shape))
        node = Conv1d(name, weight, bias, node.stride, node.padding, dilation, groups)
    return node


def _pool(name: str, shape: tuple[int, ...], rng: Rng) -> Node:
    kernel = int(rng.integers(1, min(5, shape[1]) + 1))
    left, right = (int(p) for p in rng.integers(0, kernel, 2))
    kind = rng.choice([AvgPool, MaxPool, MaxPool, SumPool])
    options = (int(rng.choice([1, 2, kernel])),) if kind is SumPool else ()
    return kind(name, kernel, int(rng.integers(1, 4)), (left, right), *options)


def _activation(name: str, rng: Rng) -> Node:
    """ReLU, or leaky: exact and rounded slopes, beyond one, and negative."""
    slope = rng.choice([None, None, 0.0, 0.25, 0.01, 0.3, 1.5, -0.5])
    return Relu(name) if slope is None else LeakyRelu(name, float(slope))


def _affine(name: str, shape: tuple[int, ...], rng: Rng) -> Affine:
    """Per channel, per position, or both, factors of either sign."""
    along = [(shape[0], *[1] * (len(shape) - 1)), shape[-1:], shape]
    scale, shift = (along[int(i)] for i in rng.integers(0, 3, 2))
    if len(shape) == 1:
        scale = shift = shape
    return Affine(name, rng.uniform(-1, 1.5, scale), rng.normal(size=shift))


def make_graph(seed: int) -> Graph:
    """A random CNN: up to three convolutions, with norms, activations, affine maps, transposes and any pooling around
    them, one or two dense layers, and now and then an activation or an affine map on the logits.
    """
    rng = np.random.default_rng(seed)
    shape: tuple[int, ...] = (int(rng.integers(1, 4)), int(rng.integers(5, 16)))
    start = shape
    nodes: list[Node] = []

    def add(make: Callable[[str], Node]) -> None:
        nonlocal shape
        nodes.append(make(f"n{len(nodes)}"))
        shape = output_shape(nodes[-1], shape)

    if rng.random() < 0.5:
        add(lambda name: Affine(name, rng.uniform(0.05, 1, (start[0], 1)), rng.normal(size=start)))
    for _ in range(int(rng.integers(1, 4))):
        add(lambda name: _conv(name, shape, rng))
        if rng.random() < 0.4:
            add(lambda name: _norm(name, shape[0], rng))
        if rng.random() < 0.8:
            add(lambda name: _activation(name, rng))
            if rng.random() < 0.2:
                add(lambda name: _affine(name, shape, rng))
            if rng.random() < 0.3:
                add(lambda name: _norm(name, shape[0], rng))
        if rng.random() < 0.3:
            add(Identity)
        if rng.random() < 0.6:
            add(lambda name: _pool(name, shape, rng))
            if rng.random() < 0.2:
                add(lambda name: _affine(name, shape, rng))
        if rng.random() < 0.3:
            add(Transpose)
            if rng.random() < 0.5:
                add(lambda name: _activation(name, rng))
    add(Reshape)
    for width in [int(w) for w in rng.integers(2, 7, rng.integers(0, 2))]:
        add(lambda name, w=width: Dense(name, rng.normal(size=(w, shape[0])), rng.normal(size=w)))
        add(lambda name: _activation(name, rng))
    labels = int(rng.integers(2, 5))
    add(lambda name: Dense(name, rng.normal(size=(labels, shape[0])), rng.normal(size=labels)))
    if rng.random() < 0.2:
        add(lambda name: _activation(name, rng))
    if rng.random() < 0.2:
        add(lambda name: _affine(name, shape, rng))
    count = start[0] * start[1]
    low = rng.uniform(-20, 1, count)
    high = low + rng.uniform(0, 30, count)
    names = tuple(f"class {i}" for i in range(labels))
    return Graph(f"random-{seed}", start, tuple(nodes), names, tuple(low.tolist()), tuple(high.tolist()))


@pytest.fixture(scope="session")
def random_graph() -> Callable[[int], Graph]:
    """seed -> Graph."""
    return make_graph


@pytest.fixture(scope="session")
def box_inputs() -> Callable[[Graph, Rng, int], np.ndarray]:
    """(graph, rng, count) -> inputs in the box: inside, at random corners, and the two extreme corners."""

    def make(graph: Graph, rng: Rng, count: int) -> np.ndarray:
        low, high = graph.box()
        inside = rng.uniform(low, high, (count, *graph.input_shape))
        corners = np.where(rng.random((count, *graph.input_shape)) < 0.5, low, high)
        return np.concatenate([inside, corners, low[None], high[None]])

    return make
