"""What a corpus of emotional speech says about itself, and what one of its file names says about a recording."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Literal

from sottovoce.engine.errors import InputError

Sex = Literal["female", "male"]
Intensity = Literal["low", "medium", "high", "normal", "strong"]


@dataclass(frozen=True, slots=True)
class Utterance:
    """One recording of one sentence. Two files with the same `identity` hold the same utterance.

    label: an emotion, in the corpus's own word. speaker: unique among all corpora, such as "ravdess-07". sentence: the
    corpus's code of the text. intensity: None where the corpus does not say. take: counts repetitions, from 1. sex:
    None where the corpus's names and documentation do not tie it to the speaker.
    """

    path: Path
    label: str
    speaker: str
    sentence: str
    intensity: Intensity | None = None
    take: int = 1
    sex: Sex | None = None

    @property
    def identity(self) -> tuple[str, str, str, str, int]:
        """All that tells one utterance of a corpus from another."""
        return self.speaker, self.label, self.sentence, self.intensity or "", self.take


@dataclass(frozen=True, slots=True)
class Excluded:
    """A file that belongs to a corpus and must not be trained on."""

    reason: str


Parser = Callable[[PurePath], Utterance | Excluded]
"""Reads a path. It sees the folder's own name too; most rules look at the file name only. Letters may have either case.

Raises InputError, which says what does not fit, for a name that the corpus does not have.
"""


@dataclass(frozen=True, slots=True)
class Corpus:
    """A row of the table of corpora.

    labels: in class order. example: a file name. licence, cite: as their publisher words them. source: the page that
    offers the recordings. sample_rate: in Hz, as published. errata: known flaws, and what is done about each.
    """

    name: str
    title: str
    labels: tuple[str, ...]
    example: str
    licence: str
    cite: str
    source: str
    sample_rate: int
    errata: tuple[str, ...]
    parse: Parser = field(repr=False)


def misnamed(title: str, expected: str, path: PurePath) -> InputError:
    """The error of a parser."""
    return InputError(f"{title} name: expected {expected}, got {path.name!r}")
