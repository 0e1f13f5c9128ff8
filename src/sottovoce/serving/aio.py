"""The Python API for asyncio: the same classifier, on a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Self, TypeVar, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sottovoce.engine.errors import ConfigError, InputError
from sottovoce.engine.program import Program
from sottovoce.models.compiler.compile import Compiled
from sottovoce.models.speech.audio import SAMPLE_RATE
from sottovoce.models.speech.extract import Recording
from sottovoce.serving.classifier import Classifier, Progress
from sottovoce.serving.cost import RequestCost
from sottovoce.serving.opening import Opened
from sottovoce.serving.parameters import Parameters
from sottovoce.serving.results import Prediction

R = TypeVar("R")


class AsyncClassifier(Parameters):
    """A `Classifier` for asyncio, with the same parameters; its methods are awaited.

        async with AsyncClassifier("paper") as classifier:
            await classifier.predict(features)
            async for answer in classifier.classify_stream(paths): ...

    Everything that takes time runs on one thread of its own, so the event loop never waits. Calls of several tasks run
    one after the other, in the order in which they were made. `progress` is called in the event loop.

    **Cancellation.** The awaiting task goes on at once. A call that has not begun is dropped. Of one that runs, the
    request that is under way is finished and its result dropped, and the next batch is not begun; so the connections
    stay usable, and the next call runs after it. `close`, and the end of `async with`, wait for that.

    Errors are those of `Classifier`. Properties such as `classes_` need an open classifier.
    """

    def _set_up(self) -> None:
        self._sync: Classifier | None = None
        self._worker: ThreadPoolExecutor | None = None

    def _before_change(self) -> None:
        if self._worker is not None:
            raise ConfigError("set_params: expected a closed classifier; await close() first")

    async def open(self) -> Self:
        """See `Classifier.open`."""
        await self._call(lambda sync, report: sync.open())
        return self

    async def close(self) -> None:
        """Close after the calls that were made before. Idempotent; the next use opens again."""
        worker, sync = self._worker, self._sync
        self._worker = self._sync = None
        if worker is None or sync is None:
            return
        closing = worker.submit(sync.close)
        worker.shutdown(wait=False)  # what was submitted still runs
        await asyncio.shield(asyncio.wrap_future(closing))

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    @property
    def program(self) -> Program:
        """See `Classifier.program`; raises ConfigError unless open."""
        return self._opened().program

    @property
    def compiled(self) -> Compiled | None:
        """See `Classifier.compiled`; raises ConfigError unless open."""
        return self._opened().compiled

    @property
    def calibrated(self) -> bool:
        """See `Classifier.calibrated`; raises ConfigError unless open."""
        return self.program.calibrated

    @property
    def classes_(self) -> NDArray[np.str_]:
        """See `Classifier.classes_`; raises ConfigError unless open."""
        return np.array(self.program.labels)

    @property
    def n_features_in_(self) -> int:
        """See `Classifier.n_features_in_`; raises ConfigError unless open."""
        return int(np.prod(self.program.input_shape))

    @property
    def last_cost(self) -> RequestCost | None:
        """See `Classifier.last_cost`; of the call that began last."""
        return None if self._sync is None else self._sync.last_cost

    async def predict(self, features: ArrayLike, progress: Progress | None = None) -> NDArray[np.str_]:
        """See `Classifier.predict`."""
        return await self._call(lambda sync, report: sync.predict(features, report), progress)

    async def decision_function(self, features: ArrayLike, progress: Progress | None = None) -> NDArray[np.float64]:
        """See `Classifier.decision_function`."""
        return await self._call(lambda sync, report: sync.decision_function(features, report), progress)

    async def predict_proba(self, features: ArrayLike, progress: Progress | None = None) -> NDArray[np.float64]:
        """See `Classifier.predict_proba`."""
        return await self._call(lambda sync, report: sync.predict_proba(features, report), progress)

    async def score(self, features: ArrayLike, labels: ArrayLike) -> float:
        """See `Classifier.score`."""
        return await self._call(lambda sync, report: sync.score(features, labels))

    @overload
    async def classify(  # type: ignore[overload-overlap]  # as in Classifier
        self,
        recordings: Recording,
        *,
        top_k: int = 1,
        scores: bool = False,
        sample_rate: int = SAMPLE_RATE,
        progress: Progress | None = None,
    ) -> list[Prediction]: ...

    @overload
    async def classify(
        self,
        recordings: Sequence[Recording],
        *,
        top_k: int = 1,
        scores: bool = False,
        sample_rate: int = SAMPLE_RATE,
        progress: Progress | None = None,
    ) -> list[list[Prediction]]: ...

    async def classify(
        self,
        recordings: Recording | Sequence[Recording],
        *,
        top_k: int = 1,
        scores: bool = False,
        sample_rate: int = SAMPLE_RATE,
        progress: Progress | None = None,
    ) -> list[Prediction] | list[list[Prediction]]:
        """See `Classifier.classify`."""

        def work(sync: Classifier, report: Progress) -> list[Prediction] | list[list[Prediction]]:
            return sync.classify(
                recordings,
                top_k=top_k,
                scores=scores,
                sample_rate=sample_rate,
                progress=report,
            )

        return await self._call(work, progress)

    async def classify_stream(
        self, recordings: Iterable[Recording], *, top_k: int = 1, scores: bool = False, sample_rate: int = SAMPLE_RATE
    ) -> AsyncIterator[list[Prediction] | InputError]:
        """See `Classifier.classify_stream`. `recordings` is iterated on the classifier's thread, and may block it."""
        sync, worker = self._started()
        stream = sync.classify_stream(recordings, top_k=top_k, scores=scores, sample_rate=sample_rate)
        try:
            while (answer := await self._call(lambda sync, report: next(stream, None))) is not None:
                yield answer
        finally:
            with suppress(RuntimeError):  # the worker has been shut down: then nobody iterates any more
                worker.submit(stream.close)  # not awaited: it waits for a batch that is under way

    def _started(self) -> tuple[Classifier, ThreadPoolExecutor]:
        if self._sync is None or self._worker is None:
            self._sync = Classifier(**self.get_params())
            self._worker = ThreadPoolExecutor(1, thread_name_prefix="sottovoce")
        return self._sync, self._worker

    def _opened(self) -> Opened:
        opened = None if self._sync is None else self._sync.opened
        if opened is None:
            raise ConfigError("the classifier is not open: expected `async with`, or `await open()` before")
        return opened

    async def _call(self, work: Callable[[Classifier, Progress], R], progress: Progress | None = None) -> R:
        """Run work(sync, report) on the worker. report is called between batches: there an abandoned call ends."""
        loop = asyncio.get_running_loop()
        sync, worker = self._started()
        abandoned = threading.Event()

        def report(done: int) -> None:
            if abandoned.is_set():
                raise asyncio.CancelledError
            if progress is not None:
                loop.call_soon_threadsafe(progress, done)

        try:
            return await asyncio.wrap_future(worker.submit(work, sync, report))
        except asyncio.CancelledError:
            abandoned.set()
            raise
