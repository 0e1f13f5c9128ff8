"""A process that computes features of sound files, one at a time, and its owner's side of it.

The process is a fresh interpreter (`python -P -m sottovoce.models.speech.worker FEATURES`): it inherits no threads, no
locks and no memory, and does not run the caller's main module again. It has one BLAS, OpenMP and Numba thread.

Owner to worker, on standard input: one JSON line, the path. Worker to owner, on standard output: one JSON line,
{"bytes": n} followed by n bytes of little-endian float64, or {"error": text}. Paths and features stay off the command
line and off the disk. Standard input ends when its owner closes it or dies, however it dies; then the worker ends too.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from contextlib import suppress
from typing import BinaryIO

import numpy as np

from sottovoce.engine.errors import AudioError
from sottovoce.models.speech.compute import Features, compute_features
from sottovoce.models.speech.features import FeatureSet, get_feature_set

THREAD_LIMITS = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
}
_PATIENCE_S = 5.0


class Worker:
    """The owner's side. The process starts with the first file, and again after it has died.

    One thread at a time computes; `close` may come from another one.
    """

    def __init__(self, feature_set: FeatureSet) -> None:
        self._feature_set = feature_set
        self._process: subprocess.Popen[bytes] | None = None
        self._is_closed = False
        self._lock = threading.Lock()  # no process starts once `close` was called

    @property
    def pid(self) -> int | None:
        """Of the process, if one was started and not yet seen to have ended."""
        return None if self._process is None else self._process.pid

    def compute(self, path: str) -> Features:
        """Features of a file, of `row_shape`. Raises AudioError for one that cannot be used.

        A file that kills the process (a decoder that crashes, no memory left) is such a file. An error that is none
        of the recording's has left its traceback on standard error and raises RuntimeError.
        """
        process = self._running()
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(json.dumps(path).encode() + b"\n")
            process.stdin.flush()
            answer = json.loads(process.stdout.readline())
            if "error" in answer:
                raise AudioError(answer["error"])
            data = process.stdout.read(answer["bytes"])
            return np.frombuffer(data, dtype="<f8").reshape(self._feature_set.row_shape).astype(np.float64)
        except AudioError:
            raise
        except (OSError, ValueError):  # a pipe without a reader; half an answer, or none
            status = self._end(_PATIENCE_S)
            if status < 0:
                raise AudioError(
                    f"recording {path}: expected features, got a worker process that ended by signal {-status}"
                ) from None
            raise RuntimeError(f"a feature worker ended with status {status}; its standard error says why") from None

    def close(self) -> None:
        """End the process, whatever it is doing, and start no other. Idempotent; another thread's `compute` fails."""
        with self._lock:
            self._is_closed = True
        self._end(0)

    def _end(self, patience_s: float) -> int:
        """Wait so long for the process to end by itself, then kill it. Its exit status; negative: a signal."""
        with self._lock:
            process, self._process = self._process, None
        if process is None:
            return 0
        assert process.stdin is not None and process.stdout is not None
        try:
            status = process.wait(patience_s)
        except subprocess.TimeoutExpired:
            process.kill()
            status = process.wait()
        process.stdout.close()
        with suppress(BrokenPipeError):  # a path that was never read
            process.stdin.close()
        return status

    def _running(self) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._is_closed:
                raise RuntimeError("a feature worker was closed")
            if self._process is None:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "sottovoce.models.speech.worker", self._feature_set.name],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    env={**os.environ, **THREAD_LIMITS},
                    start_new_session=True,  # Ctrl-C is its owner's business, who then closes it
                )
            return self._process


def serve(feature_set: FeatureSet, paths: BinaryIO, answers: BinaryIO) -> None:
    """The worker's side: answer paths until there are no more."""
    for line in paths:
        try:
            row = compute_features(json.loads(line), feature_set)
        except AudioError as error:
            answers.write(json.dumps({"error": str(error)}).encode() + b"\n")
        else:
            data = row.astype("<f8").tobytes()
            answers.write(json.dumps({"bytes": len(data)}).encode() + b"\n" + data)
        answers.flush()


def main() -> None:
    """Run as a process. What libraries print to standard output goes to standard error instead."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        serve(get_feature_set(sys.argv[1]), sys.stdin.buffer, answers)
    except BrokenPipeError:  # the owner is gone
        os._exit(0)


if __name__ == "__main__":
    main()
