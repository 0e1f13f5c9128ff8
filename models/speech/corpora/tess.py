"""TESS, the Toronto emotional speech set: two actresses, 200 words in one carrier phrase, seven emotions.

A file name such as `OAF_back_angry.wav` holds the speaker (OAF: older, YAF: younger adult female), the word that she
says after "Say the word", and the emotion; `ps` is pleasant surprise (Pichora-Fuller and Dupuis 2020,
doi 10.5683/SP2/E8H2MF). Folders such as `OAF_Fear` or `YAF_pleasant_surprised` repeat it in several spellings: the file
name decides.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePath
from types import MappingProxyType

from sottovoce.models.speech.corpora.corpus import Corpus, Excluded, Utterance, misnamed

EMOTIONS = MappingProxyType(
    {
        "angry": "angry",
        "disgust": "disgust",
        "fear": "fear",
        "happy": "happy",
        "neutral": "neutral",
        "ps": "pleasant surprise",
        "sad": "sad",
    }
)
_NAME = re.compile(rf"(?:OAF|YAF)_[a-z]+_(?:{'|'.join(EMOTIONS)})", re.ASCII | re.IGNORECASE)
_MISNAMED = re.compile("OA_bite_neutral", re.ASCII | re.IGNORECASE)


def parse(path: PurePath) -> Utterance | Excluded:
    """Read speaker, word and emotion; folders and the suffix are ignored."""
    stem = path.stem
    match = _NAME.fullmatch(stem) or _MISNAMED.fullmatch(stem)
    if match is None:
        raise misnamed("TESS", f"(OAF|YAF)_WORD_({'|'.join(EMOTIONS)}) like OAF_back_angry.wav", path)
    speaker, word, emotion = match[0].lower().split("_")
    return Utterance(
        path=Path(path),
        label=EMOTIONS[emotion],
        speaker="tess-oaf" if speaker == "oa" else f"tess-{speaker}",
        sentence=word,
        sex="female",
    )


CORPUS = Corpus(
    name="tess",
    title="TESS",
    labels=tuple(EMOTIONS.values()),
    example="OAF_back_angry.wav",
    licence="CC BY-NC-ND 4.0",
    cite=(
        "Pichora-Fuller MK, Dupuis K (2020). Toronto emotional speech set (TESS). Borealis (Scholars Portal "
        "Dataverse). doi 10.5683/SP2/E8H2MF"
    ),
    source="Borealis, the Canadian Dataverse repository; before that, TSpace of the University of Toronto",
    sample_rate=24_414,
    errata=(
        "OA_bite_neutral.wav lacks a letter: it is read as OAF_bite_neutral.wav.",
        "Some copies hold the whole tree again in a folder of the same name: each recording is read once.",
        "YAF_germ_angry.wav and YAF_neat_fear.wav are damaged in some copies: what cannot be decoded is listed as "
        "failed, and the rest is used.",
    ),
    parse=parse,
)
