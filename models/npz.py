"""Arrays in npz files that nobody vouches for: nothing is unpickled, no array is made before its header is checked."""

from __future__ import annotations

import math
import os
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from sottovoce.engine.errors import InputError

NPZ_ERRORS = (ValueError, KeyError, EOFError, TypeError, RuntimeError, OverflowError, zipfile.BadZipFile, zlib.error)
"""What a file that is no npz file makes `zipfile` and this module raise, besides OSError."""

_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Those that NumPy writes; other unpackers raise errors of their own and take the memory that a file asks for."""


@contextmanager
def open_npz(
    path: str | os.PathLike[str], limit: int, where: str, what: str, error: type[InputError]
) -> Iterator[zipfile.ZipFile]:
    """The archive at `path`, which may hold `limit` bytes, packed and unpacked.

    What goes wrong, also in the block that reads it, is raised as `error`, whose text says `where`, and `what` the
    file should hold.
    """
    try:
        size = Path(path).stat().st_size
        if size > limit:
            raise error(f"{where}: expected at most {limit} bytes, got {size}")
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
            if unpacked > limit:  # a small file can unpack to a thousand times its size
                raise error(f"{where}: expected at most {limit} bytes unpacked, got {unpacked}")
            yield archive
    except InputError:
        raise
    except OSError as problem:
        raise error(f"{where}: expected an npz file of {what}, got: {problem.strerror or problem}") from None
    except NPZ_ERRORS:
        raise error(f"{where}: expected an npz file of {what}, got something else") from None


def read_header(archive: zipfile.ZipFile, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """What array `name` says about its shape and dtype. Raises one of `NPZ_ERRORS` for a member that is no array."""
    with _opened(archive, name) as member:
        return _parsed(member)


def read_array(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    """Array `name`, as large as the directory of the archive says. Raises as `read_header`, and for Python objects."""
    with _opened(archive, name) as member:
        shape, dtype = _parsed(member)
        held = archive.getinfo(f"{name}.npy").file_size - member.tell()
    if dtype.hasobject or math.prod(shape) * dtype.itemsize != held:
        raise ValueError("not the numbers that the header claims")
    with _opened(archive, name) as member:
        array: NDArray[Any] = npy.read_array(member, allow_pickle=False)
    return array


def _opened(archive: zipfile.ZipFile, name: str) -> IO[bytes]:
    entry = archive.getinfo(f"{name}.npy")
    if entry.compress_type not in _COMPRESSIONS:
        raise ValueError("not compressed as NumPy does")
    return archive.open(entry)


def _parsed(member: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    if npy.read_magic(member) != (1, 0):  # later versions are for field names, which arrays of numbers lack
        raise ValueError("not an npy file of version 1.0")
    try:
        shape, _, dtype = npy.read_array_header_1_0(member)
    except (tokenize.TokenError, MemoryError):  # half a literal, or one nested too deep for Python's parser
        raise ValueError("not the header of an npy file") from None
    return shape, dtype
