"""The Python API: features or recordings in, emotions out, under MPC."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self, TypedDict, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sottovoce.engine.errors import ConfigError, InputError
from sottovoce.engine.program import OutputKind, Program
from sottovoce.engine.transport.tls import TlsContexts, load_tls
from sottovoce.models.compile import Compiled, compile_graph
from sottovoce.models.encode import as_array, encode_input
from sottovoce.models.graph import Graph
from sottovoce.models.speech.audio import SAMPLE_RATE
from sottovoce.models.speech.features import FeatureBatch, Recording, extract_features
from sottovoce.models.zoo import build
from sottovoce.serving.client import RemoteCluster
from sottovoce.serving.cluster import Cluster, load_cluster
from sottovoce.serving.cost import RequestCost, add_costs
from sottovoce.serving.runner import InProcess, PlainRunner, Runner

Progress = Callable[[int], None]
"""progress(done): told how many clips are done, after each batch."""

EXTRACTORS = MappingProxyType({"mfcc40-mean": extract_features})


class Prediction(TypedDict):
    """One entry of a result in Hugging Face's shape. score is None unless scores were asked for."""

    label: str
    score: float | None


class PartialResultError(InputError):
    """Some recordings could not be used. `results` holds the others' (None where there is none), `failures` why."""

    def __init__(self, batch: FeatureBatch, results: list[list[Prediction] | None]) -> None:
        first = batch.failed[0]
        super().__init__(
            f"{len(batch.failed)} of {len(results)} recordings could not be used; the first: {first.error} "
            "(the others' results are in this error's `results`)"
        )
        self.results = results
        self.failures = {failed.index: failed.error for failed in batch.failed}


class Classifier:
    """Classify speech without showing it: a context manager in the manner of scikit-learn and Hugging Face.

        with Classifier("paper") as classifier:
            classifier.classify("clip.wav")          # [{"label": "calm", "score": None}]
            classifier.predict(features)             # array(["calm", …]), features: (clips, 40)

    model: a name of the zoo, or a Graph; both mean that this process owns the model, and all parties run inside it
    (nothing is hidden from this process; for evaluation). cluster: a deployment of parties on their own machines
    instead (a cluster file or a Cluster), with certificates: this client's certificate folder.
    scores: let logits be opened, for `predict_proba`, `decision_function` and top_k > 1; reveals more of the model.
    batch_size: clips per request; inputs of any length are streamed through it.
    """

    def __init__(
        self,
        model: str | Graph = "paper",
        *,
        protocol: str = "rep3",
        cluster: Cluster | str | os.PathLike[str] | None = None,
        certificates: str | os.PathLike[str] | TlsContexts | None = None,
        insecure_loopback: bool = False,
        scores: bool = False,
        batch_size: int = 256,
        lanes: int = 1,
        deadline_s: float = 60.0,
    ) -> None:
        if batch_size < 1:
            raise ConfigError(f"batch_size: expected at least 1, got {batch_size}")
        self._batch_size = batch_size
        self._costs: list[RequestCost] = []
        self.compiled: Compiled | None = None
        if cluster is not None:
            where = cluster if isinstance(cluster, Cluster) else load_cluster(Path(cluster))
            tls = load_tls(Path(certificates)) if isinstance(certificates, str | os.PathLike) else certificates
            if tls is None and not insecure_loopback:
                raise ConfigError("certificates: a cluster needs this client's certificate folder")
            self._runner: Runner = RemoteCluster(where, tls, deadline_s=deadline_s, insecure_loopback=insecure_loopback)
            return
        outputs: tuple[OutputKind, ...] = ("label", "scores") if scores else ("label",)
        graph = model if isinstance(model, Graph) else build(model)
        self.compiled = compile_graph(graph, outputs=outputs)
        if protocol == "plain":
            self._runner = PlainRunner(self.compiled)
        else:
            self._runner = InProcess(self.compiled, protocol, lanes=lanes, deadline_s=deadline_s)

    @property
    def program(self) -> Program:
        """The public program that the parties run."""
        return self._runner.program

    @property
    def classes_(self) -> NDArray[np.str_]:
        """The labels, in the order of the columns of `predict_proba`."""
        return np.array(self.program.labels)

    @property
    def last_cost(self) -> RequestCost | None:
        """What the last call cost, all its requests together; None before the first."""
        return add_costs(self._costs) if self._costs else None

    def predict(self, features: ArrayLike, progress: Progress | None = None) -> NDArray[np.str_]:
        """The label of each clip. features: (clips, n) or (clips, channels, time); also a memory map.

        Only labels are opened. Raises FeatureError for anything but finite numbers inside the model's declared box.
        """
        labels: NDArray[np.str_] = self.classes_[self._run(features, "label", progress)]
        return labels

    def decision_function(self, features: ArrayLike, progress: Progress | None = None) -> NDArray[np.float64]:
        """The logits (clips, classes); only where the model's owner allows scores."""
        self._need_scores("decision_function")
        return self._run(features, "scores", progress)

    def predict_proba(self, features: ArrayLike, progress: Progress | None = None) -> NDArray[np.float64]:
        """Softmax of the logits (clips, classes), computed by the client; only where the owner allows scores."""
        return softmax(self.decision_function(features, progress))

    @overload
    def classify(  # type: ignore[overload-overlap]  # a str is a Sequence of str; it is taken as one recording
        self,
        recordings: Recording,
        *,
        top_k: int = 1,
        scores: bool = False,
        sample_rate: int = SAMPLE_RATE,
        progress: Progress | None = None,
    ) -> list[Prediction]: ...

    @overload
    def classify(
        self,
        recordings: Sequence[Recording],
        *,
        top_k: int = 1,
        scores: bool = False,
        sample_rate: int = SAMPLE_RATE,
        progress: Progress | None = None,
    ) -> list[list[Prediction]]: ...

    def classify(
        self,
        recordings: Recording | Sequence[Recording],
        *,
        top_k: int = 1,
        scores: bool = False,
        sample_rate: int = SAMPLE_RATE,
        progress: Progress | None = None,
    ) -> list[Prediction] | list[list[Prediction]]:
        """Recordings (files, or sample arrays at sample_rate Hz) to [{"label", "score"}, …], best first.

        One recording gives one such list, a sequence a list of them. Without scores and with top_k = 1 only labels are
        opened and score is None. If some recordings cannot be used the others are classified all the same, and
        PartialResultError carries their results.
        """
        single = isinstance(recordings, str | os.PathLike | np.ndarray)
        items: list[Recording] = [recordings] if single else list(recordings)  # type: ignore[list-item, arg-type]
        results: list[list[Prediction] | None] = []
        failed = FeatureBatch(np.zeros((0, 0)), (), (), ())
        self._costs = []
        for batch, answers in self._classify_batches(items, top_k, scores, sample_rate):
            offset = len(results)
            results += answers
            moved = tuple(replace(f, index=f.index + offset) for f in batch.failed)
            failed = replace(failed, failed=failed.failed + moved)
            if progress is not None:
                progress(len(results))
        if failed.failed:
            if single:
                raise failed.failed[0].error
            raise PartialResultError(failed, results)
        done = [r for r in results if r is not None]
        return done[0] if single else done

    def classify_stream(
        self, recordings: Iterable[Recording], *, top_k: int = 1, scores: bool = False, sample_rate: int = SAMPLE_RATE
    ) -> Iterator[list[Prediction] | InputError]:
        """The same for any number of recordings, one batch in memory at a time; an unusable one gives its error."""
        self._costs = []
        for batch, answers in self._classify_batches(recordings, top_k, scores, sample_rate):
            errors = {f.index: f.error for f in batch.failed}
            for index, answer in enumerate(answers):
                yield errors[index] if answer is None else answer

    def close(self) -> None:
        """Close all connections. Idempotent."""
        self._runner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _classify_batches(
        self, recordings: Iterable[Recording], top_k: int, scores: bool, sample_rate: int
    ) -> Iterator[tuple[FeatureBatch, list[list[Prediction] | None]]]:
        labels = self.program.labels
        if not 1 <= top_k <= len(labels):
            raise ConfigError(f"top_k: expected 1 to {len(labels)}, got {top_k}")
        if scores or top_k > 1:
            self._need_scores(f"top_k = {top_k}" if top_k > 1 else "scores")
        extract = EXTRACTORS.get(self.program.features)
        if extract is None:
            raise ConfigError(
                f"model {self.program.name!r}: no extractor for its features {self.program.features!r}; use predict"
            )
        source = iter(recordings)
        while chunk := list(islice(source, self._batch_size)):
            batch = extract(chunk, sample_rate)
            answers: list[list[Prediction] | None] = [None] * len(chunk)
            if batch.indices:
                rows = self._predictions(batch.features, top_k, scores)
                for index, row in zip(batch.indices, rows, strict=True):
                    answers[index] = row
            yield batch, answers

    def _predictions(self, features: NDArray[np.float64], top_k: int, scores: bool) -> list[list[Prediction]]:
        labels = self.program.labels
        if not scores and top_k == 1:
            return [[Prediction(label=labels[i], score=None)] for i in self._request(features, "label")]
        probabilities = softmax(self._request(features, "scores"))
        order = np.argsort(-probabilities, axis=1, kind="stable")[:, :top_k]
        return [
            [Prediction(label=labels[i], score=float(row[i])) for i in best]
            for row, best in zip(probabilities, order, strict=True)
        ]

    def _run(self, features: ArrayLike, output: OutputKind, progress: Progress | None) -> NDArray[Any]:
        self._costs = []
        rows = as_array(features)
        if rows.ndim == 0 or len(rows) <= self._batch_size:
            return self._request(rows, output)
        parts = []
        for start in range(0, len(rows), self._batch_size):
            parts.append(self._request(rows[start : start + self._batch_size], output, start))
            if progress is not None:
                progress(start + len(parts[-1]))
        return np.concatenate(parts)

    def _request(self, features: ArrayLike, output: OutputKind, first_row: int = 0) -> NDArray[Any]:
        result, cost = self._runner.run(encode_input(self.program, features, first_row=first_row), output)
        self._costs.append(replace(cost, calibrated=self.program.calibrated))
        return result

    def _need_scores(self, what: str) -> None:
        if "scores" not in self.program.outputs:
            raise ConfigError(
                f"{what}: this model opens labels only; its owner must allow scores (Classifier(…, scores=True))"
            )


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities (clips, classes) of logits (clips, classes)."""
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    result: NDArray[np.float64] = exponents / exponents.sum(axis=1, keepdims=True)
    return result
