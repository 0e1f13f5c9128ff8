"""A store's folder: what may lie in it, and one process at a time."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Container
from pathlib import Path

from sottovoce.engine.errors import PreprocessingError
from sottovoce.engine.preprocessing.durable import PRIVATE, printable
from sottovoce.engine.preprocessing.index import INDEX_FILES
from sottovoce.engine.preprocessing.segment import ID_BYTES, SUFFIX

LOCK_FILE = "lock"
SEGMENTS = "segments"

_OWN_NAMES = INDEX_FILES | {LOCK_FILE, SEGMENTS}
_SEGMENT_NAME = re.compile(rf"[0-9a-f]{{{2 * ID_BYTES}}}{re.escape(SUFFIX)}")


class FolderLock:
    """Held by one process at a time, until `release` or the end of the process. It leaves its number in the file."""

    def __init__(self, folder: Path, where: str) -> None:
        self._handle = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, PRIVATE)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._handle, 20, 0).strip()
            os.close(self._handle)
            who = f"process {holder.decode()}" if holder.isdigit() else "another process"
            raise PreprocessingError(
                f"{where}: expected one that is not in use, got one that {who} has open: stop that party first, or "
                "let that `sottovoce prepare` end"
            ) from None
        os.ftruncate(self._handle, 0)
        os.pwrite(self._handle, b"%d\n" % os.getpid(), 0)

    def release(self) -> None:
        """Let others in."""
        os.close(self._handle)


def check_names(folder: Path, where: str) -> None:
    """Raise PreprocessingError if anything else lies here: a key must not, above all."""
    if not folder.is_dir():
        raise PreprocessingError(f"{where}: expected a folder, got a file")
    foreign = sorted(name for name in os.listdir(folder) if name not in _OWN_NAMES)
    if (folder / SEGMENTS).is_dir():
        foreign += sorted(name for name in os.listdir(folder / SEGMENTS) if not _SEGMENT_NAME.fullmatch(name))
    if foreign:
        name = printable(repr(foreign[0]))
        raise PreprocessingError(
            f"{where}: expected a store's own files only, got {name}; keep it elsewhere, a key above all"
        )


def remove_others(folder: Path, known: Container[str]) -> None:
    """Delete segments that are not in the index: a crash left them over."""
    for path in (folder / SEGMENTS).iterdir():
        if path.name not in known:
            path.unlink()
