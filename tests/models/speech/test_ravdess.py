"""RAVDESS file names."""

from __future__ import annotations

from pathlib import Path, PurePath

import numpy as np
import pytest

from sottovoce.engine.errors import InputError
from sottovoce.models.speech.corpora import Utterance, read_corpus
from sottovoce.models.speech.corpora.ravdess import LABELS, parse


def test_the_seven_fields_are_read_in_order() -> None:
    path = Path("/some/where/Actor_12/03-01-06-02-01-02-12.wav")
    assert parse(path) == Utterance(path, "fearful", "ravdess-12", "01", "strong", 2, "female")


@pytest.mark.parametrize(
    ("code", "label"),
    [
        (1, "neutral"),
        (2, "calm"),
        (3, "happy"),
        (4, "sad"),
        (5, "angry"),
        (6, "fearful"),
        (7, "disgust"),
        (8, "surprised"),
    ],
)
def test_emotion_codes_map_to_labels(code: int, label: str) -> None:
    parsed = parse(PurePath(f"03-01-{code:02d}-01-01-01-01.wav"))
    assert isinstance(parsed, Utterance) and parsed.label == LABELS[code - 1] == label


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hello.wav", "seven two-digit fields"),
        ("03-01-05-02-01-02.wav", "seven two-digit fields"),
        ("03-01-05-02-01-02-12-01.wav", "seven two-digit fields"),
        ("3-1-5-2-1-2-12.wav", "seven two-digit fields"),
        ("٠٣-01-05-02-01-02-12.wav", "seven two-digit fields"),
        ("", "seven two-digit fields"),
        ("04-01-05-02-01-02-12.wav", "modality 01 to 03, got 04"),
        ("03-03-05-02-01-02-12.wav", "channel 01 to 02, got 03"),
        ("03-01-09-02-01-02-12.wav", "emotion 01 to 08, got 09"),
        ("03-01-00-02-01-02-12.wav", "emotion 01 to 08, got 00"),
        ("03-01-05-03-01-02-12.wav", "intensity 01 to 02, got 03"),
        ("03-01-05-02-03-02-12.wav", "statement 01 to 02, got 03"),
        ("03-01-05-02-01-03-12.wav", "repetition 01 to 02, got 03"),
        ("03-01-05-02-01-02-25.wav", "actor 01 to 24, got 25"),
        ("03-01-01-02-01-02-12.wav", "intensity 01 for neutral"),
    ],
)
def test_other_names_are_refused_with_the_field_that_does_not_fit(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse(PurePath(name))


def test_the_real_file_names_give_the_stored_labels(shared_data: Path) -> None:
    listing = read_corpus(shared_data / "ravdess" / "Actor_01")
    assert listing.corpus.name == "ravdess" and len(listing.utterances) == 60 and listing.skipped == ()
    assert {utterance.speaker for utterance in listing.utterances} == {"ravdess-01"}
    with np.load(shared_data / "ravdess" / "mfcc40_mean.npz", allow_pickle=False) as data:
        labels = data["y"][:60]
    got = np.bincount([LABELS.index(utterance.label) for utterance in listing.utterances])
    assert got.tolist() == np.bincount(labels).tolist()
