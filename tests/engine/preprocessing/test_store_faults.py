"""Damage, swapped and older files, a full disk: refused, and never a clip twice."""

from __future__ import annotations

import json
import resource
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.engine.preprocessing.stores import COMMON, DERIVED, IDENTITY, KEY, PAIR, check_taken, fill, make, reopen

from sottovoce.engine.errors import PeerClosedError, PreprocessingError
from sottovoce.engine.preprocessing.index import INDEX_FILE, WITNESS_FILE
from sottovoce.engine.preprocessing.segment import HEADER_BYTES
from sottovoce.engine.preprocessing.store import Store

RECORD = 8 * (DERIVED + COMMON) + 16


def segment_files(folder: Path) -> list[Path]:
    """The files of segments in the order of their clips."""
    with reopen(folder) as store:
        return [folder / "segments" / segment.file for segment in store.segments]


def flip(path: Path, at: int) -> None:
    """Change one bit of a file."""
    content = bytearray(path.read_bytes())
    content[at] ^= 0x10
    path.write_bytes(content)


# ---- segments -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [0, 7, 8 * DERIVED, 8 * (DERIVED + COMMON) - 1, RECORD - 16, RECORD - 1])
def test_a_damaged_record_is_named_and_stays_used(tmp_path: Path, at: int) -> None:
    make(tmp_path / "s").close()
    flip(segment_files(tmp_path / "s")[1], HEADER_BYTES + 2 * RECORD + at)  # clip 5
    with reopen(tmp_path / "s") as store:
        check_taken(store.take(4), range(4))
        with pytest.raises(
            PreprocessingError, match=r"segment \w{8} \(clips 3 to 6\): the record of clip 5 is damaged"
        ):
            check_taken(store.take(2), range(4, 6))
        assert store.position == 6
        check_taken(store.take(1), range(6, 7))


def test_a_record_in_the_place_of_another(tmp_path: Path) -> None:
    make(tmp_path / "s", [3, 3]).close()
    first, second = segment_files(tmp_path / "s")
    a, b = bytearray(first.read_bytes()), bytearray(second.read_bytes())
    a[HEADER_BYTES : HEADER_BYTES + RECORD] = a[HEADER_BYTES + RECORD : HEADER_BYTES + 2 * RECORD]
    b[HEADER_BYTES:] = a[HEADER_BYTES:]
    first.write_bytes(a)
    second.write_bytes(b)
    with reopen(tmp_path / "s") as store:
        for clip in (0, 3):
            store.advance(clip)
            with pytest.raises(PreprocessingError, match=f"record of clip {clip} is damaged or not its own"):
                check_taken(store.take(1), range(clip, clip + 1))


def test_a_segment_in_the_place_of_another(tmp_path: Path) -> None:
    make(tmp_path / "s", [3, 3]).close()
    make(tmp_path / "other", [3]).close()
    first, second = segment_files(tmp_path / "s")
    (foreign,) = segment_files(tmp_path / "other")
    shutil.copy(second, first)
    second.write_bytes(second.read_bytes()[:HEADER_BYTES] + foreign.read_bytes()[HEADER_BYTES:])
    with reopen(tmp_path / "s") as store:
        with pytest.raises(PreprocessingError, match="its own header"):
            check_taken(store.take(1), range(1))
        store.advance(3)
        with pytest.raises(PreprocessingError, match="record of clip 3 is damaged or not its own"):
            check_taken(store.take(1), range(3, 4))


def test_everything_is_bound_into_a_record(tmp_path: Path) -> None:
    """The nonce holds the clip's number, too; each of the two would do."""
    with make(tmp_path / "a") as one, make(tmp_path / "b") as other:
        segment = one.segments[0]
        changed = [
            replace(segment, start=1),
            replace(segment, clips=2),
            replace(segment, derived_words=COMMON, common_words=DERIVED),
            replace(segment, id=bytes(16)),
        ]
        bound = [one._file(segment).bound(clip) for clip in (0, 1)]
        bound += [one._file(other_segment).bound(0) for other_segment in changed]
        bound.append(other._file(segment).bound(0))
        assert len(set(bound)) == len(bound) == 7
        for part in (IDENTITY.protocol.encode(), PAIR, segment.id):
            assert part in bound[0]


@pytest.mark.parametrize("size", [None, 0, HEADER_BYTES + 2 * RECORD, HEADER_BYTES + 4 * RECORD - 1, 5000])
def test_a_truncated_longer_or_missing_segment(tmp_path: Path, size: int | None) -> None:
    make(tmp_path / "s").close()
    path = segment_files(tmp_path / "s")[1]
    content = path.read_bytes()
    if size is None:
        path.unlink()
    else:
        path.write_bytes(content.ljust(size, b"\0")[:size])
    got = "no file" if size is None else f"{size:,} bytes"
    with pytest.raises(PreprocessingError, match=rf"\(clips 3 to 6\): expected {len(content)} bytes, got {got}"):
        reopen(tmp_path / "s")
    path.write_bytes(content)
    with reopen(tmp_path / "s") as store:
        path.unlink()
        store.advance(3)
        with pytest.raises(PreprocessingError, match=r"clips 3 to 6\): read: No such file"):
            check_taken(store.take(1), range(3, 4))


# ---- the index ----------------------------------------------------------------------------------------------------


def test_no_damaged_byte_of_the_index_goes_unnoticed(tmp_path: Path) -> None:
    """A flipped bit anywhere: refused, or in a place that means nothing."""
    folder = tmp_path / "s"
    with make(folder) as store:
        store.take(2)
        store.claim(b"tag")
    content = (folder / INDEX_FILE).read_bytes()
    segments = {path: path.read_bytes() for path in segment_files(folder)}
    refused = 0
    used = [at for at in range(len(content)) if content[at] or at < 100]
    for at in used[:: len(used) // 60]:
        (folder / INDEX_FILE).write_bytes(content)
        flip(folder / INDEX_FILE, at)
        try:
            with reopen(folder) as store:
                assert (store.position, store.end, store.claimed, len(store.segments)) == (2, 7, b"tag", 2)
        except PreprocessingError:
            refused += 1
        for path, whole in segments.items():
            assert path.read_bytes() == whole
    assert refused > 30


@pytest.mark.parametrize("content", [b"", b"SQLite format 3\0 and rubbish" * 300, b"rubbish" * 1000])
def test_an_index_that_is_none(tmp_path: Path, content: bytes) -> None:
    make(tmp_path / "s").close()
    (tmp_path / "s" / INDEX_FILE).write_bytes(content)
    with pytest.raises(PreprocessingError, match=r"index|making was stopped"):
        reopen(tmp_path / "s")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("DELETE FROM segment WHERE start = 0", "missing or out of order"),
        ("DELETE FROM segment WHERE start = 3", "missing or out of order"),
        ("INSERT INTO segment SELECT 7, sealed FROM segment WHERE start = 3", "missing or out of order"),
        ("UPDATE segment SET start = start + 1", "missing or out of order"),
        ("UPDATE segment SET sealed = (SELECT state FROM store)", "segment is damaged"),
        ("UPDATE store SET state = secrets", "state is damaged"),
        ("UPDATE store SET state = x'00'", "state is damaged"),
        ("UPDATE store SET state = 'text'", "wrong type"),
        ("UPDATE store SET header = x'7b7d'", "header cannot be read"),
        ("UPDATE store SET header = CAST(replace(header, '\"rank\":1', '\"rank\":0') AS BLOB)", "for party 1, got one"),
        (
            "UPDATE store SET header = CAST(replace(header, '\"format\":1', '\"format\":2') AS BLOB)",
            "format 1, got one",
        ),
        ("UPDATE store SET header = CAST(header || ' ' AS BLOB)", "canonical"),
        ("DELETE FROM store", "wrong type"),
        ("CREATE TRIGGER t AFTER UPDATE ON store BEGIN SELECT 1; END", "tables of a store"),
        ("DROP TABLE segment", "tables of a store"),
    ],
)
def test_an_edited_index(tmp_path: Path, change: str, message: str) -> None:
    make(tmp_path / "s").close()
    edit(tmp_path / "s", change)
    with pytest.raises(PreprocessingError, match=message):
        reopen(tmp_path / "s")


def edit(folder: Path, change: str, *values: object) -> None:
    """Run SQL on the index of a closed store."""
    with closing(sqlite3.connect(folder / INDEX_FILE)) as database, database:
        database.execute(change, values)


def test_a_state_from_before_or_from_another_store(tmp_path: Path) -> None:
    """Without the key one can only put back what was there: an older state, or another store's."""
    make(tmp_path / "s").close()
    make(tmp_path / "other").close()
    old, foreign = (state_of(tmp_path / name) for name in ("s", "other"))
    with reopen(tmp_path / "s") as store:
        store.take(1)
    new = state_of(tmp_path / "s")
    for state, message in ((old, "older than its last use"), (foreign, "belongs to another store")):
        edit(tmp_path / "s", "UPDATE store SET state = ?", state)
        with pytest.raises(PreprocessingError, match=message):
            reopen(tmp_path / "s")
    edit(tmp_path / "s", "UPDATE store SET state = ?", new)
    with reopen(tmp_path / "s") as store:
        assert store.position == 1


@pytest.mark.parametrize("text", ["\x1b[2J\x07" * 1000, "\u202e" * 1000, "x" * 100_000])
def test_what_a_foreign_file_says_is_cut(tmp_path: Path, text: str) -> None:
    make(tmp_path / "s").close()
    edit(tmp_path / "s", "UPDATE store SET header = CAST(replace(header, 'beaver2', ?) AS BLOB)", text_in_json(text))
    with pytest.raises(PreprocessingError, match="for protocol 'beaver2', got one for '") as caught:
        reopen(tmp_path / "s")
    assert len(str(caught.value)) < 300 and str(caught.value).isascii() and str(caught.value).isprintable()


def text_in_json(text: str) -> str:
    return json.dumps(text)[1:-1]


def test_an_index_that_speaks(tmp_path: Path) -> None:
    """SQLite repeats names of a schema that it cannot read."""
    make(tmp_path / "s").close()
    with closing(sqlite3.connect(tmp_path / "s" / INDEX_FILE)) as database, database:
        database.execute("PRAGMA writable_schema = ON")
        database.execute("UPDATE sqlite_master SET sql = 'CREATE ' || ? WHERE name = 'segment'", ["\x1b[2J" * 500])
    with pytest.raises(PreprocessingError) as caught:
        reopen(tmp_path / "s")
    assert len(str(caught.value)) < 300 and str(caught.value).isascii() and str(caught.value).isprintable()


def state_of(folder: Path) -> bytes:
    with closing(sqlite3.connect(folder / INDEX_FILE)) as database:
        return database.execute("SELECT state FROM store").fetchone()[0]


def test_an_older_copy_of_the_index(tmp_path: Path) -> None:
    make(tmp_path / "s").close()
    shutil.copy(tmp_path / "s" / INDEX_FILE, tmp_path / "copy")
    with reopen(tmp_path / "s") as store:
        store.claim(b"tag")
    shutil.copy(tmp_path / "copy", tmp_path / "s" / INDEX_FILE)
    with pytest.raises(PreprocessingError, match="older than its last use"):
        reopen(tmp_path / "s")


@pytest.mark.parametrize("damage", ["remove", "cut", "flip"])
def test_a_lost_write_ahead_log(tmp_path: Path, damage: str) -> None:
    """SQLite takes a damaged log as one that ends there, and would go back in time."""
    with make(tmp_path / "s") as store:
        store.take(2)
        shutil.copytree(tmp_path / "s", tmp_path / "crashed")
    log = tmp_path / "crashed" / f"{INDEX_FILE}-wal"
    if damage == "remove":
        log.unlink()
    elif damage == "cut":
        log.write_bytes(log.read_bytes()[:-4000])
    else:
        flip(log, log.stat().st_size - 2000)
    with pytest.raises(PreprocessingError, match=r"older than its last use|making was stopped"):
        reopen(tmp_path / "crashed")


def test_the_witness_must_be_there_and_its_own(tmp_path: Path) -> None:
    make(tmp_path / "s").close()
    make(tmp_path / "other").close()
    witness = tmp_path / "s" / WITNESS_FILE
    whole = witness.read_bytes()
    for content in (b"", whole[:-1], whole + b"\0", (tmp_path / "other" / WITNESS_FILE).read_bytes()):
        witness.write_bytes(content)
        with pytest.raises(PreprocessingError, match="witness is damaged"):
            reopen(tmp_path / "s")
    witness.unlink()
    with pytest.raises(PreprocessingError, match="'witness', got none"):
        reopen(tmp_path / "s")
    witness.write_bytes(whole)
    reopen(tmp_path / "s").close()


def test_a_witness_that_lags_behind_is_fine(tmp_path: Path) -> None:
    """It does not wait for the disk: after a power failure it may be older than the index."""
    make(tmp_path / "s").close()
    old = (tmp_path / "s" / WITNESS_FILE).read_bytes()
    with reopen(tmp_path / "s") as store:
        store.take(3)
    (tmp_path / "s" / WITNESS_FILE).write_bytes(old)
    with reopen(tmp_path / "s") as store:
        check_taken(store.take(1), range(3, 4))


# ---- the disk, the source -----------------------------------------------------------------------------------------


@contextmanager
def full_disk(left: int) -> Iterator[None]:
    """No file may grow beyond `left` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (left, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("left", [20, HEADER_BYTES + 2 * RECORD])
def test_a_disk_that_is_full_while_adding(tmp_path: Path, left: int) -> None:
    with make(tmp_path / "s") as store:
        before = sorted(path.name for path in (tmp_path / "s" / "segments").iterdir())
        with full_disk(left), pytest.raises(PreprocessingError, match="nothing was added: File too large"):
            fill(store, 4)
        assert sorted(path.name for path in (tmp_path / "s" / "segments").iterdir()) == before
        fill(store, 1)
        check_taken(store.take(8), range(8))


@pytest.mark.parametrize("operation", ["take", "add"])
def test_a_disk_that_is_full_for_the_index(tmp_path: Path, operation: str) -> None:
    with make(tmp_path / "s") as store:
        with full_disk(6_000), pytest.raises(PreprocessingError, match=r"commit the index: .*(full|disk I/O)"):
            store.take(1) if operation == "take" else fill(store, 2)
        assert (store.position, store.end) == (0, 7)
        check_taken(store.take(2), range(2))
        fill(store, 1)
    with reopen(tmp_path / "s") as store:
        check_taken(store.take(6), range(2, 8))
        assert len(list((tmp_path / "s" / "segments").iterdir())) == len(store.segments)


def test_a_source_that_dies_half_way(tmp_path: Path) -> None:
    """Its own error passes through, also where it is an OSError."""
    with make(tmp_path / "s") as store:
        before = store.segments

        def half() -> None:
            with store.add(7, 2, bytes(32), source="dealer", derived_words=2, common_words=0) as writer:
                writer.write(np.zeros((1, 2), np.uint64), None)
                raise PeerClosedError("dealer: closed the connection")

        with pytest.raises(PeerClosedError, match="dealer"):
            half()
        assert store.segments == before
        assert len(list((tmp_path / "s" / "segments").iterdir())) == len(before)


def test_a_making_that_was_stopped_can_be_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as stopped:
        stopped.setattr("sottovoce.engine.preprocessing.index.Index.create", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            make(tmp_path / "s")
    with pytest.raises(PreprocessingError, match="making was stopped: make it again"):
        reopen(tmp_path / "s")
    with make(tmp_path / "s") as store:
        check_taken(store.take(1), range(1))


def test_a_making_that_was_stopped_anywhere_is_not_in_the_way(tmp_path: Path) -> None:
    """After each call that reaches the disk: `open_or_none` finds none, or a whole one."""
    calls = ["prepare_file", "Index", "Witness.create", "sync_folder", "make_private", "Index.create"]
    for number, name in enumerate(calls):
        folder = tmp_path / str(number)
        with pytest.MonkeyPatch.context() as stopped:
            stopped.setattr(f"sottovoce.engine.preprocessing.opening.{name}", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                make(folder)
        assert Store.open_or_none(folder, key=KEY, identity=IDENTITY) is None
        with make(folder) as store:
            check_taken(store.take(1), range(1))
        with Store.open_or_none(folder, key=KEY, identity=IDENTITY) as again:
            assert again.position == 1


def test_an_index_that_was_lost_is_no_making_that_was_stopped(tmp_path: Path) -> None:
    make(tmp_path / "s").close()
    (tmp_path / "s" / INDEX_FILE).write_bytes(b"")
    for call in (reopen, make, lambda folder: Store.open_or_none(folder, key=KEY, identity=IDENTITY)):
        with pytest.raises(PreprocessingError, match="empty, beside segments"):
            call(tmp_path / "s")
    assert len(list((tmp_path / "s" / "segments").iterdir())) == 2


def test_an_older_copy_of_everything_is_what_the_partner_must_notice(tmp_path: Path) -> None:
    """The store cannot tell; the docs say so. The partner's position keeps it from going back."""
    make(tmp_path / "s").close()
    shutil.copytree(tmp_path / "s", tmp_path / "backup")
    partner = Store.create(tmp_path / "p", key=KEY, identity=IDENTITY, pair=PAIR)
    fill(partner, 3)
    fill(partner, 4)
    with partner, reopen(tmp_path / "s") as store:
        store.take(2)
        partner.take(2)
    shutil.rmtree(tmp_path / "s")
    shutil.copytree(tmp_path / "backup", tmp_path / "s")
    with reopen(tmp_path / "s") as store:
        assert store.position == 0
        store.align(partner.position, partner.end)
        check_taken(store.take(1), range(2, 3))


def test_a_commit_that_fails_half_way_changes_nothing(tmp_path: Path) -> None:
    with make(tmp_path / "s") as store:
        with pytest.raises(PreprocessingError, match="commit the index: UNIQUE"):
            store._index.commit(b"half", [(3, b"a segment with this start is there")])
        check_taken(store.take(1), range(1))
    with reopen(tmp_path / "s") as store:
        check_taken(store.take(6), range(1, 7))
