"""`sottovoce profile` on the files of traced parties, and the options of `party` that write them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from tests.cli.conftest import RunCommand
from tests.security.small import small_batch, small_model
from tests.traced import traced_cluster

from sottovoce.serving.cluster import Cluster, free_addresses


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Of three requests."""
    compiled = small_model()
    with traced_cluster(compiled, tmp_path_factory.mktemp("traces")) as traced:
        for _ in range(3):
            traced.run(small_batch(compiled, 2))
    return traced.files


def test_files_become_a_table_and_a_timeline(files: list[Path], command: RunCommand, tmp_path: Path) -> None:
    ran = command("profile", "--read", *reversed(files), "--trace", tmp_path / "t.json")
    assert ran.status == 0, ran.err
    assert ran.out.startswith("small, rep3, batch 2: 3 processes, 1 lane, TLS\n")
    for word in ("conv1", "trunc_relu", "receive", "What the answer waited for", "Slowest items", "not measured"):
        assert word in ran.out
    assert "INSECURE" not in ran.out
    outside_table = ran.out[ran.out.index("Means over") :]
    assert all(len(line) <= 79 for line in outside_table.splitlines())
    timeline = json.loads((tmp_path / "t.json").read_text())
    assert {e["pid"] for e in timeline["traceEvents"]} == {0, 1, 2} and "perfetto" in ran.err
    # Which lines are small enough to be folded depends on the machine's mood; that some are does not.
    everything = command("profile", "--read", *files, "--all").out
    assert "contract_leaves" in everything
    assert len(ran.out.splitlines()) < len(everything.splitlines())


def test_json_is_one_versioned_object(files: list[Path], command: RunCommand) -> None:
    found = command("profile", "--json", "--read", *files).json
    assert (found["schema"], found["version"], found["requests_measured"]) == ("sottovoce-profile", 1, 3)
    names = [line["name"] for line in found["total"]["children"]]
    assert names[:2] == ["conv1", "conv2"] and "argmax" in names
    assert sum(step["share"] for step in found["critical_path"]) == pytest.approx(1.0)


def test_mistakes_are_named(files: list[Path], command: RunCommand, tmp_path: Path) -> None:
    for words, match in (
        (("--read", files[0], files[1]), "expected those of all parties"),
        (("--read", tmp_path / "none"), "No such file"),
        (("--read", *files, "--random-weights", 3), "--read: expected no option"),
        (("--read", *files, "--batch", 7), "expected one of 2, got 7"),
        (("--read", *files, "--device", "cpu"), "--read: expected no option"),
        (("--device", "cpu,cpu"), "one for all parties or 3 with commas between, got 'cpu,cpu'"),
        (("--protocol", "plain"), "expected one with parties"),
        (("--read", *files, "--trace", tmp_path / "nowhere" / "t.json"), "expected a folder that exists"),
    ):
        ran = command("profile", *words)
        assert ran.status == 2 and match in ran.err, ran.err
    ran = command("profile", "--json", "--read", files[0])
    assert ran.status == 2 and ran.json["error"]["type"] == "ConfigError"


def test_a_party_refuses_what_it_cannot_trace_before_it_listens(
    command: RunCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = tmp_path / "cluster.toml"
    cluster.write_text(Cluster(free_addresses(3)).to_toml())
    common = ("party", 0, "--cluster", cluster, "--insecure-loopback")
    ran = command(*common, "--trace", tmp_path / "nowhere" / "p0.jsonl")
    assert ran.status == 2 and "--trace" in ran.err and "No such file" in ran.err
    monkeypatch.setitem(sys.modules, "nvtx", None)
    for words in ((*common, "--nvtx"), ("profile", "--nvtx")):
        ran = command(*words)
        assert ran.status == 2 and "pip install nvtx" in ran.err
