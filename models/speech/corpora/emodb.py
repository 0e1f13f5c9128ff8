"""EmoDB, the Berlin database of emotional speech: ten actors, ten German texts, seven emotions.

A file name such as `03a01Fa.wav` holds the speaker (two digits), the text (a or b and two digits), the emotion by the
first letter of its German name, and a letter that counts versions (Burkhardt et al. 2005). The letters: W Wut, L
Langeweile, E Ekel, A Angst, F Freude, T Trauer, N neutral. The corpus's page gives each speaker's sex.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePath
from types import MappingProxyType

from sottovoce.models.speech.corpora.corpus import Corpus, Excluded, Sex, Utterance, misnamed

EMOTIONS = MappingProxyType(
    {
        "W": "anger",
        "L": "boredom",
        "E": "disgust",
        "A": "fear",
        "F": "happiness",
        "N": "neutral",
        "T": "sadness",
    }
)
SPEAKERS: MappingProxyType[str, Sex] = MappingProxyType(
    {
        "03": "male",
        "08": "female",
        "09": "female",
        "10": "male",
        "11": "male",
        "12": "male",
        "13": "female",
        "14": "female",
        "15": "male",
        "16": "female",
    }
)
TEXTS = ("a01", "a02", "a04", "a05", "a07", "b01", "b02", "b03", "b09", "b10")

_NAME = re.compile(
    rf"({'|'.join(SPEAKERS)})({'|'.join(TEXTS)})([{''.join(EMOTIONS)}])([a-z]?)", re.ASCII | re.IGNORECASE
)


def parse(path: PurePath) -> Utterance | Excluded:
    """Read speaker, text, emotion and version (none is the first); folders and the suffix are ignored."""
    match = _NAME.fullmatch(path.stem)
    if match is None:
        raise misnamed("EmoDB", "speaker, text, emotion and version like 03a01Fa.wav", path)
    speaker, text, emotion, version = match.groups()
    return Utterance(
        path=Path(path),
        label=EMOTIONS[emotion.upper()],
        speaker=f"emodb-{speaker}",
        sentence=text.lower(),
        take=ord(version.lower() or "a") - ord("a") + 1,
        sex=SPEAKERS[speaker],
    )


CORPUS = Corpus(
    name="emodb",
    title="EmoDB",
    labels=tuple(EMOTIONS.values()),
    example="03a01Fa.wav",
    licence="none stated by the original page, which asks to be cited; the republication EmoDB 2.0 is CC BY 4.0",
    cite=(
        "Burkhardt F, Paeschke A, Rolfes M, Sendlmeier WF, Weiss B (2005). A Database of German Emotional Speech. "
        "Proc. Interspeech 2005"
    ),
    source="the page of Emo-DB, emodb.bilderbar.info; EmoDB 2.0 on Zenodo",
    sample_rate=16_000,
    errata=("Not every take was published, so the version letters have gaps.",),
    parse=parse,
)
