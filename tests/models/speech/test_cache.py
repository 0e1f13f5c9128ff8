"""The feature cache: what finds an entry, what does not, and who may read it."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sottovoce.engine.errors import AudioError, ConfigError
from sottovoce.models.speech import cache as module
from sottovoce.models.speech.cache import CacheSize, FeatureCache, default_cache_folder
from sottovoce.models.speech.features import FEATURE_SETS

MFCC, FRAMES = FEATURE_SETS["mfcc40-mean"], FEATURE_SETS["mfcc40-frames151"]
ROW = np.arange(40) / 7


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    path = tmp_path / "a.wav"
    path.write_bytes(b"sound")
    return path


@pytest.fixture
def cache(tmp_path: Path) -> FeatureCache:
    return FeatureCache(tmp_path / "made" / "here")


def _never() -> np.ndarray:
    raise AssertionError("computed although there is an entry")


def _fill(cache: FeatureCache, sound: Path) -> Path:
    """Enter ROW; return the entry's file."""
    cache.get(sound, MFCC, ROW.copy)
    (entry,) = cache.folder.rglob("*.features")
    return entry


def _is_computed(cache: FeatureCache, sound: Path, features: object = MFCC) -> bool:
    calls: list[int] = []
    row = ROW if features is MFCC else np.zeros((40, 151))
    got = cache.get(sound, features, lambda: (calls.append(1), row)[1])
    np.testing.assert_array_equal(got, row)
    return bool(calls)


def test_the_second_time_the_entry_is_read(cache: FeatureCache, sound: Path) -> None:
    first = cache.get(sound, MFCC, ROW.copy)
    second = FeatureCache(cache.folder).get(os.fspath(sound), MFCC, _never)
    np.testing.assert_array_equal(first, ROW)
    np.testing.assert_array_equal(second, ROW)
    assert second.dtype == np.float64 and second.flags.writeable


def test_shapes_and_every_bit_survive(cache: FeatureCache, sound: Path) -> None:
    row = np.random.default_rng(0).normal(size=(40, 151))
    row[0, :4] = -0.0, 5e-324, 1.7e308, np.pi
    cache.get(sound, FRAMES, row.copy)
    got = cache.get(sound, FRAMES, _never)
    assert got.tobytes() == row.tobytes() and got.shape == (40, 151)


def test_content_finds_an_entry_and_the_name_does_not(cache: FeatureCache, sound: Path) -> None:
    _fill(cache, sound)
    copy = sound.with_name("b.flac")
    copy.write_bytes(b"sound")
    assert not _is_computed(cache, copy)
    sound.write_bytes(b"other")
    assert _is_computed(cache, sound)


def test_another_feature_set_is_another_entry(cache: FeatureCache, sound: Path) -> None:
    _fill(cache, sound)
    assert _is_computed(cache, sound, FRAMES) and not _is_computed(cache, sound)


@pytest.mark.parametrize("library", ["librosa", "resampy", "numpy", "scipy", "soundfile", "numba"])
def test_another_version_of_a_library_computes_anew(
    library: str, cache: FeatureCache, sound: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fill(cache, sound)
    real = module.version
    monkeypatch.setattr(module, "version", lambda name: "0.0" if name == library else real(name))
    assert _is_computed(FeatureCache(cache.folder), sound)


def test_other_feature_code_computes_anew(
    cache: FeatureCache, sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fill(cache, sound)
    package = tmp_path / "package"
    package.mkdir()
    for source in Path(module.__file__).parent.glob("*.py"):
        (package / source.name).write_bytes(source.read_bytes())
    monkeypatch.setattr(module, "files", lambda name: package)
    assert not _is_computed(FeatureCache(cache.folder), sound)
    (package / "mfcc.py").write_text("N_MFCC = 41")
    assert _is_computed(FeatureCache(cache.folder), sound)


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "truncated": lambda data: data[:-1],
    "only the digest": lambda data: data[:32],
    "longer": lambda data: data + b"\0",
    "one bit of a value": lambda data: data[:100] + bytes([data[100] ^ 1]) + data[101:],
    "one bit of the digest": lambda data: bytes([data[0] ^ 1]) + data[1:],
    "zeros": lambda data: bytes(len(data)),
    "a pickle": lambda data: b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94\x93\x94." + data,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_broken_entry_is_computed_again_and_repaired(damage: str, cache: FeatureCache, sound: Path) -> None:
    entry = _fill(cache, sound)
    entry.write_bytes(DAMAGES[damage](entry.read_bytes()))
    assert _is_computed(cache, sound)
    assert not _is_computed(cache, sound)


def _pipe(entry: Path) -> None:
    entry.unlink()
    os.mkfifo(entry)


def _link(entry: Path) -> None:
    entry.symlink_to(entry.rename(entry.with_name("elsewhere")))


@pytest.mark.parametrize("replaced", [_pipe, _link])
def test_what_is_no_file_is_not_read_and_replaced(
    replaced: Callable[[Path], None], cache: FeatureCache, sound: Path
) -> None:
    entry = _fill(cache, sound)
    replaced(entry)
    assert _is_computed(cache, sound)  # a pipe that is waited for would hang
    assert entry.is_file() and not entry.is_symlink()


def test_what_cannot_be_deleted_is_named(cache: FeatureCache, sound: Path) -> None:
    entry = _fill(cache, sound)
    entry.unlink()
    entry.mkdir()
    with pytest.raises(ConfigError, match=r"feature cache .*here"):
        cache.clear()


def test_an_entry_under_anothers_name_is_not_taken_for_it(cache: FeatureCache, sound: Path) -> None:
    entry = _fill(cache, sound)
    sound.write_bytes(b"other")
    assert _is_computed(cache, sound)
    (other,) = set(cache.folder.rglob("*.features")) - {entry}
    other.write_bytes(entry.read_bytes())
    assert _is_computed(cache, sound)


def test_what_cannot_be_used_is_not_entered(cache: FeatureCache, sound: Path) -> None:
    def refuse() -> np.ndarray:
        raise AudioError("silence")

    for path in (sound, sound.with_name("none.wav"), sound.parent, "nul\0"):
        with pytest.raises(AudioError, match="silence"):
            cache.get(path, MFCC, refuse)
    os.mkfifo(sound.with_name("pipe"))  # reading it would wait for ever
    with pytest.raises(AudioError, match="silence"):
        cache.get(sound.with_name("pipe"), MFCC, refuse)
    assert cache.size() == CacheSize(0, 0)


def test_a_file_that_changes_meanwhile_is_not_entered(cache: FeatureCache, sound: Path) -> None:
    def compute() -> np.ndarray:
        sound.write_bytes(b"another sound")
        return ROW

    cache.get(sound, MFCC, compute)
    assert cache.size().entries == 0


def test_size_and_clear_count_entries_and_remains(cache: FeatureCache, sound: Path) -> None:
    entry = _fill(cache, sound)
    (entry.parent / ".new-killed.features").write_bytes(b"half")
    (cache.folder / "notes.txt").write_text("not ours")
    assert cache.size() == CacheSize(2, 32 + 40 * 8 + 4)
    assert cache.clear() == 2 and cache.size() == CacheSize(0, 0)
    assert (cache.folder / "notes.txt").exists() and _is_computed(cache, sound)


def test_nobody_else_can_read_or_write(cache: FeatureCache, sound: Path) -> None:
    before = os.umask(0)
    try:
        entry = _fill(FeatureCache(cache.folder.parent / "open"), sound)
        folder = FeatureCache(cache.folder.parent / "open").folder
    finally:
        os.umask(before)
    assert entry.stat().st_mode & 0o777 == 0o600
    assert entry.parent.stat().st_mode & 0o777 == folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("mode", [0o770, 0o702, 0o777])
def test_a_folder_that_others_can_write_to_is_refused(mode: int, tmp_path: Path) -> None:
    tmp_path.chmod(mode)
    with pytest.raises(ConfigError, match=f"nobody else can write to, got mode {mode:o}"):
        FeatureCache(tmp_path)


def test_a_folder_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.os, "geteuid", lambda: 4242)
    with pytest.raises(ConfigError, match="a folder of yours"):
        FeatureCache(tmp_path)


def test_what_is_no_folder_is_refused(sound: Path) -> None:
    for path in (sound, sound / "below"):
        with pytest.raises(ConfigError, match="name another folder"):
            FeatureCache(path)


def test_a_full_disk_is_reported_and_leaves_nothing_behind(
    cache: FeatureCache, sound: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*paths: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module.os, "replace", full)
    with pytest.raises(ConfigError, match="No space left on device") as caught:
        cache.get(sound, MFCC, ROW.copy)
    assert "0.142" not in str(caught.value)  # a feature
    assert cache.size() == CacheSize(0, 0)


def test_many_writers_and_readers_of_one_entry_see_it_whole(cache: FeatureCache, sound: Path) -> None:
    failures: list[BaseException] = []

    def hammer() -> None:
        mine = FeatureCache(cache.folder)
        try:
            for _ in range(50):
                np.testing.assert_array_equal(mine.get(sound, MFCC, ROW.copy), ROW)
                mine.clear()
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=hammer) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_the_default_folder_follows_the_users_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/some/where")
    assert default_cache_folder() == Path("/some/where/sottovoce/features")
    for unset in ("", "not/absolute"):
        monkeypatch.setenv("XDG_CACHE_HOME", unset)
        assert default_cache_folder() == Path.home() / ".cache/sottovoce/features"
