"""Files and folders on the command line to a list of recordings."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sottovoce.engine.errors import AudioError, InputError
from sottovoce.models.speech.containers import SOUND_SUFFIXES


@dataclass(frozen=True, slots=True)
class Item:
    """One recording to classify, or a folder that gave none and why."""

    path: str
    error: InputError | None = None


def list_recordings(paths: Iterable[str]) -> list[Item]:
    """Files as they are named, whatever they are called; folders recursively, in sorted order, by extension.

    Inside folders hidden files and folders are left out and links to folders are not followed (they may form rings).
    A folder that cannot be read, or holds no recording, gives an Item with the error: it does not stop the others.
    """
    items: list[Item] = []
    for path in paths:
        if os.path.isdir(path):
            found = list(_walk(path))
            items += found or [Item(path, AudioError(f"folder {path}: expected sound files, got none"))]
        else:
            items.append(Item(path))
    return items


def _walk(folder: str) -> Iterator[Item]:
    failures: list[OSError] = []
    for where, folders, names in os.walk(folder, onerror=failures.append):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in SOUND_SUFFIXES:
                yield Item(os.path.join(where, name))
    for failure in failures:
        name = str(failure.filename)
        yield Item(name, AudioError(f"folder {name}: cannot be read: {failure.strerror}"))
