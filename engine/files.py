"""Reading a file that somebody else may have written."""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path
from typing import Final

_CONTROL: Final = re.compile(
    rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\xc2[\x80-\x9f]|\\u00(?:[01][0-9a-f]|7f|[89][0-9a-f])", re.I
)


def read_bounded(path: Path, limit: int) -> bytes:
    """All of a regular file of at most `limit` bytes, as text that no terminal obeys, raw or as JSON's \\u escapes.

    Raises OSError with a reason in `strerror`: not a regular file (a device or a pipe could last for ever), too large,
    or control characters in it.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        content = file.read(limit + 1)
    if len(content) > limit:
        raise OSError(errno.EFBIG, f"expected at most {limit:,} bytes", str(path))
    if _CONTROL.search(content):
        raise OSError(errno.EILSEQ, "it holds control characters", str(path))
    return content
