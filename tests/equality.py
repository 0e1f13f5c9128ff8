"""One model under MPC, in fixed point in the clear, in onnxruntime and in float64, on the same rows."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime

from sottovoce.engine.cost import predict_cost
from sottovoce.engine.program import OutputKind
from sottovoce.engine.protocols.table import find
from sottovoce.models.compiler.compile import Compiled, compile_graph
from sottovoce.models.encode import encode_input
from sottovoce.models.evaluate import evaluate
from sottovoce.models.graph import Graph
from sottovoce.models.onnx import export_onnx
from sottovoce.models.zoo import build, random_weights
from sottovoce.serving.runner import InProcess, PlainRunner

FULL = bool(os.environ.get("SOTTOVOCE_FULL"))
"""Everything that there is to compare, in minutes rather than seconds."""
BATCH = 240


@dataclass(frozen=True, slots=True)
class Comparison:
    """rows compared; inside: those whose two largest logits are closer than the compiler's bound on a difference.

    same: rows with the same label under the protocol and `plain`, and under the protocol and in onnxruntime. largest:
    the largest |logit under the protocol - logit in float64|; bound: what the compiler allows for it; spread: by how
    much the rows' own differences move a logit.
    """

    protocol: str
    rows: int
    inside: int
    same_plain: int
    same_onnx: int
    largest: float
    bound: float
    spread: float

    def __str__(self) -> str:
        return (
            f"{self.rows} rows, {self.inside} inside the margin bound; same label {self.protocol}/plain "
            f"{self.same_plain}, {self.protocol}/onnxruntime {self.same_onnx}; largest logit difference "
            f"{self.largest:.3g}, bound {self.bound:.3g}, "
            f"spread of a logit over the rows {self.spread:.3g}"
        )


@cache
def random_model(name: str, seed: int) -> tuple[Graph, Compiled]:
    """A model of the zoo with random weights, compiled so that it opens labels and scores."""
    graph = build(name, random_weights(name, seed))
    return graph, compile_graph(graph, outputs=("label", "scores"))


def compare(graph: Graph, compiled: Compiled, x: np.ndarray, protocol: str = "rep3") -> Comparison:
    """Assert that rows outside the bound get the same label everywhere, and that every logit is within its bound.

    Also that the protocol sends as many bytes in as many rounds as predicted.
    compiled: of `graph`, opens labels and scores. x: (rows, *input_shape).
    """
    real = evaluate(graph, x)
    single = onnx_logits(graph, x)
    errors = np.array(compiled.report.logit_errors)
    cluster = InProcess(compiled, protocol)
    try:
        labels, scores = (_run(cluster, protocol, x, output) for output in ("label", "scores"))
    finally:
        cluster.close()
    in_the_clear = PlainRunner(compiled).run(encode_input(compiled.program, x))[0]
    difference = np.abs(scores - real)
    assert np.all(difference <= errors)
    # onnxruntime computes in float32: what it is off by counts on top of what fixed point may be.
    top = np.sort(real, axis=1)
    inside = top[:, -1] - top[:, -2] <= compiled.report.margin_bound + 2 * np.abs(single - real).max(axis=1)
    expected = single.argmax(axis=1)
    np.testing.assert_array_equal(labels[~inside], expected[~inside])
    np.testing.assert_array_equal(in_the_clear[~inside], expected[~inside])
    return Comparison(
        protocol,
        len(x),
        int(inside.sum()),
        int((labels == in_the_clear).sum()),
        int((labels == expected).sum()),
        float(difference.max()),
        float(errors.max()),
        float(np.ptp(real, axis=0).max()),
    )


def compare_random(name: str, seed: int, x: np.ndarray, protocol: str = "rep3") -> Comparison:
    """`compare` for a model with random weights, and beyond what is proven, on *all* rows: 99 % get the same label, and
    no logit is off by more than 2 % of what the rows' differences make of it.

    Of a deep model with random weights the proof says little: its bound is the worst case of every layer after the
    other, and most rows lie inside it.
    """
    found = compare(*random_model(name, seed), x, protocol)
    assert found.same_plain >= 0.99 * found.rows
    assert found.same_onnx >= 0.99 * found.rows
    assert found.largest <= 0.02 * found.spread
    return found


def onnx_logits(graph: Graph, x: np.ndarray) -> np.ndarray:
    """Logits (rows, labels) of `graph` as onnxruntime computes its export, in float32."""
    session = onnxruntime.InferenceSession(export_onnx(graph), providers=["CPUExecutionProvider"])
    (name,) = (entry.name for entry in session.get_inputs())
    return np.asarray(session.run(None, {name: x.astype(np.float32)})[0])


def feature_rows(data: Path) -> np.ndarray:
    """The 1,440 rows of 40 averaged MFCCs of RAVDESS: (rows, 1, 40)."""
    with np.load(data / "ravdess" / "mfcc40_mean.npz", allow_pickle=False) as stored:
        return np.asarray(stored["X"][:, None, :])


def recordings(data: Path) -> list[Path]:
    """The 60 recordings of the first actor."""
    return sorted((data / "ravdess" / "Actor_01").glob("*.wav"))


def _run(cluster: InProcess, protocol: str, x: np.ndarray, output: OutputKind) -> np.ndarray:
    """Run in batches, and assert that each costs what `predict_cost` says beforehand."""
    results = []
    for part in np.split(x, range(BATCH, len(x), BATCH)):
        result, cost = cluster.run(encode_input(cluster.program, part), output)
        steps = predict_cost(cluster.program, find(protocol), len(part), output)
        assert cost.bytes_sent == tuple(map(sum, zip(*(step.bytes_sent for step in steps), strict=True)))
        assert cost.rounds == sum(step.rounds for step in steps)
        results.append(result)
    return np.concatenate(results)
