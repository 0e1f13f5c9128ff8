"""Files of others: what would last for ever, fill the memory or steer a terminal is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sottovoce.engine.files import read_bounded


def test_text_comes_back(tmp_path: Path) -> None:
    content = '{"a": "größer\\n\\tµ"}\r\n'.encode()
    (tmp_path / "file").write_bytes(content)
    assert read_bounded(tmp_path / "file", len(content)) == content
    with pytest.raises(OSError, match="at most"):
        read_bounded(tmp_path / "file", len(content) - 1)


def test_devices_and_pipes_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(OSError, match="not a regular file"):
            read_bounded(path, 10)


@pytest.mark.parametrize("bad", [b"\x1b[2J", b"\\u001b]52;", b"\\u009B2J", b"\\u009b2J", b"\xc2\x9b", b"\x07", b"\x7f"])
def test_what_steers_a_terminal_is_refused(tmp_path: Path, bad: bytes) -> None:
    (tmp_path / "file").write_bytes(b'{"name": "' + bad + b'"}')
    with pytest.raises(OSError, match="control"):
        read_bounded(tmp_path / "file", 1000)
