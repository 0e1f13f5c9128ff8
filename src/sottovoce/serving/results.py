"""What a classification gives: predictions in Hugging Face's shape, probabilities, and what could not be classified."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from sottovoce.engine.errors import InputError
from sottovoce.models.speech.extract import FailedRecording


class Prediction(TypedDict):
    """One entry of a result in Hugging Face's shape. score is None unless scores were asked for."""

    label: str
    score: float | None


class PartialResultError(InputError):
    """Some recordings could not be used. `results` holds the others' (None where there is none), `failures` why."""

    def __init__(self, failed: Sequence[FailedRecording], results: list[list[Prediction] | None]) -> None:
        super().__init__(
            f"{len(failed)} of {len(results)} recordings could not be used; the first: {failed[0].error} "
            "(the others' results are in this error's `results`)"
        )
        self.results = results
        self.failures = {one.index: one.error for one in failed}


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities (clips, classes) of logits (clips, classes)."""
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    result: NDArray[np.float64] = exponents / exponents.sum(axis=1, keepdims=True)
    return result


def best_labels(labels: Sequence[str], probabilities: NDArray[np.float64], top_k: int) -> list[list[Prediction]]:
    """The top_k labels of each row of probabilities (clips, classes), best first."""
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :top_k]
    return [
        [Prediction(label=str(labels[i]), score=float(row[i])) for i in best]
        for row, best in zip(probabilities, order, strict=True)
    ]
