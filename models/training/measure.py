"""What is reported about a trained network: accuracy, recall, confusion, and what fixed point makes of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from sottovoce.engine.errors import RangeProofError
from sottovoce.models.compiler.compile import compile_graph
from sottovoce.models.evaluate import evaluate
from sottovoce.models.graph import Graph

Logits = npt.NDArray[Any]
_BATCH = 128

Indices = npt.NDArray[np.int64]


def logits_of(graph: Graph, features: npt.NDArray[np.float64]) -> Logits:
    """Logits of features (rows, channels, time), in batches that fit into memory."""
    return np.concatenate([evaluate(graph, features[i : i + _BATCH]) for i in range(0, len(features), _BATCH)])


def accuracy(logits: Logits, labels: Indices, rows: Indices) -> float:
    """Share of the given rows whose largest logit is the label's, rounded to 4 places."""
    return round(float(np.mean(logits[rows].argmax(axis=1) == labels[rows])), 4)


def confusion(logits: Logits, labels: Indices, rows: Indices) -> list[list[int]]:
    """Counts over the given rows: [true class][predicted class]."""
    classes = logits.shape[1]
    table = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(table, (labels[rows], logits[rows].argmax(axis=1)), 1)
    return [[int(count) for count in row] for row in table]


def mean_recall(table: list[list[int]]) -> float:
    """Mean over the classes that have rows of the share recognised (unweighted average recall), to 4 places."""
    counts = np.asarray(table, dtype=np.float64)
    rows = counts.sum(axis=1)
    return round(float((counts.diagonal()[rows > 0] / rows[rows > 0]).mean()), 4)


def margins(logits: Logits) -> npt.NDArray[np.float64]:
    """Largest minus second-largest logit of each row: (rows,)."""
    top = np.sort(logits, axis=1)
    return np.asarray(top[:, -1] - top[:, -2], dtype=np.float64)


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean, sample standard deviation, smallest and largest test accuracy of the seeds, and the rows themselves."""
    values = np.array([row["test_accuracy"] for row in rows])
    return {
        "mean": round(float(values.mean()), 4),
        "std": round(float(values.std(ddof=1)) if len(values) > 1 else 0.0, 4),
        "min": float(values.min()),
        "max": float(values.max()),
        "seeds": rows,
    }


def fixed_point(graph: Graph, features: npt.NDArray[np.float64]) -> dict[str, Any]:
    """What the compiler proves about a network: m of each layer, the margin bound, and whom the bound leaves open.

    features: (rows, channels, time), test rows. inside: share of them whose two largest logits are no further apart
    than the bound, so that fixed point could give another label; all others are certain. A network whose range proof
    fails has an "error" instead.
    """
    try:
        compiled = compile_graph(graph)
    except RangeProofError as error:
        return {"error": str(error)}
    bound = compiled.report.margin_bound
    widths = {layer.name: layer.compare_bits for layer in compiled.report.layers if layer.compare_bits}
    return {
        "margin_bound": float(f"{bound:.3g}"),
        "compare_bits": {**widths, "argmax": compiled.program.compare_bits},
        "rows": len(features),
        "inside": round(float(np.mean(margins(logits_of(graph, features)) <= bound)), 4),
    }
