"""A party's process, and the lines in which it says how long it took."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sottovoce.bench.systems.process import Process

_NUMBER: Final = r"([-+.\deE]+)"
_STOPPED: Final = re.compile(rf"Stopped timer 1 at {_NUMBER} \({_NUMBER} MB, (\d+) rounds\)")
_LABELS: Final = re.compile(r"^labels \[?([\d, ]+)\]?$")


@dataclass(frozen=True, slots=True)
class Spent:
    """What a party's timer says, summed since the start of its process."""

    seconds: float = 0.0
    megabytes: float = 0.0
    rounds: int = 0

    def since(self, before: Spent) -> Spent:
        """What was added after `before`."""
        return Spent(self.seconds - before.seconds, self.megabytes - before.megabytes, self.rounds - before.rounds)


def read_spent(line: str) -> Spent | None:
    """From the line of a timer that stops, which may follow a prompt for input; None for any other."""
    found = _STOPPED.search(line)
    return None if found is None else Spent(float(found[1]), float(found[2]), int(found[3]))


def read_labels(line: str) -> NDArray[np.int64] | None:
    """From the line of the opened labels, (batch,); None for any other."""
    found = _LABELS.match(line.rstrip())
    return None if found is None else np.array(found[1].replace(",", " ").split(), np.int64)


class Party(Process):
    """See Process. spent: what its timer said last."""

    def __init__(self, name: str, command: Sequence[str], *, folder: Path, log: Path, env: Mapping[str, str]) -> None:
        super().__init__(name, command, folder=folder, log=log, env=env)
        self.spent = Spent()

    def wait_ready(self, end: float) -> None:
        """Until its inputs are shared. end: of time.monotonic()."""
        while self.read_line(end).rstrip() != "ready":
            pass

    def wait_spent(self, end: float) -> Spent:
        """What the next run added."""
        while (spent := read_spent(self.read_line(end))) is None:
            pass
        added, self.spent = spent.since(self.spent), spent
        return added

    def wait_labels(self, end: float) -> NDArray[np.int64]:
        """The labels that the next run opened."""
        while (labels := read_labels(self.read_line(end))) is None:
            pass
        return labels
