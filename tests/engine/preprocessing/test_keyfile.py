"""The key file: made once, private, and never taken from a place where others could have put or read it."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from sottovoce.engine.errors import ConfigError
from sottovoce.engine.preprocessing.keyfile import default_key_path, load_key, load_or_create_key


def test_made_once(tmp_path: Path) -> None:
    path = tmp_path / "config" / "store.key"
    key = load_or_create_key(path)
    assert len(key) == 32 and load_or_create_key(path) == key == path.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert os.listdir(path.parent) == ["store.key"]
    assert load_or_create_key(tmp_path / "other.key") != key


def test_all_who_come_at_once_get_the_same(tmp_path: Path) -> None:
    keys: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: keys.append(load_or_create_key(tmp_path / "store.key"))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keys) == 8 and len(set(keys)) == 1
    assert os.listdir(tmp_path) == ["store.key"]


def test_loading_never_makes_one(tmp_path: Path) -> None:
    path = tmp_path / "config" / "store.key"
    with pytest.raises(ConfigError, match="got no file: `sottovoce prepare` makes one"):
        load_key(path)
    assert not path.parent.exists()
    key = load_or_create_key(path)
    assert load_key(path) == key
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="expected mode 0600"):
        load_key(path)


def test_a_process_that_was_killed_leaves_no_second_copy(tmp_path: Path) -> None:
    path = tmp_path / "store.key"
    key = load_or_create_key(path)
    drafts = [tmp_path / f".store.key.{digit * 16}" for digit in "abc"]
    os.link(path, drafts[0])  # killed between giving the name and removing the draft
    for draft in drafts[1:]:
        draft.write_bytes(bytes(32))
    os.utime(drafts[1], (1e9, 1e9))  # killed before, long ago; the third is being made now
    others = [tmp_path / name for name in (".store.key.abc", ".other.key." + "a" * 16, "store.key." + "a" * 16)]
    for other in others:
        other.write_bytes(bytes(32))
        os.utime(other, (1e9, 1e9))
    assert load_or_create_key(path) == key
    assert [draft.exists() for draft in drafts] == [False, False, True]
    assert all(other.exists() for other in others)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_others_may_have_read_it(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "store.key"
    key = load_or_create_key(path)
    path.chmod(mode)
    with pytest.raises(ConfigError, match=f"expected mode 0600, got {mode:04o}") as caught:
        load_or_create_key(path)
    assert key.hex() not in str(caught.value) and repr(key) not in str(caught.value)


@pytest.mark.parametrize("size", [0, 31, 33])
def test_of_another_size(tmp_path: Path, size: int) -> None:
    path = tmp_path / "store.key"
    path.write_bytes(bytes(size))
    path.chmod(0o600)
    with pytest.raises(ConfigError, match=f"32 bytes, got {'more' if size > 32 else size}"):
        load_or_create_key(path)


def test_links_folders_and_pipes(tmp_path: Path) -> None:
    load_or_create_key(tmp_path / "real.key")
    (tmp_path / "link.key").symlink_to("real.key")
    (tmp_path / "nowhere.key").symlink_to("missing.key")
    os.mkfifo(tmp_path / "pipe.key", 0o600)
    (tmp_path / "folder.key").mkdir()
    for name, message in (
        ("link.key", "symbolic link"),
        ("nowhere.key", "symbolic link"),
        ("pipe.key", "regular file"),
        ("folder.key", "regular file|directory"),
    ):
        with pytest.raises(ConfigError, match=message):
            load_or_create_key(tmp_path / name)
    assert not (tmp_path / "missing.key").exists()


@pytest.mark.root
def test_of_another_user(tmp_path: Path) -> None:
    load_or_create_key(tmp_path / "store.key")
    os.chown(tmp_path / "store.key", 12345, 12345)
    with pytest.raises(ConfigError, match="expected a file of user 0, got one of 12345"):
        load_or_create_key(tmp_path / "store.key")


def test_default_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert default_key_path() == tmp_path / "sottovoce" / "store.key"
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_key_path() == tmp_path / ".config" / "sottovoce" / "store.key"
