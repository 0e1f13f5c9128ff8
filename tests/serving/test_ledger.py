"""The file of costs: whatever lies there, it never stands in the way of preparing or serving."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from sottovoce.serving.ledger import SegmentCost, ledger_path, read, record

FIRST, SECOND = SegmentCost(0, 4, 400, 40), SegmentCost(4, 2, 100, 10)


@pytest.mark.parametrize(
    "torn", [b'{"start":4,"cl', b'{"start":4,"clips":2,"elapsed_ns":100,"bytes_sent":10', b"\xff\0{"]
)
def test_a_torn_line_is_left_out_and_not_gone_on_with(tmp_path: Path, torn: bytes) -> None:
    store = tmp_path / "p0"
    record(store, FIRST)
    with open(ledger_path(store), "ab") as file:
        file.write(torn)
    assert read(store) == [FIRST]
    record(store, SECOND)
    assert read(store) == [FIRST, SECOND]
    assert ledger_path(store).read_bytes().count(b"\n") == 3


def test_bad_lines_hide_no_good_ones(tmp_path: Path) -> None:
    store = tmp_path / "p0"
    for line in (b"{}", b"[1]", b'{"start":-1,"clips":1,"elapsed_ns":1,"bytes_sent":1}', b"", b"\xff\xfe"):
        with open(ledger_path(store), "ab") as file:
            file.write(line + b"\n")
        record(store, FIRST)
    assert read(store) == [FIRST] * 5


def test_it_is_private_and_a_file(tmp_path: Path) -> None:
    store = tmp_path / "p0"
    record(store, FIRST)
    assert ledger_path(store).stat().st_mode & 0o777 == 0o600
    (tmp_path / "elsewhere").touch()
    ledger_path(tmp_path / "link").symlink_to("elsewhere")
    os.mkfifo(ledger_path(tmp_path / "pipe"))  # nobody writes to it: opening it would wait for ever
    ledger_path(tmp_path / "folder").mkdir()
    for name in ("link", "pipe", "folder", "missing/store"):
        record(tmp_path / name, FIRST)
        assert read(tmp_path / name) == []
    assert (tmp_path / "elsewhere").read_bytes() == b""


def test_a_full_disk_costs_only_the_figure(tmp_path: Path) -> None:
    store = tmp_path / "p0"
    record(store, FIRST)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ledger_path(store).stat().st_size + 5, hard))
    try:
        record(store, SECOND)
        record(store, SECOND)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    record(store, SECOND)
    assert read(store) == [FIRST, SECOND]
