"""Program steps to be: which nodes of a rewritten graph become one step, and what each must leave room for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from sottovoce.engine.errors import ModelError
from sottovoce.models.evaluate import evaluate_node
from sottovoce.models.graph import Conv1d, Dense, Graph, LeakyRelu, MaxPool, Node, Relu, SumPool


@dataclass(frozen=True, slots=True)
class Stage:
    """One program step to be: a node, what is fused behind it, and what the scale must leave room for.

    growth: the most that a value is multiplied by before its next comparison or product, by window sums, and by a
    maximum, which compares differences. compared: a comparison follows before the next product. last: no comparison and
    no product follows, so nothing need be truncated.
    """

    node: Node
    relu: bool = False
    pool: SumPool | None = None
    growth: int = 1
    compared: bool = False
    last: bool = False


def fuse(graph: Graph) -> tuple[Stage, ...]:
    """A rewritten graph as program steps: a ReLU goes into the linear step before it, a window sum into the ReLU."""
    stages: list[Stage] = []
    nodes = list(graph.nodes)
    while nodes:
        node = nodes.pop(0)
        relu = isinstance(node, Conv1d | Dense) and bool(nodes) and isinstance(nodes[0], Relu)
        if relu:
            nodes.pop(0)
        pool = None
        if (relu or isinstance(node, Relu | LeakyRelu)) and nodes and isinstance(nodes[0], SumPool):
            pool = nodes.pop(0)
        stages.append(Stage(node, relu, pool if isinstance(pool, SumPool) else None))
    return tuple(_look_ahead(stages, i) for i in range(len(stages)))


def _look_ahead(stages: list[Stage], position: int) -> Stage:
    stage, growth = stages[position], 1
    for later in stages[position + 1 :]:
        if isinstance(later.node, Conv1d | Dense):
            return Stage(stage.node, stage.relu, stage.pool, growth, stage.relu)
        if isinstance(later.node, Relu | LeakyRelu | MaxPool):
            growth *= 2 if isinstance(later.node, MaxPool) else 1
            return Stage(stage.node, stage.relu, stage.pool, growth, True)
        growth *= later.node.kernel if isinstance(later.node, SumPool) else 1
    return Stage(stage.node, stage.relu, stage.pool, growth, stage.relu, last=not stage.relu)


def observe(graph: Graph, stages: tuple[Stage, ...], samples: ArrayLike, headroom: float) -> dict[int, float]:
    """Largest |z| of each linear stage on the samples, times the head-room."""
    x = np.asarray(samples, dtype=np.float64)
    low, high = graph.box()
    if x.ndim != 3 or x.shape[1:] != graph.input_shape or not len(x) or not headroom >= 1:
        expected = f"samples (batch >= 1, *{graph.input_shape}) and headroom >= 1"
        raise ModelError(f"calibrate: expected {expected}, got {x.shape} and {headroom}")
    outside = ~((x >= low) & (x <= high)).reshape(len(x), -1)
    if bool(outside.any()):
        row, feature = (int(i) for i in np.argwhere(outside)[0])
        raise ModelError(
            "calibrate: expected samples inside the declared box, got values outside in "
            f"{int(outside.any(axis=1).sum())} of {len(x)} rows, the first in row {row}, feature {feature}"
        )
    observed = {}
    for i, stage in enumerate(stages):
        x = evaluate_node(stage.node, x)
        if isinstance(stage.node, Conv1d | Dense):
            observed[i] = headroom * float(abs(x).max())
        x = np.maximum(x, 0) if stage.relu else x
        x = x if stage.pool is None else evaluate_node(stage.pool, x)
    return observed
