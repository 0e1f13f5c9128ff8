"""Kill -9 before every step of a store's life, and at random moments: run as a process of its own, because it forks.

    python -m tests.engine.preprocessing.crash_run FOLDER

A step is a call that reaches the operating system or SQLite. For each step of a sequence of operations a child is
killed just before it; then its store is opened again and checked. Prints the number of steps and of clips that were
handed out before random kills. A failed check ends it with a traceback.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from tests.engine.preprocessing.stores import IDENTITY, KEY, check_taken, fill, make, reopen

from sottovoce.engine.preprocessing.segment import SegmentFile
from sottovoce.engine.preprocessing.store import Store, Taken

RANDOM_KILLS = 15
FILES = ("open", "close", "read", "pread", "write", "pwrite", "flush", "fsync", "ftruncate", "flock")
STEPS = frozenset((*FILES, "listdir", "mkdir", "unlink", "connect", "execute", "executemany"))


def read_all(taken: list[Taken]) -> None:
    """As a batch does, part by part."""
    for part in taken:
        for clip in part.clips:
            part.read(range(clip, clip + 1))


OPERATIONS: list[tuple[str, Callable[[Store], object]]] = [
    ("take", lambda store: read_all(store.take(1))),
    ("take across segments", lambda store: read_all(store.take(3))),
    ("add", lambda store: fill(store, 2)),
    ("take after used-up segment", lambda store: read_all(store.take(1))),
    ("claim", lambda store: store.claim(b"tag")),
    ("advance", lambda store: store.advance(6)),
    ("align", lambda store: store.align(6, 7)),
]


def life(folder: Path, note: Callable[[str], None], new: bool) -> None:
    """Open or make the store and go through all operations; tell what is read and what has returned."""
    read = SegmentFile.read

    def noted(file: SegmentFile, clips: range) -> Any:
        note(f"read {clips.stop}")
        return read(file, clips)

    SegmentFile.read = noted  # type: ignore[method-assign]
    note("begin open")
    store = make(folder, []) if new else reopen(folder)
    for name, operation in OPERATIONS if not new else []:
        note(f"begin {name}")
        operation(store)
        note(f"done {store.position} {store.end} {store.claimed is not None}")
    note("begin close")
    store.close()


def stepped(at: Callable[[], None], call: Callable[[], None]) -> None:
    """Call with `at` before each step that reaches the operating system or SQLite."""

    def profile(_: FrameType, event: str, function: Any) -> None:
        if event == "c_call" and function.__name__ in STEPS and function is not os.write:  # os.write: our `note`
            at()

    sys.setprofile(profile)
    try:
        call()
    finally:
        sys.setprofile(None)


def steps_of(folder: Path, new: bool) -> int:
    """How many there are."""
    count = 0

    def at() -> None:
        nonlocal count
        count += 1

    stepped(at, lambda: life(folder, lambda _: None, new))
    return count


def killed_before(step: int, folder: Path, new: bool) -> list[str]:
    """What a child told before it was killed."""
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        count = 0

        def at() -> None:
            nonlocal count
            count += 1
            if count == step:
                os.kill(os.getpid(), signal.SIGKILL)

        stepped(at, lambda: life(folder, lambda text: os.write(send, text.encode() + b"\n"), new))
        os._exit(0)
    os.close(send)
    with os.fdopen(receive) as told:
        lines = told.read().splitlines()
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, (step, status)
    return lines


def check(folder: Path, told: list[str], stages: list[tuple[int, int, bool]]) -> None:
    """Open the store again: a stage that was reached, nothing read that is not marked, all else whole."""
    done = [line for line in told if line.startswith("done")]
    with reopen(folder) as store:
        stage = (store.position, store.end, store.claimed is not None)
        assert stage in stages[len(done) : len(done) + 2], (stage, told)
        assert all(int(line.split()[1]) <= store.position for line in told if line.startswith("read")), told
        names = {path.name for path in (folder / "segments").iterdir()}
        assert names - {s.file for s in store.segments if s.stop <= store.position} == {
            s.file for s in store.segments if s.stop > store.position
        }
        fill(store, 1)
        left = range(store.position, store.end)
        check_taken(store.take(len(left)), left)


def at_every_step(base: Path) -> int:
    """Kill before each step of opening, all operations and closing; then of making a new one."""
    make(base / "before").close()
    shutil.copytree(base / "before", base / "whole")
    stages = [(0, 7, False)]
    life(base / "whole", lambda text: stages.append(stage_of(text)) if text.startswith("done") else None, False)
    folder = base / "work"
    total = 0
    for new in (False, True):
        reset(base, new)
        steps = steps_of(folder, new)
        for step in range(1, steps + 1):
            reset(base, new)
            told = killed_before(step, folder, new)
            if not new:
                check(folder, told, stages)
            else:  # a whole store, or none that is in the way
                (Store.open_or_none(folder, key=KEY, identity=IDENTITY) or make(folder)).close()
        total += steps
    return total


def stage_of(text: str) -> tuple[int, int, bool]:
    """Position, end, claimed."""
    _, position, end, claimed = text.split()
    return int(position), int(end), claimed == "True"


def reset(base: Path, new: bool) -> None:
    """The state before the operations."""
    shutil.rmtree(base / "work", ignore_errors=True)
    if not new:
        shutil.copytree(base / "before", base / "work")


def at_random(base: Path) -> int:
    """Kill a child that takes and adds without end, again and again, on one store."""
    delays = random.Random(5)
    folder = base / "random"
    make(folder).close()
    handed_out: list[int] = []
    for _ in range(RANDOM_KILLS):
        receive, send = os.pipe()
        child = os.fork()
        if child == 0:
            store = reopen(folder)
            os.write(send, b"-1\n")
            while True:
                if store.end - store.position < 3:
                    fill(store, 5)
                for clip in [clip for part in store.take(2) for clip in part.clips]:
                    os.write(send, b"%d\n" % clip)
        os.close(send)
        with os.fdopen(receive) as told:
            told.readline()
            time.sleep(delays.uniform(0, 0.02))
            os.kill(child, signal.SIGKILL)
            handed_out += [int(line) for line in told.read().splitlines()]
        os.waitpid(child, 0)
    assert len(handed_out) == len(set(handed_out)) and handed_out == sorted(handed_out), handed_out
    with reopen(folder) as store:
        assert store.position > max(handed_out)
        left = range(store.position, store.end)
        if left:
            check_taken(store.take(len(left)), left)
    return len(handed_out)


if __name__ == "__main__":
    work = Path(sys.argv[1])
    print(at_every_step(work), at_random(work))
