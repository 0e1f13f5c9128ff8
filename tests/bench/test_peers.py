"""Peers in environments of their own, with stubs in the place of pip and of the peer: nothing is installed."""

from __future__ import annotations

import os
import signal
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sottovoce.bench.network.open import Loopback
from sottovoce.bench.peers.environment import Recipe, make_environment
from sottovoce.bench.peers.python_peer import Deadlines, PythonPeer
from sottovoce.bench.peers.table import PEERS, make_peers
from sottovoce.bench.schema import LOOPBACK
from sottovoce.bench.systems.base import Description, Job, Sample
from sottovoce.engine.errors import ConfigError, DeadlineError, PeerClosedError, ProtocolError, SottovoceError
from sottovoce.models.evaluate import evaluate
from sottovoce.models.zoo import build

VARIABLE = "SOTTOVOCE_STUB_PYTHON"
PARTIES = 3

# Answers as a party does, except where STUB says otherwise; notes its process and a child's, to see that both end.
PARTY = """
import json, os, subprocess, sys, time
mode = os.environ["STUB"]
config = json.loads(sys.stdin.readline())
rank = config["rank"]
child = subprocess.Popen(["sleep", "60"], stdout=subprocess.DEVNULL)
open(f"{config['folder']}/pids-{rank}", "w").write(f"{os.getpid()} {child.pid}")
print(json.dumps({}), flush=True)
for line in sys.stdin:
    message = json.loads(line)
    if "prepare" in message:
        print("{}", flush=True)
        continue
    if rank == 1 and mode == "crash":
        print("ValueError: out of luck", file=sys.stderr)
        os._exit(3)
    if rank == 1 and mode == "freeze":
        time.sleep(60)
    if rank == 1 and mode == "chatter":
        print("hello", flush=True)
        continue
    labels = [i % 8 for i in range(message["run"])]
    if rank == 1 and mode == "disagree":
        labels[0] = 7
    sent = None if mode == "uncounted" else 100 + rank
    print(json.dumps(dict(labels=labels, ms=1.5 + rank, bytes_sent=sent, rounds=4, memory_mb=10)), flush=True)
"""


def script(path: Path, text: str) -> Path:
    path.write_text(textwrap.dedent(text).strip() + "\n")
    path.chmod(0o755)
    return path


# ---- running --------------------------------------------------------------------------------------------------------


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., PythonPeer]:
    """A peer whose Python is a stub: it has version 9.9 of the package, and is a party of the given mode."""
    party = script(tmp_path / "party.py", PARTY)
    python = script(
        tmp_path / "python", f'#!/bin/sh\n[ "$2" = -c ] && echo 9.9 && exit\nexec {sys.executable} -S -E {party}'
    )
    monkeypatch.setenv(VARIABLE, str(python))

    def make(mode: str, **deadlines: float) -> PythonPeer:
        return PythonPeer(
            name="stub proto",
            module="sottovoce.bench.peers.spu",
            recipe=Recipe("stub", "1.0", VARIABLE, ()),
            description=Description("stub", "1.0", "proto", "semi-honest", "", PARTIES, False),
            environment={"STUB": mode},
            deadlines=Deadlines(**deadlines),
        )

    return make


def ask(peer: PythonPeer, scratch: Path, batch: int = 4) -> tuple[Sample, tuple[float, ...]]:
    graph = build("tiny")
    job = Job(graph, np.zeros((2, *graph.input_shape)), (batch,), Loopback(PARTIES + 1, LOOPBACK), scratch)
    with peer.start(job) as running:
        return running.run(batch), running.memory_mb()


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def assert_all_ended(scratch: Path) -> None:
    pids = [int(pid) for path in scratch.glob("stub-proto/pids-*") for pid in path.read_text().split()]
    assert len(pids) == 2 * PARTIES
    end = time.monotonic() + 5
    while (left := [pid for pid in pids if alive(pid)]) and time.monotonic() < end:
        time.sleep(0.01)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left


def test_labels_and_counts_are_the_parties(stub: Callable[..., PythonPeer], tmp_path: Path) -> None:
    sample, memory = ask(stub("well"), tmp_path)
    assert sample.labels.tolist() == [0, 1, 2, 3]
    assert sample.online_ms == 3.5 and sample.party_ms == (1.5, 2.5, 3.5)
    assert sample.bytes_sent == (100, 101, 102) and sample.rounds == 4 and memory == (10, 10, 10)
    assert_all_ended(tmp_path)


def test_bytes_that_are_not_known_are_left_out(stub: Callable[..., PythonPeer], tmp_path: Path) -> None:
    assert ask(stub("uncounted"), tmp_path)[0].bytes_sent == ()


@pytest.mark.parametrize(
    ("mode", "error", "text"),
    [
        ("crash", PeerClosedError, "P1 ended, status 3; its last words: ValueError: out of luck"),
        ("freeze", DeadlineError, r"no answer within 0\.5 s from P1$"),
        ("chatter", ProtocolError, "P1: expected a JSON object"),
        ("disagree", ProtocolError, "same from every party"),
    ],
)
def test_a_party_that_misbehaves_ends_all(
    mode: str, error: type[SottovoceError], text: str, stub: Callable[..., PythonPeer], tmp_path: Path
) -> None:
    with pytest.raises(error, match=text):
        ask(stub(mode, batch=0.5, per_clip=0.0), tmp_path)
    assert_all_ended(tmp_path)


def test_the_version_of_a_python_of_the_users(stub: Callable[..., PythonPeer], monkeypatch: pytest.MonkeyPatch) -> None:
    peer = stub("well")
    assert peer.describe().version == "9.9"
    monkeypatch.setenv(VARIABLE, "/nowhere/python")
    with pytest.raises(ConfigError, match=f"{VARIABLE}: expected a Python that has stub"):
        peer.describe()


# ---- installing -----------------------------------------------------------------------------------------------------


@pytest.fixture
def pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A python7.7 on PATH; the pip of its venvs logs its calls and fails while the returned file exists."""
    failing, log = tmp_path / "failing", tmp_path / "pip.log"
    text = f"""
        #!/bin/sh
        case "$3" in
            venv) mkdir -p "$4/bin" && cp "$0" "$4/bin/python";;
            pip) echo "$@" >> {log}
                 if [ -e {failing} ]; then echo "ERROR: No matching distribution"; echo; exit 1; fi;;
        esac
    """
    (tmp_path / "bin").mkdir()
    script(tmp_path / "bin" / "python7.7", text)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return failing


def recipe(version: str = "1.0") -> Recipe:
    return Recipe("stub", version, VARIABLE, ((f"stub=={version}",), ("--no-deps", "more==2")), ("7.8", "7.7"))


def test_an_environment_is_made_once(pip: Path, tmp_path: Path) -> None:
    told: list[str] = []
    python = make_environment(recipe(), told.append)
    assert Path(python).is_relative_to(tmp_path / "cache" / "sottovoce" / "peers")
    calls = (tmp_path / "pip.log").read_text().splitlines()
    assert [line.rpartition("--no-input ")[2] for line in calls] == ["stub==1.0", "--no-deps more==2"]
    assert "installing" in told[0]
    del told[:]
    assert make_environment(recipe(), told.append) == python and not told
    assert make_environment(recipe("1.1"), told.append) != python


def test_a_failed_installation_is_reported_and_tried_again(pip: Path) -> None:
    pip.touch()
    for _ in range(2):
        with pytest.raises(ConfigError, match=r"^stub 1\.0 could not be installed; .*ERROR: No matching distribution$"):
            make_environment(recipe(), lambda line: None)
    pip.unlink()
    assert Path(make_environment(recipe(), lambda line: None)).exists()


def test_without_a_suitable_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=rf"expected Python 7\.8 or 7\.7 on PATH.*{VARIABLE}"):
        make_environment(recipe(), lambda line: None)


# ---- the table ------------------------------------------------------------------------------------------------------


def test_the_table_of_peers() -> None:
    systems = make_peers([name for name in PEERS if not name.startswith("mp-spdz")])
    assert [system.name for system in systems] == ["crypten beaver", "spu aby3", "spu semi2k", "spu cheetah"]
    assert len({system.name for system in make_peers()}) == len(PEERS)
    with pytest.raises(ConfigError, match=r"spu-aby3.*got 'spu-aby4'"):
        make_peers(["spu-aby4"])


def test_insecure_configurations_say_so() -> None:
    """Both have a computing party that makes the triples."""
    for name in ("crypten", "spu-semi2k"):
        (system,) = make_peers([name])
        assert isinstance(system, PythonPeer) and system.description.security.startswith("NOT SECURE")


@pytest.mark.parametrize("name", ["crypten", "spu-aby3"])
def test_an_installed_peer_gives_the_labels_of_the_model(name: str, tmp_path: Path) -> None:
    (peer,) = make_peers([name])
    assert isinstance(peer, PythonPeer)
    if not os.environ.get(peer.recipe.variable):
        pytest.skip(f"needs an installed peer: set {peer.recipe.variable}")
    graph = build("max")
    low, high = graph.box()
    features = np.random.default_rng(0).uniform(low, high, (6, *graph.input_shape))
    job = Job(graph, features, (6,), Loopback(4, LOOPBACK), tmp_path)
    with peer.start(job) as running:
        sample = running.run(6)
    assert sample.labels.tolist() == evaluate(graph, features).argmax(axis=1).tolist()
    assert all(sample.bytes_sent)
