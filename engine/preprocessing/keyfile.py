"""The key of a party's stores: 32 random bytes in a file of its own, never beside the data that it opens."""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sottovoce.engine.errors import ConfigError
from sottovoce.engine.preprocessing.durable import PRIVATE_FOLDER, sync_folder, write_new
from sottovoce.engine.preprocessing.index import INDEX_FILE
from sottovoce.engine.prg import KEY_BYTES

DRAFT_BYTES = 8
DRAFT_S = 60
"""A draft that is older was left by a process that is gone."""


def default_key_path() -> Path:
    """$XDG_CONFIG_HOME/sottovoce/store.key, where that is ~/.config by default."""
    base = os.environ.get("XDG_CONFIG_HOME", "")
    folder = Path(base) if os.path.isabs(base) else Path.home() / ".config"
    return folder / "sottovoce" / "store.key"


def load_key(path: Path) -> bytes:
    """The key in the file `path`.

    Raises ConfigError if there is none, for a path inside a store, a link, a file that others may read or own, one of
    another size, or one that cannot be read.
    """
    _check_place(path)
    with _errors(path):
        return _load(path)


def load_or_create_key(path: Path) -> bytes:
    """The key in the file `path`, which is made with mode 0600 if there is none.

    Two processes that come at the same time get the same key: a file appears whole or not at all. Raises ConfigError
    as `load_key` does, and for a file that cannot be written.
    """
    _check_place(path)
    with _errors(path):
        with suppress(FileExistsError):
            _create(path)
        _clean(path)
        return _load(path)


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise ConfigError(
            f"store key {path}: expected a key, got no file: `sottovoce prepare` makes one, --store-key names it"
        ) from None
    except OSError as error:
        reason = "expected a file, got a symbolic link" if error.errno == errno.ELOOP else error.strerror
        raise ConfigError(f"store key {path}: {reason}") from None


def _check_place(path: Path) -> None:
    """Whoever copies or steals a store must not get its key with it."""
    for folder in path.resolve().parents:
        if (folder / INDEX_FILE).exists():
            raise ConfigError(f"store key {path}: expected a place outside every store, got one in the store {folder}")


def _create(path: Path) -> None:
    """Write a fresh key beside its place, then give it its name, unless that exists."""
    if os.path.lexists(path):
        return
    path.parent.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(DRAFT_BYTES)}")
    try:
        write_new(draft, secrets.token_bytes(KEY_BYTES))
        os.link(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    sync_folder(path.parent)


def _clean(path: Path) -> None:
    """Remove drafts that a killed process left: at once where it is the key's second name, else when it is old.

    Whoever destroys the key by its name must not leave it under another one.
    """
    name = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{{2 * DRAFT_BYTES}}}")
    for draft in [entry for entry in path.parent.iterdir() if name.fullmatch(entry.name)]:
        with suppress(FileNotFoundError):  # its process goes on, and has removed it
            if draft.samefile(path) or time.time() - draft.lstat().st_mtime > DRAFT_S:
                draft.unlink()


def _load(path: Path) -> bytes:
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(handle, "rb") as file:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError(f"store key {path}: expected a regular file")
        if status.st_uid != os.geteuid():
            raise ConfigError(f"store key {path}: expected a file of user {os.geteuid()}, got one of {status.st_uid}")
        if status.st_mode & 0o077:
            mode = stat.S_IMODE(status.st_mode)
            raise ConfigError(f"store key {path}: expected mode 0600, got {mode:04o}: others may have read it")
        key = file.read(KEY_BYTES + 1)
    if len(key) != KEY_BYTES:
        raise ConfigError(
            f"store key {path}: expected {KEY_BYTES} bytes, got {'more' if key[KEY_BYTES:] else len(key)}"
        )
    return key
