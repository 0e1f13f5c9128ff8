"""A peer that is a Python package: an environment, a script that is one party, and what the rows say of it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.resources import as_file, files
from typing import Any, Final

import numpy as np

from sottovoce.bench.peers.environment import (
    Recipe,
    find_python,
    installed_version,
    make_environment,
    own_python,
)
from sottovoce.bench.peers.model import neutral_layers, write_model
from sottovoce.bench.peers.workers import Workers, start_workers
from sottovoce.bench.systems.base import Description, Job, Sample
from sottovoce.engine.errors import ProtocolError

SCRIPT: Final = "party.py"


def to_stderr(line: str) -> None:
    """Tell the user what takes long."""
    print(line, file=sys.stderr, flush=True)


@dataclass(frozen=True, slots=True)
class Deadlines:
    """In s. start: imports, connections, sharing the model. batch: one run, and per_clip more for each clip of it."""

    start: float = 300.0
    batch: float = 120.0
    per_clip: float = 1.0


@dataclass(frozen=True, slots=True)
class PythonPeer:
    """A `System`. module: the package that has its script. options: sent to every party when it starts. python: one
    that has the peer; None: the one that the recipe's variable names, or an environment made for it.

    environment: added to the process environment of every party. say: told what takes long.
    """

    name: str
    module: str
    recipe: Recipe
    description: Description
    options: Mapping[str, object] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    deadlines: Deadlines = Deadlines()
    say: Callable[[str], None] = to_stderr
    python: str | None = None

    def describe(self) -> Description:
        """See `System`. Installs nothing: that is `start`'s."""
        python = self.python or own_python(self.recipe)
        if python is None:
            find_python(self.recipe)
            return self.description
        version = installed_version(self.recipe, python)
        return replace(self.description, version=version)

    @contextmanager
    def start(self, job: Job) -> Iterator[Peer]:
        """See `System`. The first run of a batch size also compiles, shares the features and is not timed."""
        layers = neutral_layers(job.graph)
        python = self.python or own_python(self.recipe) or make_environment(self.recipe, self.say)
        scratch = job.scratch / self.name.replace(" ", "-")
        scratch.mkdir()
        write_model(scratch, layers)
        for batch in job.batches:
            np.save(scratch / f"inputs-{batch}.npy", job.batch(batch))
        with as_file(files(self.module) / SCRIPT) as script:
            commands = [
                [*job.network.prefix(rank), python, "-I", str(script)] for rank in range(self.description.parties)
            ]
            with start_workers(self.name, commands, scratch, {**os.environ, **self.environment}) as workers:
                where = job.addresses(self.description.parties)
                common = {
                    **self.options,
                    "addresses": [f"{host}:{port}" for host, port in where],
                    "folder": str(scratch),
                    "timeout_s": self.deadlines.start,
                }
                workers.ask([{**common, "rank": rank} for rank in range(len(commands))], self.deadlines.start)
                yield Peer(self, workers)


class Peer:
    """A `Running`."""

    def __init__(self, peer: PythonPeer, workers: Workers) -> None:
        self._peer = peer
        self._workers = workers
        self._memory: tuple[float, ...] = ()
        self._prepared: set[int] = set()

    def prepare(self, batch: int, least: int, most: int) -> int:
        """See `Running`."""
        if batch not in self._prepared:
            self._ask("prepare", batch)
            self._prepared.add(batch)
        return most

    def run(self, batch: int) -> Sample:
        """See `Running`."""
        self.prepare(batch, 1, 1)
        answers = self._ask("run", batch)
        times = tuple(float(answer["ms"]) for answer in answers)
        labels = np.asarray(answers[0]["labels"], dtype=np.int64)
        if labels.shape != (batch,) or any(answer["labels"] != answers[0]["labels"] for answer in answers):
            raise ProtocolError(f"{self._peer.name}: expected {batch} labels, the same from every party, got others")
        sent, rounds = [answer["bytes_sent"] for answer in answers], answers[0]["rounds"]
        self._memory = tuple(float(answer["memory_mb"]) for answer in answers)
        return Sample(
            online_ms=max(times),
            labels=labels,
            party_ms=times,
            bytes_sent=() if None in sent else tuple(sent),
            rounds=rounds,
        )

    def memory_mb(self) -> tuple[float, ...]:
        """See `Running`."""
        return self._memory

    def _ask(self, command: str, batch: int) -> Sequence[Mapping[str, Any]]:
        limit = self._peer.deadlines.batch + self._peer.deadlines.per_clip * batch
        return self._workers.ask([{command: batch}] * self._peer.description.parties, limit)
