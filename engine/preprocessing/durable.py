"""Files that outlive a crash."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sottovoce.engine.errors import PreprocessingError

PRIVATE = 0o600
PRIVATE_FOLDER = 0o700
SHOWN_CHARS = 200


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def create(path: Path) -> int:
    """The handle of a new, empty, private file. Raises FileExistsError."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, PRIVATE)


def write_new(path: Path, content: bytes) -> None:
    """A new private file with this content, durable but for its name."""
    with open(create(path), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def make_private(folder: Path) -> None:
    """Let nobody else into a folder, whoever made it."""
    folder.chmod(PRIVATE_FOLDER)


def printable(text: str) -> str:
    """What a file says, for an error text: printable ASCII of bounded length, whoever wrote it."""
    plain = "".join(char if " " <= char <= "~" else "?" for char in text[: SHOWN_CHARS + 1])
    return plain if len(plain) <= SHOWN_CHARS else f"{plain[: SHOWN_CHARS - 3]}..."


@contextmanager
def os_errors(where: str, operation: str) -> Iterator[None]:
    """What the operating system refuses, as a PreprocessingError."""
    try:
        yield
    except OSError as error:
        raise PreprocessingError(f"{where}: {operation}: {error.strerror or type(error).__name__}") from error
