"""Features of many recordings: in this process, or files in several processes, with or without a cache on disk."""

from __future__ import annotations

import os
import queue
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from sottovoce.engine.errors import AudioError, ConfigError
from sottovoce.models.speech.audio import SAMPLE_RATE
from sottovoce.models.speech.cache import FeatureCache
from sottovoce.models.speech.compute import Features, Recording, compute_features
from sottovoce.models.speech.features import FeatureSet, get_feature_set
from sottovoce.models.speech.worker import Worker

__all__ = ["FailedRecording", "FeatureBatch", "Progress", "Recording", "extract_features"]

Progress = Callable[[int, str], None]
"""progress(done, name): `done` recordings are finished, `name` is the latest of them."""


@dataclass(frozen=True, slots=True)
class FailedRecording:
    """A recording of a batch that gave no features, and why."""

    index: int
    name: str
    error: AudioError


@dataclass(frozen=True, slots=True)
class FeatureBatch:
    """Features of the recordings that could be read: row j of `features` is recording `indices[j]`.

    features: (rows, *row_shape) float64.
    """

    features: Features = field(repr=False)
    indices: tuple[int, ...]
    names: tuple[str, ...]
    failed: tuple[FailedRecording, ...]


def extract_features(
    recordings: Iterable[Recording],
    features: str = "mfcc40-mean",
    *,
    sample_rate: int = SAMPLE_RATE,
    progress: Progress | None = None,
    jobs: int = 1,
    cache: FeatureCache | None = None,
) -> FeatureBatch:
    """Features of many recordings: files by path, or sample arrays at `sample_rate` Hz.

    features: the name of a feature set. jobs: with more than one, that many processes work on the files (arrays stay
    in this process); the result is the same, bit for bit and in order. cache: where features of files are kept
    between runs; none by default, because they are personal data.

    A recording that cannot be used is listed in `failed` and does not stop the others. `progress` is called in this
    thread after each recording, in the order in which they finish. One recording per process is in memory at a time.
    """
    if jobs < 1:
        raise ConfigError(f"jobs: expected a number of processes, at least 1, got {jobs}")
    batch = _Batch(get_feature_set(features), progress)
    if jobs == 1:
        for index, recording in enumerate(recordings):
            name = _name(recording, index)
            batch.add(index, name, _outcome(partial(_row, recording, batch.feature_set, sample_rate, name, cache)))
    else:
        _extract_parallel(batch, recordings, sample_rate, jobs, cache)
    return batch.result()


class _Batch:
    """Collects the outcomes, in whatever order they come."""

    def __init__(self, feature_set: FeatureSet, progress: Progress | None) -> None:
        self.feature_set = feature_set
        self._progress = progress
        self._outcomes: dict[int, tuple[str, Features | AudioError]] = {}

    def add(self, index: int, name: str, outcome: Features | AudioError) -> None:
        self._outcomes[index] = (name, outcome)
        if self._progress is not None:
            self._progress(len(self._outcomes), name)

    def result(self) -> FeatureBatch:
        rows: list[Features] = []
        indices: list[int] = []
        names: list[str] = []
        failed: list[FailedRecording] = []
        for index, (name, outcome) in sorted(self._outcomes.items(), key=lambda item: item[0]):
            if isinstance(outcome, AudioError):
                failed.append(FailedRecording(index, name, outcome))
            else:
                rows.append(outcome)
                indices.append(index)
                names.append(name)
        features = np.stack(rows) if rows else np.zeros((0, *self.feature_set.row_shape))
        return FeatureBatch(features, tuple(indices), tuple(names), tuple(failed))


def _name(recording: Recording, index: int) -> str:
    return os.fspath(recording) if isinstance(recording, str | os.PathLike) else f"array {index}"


def _outcome(compute: Callable[[], Features]) -> Features | AudioError:
    try:
        return compute()
    except AudioError as error:
        return error


def _row(
    recording: Recording,
    feature_set: FeatureSet,
    sample_rate: int,
    name: str,
    cache: FeatureCache | None,
) -> Features:
    """Features of one recording, in this process."""
    if cache is None or not isinstance(recording, str | os.PathLike):
        return compute_features(recording, feature_set, sample_rate=sample_rate, name=name)
    return cache.get(name, feature_set, lambda: compute_features(recording, feature_set))


def _extract_parallel(
    batch: _Batch, recordings: Iterable[Recording], sample_rate: int, jobs: int, cache: FeatureCache | None
) -> None:
    """One thread per worker process, which waits for it; this thread collects. No process outlives the call."""
    feature_set = batch.feature_set
    workers = [Worker(feature_set) for _ in range(jobs)]
    idle: queue.LifoQueue[Worker] = queue.LifoQueue()  # the last one in is out first: only what is needed starts
    for worker in workers:
        idle.put(worker)

    def compute(path: str) -> Features:
        worker = idle.get()
        try:
            return worker.compute(path)
        finally:
            idle.put(worker)

    def row(path: str) -> Features:
        if cache is None:
            return compute(path)
        return cache.get(path, feature_set, lambda: compute(path))

    threads = ThreadPoolExecutor(jobs, thread_name_prefix="features")
    pending: dict[Future[Features], tuple[int, str]] = {}
    try:
        for index, recording in enumerate(recordings):
            name = _name(recording, index)
            if isinstance(recording, str | os.PathLike):
                pending[threads.submit(row, name)] = (index, name)
                continue
            batch.add(index, name, _outcome(partial(_row, recording, feature_set, sample_rate, name, None)))
        for future in as_completed(pending):
            index, name = pending.pop(future)
            batch.add(index, name, _outcome(future.result))
    finally:  # also after Ctrl-C, or an error of `progress`
        threads.shutdown(wait=False, cancel_futures=True)
        for worker in workers:
            worker.close()
        threads.shutdown(wait=True)
