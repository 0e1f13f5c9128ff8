"""From command-line paths to recordings."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sottovoce.cli.recordings import list_recordings


def make(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def paths(*arguments: object) -> list[str]:
    items = list_recordings([str(argument) for argument in arguments])
    assert all(item.error is None for item in items)
    return [item.path for item in items]


def test_a_folder_is_searched_in_order(tmp_path: Path) -> None:
    make(
        tmp_path, "b.wav", "a.FLAC", "notes.txt", "sub/c.mp3", "sub/deep/d.ogg", ".hidden.wav", ".git/e.wav", "z/f.wav"
    )
    found = [os.path.relpath(path, tmp_path) for path in paths(tmp_path)]
    assert found == ["a.FLAC", "b.wav", "sub/c.mp3", "sub/deep/d.ogg", "z/f.wav"]


def test_a_named_file_is_taken_whatever_it_is_called(tmp_path: Path) -> None:
    make(tmp_path, "voice.dat")
    assert paths(tmp_path / "voice.dat", "missing") == [str(tmp_path / "voice.dat"), "missing"]


def test_a_ring_of_links_ends(tmp_path: Path) -> None:
    make(tmp_path, "a.wav")
    (tmp_path / "ring").symlink_to(tmp_path)
    assert paths(tmp_path) == [str(tmp_path / "a.wav")]


def test_a_folder_without_recordings_is_an_error_of_its_own(tmp_path: Path) -> None:
    make(tmp_path, "some/a.wav", "none/notes.txt")
    items = list_recordings([str(tmp_path / "none"), str(tmp_path / "some")])
    assert [item.path for item in items] == [str(tmp_path / "none"), str(tmp_path / "some" / "a.wav")]
    assert "expected sound files, got none" in str(items[0].error)
    assert items[1].error is None


def test_a_folder_that_cannot_be_read_does_not_hide_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "a.wav", "shut/b.wav")
    scan = os.scandir

    def scandir(path: str) -> object:
        if str(path).endswith("shut"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    items = list_recordings([str(tmp_path)])
    assert [item.error is None for item in items] == [True, False]
    assert "Permission denied" in str(items[1].error)
