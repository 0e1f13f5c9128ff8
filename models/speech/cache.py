"""Features of files, kept on disk between runs of a training.

**Features are personal data.** They tell much of what was said and by whom, and they are not encrypted. So a cache
exists only where somebody asks for one: extraction uses none by default, and `sottovoce classify` never does. The
folder and its entries belong to their user alone (0700, 0600); one that others can write to is refused, because
whoever plants features there decides what a model learns. Delete the folder to delete the features.

An entry is found by a hash of what the features depend on: the file's bytes, the feature set's name, the versions of
the libraries that compute them and the source text of this package. An entry is one file: a SHA-256 of its key and its
values, then the values, little-endian float64. One that does not fit (truncated, changed, renamed) is computed again.
Entries appear whole or not at all, so processes may share a folder. Recordings that cannot be used are not entered.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sottovoce.engine.errors import ConfigError
from sottovoce.models.speech.features import FeatureSet

Features = npt.NDArray[np.float64]

LIBRARIES = ("librosa", "numba", "numpy", "resampy", "scipy", "soundfile")
_SUFFIX = ".features"
_DIGEST = 32
_OTHERS_WRITE = 0o022


def default_cache_folder() -> Path:
    """`sottovoce/features` in `$XDG_CACHE_HOME`, or in `~/.cache` if that is unset or not an absolute path."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "sottovoce" / "features"


@dataclass(frozen=True, slots=True)
class CacheSize:
    """How much a cache holds."""

    entries: int
    num_bytes: int


class FeatureCache:
    """Features of files in a folder, which is made if it is not there. Raises ConfigError for one it cannot use."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self._recipe = _recipe()
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            status = self.folder.stat()
        except OSError as problem:
            raise self._unusable(problem) from None
        if status.st_mode & _OTHERS_WRITE or status.st_uid != os.geteuid():
            raise ConfigError(
                f"feature cache {self.folder}: expected a folder of yours that nobody else can write to, got mode "
                f"{status.st_mode & 0o777:o} of user {status.st_uid}; name another folder or use chmod 700"
            )

    def get(self, path: str | os.PathLike[str], feature_set: FeatureSet, compute: Callable[[], Features]) -> Features:
        """The entry of a sound file, or what `compute` returns, entered. Shape: the set's `row_shape`."""
        before = _signature(path)
        key = self._key(path, feature_set) if before else None
        if key is None:
            return compute()  # which says what is wrong with the file
        row = self._load(key, feature_set)
        if row is None:
            row = compute()
            if _signature(path) == before:  # else it may be another file's
                self._store(key, row)
        return row

    def size(self) -> CacheSize:
        """Entries and bytes, of whatever version, and what killed processes left half written."""
        sizes = [size for entry in self._entries() if (size := _size(entry)) is not None]
        return CacheSize(len(sizes), sum(sizes))

    def clear(self) -> int:
        """Delete all entries, of whatever version; return how many there were."""
        entries = list(self._entries())
        try:
            for entry in entries:
                entry.unlink(missing_ok=True)
        except OSError as problem:
            raise self._unusable(problem) from None
        return len(entries)

    def _entries(self) -> Iterator[Path]:
        return self.folder.glob(f"??/*{_SUFFIX}")

    def _key(self, path: str | os.PathLike[str], feature_set: FeatureSet) -> str | None:
        try:
            with open(path, "rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            return None
        return _sha256(json.dumps([content, feature_set.name, self._recipe]).encode()).hex()

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / (key + _SUFFIX)

    def _load(self, key: str, feature_set: FeatureSet) -> Features | None:
        size = 8 * int(np.prod(feature_set.row_shape))
        try:
            with open(self._path(key), "rb", opener=_open_entry) as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    return None
                digest, data = file.read(_DIGEST), file.read(size + 1)
        except OSError:
            return None
        if len(data) != size or digest != _sha256(key.encode() + data):
            return None
        return np.frombuffer(data, dtype="<f8").reshape(feature_set.row_shape).astype(np.float64)

    def _store(self, key: str, row: Features) -> None:
        data = row.astype("<f8").tobytes()
        target = self._path(key)
        try:
            for folder in (self.folder, target.parent):
                folder.mkdir(mode=0o700, exist_ok=True)
            handle, name = tempfile.mkstemp(_SUFFIX, ".new-", target.parent)  # mode 0600
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(_sha256(key.encode() + data) + data)
                os.replace(name, target)
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(name)
        except FileNotFoundError:
            pass  # somebody clears the folder: then this entry goes too
        except OSError as problem:
            raise self._unusable(problem) from None

    def _unusable(self, problem: OSError) -> ConfigError:
        return ConfigError(
            f"feature cache {self.folder}: expected a folder to write to, got {problem.strerror}; name another folder "
            "or go without a cache"
        )


def _open_entry(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)  # a pipe in its place must not be waited for


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _recipe() -> list[str]:
    """What the numbers depend on besides the file: libraries, and the source of this package (a comment counts too)."""
    package = files("sottovoce.models.speech")
    sources = sorted((entry.name, entry.read_bytes()) for entry in package.iterdir() if entry.name.endswith(".py"))
    text = b"\0".join(part for name, source in sources for part in (name.encode(), source))
    return [*(f"{library} {version(library)}" for library in LIBRARIES), _sha256(text).hex()]


def _signature(path: str | os.PathLike[str]) -> tuple[int, int, int] | None:
    """Tells whether a regular file has been written to; None for anything else, which must not be read here."""
    try:
        status = os.stat(path)
        return (status.st_ino, status.st_size, status.st_mtime_ns) if os.path.isfile(path) else None
    except (OSError, ValueError):
        return None


def _size(entry: Path) -> int | None:
    try:
        return entry.stat().st_size
    except OSError:  # another process has just deleted it
        return None
