"""One set of labels for all corpora, so that they can be trained on together: the eight of RAVDESS."""

from __future__ import annotations

from types import MappingProxyType

from sottovoce.engine.errors import InputError
from sottovoce.models.speech.corpora.ravdess import LABELS as COMMON_LABELS

__all__ = ["COMMON_LABELS", "TO_COMMON", "to_common"]

TO_COMMON: MappingProxyType[str, str | None] = MappingProxyType(
    {
        **{label: label for label in COMMON_LABELS},
        "anger": "angry",
        "boredom": None,  # the nearest, calm and sad, mean something else
        "fear": "fearful",
        "happiness": "happy",
        "pleasant surprise": "surprised",  # RAVDESS's surprise is not said to be pleasant
        "sadness": "sad",
        "surprise": "surprised",
    }
)


def to_common(label: str) -> str | None:
    """The common label of a corpus's own, or None if it has none. Raises InputError for a word of no corpus."""
    if label not in TO_COMMON:
        raise InputError(f"label: expected a label of a corpus ({', '.join(TO_COMMON)}), got {label!r}")
    return TO_COMMON[label]
