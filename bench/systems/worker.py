"""A process that answers JSON lines on its standard output, one for each on its standard input."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any, Final

from sottovoce.bench.systems.process import Process, WorkerFailed

LAST_CHARACTERS: Final = 400


class Worker(Process):
    """See Process; the end of its log is in the messages of WorkerFailed."""

    def tell(self, message: Mapping[str, Any]) -> None:
        """Write one line."""
        try:
            self.write_line(json.dumps(message))
        except WorkerFailed as error:
            raise self._with_last_words(error) from None

    def hear(self, deadline_s: float) -> dict[str, Any]:
        """The next line. Raises WorkerFailed if none comes in time or it is {"error": …}."""
        try:
            line = self.read_line(time.monotonic() + deadline_s, f"no answer in {deadline_s:g} s")
        except WorkerFailed as error:
            raise self._with_last_words(error) from None
        try:
            answer = json.loads(line)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise self.failure("expected a JSON object, got other text")
        if "error" in answer:
            raise self.failure(str(answer["error"])[:LAST_CHARACTERS])
        return answer

    def ask(self, message: Mapping[str, Any], deadline_s: float) -> dict[str, Any]:
        """One line there, one back."""
        self.tell(message)
        return self.hear(deadline_s)

    def _with_last_words(self, error: WorkerFailed) -> WorkerFailed:
        text = self.last_words(LAST_CHARACTERS)
        return WorkerFailed(f"{error}; its last words: {text}") if text else error
