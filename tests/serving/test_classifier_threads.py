"""One classifier in several threads, and what follows a request that failed."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from sottovoce.engine.errors import FeatureError, PeerClosedError, TransportError
from sottovoce.serving.classifier import Classifier
from tests.serving.gate import Gate
from tests.serving.small import small_features, small_graph


def test_two_threads_share_one_classifier() -> None:
    """Each gets its own answers, and no two requests are on the connections at once."""
    inputs = [small_features(9, seed) for seed in range(6)]
    with Classifier(small_graph(), batch_size=4) as classifier, ThreadPoolExecutor(2) as pool:
        expected = [classifier.predict(x) for x in inputs]
        gate = Gate(classifier, open_=True)
        found = list(pool.map(classifier.predict, inputs * 4))
        assert gate.most_at_once == 1 and gate.finished == 6 * 4 * 3
    for got, wanted in zip(found, expected * 4, strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_both_threads_open_it_once() -> None:
    classifier = Classifier(small_graph(), protocol="plain")
    start = threading.Barrier(4)

    def use(_: int) -> object:
        start.wait()
        return classifier.open().opened

    with ThreadPoolExecutor(4) as pool:
        assert len(set(map(id, pool.map(use, range(4))))) == 1
    classifier.close()


def test_facts_do_not_wait_for_a_request_and_close_does() -> None:
    with Classifier(small_graph(), protocol="plain") as classifier, ThreadPoolExecutor(3) as pool:
        gate = Gate(classifier)
        running = pool.submit(classifier.predict, small_features(2))
        gate.wait_until_running()
        assert len(classifier.classes_) == 3  # would hang
        closing = pool.submit(classifier.close)
        waiting = pool.submit(classifier.predict, small_features(2))
        assert not closing.done() and not running.done()
        gate.open()
        assert len(running.result(20)) == 2
        closing.result(20)
        error = waiting.exception(20)  # it ran before the closing, or says why not
        assert error is None or (isinstance(error, TransportError) and "closed" in str(error))


@pytest.mark.parametrize("failure", [PeerClosedError("P1: gone"), KeyboardInterrupt()])
def test_a_failed_request_closes_and_the_next_call_opens_again(failure: BaseException) -> None:
    x = small_features(3)
    with Classifier(small_graph()) as classifier:
        expected, before = classifier.predict(x), classifier.opened
        gate = Gate(classifier, open_=True, failure=failure)
        with pytest.raises(type(failure)):
            classifier.predict(x)
        assert classifier.opened is None and gate.closed
        np.testing.assert_array_equal(classifier.predict(x), expected)
        assert classifier.opened is not before


def test_bad_features_close_nothing() -> None:
    with Classifier(small_graph(), protocol="plain") as classifier:
        before = classifier.opened
        with pytest.raises(FeatureError, match="row 0, feature 3"):
            classifier.predict(np.where(np.arange(16) == 3, 7.0, np.zeros((2, 16))))
        assert classifier.opened is before


def test_a_call_that_was_overtaken_by_close_says_so() -> None:
    with Classifier(small_graph(), protocol="plain", batch_size=1) as classifier:
        with pytest.raises(TransportError, match="was closed"):
            classifier.predict(small_features(3), progress=lambda done: classifier.close())
        assert classifier.last_cost is not None and classifier.last_cost.batch == 1
