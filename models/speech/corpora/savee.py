"""SAVEE, the Surrey audio-visual expressed emotion database: four men, seven emotions.

A file name such as `a01.wav` in a folder named after the speaker (DC, JE, JK or KL) holds the emotion and the number of
the sentence; one republished copy is flat and says `DC_a01.wav` (Haq and Jackson 2010, and the corpus's Info.txt). `sa`
is sadness and `su` surprise: the emotion is all letters before the digits, not the first one. Sentences are numbered 01
to 15 within each emotion, those of neutral to 30; the same number is another text in another emotion.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePath
from types import MappingProxyType

from sottovoce.engine.errors import InputError
from sottovoce.models.speech.corpora.corpus import Corpus, Excluded, Utterance, misnamed

EMOTIONS = MappingProxyType(
    {
        "a": "anger",
        "d": "disgust",
        "f": "fear",
        "h": "happiness",
        "n": "neutral",
        "sa": "sadness",
        "su": "surprise",
    }
)
SPEAKERS = ("DC", "JE", "JK", "KL")
_SENTENCES, _NEUTRAL_SENTENCES = 15, 30

_NAME = re.compile(rf"(?:({'|'.join(SPEAKERS)})_)?([a-z]+)(\d\d)", re.ASCII | re.IGNORECASE)


def parse(path: PurePath) -> Utterance | Excluded:
    """Read speaker, emotion and sentence; without a speaker in the name, the file's folder is the speaker."""
    match = _NAME.fullmatch(path.stem)
    emotion = match[2].lower() if match else ""
    if match is None or emotion not in EMOTIONS:
        raise misnamed("SAVEE", f"an emotion ({'|'.join(EMOTIONS)}) and two digits like DC_a01.wav or DC/a01.wav", path)
    speaker = (match[1] or path.parent.name).upper()
    if speaker not in SPEAKERS:
        raise InputError(
            f"SAVEE name {path.name!r}: expected a folder named after the speaker ({', '.join(SPEAKERS)}), got "
            f"{path.parent.name!r}"
        )
    top = _NEUTRAL_SENTENCES if emotion == "n" else _SENTENCES
    if not 1 <= int(match[3]) <= top:
        raise InputError(f"SAVEE name {path.name!r}: expected sentence 01 to {top}, got {match[3]}")
    return Utterance(
        path=Path(path),
        label=EMOTIONS[emotion],
        speaker=f"savee-{speaker.lower()}",
        sentence=emotion + match[3],
        sex="male",
    )


CORPUS = Corpus(
    name="savee",
    title="SAVEE",
    labels=tuple(EMOTIONS.values()),
    example="DC_a01.wav",
    licence="free for research after registration; no public licence",
    cite=(
        "Haq S, Jackson PJB (2010). Multimodal Emotion Recognition. In: Wang W (ed.), Machine Audition: Principles, "
        "Algorithms and Systems, chapter 17, IGI Global"
    ),
    source="the SAVEE page of the University of Surrey",
    sample_rate=44_100,
    errata=(
        "A rule that looks at one letter takes sadness and surprise for one emotion `s`: here sa and su are read.",
    ),
    parse=parse,
)
