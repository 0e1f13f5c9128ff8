"""Preprocessing by itself: figures per clip, rows that say why there is none, and what is made of them."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from tests.bench import synthetic

from sottovoce.bench.offline import OfflinePlan, measure_offline, with_figures
from sottovoce.bench.report.markdown import offline_table, rows_table
from sottovoce.bench.report.page import write_page
from sottovoce.bench.schema import LOOPBACK, OfflineRow, Results, write_results
from sottovoce.bench.systems.deployment import Deployment, Prepared
from sottovoce.bench.systems.process import WorkerFailed
from sottovoce.engine.errors import ConfigError

ROW = OfflineRow(model="tiny", protocol="beaver2", source="dealer", clips=10)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, str]]:
    """(protocol, clips, source) of each run; a run takes 10 ms more per clip than the one before."""
    runs: list[tuple[str, int, str]] = []

    def prepare(self: Deployment, clips: int, source: str) -> tuple[Prepared, ...]:
        runs.append((self.row.name, clips, source))
        if source == "ot":
            raise WorkerFailed("prepare-P1: expected it to end well, got status 1")
        slower = 10.0 * clips * len(runs)
        return Prepared(slower / 2, 10 * clips, 20 * clips), Prepared(slower, 3000 * clips, 4000 * clips)

    monkeypatch.setattr(Deployment, "prepare", prepare)
    return runs


def test_figures_are_per_clip_and_of_the_slower_party() -> None:
    runs = [
        (Prepared(200, 100, 50), Prepared(100, 4000, 5000)),
        (Prepared(100, 100, 50), Prepared(400, 6000, 5000)),
        (Prepared(300, 100, 50), Prepared(100, 5000, 5000)),
    ]
    found = with_figures(ROW, runs, LOOPBACK)
    assert found.clip_ms is not None and (found.clip_ms.median, found.clip_ms.n) == (30.0, 3)
    assert (found.clip_bytes, found.clip_stored_bytes) == ((10, 500), (5, 500))


def test_each_source_of_each_protocol_has_a_row(made: list[tuple[str, int, str]]) -> None:
    rows = measure_offline(OfflinePlan(models=("tiny",), clips=6, repeat=2, encrypted=False))
    of = {(row.protocol, row.source): row for row in rows}
    assert list(of) == [("beaver2", "dealer"), ("beaver2", "ot"), ("beaver2-fss", "dealer"), ("beaver2-fss", "ot")]
    dealt = of["beaver2", "dealer"]
    assert made[:3] == [("beaver2", 1, "dealer"), ("beaver2", 6, "dealer"), ("beaver2", 6, "dealer")]
    assert dealt.clip_ms is not None and (dealt.clip_ms.n, dealt.clip_ms.smallest) == (2, pytest.approx(20))
    assert (dealt.clip_bytes, dealt.clip_stored_bytes) == ((10, 3000), (20, 4000))
    assert dealt.network.method == "loopback" and dealt.network.measured_rtt_ms is not None
    failed, no_keys = of["beaver2", "ot"], of["beaver2-fss", "ot"]
    assert (failed.status, failed.clip_ms) == ("failed", None) and "prepare-P1" in failed.reason
    assert no_keys.status == "missing" and "come from a dealer only" in no_keys.reason
    assert ("beaver2-fss", 6, "ot") not in made


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"models": ("huge",)}, "model"),
        ({"protocols": ("rep3",)}, r"with preprocessing \(beaver2, beaver2-fss\), got 'rep3'"),
        ({"protocols": ("none",)}, "expected one of rep3"),
        ({"networks": ("moon",)}, "network"),
        ({"networks": ("wan",), "encrypted": False}, "loopback only"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        OfflinePlan(**wrong)  # type: ignore[arg-type]


def test_rows_become_a_section_of_the_page_and_lines_of_a_csv_file(tmp_path: Path) -> None:
    row = with_figures(ROW, [(Prepared(1000, 10, 20), Prepared(2000, 5_000_000, 6_000_000))], LOOPBACK)
    missing = msgspec.structs.replace(ROW, source="ot", status="missing", reason="no such source")
    results = Results(
        kind="offline", command="sottovoce bench offline", environment=synthetic.ENVIRONMENT, offline=(row, missing)
    )
    write_results(tmp_path / "o.json", results)
    write_page(tmp_path, plots=False)
    page = (tmp_path / "README.md").read_text()
    assert "## Preprocessing" in page and offline_table((row, missing)) in page
    lines = (tmp_path / "o.csv").read_text().splitlines()
    assert len(lines) == 3 and "clip_ms_median" in lines[0] and "500000" in lines[1] and "no such source" in lines[2]


def test_rows_with_preprocessing_show_it_beside_the_online_time() -> None:
    without = synthetic.row()
    ahead = msgspec.structs.replace(
        synthetic.row(batch=4, protocol="beaver2"), preprocessing=True, offline_ms=synthetic.summary([80, 90, 100]),
        offline_bytes=(400, 4_000_000),
    )  # fmt: skip
    header, _, first, second = rows_table([without, ahead]).splitlines()
    assert header.endswith("| preprocessing of the batch (quartiles) | sent for it per clip and party |")
    assert first.endswith("| - | - |") and second.endswith("| 90 ms (85 to 95, 3 runs) | 1 MB |")
    assert "preprocessing" not in rows_table([without])
