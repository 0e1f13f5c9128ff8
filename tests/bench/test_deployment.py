"""What the benchmark starts for a protocol with preprocessing, and how much of it; the processes are stood in for."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import pytest

from sottovoce.bench.runner import sample_features
from sottovoce.bench.schema import LOOPBACK, NetworkUsed
from sottovoce.bench.systems import deployment as module
from sottovoce.bench.systems.base import Job
from sottovoce.bench.systems.deployment import Deployment, Prepared, nodes_of
from sottovoce.bench.systems.ours import Sottovoce, _Running
from sottovoce.bench.systems.process import WorkerFailed
from sottovoce.engine.cost import demand
from sottovoce.engine.errors import ConfigError
from sottovoce.engine.program import from_json
from sottovoce.engine.protocols.table import find
from sottovoce.models.zoo import build

SAID = '{"elapsed_ms": 2.0, "bytes_sent": 4000, "stored_bytes": 5000, "left": 7}'


class Apart:
    """Every node on a machine of its own."""

    used = NetworkUsed(name="wan", method="netem")

    def prefix(self, node: int) -> tuple[str, ...]:
        return ("on", str(node))

    def address(self, node: int) -> str:
        return f"10.0.0.{node}"


class Together:
    used = LOOPBACK

    def prefix(self, node: int) -> tuple[str, ...]:
        return ()

    def address(self, node: int) -> str:
        raise AssertionError("loopback ports are chosen when processes start")


class Ended:
    """A child that has."""

    last_lines = ("reading", "no space left")

    def __init__(self, role: str, output: str, status: int) -> None:
        self.role, self.output, self.status = role, output, status

    def join(self, timeout_s: float) -> None:
        assert timeout_s > 0


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[str], tuple[str, ...]]]:
    """(role, arguments, prefix) of each process."""
    found: list[tuple[str, list[str], tuple[str, ...]]] = []

    class Fakes:
        def __init__(self, logs: Path) -> None: ...

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None: ...

        def start(self, role: str, arguments: Sequence[str], folder: Path, prefix: Sequence[str] = ()) -> Ended:
            found.append((role, list(arguments), tuple(prefix)))
            clips = arguments[arguments.index("--clips") + 1] if "--clips" in arguments else ""
            return Ended(role, "Traceback" if clips == "14" else SAID, 1 if clips == "13" else 0)

    monkeypatch.setattr(module, "Children", Fakes)
    return found


def deploy(
    folder: Path, protocol: str, *batches: int, network: Together | Apart | None = None, encrypted: bool = True
) -> Deployment:
    graph = build("tiny")
    job = Job(graph, sample_features(graph, 3), batches, network or Together(), folder, encrypted=encrypted)
    return Deployment(find(protocol), job, folder / protocol)


def test_nodes_are_of_the_parties_the_client_and_the_dealer(tmp_path: Path) -> None:
    assert (nodes_of(find("rep3")), nodes_of(find("beaver2"))) == (4, 4)
    made = deploy(tmp_path, "beaver2", network=Apart())
    assert tomllib.loads(made.cluster.read_text()) == {
        "protocol": "beaver2", "lanes": 1, "parties": ["10.0.0.0:7100", "10.0.0.1:7101"], "dealer": "10.0.0.3:7103",
    }  # fmt: skip
    assert "dealer" not in tomllib.loads(deploy(tmp_path, "rep3", network=Apart()).cluster.read_text())
    assert sorted(p.name for p in (tmp_path / "beaver2" / "certs").iterdir()) == [
        "authority", "client-alice", "dealer", "owner-bob", "party0", "party1",
    ]  # fmt: skip
    assert not (tmp_path / "rep3" / "certs" / "dealer").exists()


def test_loopback_addresses_are_free_ones(tmp_path: Path) -> None:
    job = deploy(tmp_path, "rep3", encrypted=False).job
    found = job.addresses(3)
    assert len(set(found)) == 3 and {host for host, _ in found} == {"127.0.0.1"}


def test_systems_that_share_nodes_do_not_share_ports(tmp_path: Path) -> None:
    job = deploy(tmp_path, "rep3", network=Apart(), encrypted=False).job
    assert job.addresses(2) == (("10.0.0.0", 7100), ("10.0.0.1", 7101))
    taken = [address for number in range(6) for address in job.of_system(number).addresses(5)]
    assert len(set(taken)) == len(taken)


def test_preparing_starts_what_a_user_starts_each_in_its_node(
    tmp_path: Path, started: list[tuple[str, list[str], tuple[str, ...]]]
) -> None:
    made = deploy(tmp_path, "beaver2", network=Apart())
    assert made.prepare(12, "dealer") == (Prepared(2.0, 4000, 5000),) * 2
    assert [(role, words[0], prefix) for role, words, prefix in started] == [
        ("dealer", "dealer", ("on", "3")),
        ("prepare-P0", "prepare", ("on", "0")),
        ("prepare-P1", "prepare", ("on", "1")),
    ]
    dealer, first, second = (words for _, words, _ in started)
    for rank, words in enumerate((first, second)):
        options = dict(zip(words[2::2], words[3::2], strict=False))
        assert (words[1], options["--clips"], options["--source"]) == (str(rank), "12", "dealer")
        assert options["--store"] == str(tmp_path / "beaver2" / f"store{rank}")
        program = from_json(Path(options["--program"]).read_bytes())
        assert program.name.startswith("tiny") and demand(program, made.row).items
        assert str(tmp_path / "beaver2" / "certs" / f"party{rank}") in words
    assert not [word for word in dealer if "store" in word or "party" in word], "it has nothing of theirs"
    started.clear()
    made.prepare(3, "ot")
    assert [role for role, *_ in started] == ["prepare-P0", "prepare-P1"], "no third party"


@pytest.mark.parametrize(
    ("clips", "said"),
    [(13, "prepare-P0: .* status 1; its last words: reading no space left"), (14, "prepare-P0: expected a JSON obj")],
)
def test_preparing_that_fails_says_who_and_why(
    tmp_path: Path, started: list[tuple[str, list[str], tuple[str, ...]]], clips: int, said: str
) -> None:
    with pytest.raises(WorkerFailed, match=said):
        deploy(tmp_path, "beaver2", encrypted=False).prepare(clips, "dealer")
    assert all("--insecure-loopback" in words for _, words, _ in started)


def test_how_much_is_prepared_is_bounded_by_clips_and_by_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = deploy(tmp_path, "beaver2-fss", encrypted=False)
    monkeypatch.setattr(module, "CLIPS", 100)
    assert made.requests(1, 5, 32) == 32
    assert made.requests(10, 5, 32) == 10
    assert made.requests(128, 5, 32) == 5
    layout = demand(from_json((tmp_path / "beaver2-fss" / "program.json").read_bytes()), made.row)
    clip = 8 * (layout.derived + 2 * layout.common)  # both parties' disks
    monkeypatch.setattr(module, "MATERIAL_BYTES", 60 * clip)
    assert made.requests(8, 5, 32) == 7
    assert made.requests(12, 5, 32) == 5
    with pytest.raises(ConfigError, match=r"beaver2-fss: expected at most .* GB .*, got .* GB for 5 of 13"):
        made.requests(13, 5, 32)


def test_processes_start_anew_only_for_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = deploy(tmp_path, "beaver2", encrypted=False)
    done: list[object] = []
    monkeypatch.setattr(Deployment, "prepare", lambda self, clips, source: done.append((clips, source)))
    monkeypatch.setattr(_Running, "start", lambda self: done.append("start"))
    with ExitStack() as stack:
        running = _Running("ours", made, [(), ()], stack)
        assert running.prepare(4, 3, 10) == 10
        assert running.prepare(1, 3, 20) == 20
        assert running.prepare(20, 3, 3) == 3
        assert running.prepare(30, 2, 2) == 2
    assert done == [(40, "dealer"), "start", (20, "dealer"), "start"]


def test_one_preparation_is_for_all_sizes_that_the_disk_has_room_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = deploy(tmp_path, "beaver2", 1, 4, 1000, encrypted=False)
    done: list[object] = []
    monkeypatch.setattr(Deployment, "prepare", lambda self, clips, source: done.append(clips))
    monkeypatch.setattr(_Running, "start", lambda self: done.append("start"))
    layout = demand(from_json((tmp_path / "beaver2" / "program.json").read_bytes()), made.row)
    monkeypatch.setattr(module, "MATERIAL_BYTES", 8 * layout.derived * 3040)
    with ExitStack() as stack:
        running = _Running("ours", made, [(), ()], stack)
        assert [running.prepare(batch, 3, 10) for batch in (1, 4, 1000)] == [10, 10, 3]
    assert done == [10 + 40, "start", 3000 - 50, "start"]


def test_rows_say_where_preprocessing_comes_from() -> None:
    assert Sottovoce("rep3").describe().settings == {}
    described = Sottovoce("beaver2").describe()
    assert described.preprocessing and described.settings == {"preprocessing": "dealer"}
