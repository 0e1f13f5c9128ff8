"""MP-SPDZ as a system under test: with a fake build, and with the user's own where MP_SPDZ names one."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from sottovoce.bench.peers.mp_spdz import system
from sottovoce.bench.peers.mp_spdz.build import VARIANTS, Build, find_build, find_variant
from sottovoce.bench.peers.mp_spdz.party import Spent, read_labels, read_spent
from sottovoce.bench.peers.mp_spdz.system import MpSpdz
from sottovoce.bench.schema import LOOPBACK, NetworkUsed
from sottovoce.bench.systems.base import Job
from sottovoce.bench.systems.process import WorkerFailed
from sottovoce.engine.errors import ConfigError
from sottovoce.models.evaluate import evaluate
from sottovoce.models.graph import Conv1d, Dense, Graph, MaxPool, Relu, Reshape

COMPILER = """
import sys
from pathlib import Path
*options, name, batch = sys.argv[1:]
assert options == ["-R", "64", "-Z", "3", "-M", "-b", "10000000"], options
source = Path("Programs/Source", name + ".mpc").read_text()
if batch == "13":
    sys.exit("CompilerError: unlucky")
Path(f"{name}-{batch}.compiled").write_text(source)
"""
CERTIFICATES = 'set -e; for rank in $(seq 0 $(($1 - 1))); do touch "$2/P$rank.pem"; done'
VIRTUAL_MACHINE = """
import sys, time
from pathlib import Path
rank, program, option, file, *rest = sys.argv[1:]
asker = rest == ["-I"]
batch = int(program.split("-")[1])
Path(program + ".compiled").read_text()
Path(f"Player-Data/P{rank}.pem").read_text()
addresses = Path(file).read_text().split()
assert option == "-ip" and len(addresses) == 3 and asker == (rank == "2")
features = Path("Player-Data/Input-P0-0").read_text().split()
assert len(features) == 4 * batch and Path("Player-Data/Input-P1-0").read_text()
if rank == "0":
    print("ready", flush=True)
asked, total = Path(f"asked-{addresses[0]}"), 0
while True:
    if asker:
        print("Please input integer: ", end="")
        word = sys.stdin.readline().strip()
        if not word:
            asked.unlink()
            sys.exit("Fatal error: not enough inputs in standard input")
        MISHAP
        asked.write_text(str(total + 1))
    while int(asked.read_text() or 0 if asked.exists() else 0) <= total:
        time.sleep(0.002)
        if (total and not asked.exists()) or Path("dead").exists():
            sys.exit("Fatal error in communication: read_some: stream truncated")
    total += 1
    cost = f"({0.5 * total * (1 + int(rank)):g} MB, {70 * total} rounds)"
    print(f"Starting timer 1 at 0 (0 MB, 0 rounds) after 1e-05\\nStopped timer 1 at {0.25 * total:g} {cost}")
    if rank == "0":
        print("labels", [int(value) % 2 for value in features[:batch]] if batch > 1 else 1)
    sys.stdout.flush()
"""


class Loopback:
    """Of this machine."""

    used: NetworkUsed = LOOPBACK

    def prefix(self, node: int) -> tuple[str, ...]:
        return ()

    def address(self, node: int) -> str:
        raise AssertionError("loopback ports are chosen when processes start")


def network() -> Graph:
    rng = np.random.default_rng(5)
    nodes = (
        Conv1d("conv", rng.normal(size=(3, 1, 3)), rng.normal(size=3), padding=(1, 1)),
        MaxPool("pool", 2, 2),
        Relu("relu"),
        Reshape("flatten"),
        Dense("dense", rng.normal(size=(3, 6)), rng.normal(size=3)),
    )
    return Graph("network", (1, 4), nodes, ("a", "b", "c"), (-1.0,), (1.0,))


def job(folder: Path, *batches: int) -> Job:
    features = np.random.default_rng(6).uniform(-1, 1, (8, 1, 4))
    return Job(network(), features, batches, Loopback(), folder)


def fake_build(folder: Path, mishap: str = "") -> Path:
    """A folder that looks like a build of one protocol; mishap: what the last party does when it is asked."""
    (folder / "Scripts").mkdir(parents=True)
    (folder / "compile.py").write_text(COMPILER)
    (folder / "Scripts" / "setup-ssl.sh").write_text(CERTIFICATES)
    (folder / "CHANGELOG.md").write_text("The changelog.\n\n## 0.9.1 (May 1, 2031)\n\n## 0.9.0 (April 1, 2031)\n")
    script = folder / "replicated-ring-party.x"
    script.write_text(f"#!{sys.executable}\n" + VIRTUAL_MACHINE.replace("MISHAP", mishap or "pass"))
    script.chmod(0o755)
    return folder


@pytest.fixture
def build(tmp_path: Path) -> Path:
    return fake_build(tmp_path / "build")


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    (tmp_path / "scratch").mkdir()
    return tmp_path / "scratch"


# ---- what is said of it -------------------------------------------------------------------------------------------


def test_description(build: Path) -> None:
    described = MpSpdz("replicated-ring", build).describe()
    assert (described.system, described.version, described.protocol) == ("mp-spdz", "0.9.1", "replicated-ring")
    assert (described.adversary, described.parties, described.encrypted) == ("semi-honest", 3, True)
    assert described.settings["compiler options"] == "-R 64 -Z 3 -M -b 10000000"
    assert described.settings["preprocessing"] == "inside the measured time"


def test_preprocessing_grows_with_the_batch_up_to_a_limit() -> None:
    options = [VARIANTS["sy-rep-ring"].machine_options(batch) for batch in (1, 3, 1000)]
    assert options == [("--batch-size", size) for size in ("20000", "60000", "500000")]
    assert VARIANTS["replicated-ring"].machine_options(7) == ()


def test_names_differ() -> None:
    assert len({MpSpdz(name).name for name in VARIANTS}) == len(VARIANTS)


def test_no_build_is_said_with_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MP_SPDZ", raising=False)
    with pytest.raises(ConfigError, match=r"the folder of a build \(--mp-spdz PATH or MP_SPDZ\), got none"):
        MpSpdz().describe()
    monkeypatch.setenv("MP_SPDZ", str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match=r"expected the folder of a build, got '.*nowhere'"):
        MpSpdz().describe()
    monkeypatch.setenv("MP_SPDZ", str(tmp_path))
    assert find_build() == Build(tmp_path.resolve())
    with pytest.raises(ConfigError, match=r"expected compile\.py in .*, got none: build replicated-ring-party\.x"):
        MpSpdz().describe()


def test_a_protocol_that_was_not_built_or_is_not_known(build: Path) -> None:
    with pytest.raises(ConfigError, match=r"expected sy-rep-ring-party\.x in"):
        MpSpdz("sy-rep-ring", build).describe()
    with pytest.raises(ConfigError, match="expected one of replicated-ring, sy-rep-ring, rep4-ring, got 'spdz2k'"):
        find_variant("spdz2k")


def test_version_of_a_folder_that_does_not_say(tmp_path: Path) -> None:
    assert Build(tmp_path).version == "unknown"


# ---- what its parties print ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "spent"),
    [
        ("Stopped timer 1 at 0.0671853 (0.323963 MB, 52 rounds)\n", Spent(0.0671853, 0.323963, 52)),
        ("Please input integer (#2): Stopped timer 1 at 5.1e-05 (0 MB, 0 rounds)", Spent(5.1e-05, 0, 0)),
        ("Starting timer 1 at 0.06 (0.3 MB, 52 rounds) after 0.4", None),
        ("Stopped timer 2 at 0.06 (0.3 MB, 52 rounds)", None),
    ],
)
def test_spent(line: str, spent: Spent | None) -> None:
    assert read_spent(line) == spent


def test_spent_since() -> None:
    added = Spent(0.75, 3.0, 104).since(Spent(0.25, 1.0, 52))
    assert added == Spent(0.5, 2.0, 52)


@pytest.mark.parametrize(
    ("line", "labels"),
    [("labels 7\n", [7]), ("labels [0, 12, 3]\n", [0, 12, 3]), ("ready\n", None), ("labels\n", None)],
)
def test_labels(line: str, labels: list[int] | None) -> None:
    found = read_labels(line)
    assert (None if found is None else found.tolist()) == labels


# ---- a run --------------------------------------------------------------------------------------------------------


def test_runs_of_a_fake_build(build: Path, scratch: Path) -> None:
    work = job(scratch, 1, 2)
    with MpSpdz("replicated-ring", build).start(work) as running:
        first, second, other = running.run(2), running.run(2), running.run(1)
        pids = [party.pid for party in running._parties]  # type: ignore[attr-defined]
        assert len(running.memory_mb()) == 3 and min(running.memory_mb()) > 0
    assert all(not Path(f"/proc/{pid}").exists() for pid in pids)
    expected = np.rint(work.batch(2).ravel() * 2**16).astype(int) % 2
    for sample in (first, second):
        assert sample.labels.tolist() == expected[:2].tolist()
        assert sample.online_ms == pytest.approx(250) and sample.party_ms == pytest.approx((250, 250, 250))
        assert sample.bytes_sent == (500_000, 1_000_000, 1_500_000) and sample.rounds == 70
    assert other.labels.tolist() == [1]


def test_what_the_compiler_says_is_told(build: Path, scratch: Path) -> None:
    with (
        pytest.raises(WorkerFailed, match=r"mp-spdz: compile\.py: .*status 1: CompilerError: unlucky"),
        MpSpdz("replicated-ring", build).start(job(scratch, 13)),
    ):
        raise AssertionError("not started")


@pytest.mark.parametrize(
    ("mishap", "limit_s", "said"),
    [
        (
            "Path('dead').touch(); sys.exit('out of memory')",
            20,
            r"P0: the process ended without an answer; .*P0: Fatal error in comm.*; last words of P2: out of memory$",
        ),
        ("time.sleep(60)", -0.5, "mp-spdz replicated-ring P0: no answer in time$"),
    ],
)
def test_a_party_that_dies_or_freezes_ends_the_run(
    tmp_path: Path, scratch: Path, mishap: str, limit_s: float, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system, "DEADLINE_S", limit_s)
    monkeypatch.setattr("sottovoce.bench.systems.process.STOP_S", 0.1)
    build = fake_build(tmp_path / "mishap", mishap)
    with MpSpdz("replicated-ring", build).start(job(scratch, 1)) as running:
        with pytest.raises(WorkerFailed, match=said):
            running.run(1)
        pids = [party.pid for party in running._parties]  # type: ignore[attr-defined]
    assert len(pids) == 3 and all(not Path(f"/proc/{pid}").exists() for pid in pids)


# ---- the real one -------------------------------------------------------------------------------------------------


@pytest.mark.timeout(600)
@pytest.mark.parametrize("protocol", VARIANTS)
def test_labels_of_the_users_own_build(protocol: str, scratch: Path) -> None:
    if "MP_SPDZ" not in os.environ:
        pytest.skip("set MP_SPDZ to the folder of a build of MP-SPDZ")
    peer = MpSpdz(protocol)
    try:
        peer.describe()
    except ConfigError as error:
        pytest.skip(str(error))
    work = job(scratch, 1, 8)
    expected = evaluate(work.graph, work.features).argmax(axis=1)
    with peer.start(work) as running:
        samples = [running.run(8), running.run(8), running.run(1)]
    for sample in samples:
        assert sample.labels.tolist() == expected[: len(sample.labels)].tolist()
        assert sample.rounds is not None and sample.rounds > 20 and min(sample.bytes_sent) > 500
        assert 0 < sample.online_ms < 60_000
