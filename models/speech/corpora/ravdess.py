"""RAVDESS: 24 actors, eight emotions, two statements.

A file name such as `03-01-05-02-01-02-12.wav` holds seven two-digit fields: modality, vocal channel, emotion,
intensity, statement, repetition, actor (Livingstone and Russo 2018, doi 10.1371/journal.pone.0196391). Actors with odd
numbers are male, those with even numbers female.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePath

from sottovoce.engine.errors import InputError
from sottovoce.models.speech.corpora.corpus import Corpus, Excluded, Utterance, misnamed

LABELS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
"""Class k of every model trained here is LABELS[k]; RAVDESS numbers the same emotions 01 to 08."""

_FIELDS = (
    ("modality", 3),
    ("channel", 2),
    ("emotion", 8),
    ("intensity", 2),
    ("statement", 2),
    ("repetition", 2),
    ("actor", 24),
)
_NAME = re.compile(r"\d\d(?:-\d\d){6}", re.ASCII)
_AUDIO_ONLY = 3
_SPEECH = 1


def parse(path: PurePath) -> Utterance | Excluded:
    """Read the seven fields; folders and the suffix are ignored."""
    stem = path.name.split(".", 1)[0]
    if _NAME.fullmatch(stem) is None:
        raise misnamed("RAVDESS", "seven two-digit fields like 03-01-05-02-01-02-12.wav", path)
    values = [int(part) for part in stem.split("-")]
    for (field, top), value in zip(_FIELDS, values, strict=True):
        if not 1 <= value <= top:
            raise InputError(f"RAVDESS name {path.name!r}: expected {field} 01 to {top:02d}, got {value:02d}")
    modality, channel, emotion, intensity, statement, repetition, actor = values
    if emotion == 1 and intensity == 2:
        raise InputError(f"RAVDESS name {path.name!r}: expected intensity 01 for neutral, got 02")
    if modality != _AUDIO_ONLY:
        return Excluded(f"modality {modality:02d} is video; its sound is published as modality 03 too")
    if channel != _SPEECH:
        return Excluded("vocal channel 02 is song, which has other emotions and is no speech")
    return Utterance(
        path=Path(path),
        label=LABELS[emotion - 1],
        speaker=f"ravdess-{actor:02d}",
        sentence=f"{statement:02d}",
        intensity="strong" if intensity == 2 else "normal",
        take=repetition,
        sex="male" if actor % 2 else "female",
    )


CORPUS = Corpus(
    name="ravdess",
    title="RAVDESS",
    labels=LABELS,
    example="03-01-05-02-01-02-12.wav",
    licence="CC BY-NC-SA 4.0",
    cite=(
        "Livingstone SR, Russo FA (2018). The Ryerson Audio-Visual Database of Emotional Speech and Song (RAVDESS): "
        "A dynamic, multimodal set of facial and vocal expressions in North American English. PLoS ONE 13(5): "
        "e0196391. doi 10.1371/journal.pone.0196391"
    ),
    source="Zenodo, record 1188976",
    sample_rate=48_000,
    errata=(
        "Some copies hold all actors a second time in a folder audio_speech_actors_01-24: each recording is read once.",
        "Some copies are resampled to 16 kHz: their features lack what lies above 8 kHz, and nothing in them says so.",
    ),
    parse=parse,
)
