"""The Python API: features or recordings in, emotions out, under MPC."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any, Self, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sottovoce.engine.errors import ConfigError, InputError, TransportError
from sottovoce.engine.program import OutputKind, Program
from sottovoce.models.compiler.compile import Compiled
from sottovoce.models.encode import as_array, encode_input
from sottovoce.models.speech.audio import SAMPLE_RATE
from sottovoce.models.speech.extract import FailedRecording, FeatureBatch, Recording, extract_features
from sottovoce.serving.checks import check_features, need_scores, refuse_one_clip
from sottovoce.serving.cost import RequestCost, add_costs
from sottovoce.serving.opening import Opened, open_runner
from sottovoce.serving.parameters import Parameters
from sottovoce.serving.results import PartialResultError, Prediction, best_labels, softmax

if TYPE_CHECKING:
    from sklearn.utils import Tags  # type: ignore[import-untyped, unused-ignore]

__all__ = ["Classifier", "PartialResultError", "Prediction", "Progress", "softmax"]

Progress = Callable[[int], None]
"""progress(done): told how many clips are done, after each batch."""


class Classifier(Parameters):
    """Classify speech without showing it: a context manager in the manner of scikit-learn and Hugging Face.

        with Classifier("paper") as classifier:
            classifier.classify("clip.wav")          # [{"label": "calm", "score": None}]
            classifier.predict(features)             # array(["calm", …]), features: (clips, 40)

    **Model.** model: a name of the zoo, the path or bytes of an ONNX file, or a Graph. All mean that this process owns
    the model, and all parties run inside it (nothing is hidden from this process; for evaluation). weights: for a name
    of the zoo, an npz file or arrays by name. labels, features, input_low, input_high: replace or complete what the
    model says about itself (`models.load`). calibrate: sample features (clips, …); the model's ranges are then those
    seen on them instead of proven ones, and `calibrated` and every cost say so.

    **Cluster.** cluster: instead of a model, a deployment of parties on their own machines (a cluster file or a
    Cluster), with certificates: this client's certificate folder.

    scores: let logits be opened, for `predict_proba`, `decision_function` and top_k > 1; reveals more of the model.
    batch_size: clips per request; inputs of any length are streamed through it. jobs: processes that extract features
    from files. protocol, comparison, network, lanes, device, deadline_s: as on the command line. A protocol that needs
    preprocessing makes it before each request here, and `last_cost` keeps both times apart; at a cluster the parties
    have made it before (`sottovoce prepare`).

    **Opening.** The constructor stores its parameters and does nothing else. The model is compiled, or the parties are
    connected, at the first use, by `open()` or by `with`; then what is wrong with a parameter is raised. A closed
    classifier opens again at its next use. So does one whose request failed: its connections are closed at once.

    **Threads.** Several threads may use one classifier: features are computed side by side, requests run one after the
    other. `close` waits for the request that runs; a call that comes after it in the queue fails with TransportError.
    """

    def _set_up(self) -> None:
        self._lock = threading.Lock()
        self._opened: Opened | None = None
        self._costs: list[RequestCost] = []

    def _before_change(self) -> None:
        self.close()

    def open(self) -> Self:
        """Compile the model or connect with the parties now rather than at first use. Idempotent."""
        self._ready()
        return self

    @property
    def opened(self) -> Opened | None:
        """What is open at this moment; None if nothing is. Never opens, never waits."""
        return self._opened

    @property
    def program(self) -> Program:
        """The public program that the parties run. Opens."""
        return self._ready().program

    @property
    def compiled(self) -> Compiled | None:
        """The compiler's result with its report, which is the owner's; None with a cluster. Opens."""
        return self._ready().compiled

    @property
    def calibrated(self) -> bool:
        """Whether the model's ranges rest on sample data instead of a proof. Opens."""
        return self.program.calibrated

    @property
    def classes_(self) -> NDArray[np.str_]:
        """The labels, in the order of the columns of `predict_proba`. Opens."""
        return np.array(self.program.labels)

    @property
    def n_features_in_(self) -> int:
        """Features per clip, all channels and times together. Opens."""
        return math.prod(self.program.input_shape)

    @property
    def last_cost(self) -> RequestCost | None:
        """What the last call cost, all its requests together; None before the first.

        With several threads: of the call that began last.
        """
        costs = tuple(self._costs)
        return add_costs(costs) if costs else None

    def predict(self, features: ArrayLike, progress: Progress | None = None) -> NDArray[np.str_]:
        """The label of each clip. features: (clips, n), (clips, channels, time) or lists of these; also a memory map.

        Only labels are opened. Raises FeatureError for anything but finite numbers inside the model's declared box.
        """
        opened = self._ready()
        labels: NDArray[np.str_] = np.array(opened.program.labels)[self._run(opened, features, "label", progress)]
        return labels

    def decision_function(self, features: ArrayLike, progress: Progress | None = None) -> NDArray[np.float64]:
        """The logits (clips, classes); only where the model's owner allows scores."""
        opened = self._ready()
        need_scores(opened.program, "decision_function")
        return self._run(opened, features, "scores", progress)

    def predict_proba(self, features: ArrayLike, progress: Progress | None = None) -> NDArray[np.float64]:
        """Softmax of the logits (clips, classes), computed by the client; only where the owner allows scores."""
        return softmax(self.decision_function(features, progress))

    def score(self, features: ArrayLike, labels: ArrayLike) -> float:
        """The share of clips whose label is the given one. labels: (clips,) texts."""
        truth = np.asarray(labels)
        if truth.dtype.kind not in "UO" or truth.ndim != 1:
            raise InputError(f"score: expected a list of labels, got shape {truth.shape} and dtype {truth.dtype}")
        found = self.predict(features)
        if len(truth) != len(found):
            raise InputError(f"score: expected a label for each of {len(found)} clips, got {len(truth)}")
        return float(np.mean(found == truth))

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
        failed: list[FailedRecording] = []
        for batch, answers in self._classify_batches(items, top_k, scores, sample_rate):
            failed += [replace(one, index=one.index + len(results)) for one in batch.failed]
            results += answers
            if progress is not None:
                progress(len(results))
        if failed:
            if single:
                raise failed[0].error
            raise PartialResultError(failed, results)
        done = [r for r in results if r is not None]
        return done[0] if single else done

    def classify_stream(
        self, recordings: Iterable[Recording], *, top_k: int = 1, scores: bool = False, sample_rate: int = SAMPLE_RATE
    ) -> Generator[list[Prediction] | InputError, None, None]:
        """The same for any number of recordings, one batch in memory at a time; an unusable one gives its error."""
        for batch, answers in self._classify_batches(recordings, top_k, scores, sample_rate):
            errors = {f.index: f.error for f in batch.failed}
            for index, answer in enumerate(answers):
                yield errors[index] if answer is None else answer

    def close(self) -> None:
        """Close all connections, after the request that runs. Idempotent; the next use opens again."""
        with self._lock:
            self._drop()

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __sklearn_tags__(self) -> Tags:
        """For scikit-learn's scorers: a classifier that needs no fitting."""
        from sklearn.utils import ClassifierTags, Tags, TargetTags

        target = TargetTags(required=False)
        return Tags("classifier", target, classifier_tags=ClassifierTags(), requires_fit=False)

    def _ready(self) -> Opened:
        if (opened := self._opened) is not None:  # without the lock: who asks for labels need not wait for a request
            return opened
        with self._lock:
            if self._opened is None:
                self._opened = open_runner(self)
            return self._opened

    def _drop(self) -> None:
        """Close; whoever calls it holds the lock."""
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.runner.close()

    def _classify_batches(
        self, recordings: Iterable[Recording], top_k: int, scores: bool, sample_rate: int
    ) -> Iterator[tuple[FeatureBatch, list[list[Prediction] | None]]]:
        opened = self._ready()
        program = opened.program
        if not 1 <= top_k <= len(program.labels):
            raise ConfigError(f"top_k: expected 1 to {len(program.labels)}, got {top_k}")
        if scores or top_k > 1:
            need_scores(program, f"top_k = {top_k}" if top_k > 1 else "scores")
        check_features(program)
        costs = self._costs = []
        source = iter(recordings)
        while chunk := list(islice(source, self.batch_size)):
            batch = extract_features(chunk, program.features, sample_rate=sample_rate, jobs=self.jobs)
            answers: list[list[Prediction] | None] = [None] * len(chunk)
            if batch.indices:
                rows = self._predictions(opened, batch.features, top_k if scores or top_k > 1 else 0, costs)
                for index, row in zip(batch.indices, rows, strict=True):
                    answers[index] = row
            yield batch, answers

    def _predictions(
        self, opened: Opened, features: NDArray[np.float64], top_k: int, costs: list[RequestCost]
    ) -> list[list[Prediction]]:
        """The top_k labels of each row with their scores; 0: the label alone."""
        labels = opened.program.labels
        if top_k:
            return best_labels(labels, softmax(self._request(opened, features, "scores", costs)), top_k)
        return [[Prediction(label=labels[i], score=None)] for i in self._request(opened, features, "label", costs)]

    def _run(self, opened: Opened, features: ArrayLike, output: OutputKind, progress: Progress | None) -> NDArray[Any]:
        costs = self._costs = []
        rows = as_array(features)
        refuse_one_clip(opened.program, rows)
        if rows.ndim == 0 or not len(rows):
            encode_input(opened.program, rows)  # raises: it says what is expected
        parts = []
        for start in range(0, len(rows), self.batch_size):
            parts.append(self._request(opened, rows[start : start + self.batch_size], output, costs, start))
            if progress is not None:
                progress(start + len(parts[-1]))
        return np.concatenate(parts)

    def _request(
        self, opened: Opened, features: ArrayLike, output: OutputKind, costs: list[RequestCost], first_row: int = 0
    ) -> NDArray[Any]:
        encoded = encode_input(opened.program, features, first_row=first_row)
        with self._lock:
            if self._opened is not opened:
                raise TransportError("the classifier was closed, or its connection failed, while this call waited")
            try:
                result, cost = opened.runner.run(encoded, output)
            except BaseException:  # also Ctrl-C: what is under way on the connections can no longer be told apart
                self._drop()
                raise
        costs.append(replace(cost, calibrated=opened.program.calibrated))
        return result
