"""`sottovoce demo`: five processes for real, and none left over."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.cli.conftest import RunCommand

from sottovoce.cli import demo
from sottovoce.cli.exits import Exit
from sottovoce.models.speech.corpora.ravdess import LABELS

ROLES = ("P0", "P1", "P2", "Bob", "Alice")


def start_demo(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """folder: for its temporary files, which nobody removes if it is killed."""
    return subprocess.Popen(
        [sys.executable, "-m", "sottovoce", "demo", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(folder)},
    )


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def wait_until(condition: Callable[[], bool], limit_s: float = 30.0) -> bool:
    end = time.monotonic() + limit_s
    while not (done := condition()) and time.monotonic() < end:
        time.sleep(0.02)
    return done


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.timeout(150)
def test_the_whole_demo(tmp_path: Path) -> None:
    with start_demo(tmp_path, "--json", "--keep-logs", str(tmp_path / "logs")) as process:
        out, err = process.communicate(timeout=120)
    assert process.returncode == Exit.OK, err
    value = json.loads(out)
    assert value["label"] in LABELS and "espeak-ng" in value["clip"]
    classified = value["classify"]
    assert classified["encrypted"] is True and classified["where"] == "cluster"
    assert classified["cost"]["rounds"] > 0 and len(classified["cost"]["bytes_sent"]) == 3
    assert set(value["processes"]) == set(ROLES) and len(set(value["processes"].values())) == 5
    assert not [pid for pid in value["processes"].values() if is_running(pid)]
    logs = {path.stem: path.read_text() for path in (tmp_path / "logs").glob("*.log")}
    assert set(logs) == {role.lower() for role in ROLES}
    for rank in range(3):
        assert "holds its shares" in logs[f"p{rank}"] and "has stopped" in logs[f"p{rank}"]
        assert not [label for label in LABELS if label in logs[f"p{rank}"]]
    assert "opens the weights" in logs["bob"] and "opens the label" in logs["alice"]
    for role in ROLES:  # the account on standard error
        assert f"  {role:<6}" in err


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_is_left_over(how: signal.Signals, tmp_path: Path) -> None:
    with start_demo(tmp_path) as process:
        assert process.stdout is not None
        children: list[int] = []
        try:
            assert wait_until(lambda: len(children_of(process.pid)) == 5)
            children = children_of(process.pid)
            if how == signal.SIGKILL:
                # Only a party that is past its imports can see that its parent has gone.
                for line in process.stdout:
                    if "listens" in line:
                        break
            process.send_signal(how)
            assert process.wait(30) == (-how if how == signal.SIGKILL else Exit.INTERRUPTED)
            gone = children[:3] if how == signal.SIGKILL else children
            assert wait_until(lambda: not any(map(is_running, gone)))
            assert how == signal.SIGKILL or list(tmp_path.iterdir()) == []
        finally:
            process.kill()
            for child in filter(is_running, children):
                os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize(("failures", "status"), [(1, Exit.OK), (2, Exit.USAGE)])
def test_a_taken_port_is_replaced_once(
    failures: int, status: Exit, command: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    cost = dict.fromkeys(("features_ms", "sharing_ms", "online_ms", "opening_ms", "input_bytes", "output_bytes"), 1)
    classified = {
        "results": [{"file": "a.wav", "predictions": [{"label": "calm", "score": None}]}],
        "cost": {**cost, "bytes_sent": [1, 2, 3], "rounds": 22, "offline_ms": None, "offline_bytes": []},
        "encrypted": True,
        "random_weights": False,
        "protocol": "rep3",
        "security": "",
        "program": "00" * 32,
    }

    def run_once(*args: object) -> demo.Outcome:
        calls.append(args)
        if len(calls) <= failures:
            log = ["P1: sottovoce: error: P1: listen at 127.0.0.1:1: Address already in use"]
            raise demo.DemoError("demo: P1 ended with status 2", Exit.USAGE, log)
        return demo.Outcome(classified, {}, 1.0)

    monkeypatch.setattr(demo, "_run_once", run_once)
    ran = command("demo")
    assert (len(calls), ran.status) == (2, status)
    assert "once more with others" in ran.out
    if status:
        assert "Address already in use" in ran.out
        assert ran.err == "sottovoce: error: demo: P1 ended with status 2\n"
    else:
        assert "Alice's label: calm" in ran.out


def test_logs_that_cannot_be_kept_are_said_before_anything_starts(command: RunCommand, tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("x")
    ran = command("demo", "--keep-logs", tmp_path / "logs")
    assert (ran.status, ran.out) == (Exit.USAGE, "")
    assert ran.err == f"sottovoce: error: --keep-logs: File exists: {tmp_path / 'logs'}\n"


def test_a_process_that_fails_is_named_with_its_last_lines(
    command: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "DEADLINE_S", -1.0)
    ran = command("demo", "--json")
    assert ran.status == Exit.USAGE
    assert ran.json["error"]["type"] == "DemoError"
    assert "ended with status 2" in ran.err and "argument --deadline" in ran.err
