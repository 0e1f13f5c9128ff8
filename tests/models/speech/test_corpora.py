"""The table of corpora: every rule, every erratum, names that only look right."""

from __future__ import annotations

import re
from pathlib import Path, PurePath

import pytest

from sottovoce.engine.errors import ConfigError, InputError
from sottovoce.models.speech.corpora import (
    COMMON_LABELS,
    CORPORA,
    Excluded,
    Utterance,
    emodb,
    get_corpus,
    savee,
    tess,
    to_common,
)
from sottovoce.models.speech.corpora import crema_d as cremad


def _utterance(corpus: str, name: str) -> Utterance:
    parsed = CORPORA[corpus].parse(PurePath(name))
    assert isinstance(parsed, Utterance)
    return parsed


NAMES = {
    "tess": (
        ("OAF_back_angry.wav", "angry", "tess-oaf", "back", None, 1, "female"),
        ("YAF_whip_ps.wav", "pleasant surprise", "tess-yaf", "whip", None, 1, "female"),
        ("TESS data/OAF_Fear/OAF_calm_fear.wav", "fear", "tess-oaf", "calm", None, 1, "female"),
        ("YAF_sad/YAF_sad_neutral.wav", "neutral", "tess-yaf", "sad", None, 1, "female"),
        ("OAF_neutral/OA_bite_neutral.wav", "neutral", "tess-oaf", "bite", None, 1, "female"),
        ("YAF_DIP_HAPPY.WAV", "happy", "tess-yaf", "dip", None, 1, "female"),
    ),
    "crema-d": (
        ("AudioWAV/1001_IEO_ANG_HI.wav", "anger", "crema-d-1001", "IEO", "high", 1, None),
        ("1091_WSI_SAD_XX.wav", "sad", "crema-d-1091", "WSI", None, 1, None),
        ("1002_IEO_FEA_LO.wav", "fear", "crema-d-1002", "IEO", "low", 1, None),
        ("1002_IEO_HAP_MD.mp3", "happy", "crema-d-1002", "IEO", "medium", 1, None),
        ("1040_ITH_SAD_X.wav", "sad", "crema-d-1040", "ITH", None, 1, None),
        ("1076_MTI_NEU_XX.wav", "neutral", "crema-d-1076", "MTI", None, 1, None),
        ("1064_ieo_dis_md.WAV", "disgust", "crema-d-1064", "IEO", "medium", 1, None),
    ),
    "emodb": (
        ("wav/03a01Fa.wav", "happiness", "emodb-03", "a01", None, 1, "male"),
        ("16b10Wb.wav", "anger", "emodb-16", "b10", None, 2, "female"),
        ("08a07La.wav", "boredom", "emodb-08", "a07", None, 1, "female"),
        ("12b09Ac.wav", "fear", "emodb-12", "b09", None, 3, "male"),
        ("09a05Ef.wav", "disgust", "emodb-09", "a05", None, 6, "female"),
        ("15b03Na.wav", "neutral", "emodb-15", "b03", None, 1, "male"),
        ("14A02TA.WAV", "sadness", "emodb-14", "a02", None, 1, "female"),
        ("11b02N.wav", "neutral", "emodb-11", "b02", None, 1, "male"),
    ),
    "savee": (
        ("ALL/DC_a01.wav", "anger", "savee-dc", "a01", None, 1, "male"),
        ("AudioData/KL/sa03.wav", "sadness", "savee-kl", "sa03", None, 1, "male"),
        ("JE/su15.wav", "surprise", "savee-je", "su15", None, 1, "male"),
        ("JK_n30.wav", "neutral", "savee-jk", "n30", None, 1, "male"),
        ("jk/N16.WAV", "neutral", "savee-jk", "n16", None, 1, "male"),
        ("DC/JE_h09.wav", "happiness", "savee-je", "h09", None, 1, "male"),
    ),
    "ravdess": (
        ("Actor_07/03-01-06-01-02-01-07.wav", "fearful", "ravdess-07", "02", "normal", 1, "male"),
        ("03-01-08-02-01-02-24.WAV", "surprised", "ravdess-24", "01", "strong", 2, "female"),
    ),
}


@pytest.mark.parametrize(
    ("corpus", "row"), [(corpus, row) for corpus, rows in NAMES.items() for row in rows], ids=lambda value: str(value)
)
def test_a_name_says_what_the_corpus_says_it_says(corpus: str, row: tuple[str, ...]) -> None:
    name, label, speaker, sentence, intensity, take, sex = row
    expected = Utterance(Path(name), label, speaker, sentence, intensity, take, sex)
    assert _utterance(corpus, name) == expected


@pytest.mark.parametrize(
    ("corpus", "emotions"),
    [("tess", tess.EMOTIONS), ("crema-d", cremad.EMOTIONS), ("emodb", emodb.EMOTIONS), ("savee", savee.EMOTIONS)],
)
def test_every_emotion_code_gives_its_label(corpus: str, emotions: dict[str, str]) -> None:
    patterns = {"tess": "OAF_dog_{}", "crema-d": "1001_IEO_{}_XX", "emodb": "03a01{}a", "savee": "DC_{}01"}
    got = [_utterance(corpus, patterns[corpus].format(code) + ".wav").label for code in emotions]
    assert got == list(CORPORA[corpus].labels) == list(emotions.values())


@pytest.mark.parametrize(
    ("corpus", "name", "message"),
    [
        ("tess", "OA_back_neutral.wav", "OAF|YAF"),
        ("tess", "OAF_back_calm.wav", "got 'OAF_back_calm.wav'"),
        ("tess", "OAF__sad.wav", "OAF|YAF"),
        ("tess", "OAF_back_angry_2.wav", "OAF|YAF"),
        ("tess", "OAF_bac\u212a_angry.wav", "OAF|YAF"),  # the Kelvin sign is a k to some
        ("crema-d", "1000_IEO_ANG_HI.wav", "actor 1001 to 1091, got 1000"),
        ("crema-d", "1092_IEO_ANG_HI.wav", "actor 1001 to 1091, got 1092"),
        ("crema-d", "1001_ABC_ANG_HI.wav", "ACTOR_SENTENCE"),
        ("crema-d", "1001_IEO_SUR_HI.wav", "ACTOR_SENTENCE"),
        ("crema-d", "1001_IEO_ANG_X.wav", "ACTOR_SENTENCE"),
        ("crema-d", "1001_IEO_ANG.wav", "ACTOR_SENTENCE"),
        ("crema-d", "1001_IEO_ANG_HI (1).wav", "ACTOR_SENTENCE"),
        ("crema-d", "١٠٠١_IEO_ANG_HI.wav", "ACTOR_SENTENCE"),
        ("crema-d", "1001_IEO_\u017fAD_XX.wav", "ACTOR_SENTENCE"),  # the long s is an S to some
        ("emodb", "04a01Fa.wav", "speaker, text"),
        ("emodb", "03a03Fa.wav", "speaker, text"),
        ("emodb", "03a01Xa.wav", "speaker, text"),
        ("emodb", "03a01Faa.wav", "speaker, text"),
        ("savee", "a01.wav", "folder named after the speaker"),
        ("savee", "XX/a01.wav", "folder named after the speaker"),
        ("savee", "DC_s01.wav", "an emotion"),
        ("savee", "DC_a16.wav", "sentence 01 to 15, got 16"),
        ("savee", "DC_n31.wav", "sentence 01 to 30, got 31"),
        ("savee", "DC_sa00.wav", "sentence 01 to 15, got 00"),
        ("savee", "DC_a1.wav", "an emotion"),
    ],
)
def test_other_names_are_refused_with_what_does_not_fit(corpus: str, name: str, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        CORPORA[corpus].parse(PurePath(name))


@pytest.mark.parametrize(
    ("corpus", "name", "reason"),
    [
        ("ravdess", "03-02-05-02-01-02-12.wav", "song"),
        ("ravdess", "01-01-05-02-01-02-12.mp4", "modality 01 is video"),
        ("ravdess", "02-01-05-02-01-02-12.wav", "modality 02 is video"),
        ("crema-d", "1076_MTI_SAD_XX.wav", "silent"),
        ("crema-d", "1076_MTI_SAD_XX.mp3", "silent"),
        ("crema-d", "1076_MTI_NEU_XX.mp3", "no sound; the WAV is whole"),
        ("crema-d", "1064_TIE_SAD_XX.mp3", "no duration"),
        ("crema-d", "1064_IEO_DIS_MD.MP3", "all emotions"),
    ],
)
def test_what_must_not_be_trained_on_is_excluded_with_a_reason(corpus: str, name: str, reason: str) -> None:
    parsed = CORPORA[corpus].parse(PurePath(name))
    assert isinstance(parsed, Excluded) and reason in parsed.reason


HOSTILE = (
    "",
    ".",
    ".wav",
    "..",
    "a" * 4000,
    "\udcff\udcfe.wav",
    "03-01-05-02-01-02-12\n.wav",
    "\n03a01Fa.wav",
    "1001_IEO_ANG_HI\n.wav",
    "OAF_back_angry\x00.wav",
    "DC_a01\u200b.wav",
    "％s.wav",
    "{0}.wav",
)


@pytest.mark.parametrize("corpus", CORPORA)
def test_hostile_names_are_refused_and_can_be_printed(corpus: str) -> None:
    for name in HOSTILE:
        with pytest.raises(InputError) as caught:
            CORPORA[corpus].parse(PurePath(name))
        str(caught.value).encode()  # lone surrogates and control characters are escaped
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("corpus", CORPORA.values(), ids=lambda corpus: corpus.name)
def test_a_row_of_the_table_is_whole(corpus, repository: Path) -> None:
    example = corpus.parse(PurePath(corpus.example))
    assert isinstance(example, Utterance) and example.label in corpus.labels
    assert example.speaker.startswith(corpus.name + "-")
    assert len(set(corpus.labels)) == len(corpus.labels)
    page = (repository / "docs" / "corpora.md").read_text(encoding="utf-8")
    for text in (
        corpus.title,
        corpus.licence,
        corpus.cite,
        corpus.example,
        f"{corpus.sample_rate:,} Hz",
        *corpus.errata,
    ):
        assert text in page


def test_no_name_belongs_to_two_corpora() -> None:
    for corpus, rows in NAMES.items():
        for name, *_ in rows:
            others = [other for other in CORPORA if other != corpus]
            for other in others:
                with pytest.raises(InputError):
                    CORPORA[other].parse(PurePath(name))


def test_all_labels_have_their_place_among_the_common_ones() -> None:
    expected = {
        "tess": ("angry", "disgust", "fearful", "happy", "neutral", "surprised", "sad"),
        "crema-d": ("angry", "disgust", "fearful", "happy", "neutral", "sad"),
        "emodb": ("angry", None, "disgust", "fearful", "happy", "neutral", "sad"),
        "savee": ("angry", "disgust", "fearful", "happy", "neutral", "sad", "surprised"),
        "ravdess": COMMON_LABELS,
    }
    assert {name: tuple(map(to_common, corpus.labels)) for name, corpus in CORPORA.items()} == expected
    with pytest.raises(InputError, match="got 'joy'"):
        to_common("joy")


def test_an_unknown_corpus_is_refused_with_the_names_there_are() -> None:
    assert get_corpus("savee") is CORPORA["savee"]
    with pytest.raises(ConfigError, match="ravdess, tess, crema-d, emodb, savee, got 'iemocap'"):
        get_corpus("iemocap")
