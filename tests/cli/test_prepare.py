"""`prepare`, `dealer` and `party --store`: two parties' material ahead of time, and what the commands say about it."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from tests.cli.conftest import RunCommand
from tests.serving.deployment import tiny_model
from tests.serving.offline import dealing, make_pair

from sottovoce.bench.network.profiles import PROFILES
from sottovoce.cli import connect, main
from sottovoce.cli.exits import Exit
from sottovoce.engine.errors import SottovoceError
from sottovoce.engine.protocols.table import find
from sottovoce.models.speech.corpora.ravdess import LABELS
from sottovoce.serving import standing
from sottovoce.serving.comparison import NETWORKS
from sottovoce.serving.prepare import prepare


def in_threads(*commands: list[object]) -> tuple[list[int], list[threading.Thread]]:
    """Run several commands of this process at once; their statuses, once the threads have ended."""
    statuses = [-1] * len(commands)

    def body(number: int) -> None:
        statuses[number] = main([str(word) for word in commands[number]])

    threads = [threading.Thread(target=body, args=(number,)) for number in range(len(commands))]
    for thread in threads:
        thread.start()
    return statuses, threads


def join(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


def test_explain_prepare_party_deploy_classify(
    command: RunCommand, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pair, program = make_pair(tmp_path, tls=True), tmp_path / "program.json"
    assert pair.certificates is not None
    certs, cluster = pair.certificates, tmp_path / "cluster.toml"
    cluster.write_text(pair.cluster.to_toml())
    explained = command("explain", "--protocol", "beaver2", "--write-program", program, "--json").json
    assert explained["protocol"] == "beaver2" and program.stat().st_size > 1000

    def role(rank: int) -> list[object]:
        return [
            *("--cluster", cluster, "--certs", certs / f"party{rank}", "--deadline", 30),
            *("--store", tmp_path / f"store{rank}", "--store-key", tmp_path / f"key{rank}"),
        ]

    def preparing(rank: int) -> list[object]:
        return ["prepare", rank, "--program", program, "--clips", 2, "--progress", "lines", *role(rank)]

    capsys.readouterr()
    with dealing(pair):
        statuses, threads = in_threads(preparing(0), preparing(1))
        join(threads)
    said = capsys.readouterr()
    assert statuses == [Exit.OK, Exit.OK]
    for rank in (0, 1):
        assert f"store{rank}: 2 clips of paper under beaver2 added; unused in all: 2" in said.out
        assert f"P{rank} has 2 of 2 clips" in said.err and f"waits for party {rank}" in said.err
    assert "all that the dealer sent" in said.out and said.out.count(" a clip") == 6
    # The seeds and the material are on the disk, sealed; the key is not beside them.
    assert not [path for path in (tmp_path / "store0").rglob("*") if "key" in path.name]

    wrong = command("party", 0, *role(0), "--store-key", tmp_path / "key1")
    assert (wrong.status, wrong.out) == (Exit.USAGE, "")
    assert f"--store-key {tmp_path / 'key1'}: it is not the key of --store {tmp_path / 'store0'}" in wrong.err
    assert "listens" not in wrong.err
    statuses, threads = in_threads(*(["party", rank, "--requests", 1, *role(rank)] for rank in (0, 1)))
    common = ("--cluster", cluster, "--deadline", 30)
    assert command("deploy", *common, "--certs", certs / "owner-bob").status == Exit.OK
    client = (*common, "--certs", certs / "client-alice")
    short = command("classify", clip, clip, clip, *client)
    # Said once, however many clips there are.
    assert short.status == Exit.TRANSPORT and short.out.count("not classified") == 3
    (told,) = [line for line in short.err.splitlines() if line.startswith("sottovoce: error: P0: the request needs 3")]
    assert "sottovoce prepare RANK --clips 1" in told and "prepared clips" not in short.out
    ran = command("classify", clip, "--json", *client)
    join(threads)
    assert (ran.status, statuses) == (Exit.OK, [Exit.OK, Exit.OK])
    value = ran.json
    assert value["protocol"] == "beaver2" and value["results"][0]["predictions"][0]["label"] in LABELS
    assert value["cost"]["offline_ms"] > 0
    for got, dealt in zip(value["cost"]["offline_bytes"], explained["dealt_bytes"], strict=True):
        assert dealt <= got < dealt + 1000


@pytest.mark.parametrize("comparison", ["auto", "boolean", "fss"])
def test_in_one_process_the_two_times_are_apart(comparison: str, command: RunCommand, clip: Path) -> None:
    options = ("--protocol", "beaver2", "--comparison", comparison)
    value = command("classify", clip, "--json", *options).json
    assert value["protocol"] == ("beaver2-fss" if comparison == "fss" else "beaver2")
    assert value["cost"]["offline_ms"] > 0 and len(value["cost"]["offline_bytes"]) == 2
    if comparison == "fss":
        shown = command("classify", clip, *options).out
        assert re.search(r"\noffline   .*: prepared before, not in online\n +the material alone: P0 ", shown)


def test_on_a_slow_link_the_rounds_decide(command: RunCommand) -> None:
    found = {
        network: command("explain", "--protocol", "beaver2", "--network", network, "--json").json
        for network in ("lan", "wan")
    }
    assert (found["lan"]["protocol"], found["wan"]["protocol"]) == ("beaver2", "beaver2-fss")
    assert found["wan"]["total"]["rounds"] <= 10 < found["lan"]["total"]["rounds"]


def test_the_networks_are_those_of_the_benchmarks() -> None:
    measured = {name: profile.link for name, profile in PROFILES.items()}
    assert set(NETWORKS) == set(measured) == set(connect.NETWORKS)
    for name, network in NETWORKS.items():
        link = measured[name]
        if link is not None:
            assert (2 * network.delay_ms, network.mbit_s) == (link.rtt_ms, link.mbit_s)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("prepare", "--clips", 0), "expected at least 1"),
        (("prepare", "--clips", 1, "--protocol", "rep3"), "rep3 needs no preprocessing"),
        (("prepare", "--clips", 1, "--comparison", "fss", "--source", "ot"), "come from a dealer only"),
        (("prepare", "--clips", 1, "--cluster", "c.toml"), "--cluster: expected RANK with it"),
        (("prepare", 0, "--clips", 1, "--store", "s"), "--cluster: expected with RANK"),
        (("prepare", 0, "--clips", 1, "--cluster", "two.toml"), "--store: expected with RANK"),
        (("prepare", 2, "--clips", 1, "--cluster", "two.toml", "--store", "s"), "RANK: expected 0 or 1, got 2"),
        (
            ("prepare", 0, "--clips", 1, "--cluster", "two.toml", "--store", "s", "--protocol", "beaver2"),
            "the cluster file decides it",
        ),
        (
            ("prepare", 0, "--clips", 1, "--cluster", "two.toml", "--store", "s", "--program", "x", "--scores"),
            "--scores: --program says it all",
        ),
        (("prepare", 0, "--clips", 1, "--cluster", "two.toml", "--store", "s"), 'expected dealer = "host:port"'),
        (("dealer", "--cluster", "two.toml"), 'expected dealer = "host:port"'),
        (("party", 0, "--cluster", "two.toml"), "--store DIR --cluster FILE --certs DIR` makes"),
        (("party", 1, "--cluster", "two.toml"), "`sottovoce prepare 1 --clips N --program FILE"),
        (("party", 0, "--cluster", "three.toml", "--store", "s"), "rep3 needs no preprocessing"),
        (("demo", "--protocol", "plain"), "plain needs no parties"),
        (("demo", "--comparison", "fss"), "rep3 has no choice of fss"),
    ],
)
def test_wrong_usage(
    arguments: tuple[object, ...], text: str, command: RunCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    Path("two.toml").write_text('protocol = "beaver2"\nparties = ["127.0.0.1:1", "127.0.0.1:2"]\n')
    Path("three.toml").write_text('parties = ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"]\n')
    insecure = ("--insecure-loopback",) if "two.toml" in arguments or "three.toml" in arguments else ()
    ran = command(*arguments, *insecure)
    assert (ran.status, ran.out) == (Exit.USAGE, ""), ran.err
    assert text in ran.err
    assert not Path("s").exists() and not Path("prepared").exists()


def test_a_party_makes_no_key_and_leaves_no_core(
    command: RunCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("two.toml").write_text('protocol = "beaver2"\nparties = ["127.0.0.1:1", "127.0.0.1:2"]\n')
    before = resource.getrlimit(resource.RLIMIT_CORE)
    for words in (("party", 0, "--store", "s"), ("prepare", 0, "--clips", 1, "--store", "s"), ("dealer",)):
        resource.setrlimit(resource.RLIMIT_CORE, (before[1], before[1]))
        try:
            key = ("--store-key", "key") if words[0] == "party" else ()
            ran = command(*words, *key, "--cluster", "two.toml", "--insecure-loopback")
            assert resource.getrlimit(resource.RLIMIT_CORE) == (0, before[1])
        finally:
            resource.setrlimit(resource.RLIMIT_CORE, before)
        assert ran.status == Exit.USAGE, ran.err
        if words[0] == "party":
            assert "store key key: " in ran.err
    assert not Path("key").exists()


def test_a_party_that_is_told_to_end_says_what_stays_and_tells_the_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled, pair = tiny_model(), make_pair(tmp_path)
    monkeypatch.setattr(standing, "SEGMENT_CLIPS", 2)
    cluster, program = tmp_path / "cluster.toml", tmp_path / "program.json"
    cluster.write_text(pair.cluster.to_toml())
    program.write_bytes(compiled.program.to_json())
    ignored: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: ignored.append(number))
    other: list[object] = []

    def end_at(done: int) -> None:
        if done == 10:
            os.kill(os.getpid(), signal.SIGTERM)

    def party_1() -> None:
        try:
            connect = partial(pair.source, 1, compiled.program)
            prepare(compiled.program, find("beaver2"), 1, 4000, connect, pair.stores[1], kept=end_at)
        except SottovoceError as error:
            other.append(error)

    words = ["prepare", 0, "--clips", 4000, "--program", program, "--cluster", cluster, "--insecure-loopback"]
    words += ["--store", tmp_path / "s0", "--store-key", tmp_path / "key", "--progress", "none"]
    try:
        with dealing(pair):
            thread = threading.Thread(target=party_1)
            thread.start()
            status = main([str(word) for word in words])
            join([thread])
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (status, ignored) == (Exit.INTERRUPTED, [])
    assert re.search(
        r"\d+ of 4,000 clips are in .*s0; those that party 1 has, too, stay usable", capsys.readouterr().err
    )
    assert "P0 is gone" in str(other[0])  # why is said unless the signal came in the middle of a frame


@pytest.mark.slow
@pytest.mark.timeout(150)
def test_the_demo_with_two_parties_prepares_first(tmp_path: Path) -> None:
    with subprocess.Popen(
        [*(sys.executable, "-m", "sottovoce", "demo", "--protocol", "beaver2", "--comparison", "fss", "--json")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    ) as process:
        out, err = process.communicate(timeout=120)
    assert process.returncode == Exit.OK, err
    value = json.loads(out)
    assert value["label"] in LABELS and set(value["processes"]) == {"P0", "P1", "Bob", "Alice"}
    assert [party["rank"] for party in value["prepared"]] == [0, 1]
    classified = value["classify"]
    assert classified["protocol"] == "beaver2-fss" and classified["encrypted"] is True
    cost = classified["cost"]
    assert cost["offline_ms"] > 0 and len(cost["bytes_sent"]) == len(cost["offline_bytes"]) == 2
    assert "Offline: a dealer" in err and "Four processes" in err
    assert list(tmp_path.iterdir()) == []  # nothing of it stays


def test_the_python_api_needs_no_store(tmp_path: Path) -> None:
    from tests.serving.small import small_features, small_graph

    from sottovoce import Classifier
    from sottovoce.engine.errors import ConfigError

    features = small_features(3)
    with Classifier(small_graph(), protocol="plain") as plain:
        expected = plain.predict(features).tolist()
    for comparison in ("auto", "fss"):
        with Classifier(small_graph(), protocol="beaver2", comparison=comparison) as classifier:
            assert classifier.predict(features).tolist() == expected
            cost = classifier.last_cost
            assert cost is not None and cost.offline_ms is not None and cost.offline_ms > 0
    bad: list[Callable[[], Classifier]] = [
        lambda: Classifier(small_graph(), comparison="fss"),
        lambda: Classifier(small_graph(), protocol="beaver2", comparison="quick"),
        lambda: Classifier(small_graph(), protocol="beaver2", network="moon"),
        lambda: Classifier(cluster=tmp_path / "c.toml", comparison="fss"),
    ]
    for make in bad:
        with pytest.raises(ConfigError, match=r"comparison|network"):
            make().open()
