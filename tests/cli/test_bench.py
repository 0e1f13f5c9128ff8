"""`sottovoce bench`: wrong words are told before anything starts; results are JSON; a script can go by the status."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from tests.bench import synthetic
from tests.cli.conftest import RunCommand

from sottovoce.bench import offline, runner
from sottovoce.bench.schema import OfflineRow, Row, read_results, write_results
from sottovoce.cli.exits import Exit
from sottovoce.engine.cost import demand
from sottovoce.engine.protocols.table import PROTOCOLS
from sottovoce.models.compiler.compile import compile_graph
from sottovoce.models.zoo import build

WORDS = ("paper", "sweep", "peers", "offline", "network", "kernels", "compare", "accuracy", "report")


@pytest.fixture
def fake_plan(monkeypatch: pytest.MonkeyPatch) -> list[runner.Plan]:
    """Plans are noted and answered with synthetic rows."""
    plans: list[runner.Plan] = []

    def run_plan(plan: runner.Plan, effort: runner.Effort, **more: object) -> list[Row]:
        plans.append(plan)
        networks = {used.name: used for used in synthetic.NETWORKS}
        return [
            msgspec.structs.replace(
                synthetic.row(plan.model, batch, network=networks[plan.network], lanes=plan.lanes),
                protocol=protocol,
            )
            for batch in plan.batches
            for protocol in plan.protocols
        ]

    monkeypatch.setattr(runner, "run_plan", run_plan)
    return plans


def test_every_word_has_help(command: RunCommand) -> None:
    listed = command("bench", "--help").out
    for word in WORDS:
        assert word in listed
        assert command("bench", word, "--help").status == Exit.OK


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("sweep", "--model", "nosuch"), "expected one of tiny, paper"),
        (("sweep", "--protocol", "nosuch"), "expected one of rep3"),
        (("sweep", "--batch", "0"), "batch"),
        (("sweep", "--model", "tiny", "--network", "moon"), "expected one of loopback, lan, metro, wan"),
        (("sweep", "--model", "tiny", "--network", "rtt=20"), "rtt=20ms,rate=200mbit"),
        (("offline", "--protocol", "rep3"), "expected one with preprocessing (beaver2, beaver2-fss), got 'rep3'"),
        (("offline", "--model", "nosuch"), "expected one of tiny, paper"),
        (("network", "--network", "moon"), "expected one of loopback, lan, metro, wan"),
        (("peers", "--peer", "nosuch"), "nosuch"),
        (("compare", "missing.json", "missing.json"), "missing.json"),
        (("compare", "a", "b", "--passes", "3"), "expected --commits"),
        (("report", "missing"), "missing"),
        (("accuracy", "missing.npz", "--model", "nosuch"), "expected one of tiny, paper"),
        (("paper", "--reference", "missing.toml"), "missing.toml"),
    ],
)
def test_what_is_wrong_is_said(command: RunCommand, words: tuple[str, ...], said: str) -> None:
    ran = command("bench", *words)
    assert ran.status == Exit.USAGE
    assert said in ran.err


def test_sweep_crosses_what_was_given(command: RunCommand, fake_plan: list[runner.Plan], tmp_path: Path) -> None:
    out = tmp_path / "sweep.json"
    ran = command(
        *("bench", "sweep", "--model", "tiny", "paper", "--batch", 8, 1, 8, "--network", "loopback", "wan"),
        *("--lanes", 1, 2, "--out", out, "--json"),
    )
    assert ran.status == Exit.OK
    assert {(p.model, p.network, p.lanes) for p in fake_plan} == {
        (model, network, lanes) for model in ("tiny", "paper") for network in ("loopback", "wan") for lanes in (1, 2)
    }
    assert all(plan.batches == (1, 8) and plan.protocols == tuple(PROTOCOLS) for plan in fake_plan)
    results = read_results(out)
    assert len(results.rows) == 16 * len(PROTOCOLS) and results.kind == "sweep"
    assert json.loads(ran.out) == json.loads(out.read_text())
    assert (
        results.command.startswith("sottovoce bench sweep --model tiny paper") and str(tmp_path) not in results.command
    )


def test_offline_shows_each_source(command: RunCommand, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    plans: list[offline.OfflinePlan] = []
    took = synthetic.summary([200.0] * 5)
    row = OfflineRow(
        model="tiny", protocol="beaver2", source="dealer", clips=10, clip_ms=took, clip_bytes=(1, 500_000),
        clip_stored_bytes=(2, 600_000),
    )  # fmt: skip
    missing = OfflineRow(
        model="tiny", protocol="beaver2", source="ot", clips=10, status="missing", reason="no such source"
    )

    def measure(plan: offline.OfflinePlan, **_: object) -> list[OfflineRow]:
        plans.append(plan)
        return [row, missing]

    monkeypatch.setattr(offline, "measure_offline", measure)
    out = tmp_path / "offline.json"
    ran = command("bench", "offline", "--model", "tiny", "--clips", 10, "--source", "dealer", "--out", out)
    assert ran.status == Exit.OK
    assert plans == [offline.OfflinePlan(("tiny",), sources=("dealer",), clips=10)]
    for said in ("beaver2", "dealer", "200 ms", "1 B, 500 kB", "2 B, 600 kB", "missing: no such source"):
        assert said in ran.out
    assert read_results(out).offline == (row, missing)


def test_paper_shows_both_tables_and_every_cell(command: RunCommand, fake_plan: list[runner.Plan]) -> None:
    ran = command("bench", "paper", "--quick")
    text = " ".join(ran.out.split())
    assert ran.status == Exit.OK
    for said in ("semi-honest", "malicious", "out of scope for now", "no protocol yet", "rep3", "0.3 s", "1.6 s"):
        assert said in text
    for said in ("72.11", "70.32", "STORED results, not measured now"):
        assert said in text
    assert {plan.model for plan in fake_plan} == {"paper"}


def test_compare_tells_by_its_status(command: RunCommand, tmp_path: Path) -> None:
    def passes(name: str, factor: float) -> Path:
        for number in range(6):
            row = synthetic.row("tiny", 1)
            samples = tuple(factor * (1 + 0.01 * ((k + number) % 3)) for k in range(9))
            where = synthetic.ENVIRONMENT
            results = msgspec.structs.replace(synthetic.sweep(("tiny",)), environment=where)
            rows = (msgspec.structs.replace(row, samples_ms=samples),)
            write_results(tmp_path / name / f"{number}.json", msgspec.structs.replace(results, rows=rows))
        return tmp_path / name

    a, again, slower = passes("a", 1.0), passes("again", 1.0), passes("slower", 1.5)
    assert command("bench", "compare", a, again).status == Exit.OK
    ran = command("bench", "compare", a, slower, "--json")
    assert ran.status == Exit.SOME_FAILED and ran.json["failed"]
    assert command("bench", "compare", slower, a).status == Exit.OK
    assert command("bench", "compare", a, slower, "--bound", 2).status == Exit.OK


def test_report_makes_a_page(command: RunCommand, tmp_path: Path) -> None:
    write_results(tmp_path / "sweep.json", synthetic.sweep(("tiny",)))
    assert command("bench", "report", tmp_path, "--no-plots").status == Exit.OK
    assert "tiny" in (tmp_path / "README.md").read_text() and (tmp_path / "sweep.csv").exists()


@pytest.mark.slow
def test_a_sweep_for_real(command: RunCommand) -> None:
    ran = command("bench", "sweep", "--model", "tiny", "--batch", 1, 3, "--repeat", 2, "--json", "--seconds", 5)
    assert ran.status == Exit.OK
    assert {row["protocol"] for row in ran.json["rows"]} == set(PROTOCOLS)
    for row in ran.json["rows"]:
        assert row.get("status", "measured") == "measured", row
        assert len(row["samples_ms"]) == 2 and row["label_agreement"] == 1.0
        assert min(row["memory_mb"]) > 10 and row["online_ms"]["median"] > 0
        assert row["rounds"] == {"rep3": 16, "beaver2": 11, "beaver2-fss": 6}[row["protocol"]]
        if PROTOCOLS[row["protocol"]].preprocessing:
            assert row["offline_ms"]["median"] > 0 and row["settings"] == {"preprocessing": "dealer"}
            layout = demand(compile_graph(build("tiny")).program, PROTOCOLS[row["protocol"]])
            least = 8 * row["batch"] * (layout.derived + 2 * layout.common)
            assert least < sum(row["offline_bytes"]) < least + 2000 * row["batch"], "what the dealer sends"
