"""Folders of recordings: detection, duplicates, errata, and what file systems do to people."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sottovoce.engine.errors import ConfigError, InputError
from sottovoce.models.speech.corpora import CORPORA, CorpusListing, read_corpus, reader

TREES = {
    "ravdess": ("Actor_01/03-01-01-01-01-01-01.wav", "Actor_02/03-01-05-02-01-02-02.wav"),
    "tess": ("OAF_Fear/OAF_back_fear.wav", "OAF_neutral/OA_bite_neutral.wav", "YAF_sad/YAF_back_sad.wav"),
    "crema-d": ("AudioWAV/1001_IEO_ANG_HI.wav", "AudioWAV/1040_ITH_SAD_X.wav"),
    "emodb": ("wav/03a01Fa.wav", "wav/16b10Wb.wav"),
    "savee": ("AudioData/DC/a01.wav", "AudioData/DC/sa01.wav", "AudioData/KL/a01.wav"),
}


def _tree(root: Path, names: dict[str, bytes] | tuple[str, ...]) -> Path:
    files = names if isinstance(names, dict) else {name: name.encode() for name in names}
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def _names(listing: CorpusListing, root: Path) -> list[str]:
    return [utterance.path.relative_to(root).as_posix() for utterance in listing.utterances]


def _reasons(listing: CorpusListing, root: Path) -> dict[str, str]:
    return {skip.path.relative_to(root).as_posix(): skip.reason for skip in listing.skipped}


@pytest.mark.parametrize("name", TREES)
def test_a_corpus_is_known_by_its_names(name: str, tmp_path: Path) -> None:
    _tree(tmp_path, (*TREES[name], "README.txt", "labels.csv"))
    for listing in (read_corpus(tmp_path), read_corpus(os.fspath(tmp_path), name)):
        assert listing.corpus is CORPORA[name]
        assert _names(listing, tmp_path) == sorted(TREES[name])
        assert listing.skipped == () and listing.duplicates == ()
        assert all(utterance.path.is_file() for utterance in listing.utterances)


def test_the_speakers_own_folder_can_be_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _tree(tmp_path, ("DC/sa01.wav", "DC/su01.wav"))
    monkeypatch.chdir(tmp_path / "DC")
    for folder in (tmp_path / "DC", Path()):
        listing = read_corpus(folder)
        assert [(one.speaker, one.label) for one in listing.utterances] == [
            ("savee-dc", "sadness"),
            ("savee-dc", "surprise"),
        ]


def test_a_tree_inside_itself_is_read_once(tmp_path: Path) -> None:
    inner = "TESS Toronto emotional speech set data"
    names = TREES["tess"]
    _tree(
        tmp_path, {f"{folder}{name}": name.encode() for name in names for folder in (f"{inner}/", f"{inner}/{inner}/")}
    )
    listing = read_corpus(tmp_path)
    assert _names(listing, tmp_path) == sorted(f"{inner}/{name}" for name in names)
    assert [(two.path, two.original) for two in listing.duplicates] == sorted(
        (tmp_path / inner / inner / name, tmp_path / inner / name) for name in names
    )
    assert listing.skipped == ()


def test_the_misnamed_file_of_tess_is_the_same_utterance_as_its_repaired_copy(tmp_path: Path) -> None:
    _tree(tmp_path, {"a/OA_bite_neutral.wav": b"one", "b/OAF_bite_neutral.wav": b"one"})
    listing = read_corpus(tmp_path)
    assert len(listing.utterances) == len(listing.duplicates) == 1


def test_of_two_versions_of_an_utterance_one_is_used_and_the_other_reported(tmp_path: Path) -> None:
    _tree(
        tmp_path,
        {
            "AudioMP3/1001_IEO_ANG_HI.mp3": b"lossy",
            "AudioWAV/1001_IEO_ANG_HI.wav": b"lossless",
            "AudioWAV/16k/1001_IEO_ANG_HI.wav": b"LOSSLESS",
        },
    )
    listing = read_corpus(tmp_path)
    assert _names(listing, tmp_path) == ["AudioWAV/1001_IEO_ANG_HI.wav"] and listing.duplicates == ()
    reasons = _reasons(listing, tmp_path)
    assert list(reasons) == ["AudioMP3/1001_IEO_ANG_HI.mp3", "AudioWAV/16k/1001_IEO_ANG_HI.wav"]
    assert all("another version of" in reason for reason in reasons.values())


def test_other_takes_and_intensities_are_other_utterances(tmp_path: Path) -> None:
    for corpus, names in {
        "ravdess": ("03-01-05-01-01-01-01.wav", "03-01-05-02-01-01-01.wav", "03-01-05-01-01-02-01.wav"),
        "emodb": ("03a01Fa.wav", "03a01Fb.wav"),
        "crema-d": ("1001_IEO_ANG_HI.wav", "1001_IEO_ANG_LO.wav", "1001_IEO_ANG_XX.wav"),
        "savee": ("DC/sa01.wav", "KL/sa01.wav", "DC/su01.wav"),
    }.items():
        _tree(tmp_path / corpus, dict.fromkeys(names, b""))
        assert len(read_corpus(tmp_path / corpus).utterances) == len(names)


def test_what_is_left_out_is_named_with_its_reason(tmp_path: Path) -> None:
    root = _tree(
        tmp_path / "data",
        {
            "AudioWAV/1001_IEO_ANG_HI.WAV": b"RIFF",
            "AudioWAV/._1001_IEO_ANG_HI.WAV": b"fork",
            "AudioWAV/.DS_Store": b"",
            "AudioWAV/1076_MTI_SAD_XX.wav": b"RIFF",
            "AudioWAV/1002_IEO_ANG_HI.wav": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 72862\n",
            "AudioWAV/talk.flac": b"",
            "VideoFlash/1001_IEO_ANG_HI.flv": b"FLV",
            ".git/1003_IEO_ANG_HI.wav": b"",
            "VideoDemographics.csv": b"",
        },
    )
    (root / "AudioWAV/1004_IEO_ANG_HI.wav").mkdir()
    os.mkfifo(root / "AudioWAV/1005_IEO_ANG_HI.wav")
    (root / "AudioWAV/1006_IEO_ANG_HI.wav").symlink_to("nowhere.wav")
    (root / "ring").symlink_to(root)
    listing = read_corpus(root)
    assert _names(listing, root) == ["AudioWAV/1001_IEO_ANG_HI.WAV"]
    expected = {
        "AudioWAV/._1001_IEO_ANG_HI.WAV": "hidden",
        "AudioWAV/1002_IEO_ANG_HI.wav": "git lfs pull",
        "AudioWAV/1005_IEO_ANG_HI.wav": "not a regular file",
        "AudioWAV/1006_IEO_ANG_HI.wav": "broken link",
        "AudioWAV/1076_MTI_SAD_XX.wav": "silent",
        "AudioWAV/talk.flac": "CREMA-D name: expected ACTOR",
        "VideoFlash/1001_IEO_ANG_HI.flv": "video",
        "ring": "link to a folder",
    }
    reasons = _reasons(listing, root)
    assert list(reasons) == sorted(expected)
    for name, part in expected.items():
        assert part in reasons[name]


def test_a_link_to_a_recording_is_a_recording(tmp_path: Path) -> None:
    _tree(tmp_path, {"store/blob": b"RIFF", "wav/08a01Fa.wav": b"x"})
    (tmp_path / "wav/03a01Fa.wav").symlink_to(tmp_path / "store/blob")
    assert len(read_corpus(tmp_path / "wav").utterances) == 2


def test_a_folder_that_cannot_be_read_does_not_lose_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _tree(tmp_path, TREES["ravdess"])
    scandir = os.scandir

    def closed(folder: Path) -> object:
        if folder.name == "Actor_02":  # root may read what nobody may
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(reader.os, "scandir", closed)
    listing = read_corpus(tmp_path)
    assert len(listing.utterances) == 1
    assert _reasons(listing, tmp_path) == {"Actor_02": "the folder cannot be read: Permission denied"}


def test_a_mix_of_corpora_is_refused_with_examples_and_the_way_out(tmp_path: Path) -> None:
    _tree(tmp_path, (*TREES["savee"], *TREES["emodb"]))
    with pytest.raises(InputError) as caught:
        read_corpus(tmp_path)
    for part in ("2 of EmoDB", "03a01Fa.wav", "3 of SAVEE", "a01.wav", "--corpus emodb"):
        assert part in str(caught.value)
    listing = read_corpus(tmp_path, "savee")
    assert _names(listing, tmp_path) == sorted(TREES["savee"])
    assert [reason[:10] for reason in _reasons(listing, tmp_path).values()] == ["SAVEE name"] * 2


@pytest.mark.parametrize(
    ("names", "name", "message"),
    [
        ((), None, "no sound file"),
        (("notes.txt",), None, "no sound file"),
        (("hello.wav", "world.mp3"), None, r"OAF_back_angry.wav \(tess\).*2 others, such as '.*hello.wav'"),
        (
            ("hello.wav",),
            "tess",
            r"recordings of TESS, got none: all 1 were left out, such as '.*hello.wav' \(TESS name",
        ),
        (("03-02-05-02-01-02-12.wav",), None, "recordings of RAVDESS, got none.*song"),
        ((), "emodb", "recordings of EmoDB, got none$"),
    ],
)
def test_a_folder_without_utterances_is_refused(
    names: tuple[str, ...], name: str | None, message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        read_corpus(_tree(tmp_path, names), name)


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for folder in (tmp_path / "file", tmp_path / "none", "nul\0"):
        with pytest.raises(InputError, match="a folder that can be read"):
            read_corpus(folder)
    with pytest.raises(ConfigError, match="got 'x'"):
        read_corpus(tmp_path, "x")


def test_names_that_are_no_text_are_listed_and_can_be_printed(tmp_path: Path) -> None:
    _tree(tmp_path, ("03a01Fa.wav",))
    (tmp_path / os.fsdecode(b"\xff\xfe.wav")).write_bytes(b"")
    (tmp_path / "new\nline.wav").write_bytes(b"")
    listing = read_corpus(tmp_path)
    assert len(listing.utterances) == 1 and len(listing.skipped) == 2
    for skip in listing.skipped:
        assert "\n" not in skip.reason
        skip.reason.encode()
