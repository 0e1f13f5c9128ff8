"""RAVDESS: its eight emotions and its file names.

A file name such as `03-01-05-02-01-02-12.wav` holds seven two-digit fields: modality, vocal channel, emotion,
intensity, statement, repetition, actor (Livingstone and Russo 2018, doi 10.1371/journal.pone.0196391).
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import PurePath

from sottovoce.engine.errors import InputError

LABELS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
"""Class k of every model trained here is LABELS[k]; RAVDESS numbers the same emotions 01 to 08."""

_FIELDS = (("modality", 3), ("channel", 2), ("emotion", 8), ("intensity", 2), ("statement", 2), ("repetition", 2))
_NUM_ACTORS = 24
_NAME = re.compile(r"\d\d(?:-\d\d){6}", re.ASCII)


@dataclass(frozen=True, slots=True)
class RavdessName:
    """The seven fields of a RAVDESS file name, as numbered there (from 1)."""

    modality: int
    channel: int
    emotion: int
    intensity: int
    statement: int
    repetition: int
    actor: int

    @property
    def label_index(self) -> int:
        """Class of the emotion: 0 to 7, an index into LABELS."""
        return self.emotion - 1

    @property
    def label(self) -> str:
        return LABELS[self.label_index]


def parse_name(path: str | os.PathLike[str]) -> RavdessName:
    """Read a RAVDESS file name; folders and the suffix are ignored. Raises InputError for any other name."""
    name = PurePath(os.fspath(path)).name
    stem = name.split(".", 1)[0]
    if _NAME.fullmatch(stem) is None:
        raise InputError(f"RAVDESS name: expected seven two-digit fields like 03-01-05-02-01-02-12.wav, got {name!r}")
    values = [int(part) for part in stem.split("-")]
    for (field, top), value in zip((*_FIELDS, ("actor", _NUM_ACTORS)), values, strict=True):
        if not 1 <= value <= top:
            raise InputError(f"RAVDESS name {name!r}: expected {field} 01 to {top:02d}, got {value:02d}")
    parsed = RavdessName(*values)
    if parsed.emotion == 1 and parsed.intensity == 2:
        raise InputError(f"RAVDESS name {name!r}: expected intensity 01 for neutral, got 02")
    return parsed
