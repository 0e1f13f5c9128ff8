"""The index of a store: an SQLite file that says what there is and what is used, every secret in it sealed.

WAL mode with synchronous=FULL: when `commit` returns, it is on the disk. The process holds the file alone. A second
file, the *witness*, repeats the number of the last change; it is written after each commit without waiting for the
disk, so it can lag behind the index after a power failure, but an index that lags behind it was replaced by an older
one, or lost its write-ahead log.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from sottovoce.engine.errors import PreprocessingError
from sottovoce.engine.preprocessing.durable import create, printable, write_new

INDEX_FILE = "index.sqlite"
WITNESS_FILE = "witness"
INDEX_FILES = frozenset({INDEX_FILE, f"{INDEX_FILE}-wal", f"{INDEX_FILE}-shm", f"{INDEX_FILE}-journal", WITNESS_FILE})

_SCHEMA = (
    "CREATE TABLE store (id INTEGER PRIMARY KEY CHECK (id = 1), header BLOB, secrets BLOB, state BLOB)",
    "CREATE TABLE segment (start INTEGER PRIMARY KEY, sealed BLOB)",
)
_PRAGMAS = (
    "locking_mode = EXCLUSIVE",  # before WAL: no shared memory file is needed then
    "synchronous = FULL",
    "fullfsync = ON",  # macOS: fsync alone does not wait for the disk
    "checkpoint_fullfsync = ON",
    "secure_delete = ON",
    "trusted_schema = OFF",
)

Row = tuple[int, bytes]
"""A segment's first clip and its sealed description."""


class Index:
    """header: in the clear; secrets, state and each segment's row are sealed by the caller.

    where: stands in front of error texts.
    """

    def __init__(self, folder: Path, where: str) -> None:
        self._where = where
        with self._errors("open"):
            # Several threads may use it: a store lets them in one at a time.
            self._db = sqlite3.connect(folder / INDEX_FILE, isolation_level=None, check_same_thread=False)
            try:
                for pragma in _PRAGMAS:
                    self._db.execute(f"PRAGMA {pragma}")
                (mode,) = self._db.execute("PRAGMA journal_mode = WAL").fetchone()
                if mode != "wal":
                    raise PreprocessingError(
                        f"{where}: the index: expected a write-ahead log, got journal mode {mode!r}; "
                        "a store must lie on a local file system"
                    )
                self._schema = [sql for (sql,) in self._db.execute("SELECT sql FROM sqlite_master ORDER BY rowid")]
            except BaseException:
                self._db.close()
                raise

    @property
    def empty(self) -> bool:
        """Nothing was ever committed: the process that made it was stopped."""
        return not self._schema

    def create(self, header: bytes, secrets: bytes, state: bytes) -> None:
        """Fill an empty one."""
        with self._transaction("create"):
            for table in _SCHEMA:
                self._db.execute(table)
            self._db.execute("INSERT INTO store VALUES (1, ?, ?, ?)", (header, secrets, state))

    def read(self) -> tuple[bytes, bytes, bytes, list[Row]]:
        """header, secrets, state, and the segments in order."""
        # The exact tables and nothing else: a trigger would run as part of a commit.
        if tuple(self._schema) != _SCHEMA:
            raise PreprocessingError(f"{self._where}: expected the tables of a store in {INDEX_FILE}")
        with self._errors("read"):
            values = self._db.execute("SELECT header, secrets, state FROM store").fetchall()
            rows = self._db.execute("SELECT start, sealed FROM segment ORDER BY start").fetchall()
        blobs = [blob for value in values for blob in value] + [blob for _, blob in rows]
        if len(values) != 1 or not all(isinstance(blob, bytes) for blob in blobs):
            raise PreprocessingError(f"{self._where}: the index is damaged: a value has the wrong type")
        header, secrets, state = values[0]
        return header, secrets, state, rows

    def commit(self, state: bytes, added: Sequence[Row] = (), dropped: Sequence[int] = ()) -> None:
        """Replace the state, add and drop segments, all or nothing; on the disk when this returns."""
        with self._transaction("commit"):
            self._db.execute("UPDATE store SET state = ?", (state,))
            self._db.executemany("DELETE FROM segment WHERE start = ?", [(start,) for start in dropped])
            self._db.executemany("INSERT INTO segment VALUES (?, ?)", added)

    def close(self) -> None:
        """Give the file back."""
        with self._errors("close"):
            self._db.close()

    @contextmanager
    def _transaction(self, operation: str) -> Iterator[None]:
        with self._errors(operation):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):  # SQLite may have rolled back itself; the first error is the one to tell
                    self._db.execute("ROLLBACK")
                raise

    @contextmanager
    def _errors(self, operation: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise PreprocessingError(f"{self._where}: {operation} the index: {printable(str(error))}") from None


class Witness:
    """The number of the last change, sealed by the caller. One size, within a sector: never half written."""

    def __init__(self, folder: Path, where: str) -> None:
        try:
            self._handle = os.open(folder / WITNESS_FILE, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            raise PreprocessingError(f"{where}: expected a file {WITNESS_FILE!r}, got none") from None

    @staticmethod
    def create(folder: Path, content: bytes) -> None:
        """Make it, durable but for its name."""
        (folder / WITNESS_FILE).unlink(missing_ok=True)
        write_new(folder / WITNESS_FILE, content)

    def read(self) -> bytes:
        """What was written last."""
        return os.pread(self._handle, 4096, 0)

    def write(self, content: bytes) -> None:
        """Replace it."""
        os.pwrite(self._handle, content, 0)

    def close(self) -> None:
        """Give the file back."""
        os.close(self._handle)


def prepare_file(folder: Path) -> None:
    """An empty private index; SQLite would make one that others may read."""
    with suppress(FileExistsError):
        os.close(create(folder / INDEX_FILE))
