"""CREMA-D: 91 actors, twelve sentences, six emotions.

A file name such as `1001_IEO_ANG_HI.wav` holds actor, sentence, emotion and level (Cao et al. 2014,
doi 10.1109/TAFFC.2014.2336244, and the README of the corpus). An actor's sex stands in VideoDemographics.csv and not in
the name: it is left open here.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePath
from types import MappingProxyType

from sottovoce.engine.errors import InputError
from sottovoce.models.speech.corpora.corpus import Corpus, Excluded, Intensity, Utterance, misnamed

EMOTIONS = MappingProxyType(
    {"ANG": "anger", "DIS": "disgust", "FEA": "fear", "HAP": "happy", "NEU": "neutral", "SAD": "sad"}
)
SENTENCES = ("IEO", "TIE", "IOM", "IWW", "TAI", "MTI", "IWL", "ITH", "DFA", "ITS", "TSI", "WSI")
LEVELS: MappingProxyType[str, Intensity | None] = MappingProxyType(
    {"LO": "low", "MD": "medium", "HI": "high", "XX": None}
)
FIRST_ACTOR, LAST_ACTOR = 1001, 1091

_NAME = re.compile(
    rf"\d{{4}}_(?:{'|'.join(SENTENCES)})_(?:{'|'.join(EMOTIONS)})_(?:{'|'.join(LEVELS)})", re.ASCII | re.IGNORECASE
)
_MISNAMED = re.compile("1040_ITH_SAD_X", re.ASCII | re.IGNORECASE)
_SILENT = "1076_MTI_SAD_XX"
_BROKEN_MP3 = MappingProxyType(
    {
        "1076_MTI_NEU_XX": "is cut short and has no sound; the WAV is whole",
        "1064_TIE_SAD_XX": "has no duration; the WAV is whole",
        "1064_IEO_DIS_MD": "holds all emotions of the sentence, one minute long; the WAV is whole",
    }
)


def parse(path: PurePath) -> Utterance | Excluded:
    """Read actor, sentence, emotion and level; folders are ignored."""
    match = _NAME.fullmatch(path.stem) or _MISNAMED.fullmatch(path.stem)
    if match is None:
        raise misnamed("CREMA-D", "ACTOR_SENTENCE_EMOTION_LEVEL like 1001_IEO_ANG_HI.wav", path)
    stem = match[0].upper()
    actor, sentence, emotion, level = stem.split("_")
    if not FIRST_ACTOR <= int(actor) <= LAST_ACTOR:
        raise InputError(f"CREMA-D name {path.name!r}: expected actor {FIRST_ACTOR} to {LAST_ACTOR}, got {actor}")
    if stem == _SILENT:
        return Excluded("erratum of CREMA-D: this recording is silent, as WAV and as MP3")
    if path.suffix.lower() == ".mp3" and stem in _BROKEN_MP3:
        return Excluded(f"erratum of CREMA-D: this MP3 {_BROKEN_MP3[stem]}")
    return Utterance(
        path=Path(path),
        label=EMOTIONS[emotion],
        speaker=f"crema-d-{actor}",
        sentence=sentence,
        intensity=LEVELS.get(level),  # None too for X, which is meant to be XX
    )


CORPUS = Corpus(
    name="crema-d",
    title="CREMA-D",
    labels=tuple(EMOTIONS.values()),
    example="1001_IEO_ANG_HI.wav",
    licence="Open Database License 1.0, contents under the Database Contents License 1.0",
    cite=(
        "Cao H, Cooper DG, Keutmann MK, Gur RC, Nenkova A, Verma R (2014). CREMA-D: Crowd-sourced Emotional Multimodal "
        "Actors Dataset. IEEE Transactions on Affective Computing 5(4): 377-390. doi 10.1109/TAFFC.2014.2336244"
    ),
    source="GitHub, CheyneyComputerScience/CREMA-D, folder AudioWAV (needs Git LFS)",
    sample_rate=16_000,
    errata=(
        "1076_MTI_SAD_XX is silent: it is left out.",
        "1076_MTI_NEU_XX, 1064_TIE_SAD_XX and 1064_IEO_DIS_MD are broken as MP3: only their WAVs are used.",
        "Older copies name one file 1040_ITH_SAD_X.wav: it is read as 1040_ITH_SAD_XX.wav.",
        "A clone without Git LFS holds small text files under the names of the recordings: they are left out, and "
        "the reason says so.",
    ),
    parse=parse,
)
