"""A process under test that misbehaves ends its row, not the run."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from sottovoce.bench.systems.process import WorkerFailed
from sottovoce.bench.systems.worker import Worker

ECHO = "import sys\nfor line in sys.stdin: print(line, end='', flush=True)"


def worker(folder: Path, script: str) -> Worker:
    return Worker("peer", [sys.executable, "-c", script], folder=folder, log=folder / "log")


def test_lines_go_there_and_back(tmp_path: Path) -> None:
    with worker(tmp_path, ECHO) as peer:
        assert peer.ask({"batch": 3}, 10) == {"batch": 3}
        assert peer.ask({"batch": 4}, 10) == {"batch": 4}


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("import sys; sys.exit('out of triples')", "ended without an answer; its last words: out of triples"),
        ("import time; time.sleep(60)", "no answer in 0.3 s"),
        ("print('hello', flush=True); import time; time.sleep(60)", "expected a JSON object"),
        ("print('[1]', flush=True); import time; time.sleep(60)", "expected a JSON object"),
        ('print(\'{"error": "no memory"}\', flush=True); import time; time.sleep(60)', "peer: no memory"),
    ],
)
def test_a_process_that_fails_says_who_and_why(tmp_path: Path, script: str, said: str) -> None:
    with worker(tmp_path, script) as peer:
        with pytest.raises(WorkerFailed, match=said):
            peer.hear(0.3 if "0.3" in said else 10)
        pid = peer.pid
    assert not Path(f"/proc/{pid}").exists()


def test_a_process_that_is_gone_is_noticed_when_it_is_told_something(tmp_path: Path) -> None:
    with worker(tmp_path, "pass") as peer:
        while Path(f"/proc/{peer.pid}/stat").read_text().split()[2] != "Z":
            time.sleep(0.01)
        with pytest.raises(WorkerFailed, match="peer: "):
            peer.ask({"batch": 1}, 5)


def test_a_process_that_has_ended_says_so_each_time(tmp_path: Path) -> None:
    with worker(tmp_path, "pass") as peer:
        for _ in range(2):
            with pytest.raises(WorkerFailed, match="ended without an answer"):
                peer.hear(10)
