"""The classifier under asyncio: same answers, a loop that never waits, order, cancellation."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from sottovoce.engine.errors import ConfigError, FeatureError, InputError, PeerClosedError
from sottovoce.models.compiler.compile import compile_graph
from sottovoce.models.speech.demo_clip import demo_clip_path
from sottovoce.serving.aio import AsyncClassifier
from sottovoce.serving.classifier import Classifier, PartialResultError
from sottovoce.serving.owner import deploy
from tests.serving.deployment import deployment
from tests.serving.gate import Gate
from tests.serving.small import small_features, small_graph


def run(work: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(work(), 60))  # type: ignore[arg-type]


def gate_of(classifier: AsyncClassifier, **options: object) -> Gate:
    assert classifier._sync is not None
    return Gate(classifier._sync, **options)  # type: ignore[arg-type]


async def running(gate: Gate) -> None:
    """Wait for the first request without holding the loop."""
    await asyncio.to_thread(gate.wait_until_running)


def test_the_same_answers_as_without_asyncio() -> None:
    x = small_features(5)

    async def main() -> None:
        async with AsyncClassifier(small_graph(), protocol="plain", scores=True, batch_size=2) as classifier:
            done: list[int] = []
            labels = await classifier.predict(x, progress=done.append)
            await asyncio.sleep(0)
            assert done == [2, 4, 5]
            np.testing.assert_array_equal(labels, sync.predict(x))
            np.testing.assert_array_equal(await classifier.decision_function(x), sync.decision_function(x))
            np.testing.assert_array_equal(await classifier.predict_proba(x), sync.predict_proba(x))
            assert await classifier.score(x, labels) == 1
            assert list(classifier.classes_) == list(sync.classes_)
            assert classifier.n_features_in_ == 16 and not classifier.calibrated
            assert classifier.compiled is not None
            assert classifier.last_cost is not None and classifier.last_cost.batch == 5
            with pytest.raises(FeatureError, match="one clip"):
                await classifier.predict(x[0])

    with Classifier(small_graph(), protocol="plain", scores=True) as sync:
        run(main)


def test_recordings(tmp_path: Path) -> None:
    clip, missing = demo_clip_path(), tmp_path / "missing.wav"

    def endless() -> Iterator[Path]:
        while True:
            yield clip
            yield missing

    async def main() -> None:
        async with AsyncClassifier("paper", protocol="plain", batch_size=3) as classifier:
            answer = await classifier.classify(clip)
            assert await classifier.classify([clip, str(clip)]) == [answer, answer]
            with pytest.raises(PartialResultError) as caught:
                await classifier.classify([missing, clip])
            assert caught.value.results == [None, answer]
            found: list[object] = []
            async for one in classifier.classify_stream(endless()):
                found.append("error" if isinstance(one, InputError) else one)
                if len(found) == 4:
                    break
            assert found == [answer, "error", answer, "error"]
            assert await classifier.classify(clip) == answer
            with pytest.raises(ConfigError, match="top_k"):
                await anext(aiter(classifier.classify_stream([clip], top_k=9)))

    run(main)


def test_the_loop_goes_on_while_a_request_runs_and_calls_keep_their_order() -> None:
    async def main() -> None:
        async with AsyncClassifier(small_graph(), protocol="plain") as classifier:
            gate = gate_of(classifier)
            calls = [asyncio.create_task(classifier.predict(small_features(n))) for n in (3, 1, 4, 2)]
            await running(gate)
            assert gate.batches == [3]  # the others wait, and take no thread each
            assert [thread.name.startswith("sottovoce") for thread in threading.enumerate()].count(True) == 1
            assert len(classifier.classes_) == 3
            gate.open()
            assert [len(labels) for labels in await asyncio.gather(*calls)] == [3, 1, 4, 2]
            assert gate.batches == [3, 1, 4, 2] and gate.most_at_once == 1

    run(main)


def test_a_cancelled_call_returns_at_once_and_leaves_the_others_right() -> None:
    x = small_features(6)

    async def main() -> None:
        async with AsyncClassifier(small_graph(), batch_size=2) as classifier:
            expected = await classifier.predict(x)
            gate = gate_of(classifier)
            first = asyncio.create_task(classifier.predict(x))
            queued = asyncio.create_task(classifier.predict(small_features(1)))
            after = asyncio.create_task(classifier.predict(x))
            await running(gate)
            first.cancel()
            queued.cancel()
            for task in (first, queued):
                with pytest.raises(asyncio.CancelledError):
                    await task
            assert gate.finished == 0  # both returned before the request did
            gate.open()
            np.testing.assert_array_equal(await after, expected)
            # One batch of the first call, nothing of the queued one, all of the last.
            assert gate.batches == [2, 2, 2, 2]

    run(main)


def test_a_cancelled_stream_leaves_the_others_right() -> None:
    clip = demo_clip_path()

    async def main() -> None:
        async with AsyncClassifier("paper", protocol="plain", batch_size=1) as classifier:
            expected = await classifier.classify(clip)
            gate = gate_of(classifier)

            async def consume() -> None:
                async for _ in classifier.classify_stream([clip] * 50):
                    pass

            task = asyncio.create_task(consume())
            await running(gate)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            gate.open()
            assert await classifier.classify(clip) == expected
            assert gate.batches == [1, 1]

    run(main)


def test_cancelled_requests_at_a_cluster_leave_the_connections_usable() -> None:
    x = small_features(40)
    compiled = compile_graph(small_graph())

    async def main() -> None:
        async with AsyncClassifier(cluster=running_.cluster, insecure_loopback=True, batch_size=8) as classifier:
            expected = await classifier.predict(x)
            opened = classifier._opened()
            for after_s in (0.0, 0.002, 0.005, 0.01, 0.02):
                task = asyncio.create_task(classifier.predict(x))
                await asyncio.sleep(after_s)
                task.cancel()
                await asyncio.wait([task])
                np.testing.assert_array_equal(await classifier.predict(x), expected)
            assert classifier._opened() is opened  # nothing was connected anew

    with deployment() as running_:
        deploy(compiled, running_.cluster, None, insecure_loopback=True)
        run(main)


def test_errors_and_opening_again() -> None:
    x = small_features(2)

    async def main() -> None:
        classifier = AsyncClassifier(small_graph(), protocol="plain")
        with pytest.raises(ConfigError, match="is not open"):
            _ = classifier.classes_
        assert classifier.last_cost is None
        await classifier.close()
        expected = await classifier.predict(x)
        gate_of(classifier, open_=True, failure=PeerClosedError("P1: gone"))
        with pytest.raises(PeerClosedError, match="P1: gone"):
            await classifier.predict(x)
        np.testing.assert_array_equal(await classifier.predict(x), expected)
        with pytest.raises(ConfigError, match="expected a closed classifier"):
            classifier.set_params(scores=True)
        await classifier.close()
        await classifier.close()
        classifier.set_params(scores=True)
        assert (await classifier.predict_proba(x)).shape == (2, 3)
        await classifier.close()
        with pytest.raises(ConfigError, match="batch_size"):
            await AsyncClassifier(small_graph(), batch_size=0).open()

    run(main)


def test_leaving_waits_for_the_request_that_runs() -> None:
    gates: list[Gate] = []

    async def main() -> None:
        async with AsyncClassifier(small_graph(), protocol="plain") as classifier:
            gates.append(gate_of(classifier))
            task = asyncio.create_task(classifier.predict(small_features(1)))
            await running(gates[0])
            task.cancel()
            asyncio.get_running_loop().call_later(0.05, gates[0].open)
        assert gates[0].finished == 1 and gates[0].closed

    began = time.monotonic()
    run(main)
    assert time.monotonic() - began >= 0.05
