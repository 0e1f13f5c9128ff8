"""Rows to train on, from a file of features or a folder of recordings."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from sottovoce.engine.errors import InputError
from sottovoce.models.speech.audio import SAMPLE_RATE
from sottovoce.models.speech.corpora import get_corpus, read_corpus
from sottovoce.models.training.augment import augmented
from sottovoce.models.training.dataset import extract_corpus, load_features, of_corpus
from sottovoce.models.training.splits import MIXED_BLOCKS

Arrays = dict[str, np.ndarray]


def _arrays(**changes: Any) -> Arrays:
    x = np.arange(60.0).reshape(6, 10)
    arrays = {"X": x, "y": np.array([0, 1, 2, 0, 1, 2]), "speaker": np.array(["b", "a", "a", "c", "b", "a"])}
    return {name: array for name, array in {**arrays, **changes}.items() if array is not None}


def _save(path: Path, arrays: Arrays) -> Path:
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


def test_a_file_gives_rows_labels_and_speakers(tmp_path: Path) -> None:
    path = _save(tmp_path / "rows.npz", _arrays())
    data = load_features(path, (2, 5), None, ("x", "y", "z"))
    assert data.features.shape == (6, 2, 5) and data.features[1, 1, 0] == 15
    assert data.names == ("x", "y", "z")
    assert data.groups.tolist() == [1, 0, 0, 2, 1, 0]
    assert data.source["name"] == "rows.npz" and len(data.source["sha256"]) == 64
    assert "note" not in data.source and "[" not in repr(data)


def test_names_come_from_the_caller_else_the_file_else_the_model(tmp_path: Path) -> None:
    path = _save(tmp_path / "rows.npz", _arrays(labels=np.array(["p", "q", "r"])))
    assert load_features(path, (1, 10), ("a", "b", "c"), ("x", "y", "z")).names == ("a", "b", "c")
    assert load_features(path, (1, 10), None, ("x", "y", "z")).names == ("p", "q", "r")


def test_blocks_of_several_speakers_stay_together_and_the_card_will_say_so(tmp_path: Path) -> None:
    blocks = np.array([0, 16, 18, 19, 21, 22])
    data = load_features(_save(tmp_path / "b.npz", _arrays(speaker=None, block=blocks)), (1, 10), ("a", "b", "c"))
    assert data.groups.tolist() == [0, 16, 16, 16, 16, 22]
    assert str(MIXED_BLOCKS[-1]) in data.source["note"]


def test_a_named_corpus_brings_its_licence(tmp_path: Path) -> None:
    data = load_features(_save(tmp_path / "rows.npz", _arrays()), (1, 10), ("a", "b", "c"))
    source = of_corpus(data, get_corpus("ravdess")).source
    assert (source["title"], source["licence"], source["file"]) == ("RAVDESS", "CC BY-NC-SA 4.0", "rows.npz")
    assert source["sha256"] == data.source["sha256"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"X": None}, "got none named X"),
        ({"X": np.zeros((6, 9))}, r"expected X \(rows, 1 \* 10\), got float64 \(6, 9\)"),
        ({"X": np.full((6, 10), np.nan)}, "finite"),
        ({"y": np.array([0, 1, 2])}, "expected y"),
        ({"y": np.array([0, 1, 2, 0, 1, -1])}, "expected y"),
        ({"y": np.array([0, 1, 2, 0, 1, 3])}, "class numbers below 3, one label each, got 3"),
        ({"speaker": None}, "expected an array `speaker`"),
        ({"speaker": np.zeros(6)}, "expected speaker"),
        ({"speaker": np.array([object()] * 6)}, "expected an npz file of features, got something else"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_by_name(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = tmp_path / "rows.npz"
    np.savez(path, allow_pickle=True, **_arrays(**changes))
    with pytest.raises(InputError, match=rf"rows\.npz: .*{message}"):
        load_features(path, (1, 10), ("a", "b", "c"))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_file_with_two_arrays_of_one_name_is_refused(tmp_path: Path) -> None:
    path = _save(tmp_path / "rows.npz", _arrays())
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("y.npy", archive.read("y.npy"))
    with pytest.raises(InputError, match=r"rows\.npz: expected each array once, got y twice"):
        load_features(path, (1, 10), ("a", "b", "c"))


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 cut"])
def test_a_missing_or_broken_file_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "broken.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"broken\.npz"):
        load_features(path, (1, 10))


# ---- recordings ---------------------------------------------------------------------------------------------------


def _tone(frequency: float, seconds: float = 0.3) -> np.ndarray:
    return (0.4 * np.sin(2 * np.pi * frequency * np.arange(int(SAMPLE_RATE * seconds)) / SAMPLE_RATE)).astype(
        np.float32
    )


def test_a_corpus_gives_rows_copies_and_counts(tmp_path: Path) -> None:
    for emotion, actor in (("03", "01"), ("05", "01"), ("03", "02"), ("05", "02")):
        soundfile.write(tmp_path / f"03-01-{emotion}-01-01-01-{actor}.wav", _tone(100 * int(emotion)), SAMPLE_RATE)
    (tmp_path / "03-01-08-01-01-01-02.wav").write_bytes(b"no sound")
    (tmp_path / "note.wav").write_bytes(b"")
    done: list[int] = []
    data = extract_corpus(
        read_corpus(tmp_path), "mfcc40-mean", copies=2, seed=1, progress=lambda count, _: done.append(count)
    )
    assert data.names == ("happy", "angry")  # in the corpus's order, and only those with recordings
    assert data.features.shape == (4, 1, 40) and data.copies is not None and data.copies.shape == (2, 4, 1, 40)
    assert sorted(zip(data.labels.tolist(), data.groups.tolist(), strict=True)) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert (data.source["skipped"], data.source["unreadable"], data.source["title"]) == (1, 1, "RAVDESS")
    assert done[0] == 1 and done[-1] == 5 + 5 + 4
    assert not np.allclose(data.copies[0], data.features) and not np.allclose(data.copies[0], data.copies[1])
    features, labels = data.rows_with_copies(np.array([2, 0]))
    np.testing.assert_array_equal(features, np.concatenate([data.features[[2, 0]], *(c[[2, 0]] for c in data.copies)]))
    np.testing.assert_array_equal(labels, np.tile(data.labels[[2, 0]], 3))


def test_an_augmented_recording_is_another_version_of_the_same(rng: np.random.Generator) -> None:
    tone = _tone(440, 1.0)
    for _ in range(5):
        other = augmented(tone, rng)
        assert other.dtype == np.float32 and np.abs(other).max() <= 1
        assert 0.7 < other.size / tone.size < 1.4
        spectrum = np.abs(np.fft.rfft(other))
        peak = np.fft.rfftfreq(other.size, 1 / SAMPLE_RATE)[spectrum.argmax()]
        assert abs(peak / 440 - 1) < 0.08 and abs(peak - 440) > 0.01
    first, again = (augmented(tone, np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(first, again)


def test_a_short_recording_keeps_a_window() -> None:
    short = _tone(440, 2_100 / SAMPLE_RATE)
    for seed in range(20):
        assert augmented(short, np.random.default_rng(seed)).size >= 1_900
