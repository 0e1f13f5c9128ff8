"""Arrays in npz files that nobody vouches for: nothing is unpickled, no array is made before its header is checked."""

from __future__ import annotations

import math
import tokenize
import zipfile
import zlib
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

NPZ_ERRORS = (ValueError, KeyError, EOFError, TypeError, RuntimeError, OverflowError, zipfile.BadZipFile, zlib.error)
"""What a file that is no npz file makes `zipfile` and this module raise, besides OSError."""

_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Those that NumPy writes; other unpackers raise errors of their own and take the memory that a file asks for."""


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
