"""Time that a part may take: it does less rather than overrun."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")
Clock = Callable[[], float]


class Budget:
    """`seconds` from now on."""

    def __init__(self, seconds: float, clock: Clock = time.monotonic) -> None:
        self.seconds = seconds
        self.cut: list[str] = []
        """What was left out, in the order of leaving it out."""
        self._clock = clock
        self._start = clock()

    def spent(self) -> float:
        """Seconds so far."""
        return self._clock() - self._start

    def left(self) -> float:
        """Seconds that remain; 0 if it is used up."""
        return max(self.seconds - self.spent(), 0.0)

    def part(self, seconds: float) -> Budget:
        """One of so many seconds, of as many as are left."""
        return Budget(min(seconds, self.left()), self._clock)

    def shared(self, work: Sequence[T]) -> Iterator[tuple[T, Budget]]:
        """Each piece of work with an even part of what is then left."""
        for done, piece in enumerate(work):
            yield piece, self.part(self.left() / (len(work) - done))

    @contextmanager
    def within(self, other: Budget) -> Iterator[None]:
        """What is cut inside is cut from the `other` too."""
        yield
        other.cut += self.cut
