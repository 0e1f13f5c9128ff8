"""Hold, watch and break the requests of an open classifier."""

from __future__ import annotations

import threading
from typing import Any

from sottovoce.serving.classifier import Classifier


class Gate:
    """Between an open classifier and its runner: requests wait until the gate is open; `failure` is raised once."""

    def __init__(self, classifier: Classifier, *, open_: bool = False, failure: BaseException | None = None) -> None:
        assert classifier.opened is not None
        runner = classifier.opened.runner
        self.batches: list[int] = []
        self.finished = self.most_at_once = 0
        self.closed = False
        self._running = 0
        self._failure = failure
        self._started, self._open = threading.Event(), threading.Event()
        if open_:
            self._open.set()
        self._run, self._close = runner.run, runner.close
        runner.run, runner.close = self.run, self.close  # type: ignore[method-assign]

    def run(self, encoded: Any, output: Any = "label") -> Any:
        self.batches.append(len(encoded))
        self._running += 1
        self.most_at_once = max(self.most_at_once, self._running)
        self._started.set()
        try:
            assert self._open.wait(30), "nobody opened the gate"
            if self._failure is not None:
                failure, self._failure = self._failure, None
                raise failure
            return self._run(encoded, output)
        finally:
            self._running -= 1
            self.finished += 1

    def close(self) -> None:
        self.closed = True
        self._close()

    def open(self) -> None:
        """Let requests through from now on."""
        self._open.set()

    def wait_until_running(self) -> None:
        """Wait for the first request."""
        assert self._started.wait(30), "no request came"
