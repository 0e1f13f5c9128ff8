"""What a protocol needs of preprocessing, whoever made the material and wherever it waited."""

from __future__ import annotations

from abc import ABC, abstractmethod

from sottovoce.engine.preprocessing.items import Fields, Item
from sottovoce.engine.program import Linear
from sottovoce.engine.tensors import U64


class Material(ABC):
    """The correlated randomness of one chunk of a batch at one party: taken item by item, each once, in order."""

    @abstractmethod
    def take(self, item: Item) -> Fields:
        """This party's fields of the next item, which must be `item`. Raises MaskReuseError, ProtocolError."""


class Reserved(ABC):
    """The material of one batch, marked as used: nobody gets it again, whatever happens."""

    @abstractmethod
    def part(self, start: int, stop: int) -> Material:
        """That of the clips start … stop - 1, once. Raises MaskReuseError."""


class Preprocessing(ABC):
    """Where one party gets the correlated randomness for one program under one protocol.

    Material is numbered by clip; both parties use the same numbers. Not thread-safe.
    """

    @property
    @abstractmethod
    def pair(self) -> bytes:
        """16 bytes that the parties' sources have in common, and no others."""

    @property
    @abstractmethod
    def position(self) -> int:
        """The next unused clip."""

    @property
    @abstractmethod
    def end(self) -> int:
        """One behind the last clip there is."""

    @abstractmethod
    def agree(self, position: int, end: int) -> None:
        """Skip to `position`, which may lie ahead, and use none from `end` on: what both parties have."""

    @abstractmethod
    def claim(self, weights: bytes) -> None:
        """Bind the masks of weights to the model that this tag names.

        A mask that hides two different models reveals their difference. Raises PreprocessingError if these masks were
        used for others.
        """

    @abstractmethod
    def mask(self, step: Linear) -> U64:
        """This party's share of B, the mask of a layer's weights, of the weight's shape."""

    @abstractmethod
    def reserve(self, clips: int) -> Reserved:
        """Mark the next clips as used, durably, then hand them out. Raises PreprocessingError if there are too few:
        how many are missing, and the command that makes them; then nothing is consumed."""

    @abstractmethod
    def close(self) -> None:
        """Give back what is open. Idempotent."""
