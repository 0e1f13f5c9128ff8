"""Files of results: what is written comes back; what is not ours is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from sottovoce.bench.environment import describe, environment
from sottovoce.bench.schema import NetworkUsed, Results, Row, Summary, read_results, write_results
from sottovoce.engine.errors import ConfigError

SUMMARY = Summary(n=3, median=2.0, lower=1.5, upper=2.5, smallest=1.0, largest=3.0)


def results() -> Results:
    rows = (
        Row(protocol="rep3", parties=3, model="tiny", batch=1, online_ms=SUMMARY, samples_ms=(1.0, 2.0, 3.0)),
        Row(
            protocol="rep3",
            parties=3,
            model="tiny",
            batch=8,
            network=NetworkUsed(name="wan", method="user-space", rtt_ms=40, mbit_s=100, measured_rtt_ms=SUMMARY),
            status="failed",
            reason="why",
        ),
    )
    return Results(kind="sweep", command="sottovoce bench sweep", environment=environment(), rows=rows)


def test_results_come_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "results.json"
    write_results(path, results_written := results())
    assert read_results(path) == results_written


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"schema": 1', '"schema": 2', "expected schema 1, got 2"),
        ('"schema": 1,', "", "not a file of results"),
        ('"batch": 8', '"batch": "8"', "not a file of results"),
        ('"batch": 8', '"batch": 0', "not a file of results"),
        ('"batch": 8', '"batsch": 8', "not a file of results"),
        ('"kind": "sweep"', '"kind": "poem"', "not a file of results"),
        ("{", "", "not a file of results"),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, old: str, new: str, said: str) -> None:
    path = tmp_path / "results.json"
    write_results(path, results())
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(ConfigError, match=said) as caught:
        read_results(path)
    assert str(path) in str(caught.value)


def test_the_environment_names_no_user_or_host(monkeypatch: pytest.MonkeyPatch) -> None:
    import getpass
    import os
    import socket

    found = environment()
    text = describe(found) + repr(found)
    assert found.cores >= 1 and found.processor and found.packages["numpy"]
    for name in (socket.gethostname(), os.getcwd(), getpass.getuser() if getpass.getuser() != "root" else "/root"):
        assert name not in text
