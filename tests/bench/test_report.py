"""Tables, CSV, charts and the page are made from the rows, and lose none of them."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import sys
from itertools import pairwise
from pathlib import Path, PurePosixPath

import msgspec
import pytest
from tests.bench import synthetic

from sottovoce.bench.price import load_prices
from sottovoce.bench.profiling.schema import Line, Overhead, Profile, Step
from sottovoce.bench.report import markdown, text
from sottovoce.bench.report.chart import Chart
from sottovoce.bench.report.charts import charts
from sottovoce.bench.report.headlines import Source, headlines
from sottovoce.bench.report.page import PAGE, read_folder, render, write_page
from sottovoce.bench.report.ratios import Ratio, ratios
from sottovoce.bench.report.table_csv import BY_PARTY, PLAIN, SUMMARIES, to_csv
from sottovoce.bench.schema import NetworkUsed, Results, Row, write_results
from sottovoce.bench.stats import Interval, summarise
from sottovoce.engine.errors import ConfigError

MAKERS = (synthetic.paper, synthetic.network, synthetic.validated, synthetic.sweep, synthetic.peers, synthetic.accuracy)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One file of each kind."""
    for make in MAKERS:
        write_results(tmp_path / f"{make.__name__}.json", make())
    return tmp_path


def lines(results: Results) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(to_csv(results))))


# ---- text ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "written"),
    [(0, "0"), (0.01234, "0.0123"), (4.567, "4.57"), (25.0, "25"), (99.96, "100"), (999.6, "1,000"), (12345, "12,345")],
)
def test_figures(value: float, written: str) -> None:
    assert text.figure(value) == written


def test_times_and_sizes_have_units() -> None:
    assert (text.ms(999), text.ms(1600)) == ("999 ms", "1.6 s")
    assert (text.size(160_000), text.size(2_500_000), text.size(99)) == ("160 kB", "2.5 MB", "99 B")
    assert text.spread(synthetic.summary([900, 1000, 1100, 1200, 1300])) == "1.1 s (1 to 1.2)"


# ---- CSV ----------------------------------------------------------------------------------------------------------


def test_csv_has_every_field_of_a_row() -> None:
    elsewhere = {"samples_ms", "network", "settings", "device"}
    assert {*PLAIN, *SUMMARIES, *BY_PARTY, *elsewhere} == set(Row.__struct_fields__)


def test_csv_numbers_read_back_equal() -> None:
    results = synthetic.network()
    for line, row in zip(lines(results), results.rows, strict=True):
        assert row.online_ms is not None
        assert float(line["online_ms_median"]) == row.online_ms.median
        assert float(line["online_ms_upper"]) == row.online_ms.upper
        assert float(line["clips_per_s"]) == row.clips_per_s
        assert tuple(int(line[f"sent_bytes_p{rank}"]) for rank in range(3)) == row.bytes_sent
        assert line["sent_bytes_p3"] == ""
        assert line["network_rtt_ms"] == ("" if row.network.rtt_ms is None else f"{float(row.network.rtt_ms):g}")
        assert (line["commit"], line["processor"]) == (synthetic.ENVIRONMENT.commit, "Invented Processor")


def test_csv_keeps_rows_without_figures() -> None:
    failed = [line for line in lines(synthetic.sweep()) if line["status"] == "failed"]
    assert [(line["reason"], line["online_ms_median"]) for line in failed] == [("out of | memory", "")]


def test_csv_of_accuracy() -> None:
    results = synthetic.accuracy()
    assert [int(line["mpc_correct"]) for line in lines(results)] == [row.mpc_correct for row in results.accuracy]


# ---- tables -------------------------------------------------------------------------------------------------------


def test_a_failed_row_stands_in_the_table_with_its_reason() -> None:
    rows = synthetic.sweep().rows
    table = markdown.rows_table(rows).splitlines()
    assert len(table) == 2 + len(rows)
    assert "failed: out of \\| memory" in table[-1]
    assert len({line.replace("\\|", "").count("|") for line in table}) == 1


def test_a_missing_peer_stands_beside_the_others() -> None:
    table = markdown.ratios_table(ratios(synthetic.peers().rows))
    assert table.count("none: mp-spdz missing: no build at the given path") == 4


def test_a_long_reason_is_cut_in_tables_only() -> None:
    row = Row(protocol="p", parties=3, model="m", batch=1, status="failed", reason="line\n" * 1000)
    assert len(text.reason(row)) == text.LONGEST
    assert "\n" not in text.reason(row)


def test_ratio_is_the_peers_time_over_ours() -> None:
    rows = [synthetic.row(seed=1), synthetic.row(system="slow", protocol="p", slower=4.0, seed=1)]
    (found,) = ratios(rows)
    assert found.interval is not None
    assert found.interval.ratio == pytest.approx(4.0, rel=1e-3)
    assert found.interval.low <= found.interval.ratio <= found.interval.high


@pytest.mark.parametrize("change", [{"batch": 2}, {"model": "other"}, {"network": synthetic.NETWORKS[1]}])
def test_only_equal_work_is_compared(change: dict[str, object]) -> None:
    other = msgspec.structs.replace(synthetic.row(system="peer", protocol="p"), **change)
    assert ratios([synthetic.row(), other]) == []


def test_cheapest_batch_is_shown_for_each_machine() -> None:
    prices = load_prices()
    table = markdown.costs_table(synthetic.sweep(("paper",)).rows, prices).splitlines()[2:]
    assert len(table) == len(prices.machine)
    assert all("| 4,096 |" in line for line in table)


# ---- charts -------------------------------------------------------------------------------------------------------


def chart_named(results: Results, name: str) -> Chart:
    return {chart.name: chart for chart in charts(results, load_prices())}[name]


def test_a_sweep_gives_its_charts() -> None:
    names = {chart.name for chart in charts(synthetic.sweep(), load_prices())}
    assert names == {"throughput", "traffic", "lanes", "memory", "money"}
    assert charts(synthetic.accuracy(), load_prices()) == []


def test_curves_hold_one_set_of_conditions() -> None:
    """The sweep also has batch 128 with 2 and 4 lanes, which do not belong to the curve over batch sizes."""
    results = synthetic.sweep(("paper",))
    turned = msgspec.structs.replace(results, rows=results.rows[::-1])
    curve = chart_named(turned, "throughput").panels[0].series[0]
    assert [point.x for point in curve.points] == list(synthetic.BATCHES)
    (one_lane,) = (row for row in results.rows if (row.batch, row.lanes) == (128, 1))
    assert curve.points[7].y == pytest.approx(one_lane.clips_per_s)
    assert all(point.low <= point.y <= point.high for point in curve.points)


def test_networks_come_nearest_first_beside_the_papers_times() -> None:
    results = synthetic.network()
    shuffled = msgspec.structs.replace(results, rows=results.rows[::-1])
    panel = chart_named(shuffled, "networks").panels[0]
    assert [(place, label.split("\n")[0]) for place, label in panel.ticks] == list(
        enumerate(["loopback", "lan", "metro", "wan"])
    )
    for curve in panel.series:
        assert [point.x for point in curve.points] == [0, 1, 2, 3]
        assert curve.points[0].y < curve.points[2].y < curve.points[3].y
    assert [guide.y for guide in panel.guides] == [300.0, 1600.0]


def test_lanes_are_multiples_of_one_lane() -> None:
    (curve,) = chart_named(synthetic.sweep(), "lanes").panels[0].series
    assert [point.x for point in curve.points] == [1, 2, 4]
    assert curve.points[0].y == 1.0
    assert curve.points[2].y > curve.points[1].y > 1.2


def test_money_says_that_the_prices_are_examples() -> None:
    assert chart_named(synthetic.sweep(), "money").title.startswith("EXAMPLE PRICES")


def test_each_curve_has_its_own_look() -> None:
    rows = [synthetic.row(m, b, protocol=p) for m in ("a", "b") for p in ("rep3", "other") for b in (1, 2)]
    results = msgspec.structs.replace(synthetic.sweep(), rows=tuple(rows))
    series = chart_named(results, "traffic").panels[0].series
    assert [(s.name, s.colour, s.dash) for s in series] == [
        ("a, rep3", 0, 0), ("a, other", 0, 1), ("b, rep3", 1, 0), ("b, other", 1, 1),
    ]  # fmt: skip


# ---- the page -----------------------------------------------------------------------------------------------------


def test_page_does_not_depend_on_the_order_of_files(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    for make in MAKERS[::-1]:
        write_results(other / f"{make.__name__}.json", make())
    first, second = (write_page(at, plots=False).read_bytes() for at in (folder, other))
    assert first == second == write_page(folder, plots=False).read_bytes()
    assert (folder / "sweep.csv").read_bytes() == (other / "sweep.csv").read_bytes()


def test_page_starts_with_the_headlines(folder: Path) -> None:
    page = render(read_folder(folder), plots=False)
    glance = page[page.index("## At a glance") : page.index("## The paper's table")]
    assert "| One clip, from shares to label | **23.1 ms** | rep3 (3 parties, semi-honest), loopback" in glance
    assert "2026-01-02, commit 0123456789, Invented Processor, 2 cores" in glance
    assert "under 0.3 s" in glance and "about 1.6 s" in glance
    for make in MAKERS:
        assert f"[{make.__name__}.json]({make.__name__}.json)" in page
        assert f"```sh\n{make().command}\n```" in page


def test_page_does_not_let_a_row_write_markup(tmp_path: Path) -> None:
    row = synthetic.row(system="<b>x</b>", protocol="[a](b)")
    write_results(tmp_path / "peers.json", msgspec.structs.replace(synthetic.peers(), rows=(synthetic.row(), row)))
    page = render(read_folder(tmp_path), plots=False)
    assert "<b>" not in page
    assert "&lt;b>x&lt;/b> \\[a](b)" in page


def test_page_with_plots(tmp_path: Path, repository: Path) -> None:
    """Drawn for real: every link leads somewhere, and the same rows give the same pictures."""
    pytest.importorskip("matplotlib", reason="needs Matplotlib: the extra `bench`")
    results = synthetic.peers()
    write_results(tmp_path / "peers.json", msgspec.structs.replace(results, rows=results.rows[:4]))
    page = write_page(tmp_path)
    spec = importlib.util.spec_from_file_location("check_links", repository / ".ci" / "check_links.py")
    assert spec is not None and spec.loader is not None
    checker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(checker)
    assert checker.broken_links(page) == []
    pictures = {path.name: path.read_bytes() for path in (tmp_path / "plots").iterdir()}
    assert set(pictures) == {"peers-peers.png", "peers-peers.svg"}
    assert all(f"plots/{name}" in page.read_text() for name in pictures)
    write_page(tmp_path)
    assert {path.name: path.read_bytes() for path in (tmp_path / "plots").iterdir()} == pictures


def test_without_matplotlib_nothing_is_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    before = sorted(folder.iterdir())
    with pytest.raises(ConfigError, match=r"pip install 'sottovoce\[bench\]'"):
        write_page(folder)
    assert sorted(folder.iterdir()) == before
    write_page(folder, plots=False)


@pytest.mark.parametrize("content", ["{", '{"schema": 1, "kind": "sweep"}', '{"schema": 99, "kind": "sweep"}'])
def test_damaged_files_are_named(folder: Path, content: str) -> None:
    (folder / "bad.json").write_text(content)
    with pytest.raises(ConfigError, match=r"bad\.json"):
        write_page(folder, plots=False)


def test_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected JSON files"):
        write_page(tmp_path)


def test_kernels_are_a_table(folder: Path) -> None:
    for number, seconds in enumerate((0.001, 0.003, 0.002)):
        benchmark = {
            "name": "test_kernel[matmul/small/cpu]",
            "stats": {"median": seconds},
            "extra_info": {"operations": 4_000_000, "unit": "multiplications", "fraction_of_ceiling": 0.5},
        }
        (folder / f"kernels{number}.json").write_text(json.dumps({"benchmarks": [benchmark], "datetime": "2026-01-02"}))
    page = render(read_folder(folder), plots=False)
    assert "All 1 benchmark, median of 3 passes" in page
    assert "| matmul/small/cpu | 2 ms | 2,000 M | multiplications | 50 % |" in page


def test_profiles_say_where_the_time_goes(folder: Path) -> None:
    took = summarise([9.0, 10.0, 12.0])
    line = Line(
        name="request", kind="request", calls=1, rounds=22, bytes_sent=1.0, compute_ms=4.0, device_ms=None, wait_ms=6.0,
        share=1.0,
    )  # fmt: skip
    path = (
        Step(layer="conv1", operation="trunc_relu", kind="send", name="LEAVES", ms=6.0, share=0.6),
        Step(layer="conv2", operation="linear", kind="kernel", name="conv1d", ms=3.0, share=0.3),
        Step(layer="argmax", operation="", kind="kernel", name="add", ms=1.0, share=0.1),
    )
    profile = Profile(
        model="paper", program="aa", protocol="rep3", device="cpu", encrypted=True, parties=3, lanes=1, batch=128,
        requests=6, requests_measured=12, request_ms=took, total=line, critical_path=path,
        overhead=Overhead(ratio=took, traced_ms=took, untraced_ms=took),
    )  # fmt: skip
    (folder / "profile.json").write_bytes(msgspec.json.encode(profile))
    page = render(read_folder(folder), plots=False)
    assert "### paper, rep3, 128 clips a request, TLS" in page
    assert "| kernels | 4 ms | 40 % |" in page and "| conv1 | trunc_relu | send LEAVES | 6 ms | 60 % |" in page


def test_committed_page_is_that_of_its_files(repository: Path) -> None:
    results = repository / "docs" / "results"
    if not any(results.glob("*.json")):
        pytest.skip("no results in docs/results")
    page = (results / PAGE).read_text(encoding="utf-8")
    assert page == render(read_folder(results)), "run `sottovoce bench report docs/results`"


# ---- names beside curves ------------------------------------------------------------------------------------------


def test_names_stand_apart_in_order_inside_the_panel() -> None:
    from sottovoce.bench.report.plots import LABEL_GAP, _apart

    wanted = [0.1, 0.5, 0.5, 0.52, 0.97, 0.99, 1.0]
    placed = _apart(wanted)
    assert all(b - a >= LABEL_GAP - 1e-9 for a, b in pairwise(placed))
    assert placed[0] == 0.1
    assert max(placed) <= 1.0 + 1e-9


def test_few_pairs_give_a_range_and_no_confidence() -> None:
    def ratio(pairs: int) -> Ratio:
        ours, peer = (
            msgspec.structs.replace(
                synthetic.row(system=name), samples_ms=tuple(factor * (1 + k) for k in range(pairs))
            )
            for name, factor in (("sottovoce", 1.0), ("crypten", 3.0))
        )
        return ratios([ours, peer])[0]

    assert ratio(6).spread == "95 % confidence"
    few = ratio(5)
    assert few.spread == "range of 5" and few.interval == Interval(3.0, 3.0, 3.0)
    assert "range of 5" in markdown.ratios_table([few])


def test_a_malicious_peer_is_no_headline() -> None:
    results = synthetic.peers()
    rows = [msgspec.structs.replace(r, adversary="semi-honest") for r in results.rows if r.status == "measured"]
    harder = [msgspec.structs.replace(r, adversary="malicious") if r.system == "spu" else r for r in rows]

    def said(rows: list[Row]) -> str:
        source = Source(PurePosixPath("peers.json"), msgspec.structs.replace(results, rows=tuple(rows)))
        return " ".join(line.what for line in headlines([source]))

    assert "spu" in said(rows) and "spu" not in said(harder) and "crypten" in said(harder)


def test_a_network_is_named_by_what_was_measured() -> None:
    used = NetworkUsed(name="lan", method="user-space", rtt_ms=0.1, mbit_s=10_000)
    assert text.network(used) == "lan (0.1 ms, 10 Gbit/s asked)"
    found = msgspec.structs.replace(used, measured_rtt_ms=summarise([0.3]), measured_mbit_s=summarise([9400.0]))
    assert text.network(found) == "lan (0.3 ms, 9.4 Gbit/s measured; 0.1 ms, 10 Gbit/s asked)"


def test_a_page_is_written_only_inside_its_folder(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside") / "victim"
    outside.write_text("precious")
    for name in (PAGE, "sweep.csv"):
        (folder / name).symlink_to(outside)
    write_page(folder, plots=False)
    assert outside.read_text() == "precious" and not (folder / PAGE).is_symlink()
    (folder / "plots").symlink_to(outside.parent)
    with pytest.raises(ConfigError, match="plots is a link"):
        write_page(folder)


@pytest.mark.parametrize("wrong", ["`" * 3 + " <img src=x>", "a\n```\n# heading", "x` | <img src=x> | `y"])
def test_a_command_stays_in_its_block(folder: Path, wrong: str) -> None:
    write_results(folder / "sweep.json", msgspec.structs.replace(synthetic.sweep(), command=wrong))
    page = render(read_folder(folder), plots=False)
    assert page.count("```") % 2 == 0 and "\n# heading" not in page
    assert all(line.count("`") % 2 == 0 for line in page.splitlines() if "<img" in line and not line.startswith("```"))
