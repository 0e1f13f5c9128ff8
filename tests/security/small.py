"""A small network of the paper's shape: two convolutions with ReLU and a pool, a dense layer, eight labels."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from sottovoce.models.compiler.compile import Compiled, compile_graph
from sottovoce.models.encode import encode_input
from sottovoce.models.graph import AvgPool, Conv1d, Dense, Graph, Relu, Reshape

TIME = 16
CHANNELS = 4


def small_model() -> Compiled:
    """Its weights are a function of nothing."""
    rng = np.random.default_rng(5)
    nodes = (
        Conv1d("conv1", rng.normal(size=(CHANNELS, 1, 5)), rng.normal(size=CHANNELS), padding=(2, 2)),
        Relu("relu1"),
        AvgPool("pool", 4, 4),
        Conv1d("conv2", rng.normal(size=(CHANNELS, CHANNELS, 3)), rng.normal(size=CHANNELS), padding=(1, 1)),
        Relu("relu2"),
        Reshape("flat"),
        Dense("dense", rng.normal(size=(8, CHANNELS * TIME // 4)), rng.normal(size=8)),
    )
    labels = tuple(f"label {i}" for i in range(8))
    return compile_graph(Graph("small", (1, TIME), nodes, labels, (-4.0,) * TIME, (4.0,) * TIME))


def small_batch(compiled: Compiled, clips: int, seed: int = 0) -> NDArray[np.uint64]:
    """Encoded features."""
    return encode_input(compiled.program, np.random.default_rng(seed).uniform(-4, 4, (clips, 1, TIME)))


def counted_tokens(seed: int = 0) -> Callable[[int], bytes]:
    """In place of secrets.token_bytes: the same tokens in every run."""
    count = iter(range(1 << 30))
    return lambda size: hashlib.shake_256(f"token {seed} {next(count)}".encode()).digest(size)
