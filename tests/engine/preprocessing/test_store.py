"""The store: what goes in comes out once, for whom it was made, and is durable before it is used."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.engine.preprocessing.stores import (
    COMMON,
    DERIVED,
    IDENTITY,
    KEY,
    PAIR,
    check_taken,
    fill,
    make,
    reopen,
    seed_of,
    words_of,
)

from sottovoce.engine.errors import MaskReuseError, PreprocessingError, ProtocolError
from sottovoce.engine.preprocessing.keyfile import load_or_create_key
from sottovoce.engine.preprocessing.segment import SegmentFile
from sottovoce.engine.preprocessing.store import Store


def test_every_clip_once_and_in_order(tmp_path: Path) -> None:
    with make(tmp_path / "s") as store:
        assert (store.position, store.end, store.pair, store.claimed) == (0, 7, PAIR, None)
        mask_seed = store.mask_seed
        first = store.take(2)
        check_taken(first, range(2))
        assert [part.segment.seed for part in first] == [seed_of(0)]
        across = store.take(3)
        check_taken(across, range(2, 5))
        assert [part.segment.seed for part in across] == [seed_of(0), seed_of(3)]
    with reopen(tmp_path / "s") as store:
        assert (store.position, store.end, store.pair, store.mask_seed) == (5, 7, PAIR, mask_seed)
        fill(store, 2)
        check_taken(store.take(4), range(5, 9))
        assert store.position == store.end == 9
    assert len(mask_seed) == 32
    with make(tmp_path / "other") as other:
        assert other.mask_seed != mask_seed


def test_records_are_read_when_they_are_asked_for_and_once(tmp_path: Path) -> None:
    with make(tmp_path / "s") as store:
        first, second = store.take(6)
        assert (first.clips, second.clips) == (range(3), range(3, 6))
        derived, common = second.read(range(4, 6))
        np.testing.assert_array_equal(derived, [words_of(clip, DERIVED) for clip in (4, 5)])
        np.testing.assert_array_equal(common, [words_of(clip, COMMON) for clip in (4, 5)])
        for clips in (range(4, 5), range(3, 5), range(2, 4), range(6, 7)):
            with pytest.raises(MaskReuseError, match="not read yet"):
                second.read(clips)
        assert not second.done
        second.read(range(3, 4))
        assert second.done and not first.done


def test_a_used_up_segment_stays_until_it_is_read(tmp_path: Path) -> None:
    """The next batch may be taken before; what lies behind the first unread segment stays, so that there is no gap."""
    folder = tmp_path / "s"
    with make(folder, [2, 2, 2]) as store:
        (first,) = store.take(2)
        check_taken(store.take(2), range(2, 4))
        store.advance(5)
        assert [segment.start for segment in store.segments] == [0, 2, 4]
        shutil.copytree(folder, tmp_path / "crashed")
        check_taken([first], range(2))
        store.claim(b"tag")
        assert [segment.start for segment in store.segments] == [4]
        assert len(list((folder / "segments").iterdir())) == 1
    with reopen(tmp_path / "crashed") as store:
        store.claim(b"tag")
        assert [segment.start for segment in store.segments] == [4]
        check_taken(store.take(1), range(5, 6))


def test_segments_say_what_there_is(tmp_path: Path) -> None:
    with make(tmp_path / "s", [2]) as store, store.add(2, 5, seed_of(2), source="ot", derived_words=0, common_words=0):
        pass
    with reopen(tmp_path / "s") as store:
        both = store.segments
        assert [(s.start, s.clips, s.source, s.stop) for s in both] == [(0, 2, "dealer", 2), (2, 5, "ot", 7)]
        sizes = {path.name: path.stat().st_size for path in (tmp_path / "s" / "segments").iterdir()}
        assert sizes == {s.file: s.file_bytes for s in both}
        assert both[0].created > 1_600_000_000
        store.take(2)
        (only_seed,) = store.take(5)
        assert only_seed.segment.seed == seed_of(2)
        assert [words.shape for words in only_seed.read(range(3, 5))] == [(2, 0), (2, 0)]


@pytest.mark.parametrize(("derived", "common"), [(4, 0), (0, 4)])
def test_records_of_one_part(tmp_path: Path, derived: int, common: int) -> None:
    with make(tmp_path / "s", []) as store:
        fill(store, 3, derived, common)
        (taken,) = store.take(3)
        for part, words in zip(taken.read(range(1, 3)), (derived, common), strict=True):
            assert part.shape == (2, words)
            np.testing.assert_array_equal(part, [words_of(clip, words) for clip in (1, 2)])


def test_too_few_says_what_is_missing_and_consumes_nothing(tmp_path: Path) -> None:
    with make(tmp_path / "s") as store:
        store.take(2)
        with pytest.raises(PreprocessingError, match=r"needs 9 clips, 5 are left: run `sottovoce prepare --clips 4`"):
            store.take(9)
        check_taken(store.take(5), range(2, 7))
        with pytest.raises(ProtocolError, match="at least 1"):
            store.take(0)


def test_used_up_segments_are_deleted(tmp_path: Path) -> None:
    with make(tmp_path / "s", [2, 2]) as store:
        check_taken(store.take(2), range(2))
        store.take(1)
        assert [s.start for s in store.segments] == [2]
        assert len(list((tmp_path / "s" / "segments").iterdir())) == 1
        store.take(1)
    with reopen(tmp_path / "s") as store:
        fill(store, 1)
        check_taken(store.take(1), range(4, 5))


# ---- whose it is --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (replace(IDENTITY, program=bytes(32)), "for program '00000000', got one for '00010203'"),
        (replace(IDENTITY, protocol="beaver2-fss"), "for protocol 'beaver2-fss', got one for 'beaver2'"),
        (replace(IDENTITY, rank=0), "for party 0, got one for 1"),
        (replace(IDENTITY, layout=bytes(32)), "layout 0+, got 4041.*made for another version or protocol: make a new"),
    ],
)
def test_of_another_model_protocol_or_party(tmp_path: Path, other, expected: str) -> None:
    make(tmp_path / "s").close()
    with pytest.raises(PreprocessingError, match=expected):
        Store.open(tmp_path / "s", key=KEY, identity=other)
    reopen(tmp_path / "s").close()


def test_wrong_key(tmp_path: Path) -> None:
    make(tmp_path / "s").close()
    with pytest.raises(PreprocessingError, match="expected the key that it was made with"):
        Store.open(tmp_path / "s", key=KEY[::-1], identity=IDENTITY)
    with pytest.raises(PreprocessingError, match="a key of 32 bytes, got 31"):
        Store.open(tmp_path / "s", key=KEY[1:], identity=IDENTITY)


def test_what_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(PreprocessingError, match=r"expected a store, got none: `sottovoce prepare`"):
        reopen(tmp_path / "none")
    assert not (tmp_path / "none").exists()
    with make(tmp_path / "s"):
        pass
    with pytest.raises(PreprocessingError, match="an empty folder, got one that holds a store"):
        make(tmp_path / "s")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").touch()
    with pytest.raises(PreprocessingError, match=r"cat\.jpg"):
        make(tmp_path / "photos")
    assert os.listdir(tmp_path / "photos") == ["cat.jpg"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(PreprocessingError, match=r"expected a store, got a folder without index\.sqlite: `sottovoce"):
        reopen(tmp_path / "empty")
    (tmp_path / "file").touch()
    for call in (reopen, make, or_none):
        with pytest.raises(PreprocessingError, match="expected a folder, got a file"):
            call(tmp_path / "file")
    with pytest.raises(PreprocessingError, match="pair id of 16 bytes, got 3"):
        Store.create(tmp_path / "p", key=KEY, identity=IDENTITY, pair=b"abc")


def or_none(folder: Path) -> Store | None:
    return Store.open_or_none(folder, key=KEY, identity=IDENTITY)


def test_whether_there_is_one(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("none", "empty"):
        assert or_none(tmp_path / name) is None
        assert not (tmp_path / name / "index.sqlite").exists()
    make(tmp_path / "s").close()
    store = or_none(tmp_path / "s")
    assert store is not None
    with store, pytest.raises(PreprocessingError, match="has open"):
        or_none(tmp_path / "s")
    with pytest.raises(PreprocessingError, match="the key that it was made with"):
        Store.open_or_none(tmp_path / "s", key=KEY[::-1], identity=IDENTITY)


def test_opened_twice(tmp_path: Path) -> None:
    with make(tmp_path / "s"):
        for again in (lambda: reopen(tmp_path / "s"), lambda: make(tmp_path / "s")):
            with pytest.raises(PreprocessingError, match=f"process {os.getpid()} has open"):
                again()
    reopen(tmp_path / "s").close()


def test_after_a_fork_only_the_parent_may_use_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with make(tmp_path / "s") as store:
        with monkeypatch.context() as child:
            child.setattr(os, "getpid", lambda: 1)
            with pytest.raises(ProtocolError, match="expected process"):
                store.take(1)
        assert store.position == 0


def test_closed(tmp_path: Path) -> None:
    store = make(tmp_path / "s")
    store.close()
    store.close()
    with pytest.raises(ProtocolError, match="closed"):
        store.take(1)


def test_a_key_beside_the_data(tmp_path: Path) -> None:
    make(tmp_path / "s").close()
    with pytest.raises(Exception, match="outside every store"):
        load_or_create_key(tmp_path / "s" / "sub" / "store.key")
    for place in (tmp_path / "s" / "store.key", tmp_path / "s" / "segments" / "store.key"):
        place.write_bytes(KEY)
        with pytest.raises(PreprocessingError, match=r"'store\.key'; keep it elsewhere"):
            reopen(tmp_path / "s")
        place.unlink()


# ---- forward only -------------------------------------------------------------------------------------------------


def test_advance_goes_forward_only(tmp_path: Path) -> None:
    with make(tmp_path / "s") as store:
        store.advance(4)
        with pytest.raises(MaskReuseError, match="from 4 on, got 3"):
            store.advance(3)
        with pytest.raises(PreprocessingError, match="at most 7, got 8"):
            store.advance(8)
    with reopen(tmp_path / "s") as store:
        check_taken(store.take(3), range(4, 7))


def test_masks_belong_to_one_model(tmp_path: Path) -> None:
    with make(tmp_path / "s") as store:
        store.claim(b"tag of some weights")
        store.claim(b"tag of some weights")
    with reopen(tmp_path / "s") as store:
        assert store.claimed == b"tag of some weights"
        with pytest.raises(PreprocessingError, match="got others") as caught:
            store.claim(b"tag of other weights")
        assert "tag of" not in str(caught.value)
        with pytest.raises(ProtocolError):
            store.claim(b"")


@pytest.mark.parametrize(
    ("mine", "theirs", "result"),
    [
        ((0, 7), (0, 7), (0, 7)),
        ((1, 7), (2, 7), (2, 7)),  # a crash between the two marks
        ((2, 7), (0, 3), (2, 3)),  # the last segment came to one party only
        ((0, 3), (1, 7), (1, 3)),
        ((4, 7), (0, 3), (7, 7)),  # nothing in common
        ((0, 3), (5, 9), (9, 9)),
        ((0, 0), (0, 3), (3, 3)),
    ],
)
def test_align_keeps_what_both_have(tmp_path: Path, mine, theirs, result) -> None:
    with make(tmp_path / "s", {0: [], 3: [3], 7: [3, 4]}[mine[1]]) as store:
        store.advance(mine[0])
        store.align(*theirs)
        assert (store.position, store.end) == result
    with reopen(tmp_path / "s") as store:
        assert (store.position, store.end) == result
        fill(store, 2)
        check_taken(store.take(store.end - store.position), range(result[0], result[1] + 2))


def test_align_with_a_store_that_was_filled_otherwise(tmp_path: Path) -> None:
    with make(tmp_path / "s") as store:
        with pytest.raises(PreprocessingError, match="partner's end, 5,"):
            store.align(0, 5)
        assert (store.position, store.end) == (0, 7)


# ---- adding -------------------------------------------------------------------------------------------------------


def test_only_complete_segments_at_the_end(tmp_path: Path) -> None:
    sizes = {"source": "dealer", "derived_words": DERIVED, "common_words": COMMON}
    with make(tmp_path / "s", [2]) as store:
        for start, clips, seed in ((1, 2, bytes(32)), (3, 2, bytes(32)), (2, 0, bytes(32)), (2, 2, bytes(31))):
            with pytest.raises(ProtocolError, match="from 2 on"), store.add(start, clips, seed, **sizes):
                pass
        good = np.zeros((2, DERIVED), np.uint64), np.zeros((2, COMMON), np.uint64)
        for derived, common in (
            (None, good[1]),
            (good[0], None),
            (good[0].astype(np.int64), good[1]),
            (good[0][:1], good[1]),
            (good[0][0], good[1]),
            (good[0][:, 1:], good[1]),
            (np.zeros((3, DERIVED), np.uint64), np.zeros((3, COMMON), np.uint64)),
        ):
            with pytest.raises(ProtocolError, match="write"), store.add(2, 2, bytes(32), **sizes) as writer:
                writer.write(derived, common)
        with pytest.raises(ProtocolError, match="2 records, got 1"), store.add(2, 2, bytes(32), **sizes) as writer:
            writer.write(good[0][:1], good[1][:1])
        assert writer.written == 1
        assert store.end == 2
        assert len(list((tmp_path / "s" / "segments").iterdir())) == 1


def test_two_writers_at_once(tmp_path: Path) -> None:
    sizes = {"source": "dealer", "derived_words": 0, "common_words": 0}
    with make(tmp_path / "s", []) as store:
        with (
            pytest.raises(ProtocolError, match="to be the end still"),
            store.add(0, 2, bytes(32), **sizes),
            store.add(0, 3, bytes(32), **sizes),
        ):
            pass
        assert store.end == 3
    with reopen(tmp_path / "s") as store:
        assert [path.name for path in (tmp_path / "s" / "segments").iterdir()] == [store.segments[0].file]


# ---- durable ------------------------------------------------------------------------------------------------------


def test_a_clip_is_marked_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with make(tmp_path / "s") as store:
        events = record(monkeypatch, store)
        (taken,) = store.take(2)
        assert events == ["commit"]
        taken.read(range(1))
        assert events == ["commit", "read"]
        monkeypatch.setattr(store._index, "commit", refuse)
        with pytest.raises(PreprocessingError, match="no"):
            store.take(1)
        assert events == ["commit", "read"]


def test_a_segment_is_on_the_disk_before_it_is_in_the_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with make(tmp_path / "s", []) as store:
        events = record(monkeypatch, store)
        fill(store, 1)
        assert events == ["fsync file", "fsync folder", "commit"]


FULL = (("fullfsync", 1), ("checkpoint_fullfsync", 1))


def test_the_index_waits_for_the_disk(tmp_path: Path) -> None:
    with make(tmp_path / "s") as store:
        for pragma, value in (("journal_mode", "wal"), ("synchronous", 2), ("locking_mode", "exclusive"), *FULL):
            assert store._index._db.execute(f"PRAGMA {pragma}").fetchone() == (value,)


def test_a_disk_without_a_write_ahead_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda path, **more: connect(":memory:", **more))
    with pytest.raises(PreprocessingError, match="write-ahead log, got journal mode 'memory'"):
        make(tmp_path / "s")


def record(monkeypatch: pytest.MonkeyPatch, store: Store) -> list[str]:
    """What happens to the disk, in order."""
    events: list[str] = []

    def noted(name: str, call: Callable) -> Callable:
        def wrapper(*args, **kwargs):
            events.append(name)
            return call(*args, **kwargs)

        return wrapper

    fsync = os.fsync

    def noted_fsync(handle: int) -> None:
        events.append("fsync folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "fsync file")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(store._index, "commit", noted("commit", store._index.commit))
    monkeypatch.setattr(SegmentFile, "read", noted("read", SegmentFile.read))
    return events


def refuse(*_: object) -> None:
    raise PreprocessingError("no")


def test_threads_never_get_the_same_clip(tmp_path: Path) -> None:
    taken: list[int] = []
    with make(tmp_path / "s", [40]) as store:

        def work() -> None:
            for _ in range(10):
                taken.extend(store.take(1)[0].clips)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(taken) == list(range(40))


# ---- nothing shown ------------------------------------------------------------------------------------------------


def test_no_secret_in_the_clear(tmp_path: Path) -> None:
    tag = b"the tag of the weights"
    with make(tmp_path / "s") as store:
        store.claim(tag)
        taken = store.take(1)
        shown = repr((store, store._own, store._state, store.segments, taken, store._file(store.segments[0]))).encode()
        secrets = [KEY, store.mask_seed, seed_of(0), seed_of(3), tag]
        content = [words_of(i, words).tobytes() for i in range(7) for words in (DERIVED, COMMON)]
        folder = b"".join(path.read_bytes() for path in (tmp_path / "s").rglob("*") if path.is_file())
    folder += b"".join(path.read_bytes() for path in (tmp_path / "s").rglob("*") if path.is_file())
    assert len(folder) > 20_000
    for secret in [*secrets, *content, tag]:
        assert secret[:8] not in folder
    for secret in secrets:
        assert secret[:8] not in shown
        assert repr(secret)[2:10].encode() not in shown
        assert secret.hex()[:12].encode() not in shown


def test_equal_content_looks_different(tmp_path: Path) -> None:
    """Also when a segment is written again, after one that was given up: no nonce comes twice under a key."""
    files = []
    for name in ("a", "b"):
        with make(tmp_path / name, [1, 1]) as store:
            for segment in store.segments:
                files.append((tmp_path / name / "segments" / segment.file).read_bytes()[32:])
    assert len(set(files)) == 4
    with make(tmp_path / "c", []) as store:
        same = np.zeros((4, 2), np.uint64)
        with store.add(0, 4, bytes(32), source="ot", derived_words=2, common_words=0) as writer:
            writer.write(same, None)
        (file,) = (tmp_path / "c" / "segments").iterdir()
        body = np.frombuffer(file.read_bytes()[32:], np.uint8).reshape(4, -1)
        assert len({row.tobytes() for row in body}) == 4


def test_no_error_tells_where_a_store_lies(tmp_path: Path) -> None:
    """Peers get to read it; the folder's name is enough for whoever runs the party."""
    errors = []

    def failing(call: Callable[[], object]) -> None:
        with pytest.raises((PreprocessingError, ProtocolError)) as caught:
            call()
        errors.append(str(caught.value))

    folder = tmp_path / "s"
    failing(lambda: reopen(folder))
    with make(folder) as store:
        (taken,) = store.take(1)
        for call in (
            lambda: reopen(folder),
            lambda: store.take(100),
            lambda: store.take(0),
            lambda: store.advance(0),
            lambda: store.align(0, 5),
            lambda: store._index.commit(b"", [(0, b""), (0, b"")]),
            lambda: taken.read(range(5, 6)),
        ):
            failing(call)
        (folder / "segments" / store.segments[0].file).unlink()
        failing(lambda: taken.read(range(1)))
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.name not in ("lock", "index.sqlite-wal"):
            content = path.read_bytes()
            for bad in (b"rubbish" * 1000, None):
                path.write_bytes(bad) if bad else path.unlink()
                failing(lambda: reopen(folder))
            path.write_bytes(content)
    assert len(errors) >= 13
    for text in errors:
        assert str(tmp_path) not in text and "party 1: store 's'" in text


def test_others_may_not_read_it(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s").chmod(0o755)
    with make(tmp_path / "s"):
        for path in [tmp_path / "s", *(tmp_path / "s").rglob("*")]:
            assert not path.stat().st_mode & 0o077, path
