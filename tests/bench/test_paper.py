"""The paper's tables, from synthetic rows: every cell is there, the arithmetic is right, and it fits a terminal."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO
from itertools import groupby
from pathlib import Path

import msgspec
import pytest
from rich.console import Console
from tests.bench import synthetic

from sottovoce.bench.paper import NOT_MEASURED, Cell, Requirement, cells, clear_rows, requirements, timing_lines
from sottovoce.bench.paper_reference import AccuracyFigure, Adversary, References, TimingFigure
from sottovoce.bench.paper_tables import STORED_ACCURACY, Table, accuracy_table, stored_accuracy, timing_table
from sottovoce.bench.schema import Results, Row, Summary
from sottovoce.engine.cost import predict_cost
from sottovoce.engine.errors import ConfigError
from sottovoce.engine.program import Program
from sottovoce.engine.protocols.table import PROTOCOLS, ProtocolRow
from sottovoce.models.compiler.compile import compile_graph
from sottovoce.models.zoo import MODELS, build

HEADLINES = References(
    (
        TimingFigure(source="Paper A", place="abstract", adversary="semi-honest", time_s=0.3, bound="under"),
        TimingFigure(source="Paper A", place="abstract", adversary="malicious", time_s=1.6, bound="about"),
    ),
    (AccuracyFigure(source="Notebook B", place="its end", way="float", split="random", percent=72.11),),
)
REP3 = {"rep3": PROTOCOLS["rep3"]}
OFFLINE = Summary(n=5, median=300.0, lower=290.0, upper=310.0, smallest=1.0, largest=400.0)


def with_protocol(
    name: str, parties: int, adversary: Adversary, *, preprocessing: bool = False
) -> dict[str, ProtocolRow]:
    """The table with rep3 and a protocol that does not exist yet."""
    demands = PROTOCOLS["beaver2"].demands if preprocessing else None
    row = replace(REP3["rep3"], name=name, parties=parties, adversary=adversary, demands=demands)
    return {**REP3, name: row}


@pytest.fixture(scope="module")
def paper() -> Program:
    return compile_graph(build("paper")).program


def of(*rows: Row) -> Results:
    return msgspec.structs.replace(synthetic.network(("paper",)), rows=rows)


def timed(median: float, **changes: object) -> Row:
    """A row of rep3 with this median online time, in ms."""
    online = Summary(n=5, median=median, lower=0.9 * median, upper=1.1 * median, smallest=0.0, largest=2 * median)
    return msgspec.structs.replace(synthetic.row(), online_ms=online, **changes)


def row_of(table: Table, *starts: str) -> tuple[str, ...]:
    """The one row whose first cells are these."""
    (found,) = [row for row in table.rows if row[: len(starts)] == starts]
    return found


def printed(table: Table, width: int) -> str:
    stream = StringIO()
    Console(file=stream, width=width).print(table.to_rich())
    return stream.getvalue()


# ---- which cells there are ----------------------------------------------------------------------------------------


def test_cells_without_a_protocol_are_missing_with_the_reason() -> None:
    assert cells(REP3) == [
        Cell("semi-honest", 2, reason="no protocol yet"),
        Cell("semi-honest", 3, "rep3"),
        Cell("semi-honest", 4, reason="no protocol yet"),
        Cell("malicious", 2, reason="out of scope for now"),
        Cell("malicious", 3, reason="no protocol yet"),
        Cell("malicious", 4, reason="no protocol yet"),
    ]


def test_a_new_protocol_fills_its_cell_by_itself() -> None:
    found = cells(with_protocol("new", 2, "malicious"))
    assert Cell("malicious", 2, "new") in found
    assert len(found) == 6


def test_two_protocols_of_one_cell_and_one_beyond_the_grid_are_all_there() -> None:
    assert [c.protocol for c in cells(with_protocol("other", 3, "semi-honest")) if c.parties == 3] == [
        "rep3",
        "other",
        "",
    ]
    assert Cell("malicious", 5, "many") in cells(with_protocol("many", 5, "malicious"))


def test_every_protocol_of_the_real_table_has_a_cell() -> None:
    assert {cell.protocol for cell in cells()} - {""} == set(PROTOCOLS)


# ---- timing -------------------------------------------------------------------------------------------------------


def test_the_factor_is_the_published_time_over_ours() -> None:
    (line,) = [x for x in timing_lines([timed(20.0)], HEADLINES, REP3) if x.row is not None]
    assert line.factor == pytest.approx(15.0)
    assert row_of(timing_table(of(timed(20.0)), HEADLINES, REP3), "3PC semi-honest")[-2:] == ("< 0.3 s", "< 15")


def test_preprocessing_counts_in_the_factor_and_has_its_own_column() -> None:
    protocols = with_protocol("dealt", 2, "malicious", preprocessing=True)
    row = timed(
        100.0, protocol="dealt", parties=2, adversary="malicious", preprocessing=True, offline_ms=OFFLINE,
        offline_bytes=(3_000_000, 1_000_000),
    )  # fmt: skip
    shown = row_of(timing_table(of(row), HEADLINES, protocols), "2PC malicious")
    assert shown[3] == "300 ms (290 to 310), 2 MB"
    assert shown[4] == "100 ms (90 to 110)"
    assert shown[-2:] == ("~ 1.6 s", "~ 4")
    dealt = msgspec.structs.replace(row, settings={"preprocessing": "dealer"})
    shown = row_of(timing_table(of(dealt), HEADLINES, protocols), "2PC malicious")
    assert shown[3] == "300 ms (290 to 310), 2 MB, dealer"
    at_once = msgspec.structs.replace(dealt, offline_ms=synthetic.summary([300.0] * 5))
    assert row_of(timing_table(of(at_once), HEADLINES, protocols), "2PC malicious")[3] == "300 ms, 2 MB, dealer"


def test_without_a_measured_preprocessing_there_is_no_factor() -> None:
    protocols = with_protocol("dealt", 2, "malicious", preprocessing=True)
    row = timed(100.0, protocol="dealt", parties=2, adversary="malicious", preprocessing=True)
    shown = row_of(timing_table(of(row), HEADLINES, protocols), "2PC malicious")
    assert (shown[3], shown[-1]) == ("not measured", "-")


def test_rounds_and_mb_per_party_are_online_means() -> None:
    shown = row_of(
        timing_table(of(timed(20.0, bytes_sent=(100_000, 250_000, 100_000))), HEADLINES, REP3), "3PC semi-honest"
    )
    assert shown[3:7] == ("none", "20 ms (18 to 22)", "22", "0.15")
    notes = timing_table(of(timed(20.0, bytes_sent=(100_000, 250_000, 100_000))), HEADLINES, REP3).notes
    assert "rep3: the party that sends most sends 0.25 MB." in notes


def test_each_network_has_a_line_and_other_work_has_none() -> None:
    rows = [synthetic.row(network=used) for used in synthetic.NETWORKS]
    others = [
        synthetic.row(batch=128),
        synthetic.row("tiny"),
        synthetic.row(lanes=2),
        synthetic.row(system="spu", protocol="rep3"),
    ]
    lines = [line for line in timing_lines([*others, *rows], HEADLINES, REP3) if line.cell.protocol]
    assert [line.row for line in lines] == rows


def test_what_was_not_measured_or_failed_says_so() -> None:
    empty = timing_table(of(), HEADLINES, REP3)
    assert row_of(empty, "3PC semi-honest", "rep3")[4] == NOT_MEASURED
    failed = msgspec.structs.replace(synthetic.row(), status="failed", reason="P1 went away", online_ms=None)
    shown = row_of(timing_table(of(failed), HEADLINES, REP3), "3PC semi-honest", "rep3", "loopback")
    assert (shown[4], shown[-1]) == ("failed: P1 went away", "-")


def test_missing_cells_are_printed_with_the_published_figure() -> None:
    table = timing_table(of(timed(20.0)), HEADLINES, REP3)
    assert row_of(table, "2PC malicious") == (
        "2PC malicious", "missing", "-", "-", "out of scope for now", "-", "-", "~ 1.6 s", "-",
    )  # fmt: skip
    assert [row[1] for row in table.rows] == ["missing", "rep3", *["missing"] * 4]


def test_a_figure_of_the_user_shows_all_that_it_says() -> None:
    figure = TimingFigure(
        source="C", place="table 2", adversary="semi-honest", parties=3, time_s=0.5, offline_s=0.1, rounds=57,
        mb_per_party=0.33,
    )  # fmt: skip
    table = timing_table(of(timed(20.0)), References((*HEADLINES.timing, figure)), REP3)
    assert row_of(table, "3PC semi-honest")[-2:] == ("0.5 s, offline 0.1 s, 57 rounds, 0.33 MB", "25")
    assert row_of(table, "2PC semi-honest")[-2] == "< 0.3 s"
    assert [note for note in table.notes if note.startswith("Paper:")] == [
        "Paper: Paper A, abstract.",
        "Paper: C, table 2.",
    ]


def test_links_without_tls_are_said() -> None:
    plain = timed(20.0, encrypted=False)
    assert "Links: plain TCP, INSECURE." in timing_table(of(plain), HEADLINES, REP3).notes
    assert "Links: mutual TLS 1.3." in timing_table(of(timed(20.0)), HEADLINES, REP3).notes
    assert not [n for n in timing_table(of(timed(2.0), plain), HEADLINES, REP3).notes if n.startswith("Links: mutual")]


def test_the_network_in_the_clear_is_measured_and_shown() -> None:
    rows = clear_rows(build("tiny"), model="tiny", repeat=3)
    assert [(row.protocol, row.parties, row.adversary, len(row.samples_ms)) for row in rows] == [
        ("plain", 1, "", 3),
        ("float", 1, "", 3),
    ]
    table = timing_table(of(*rows), HEADLINES, REP3, model="tiny")
    assert [row[1] for row in table.rows if row[0] == "in the clear"] == ["fixed point", "float32"]
    with pytest.raises(ConfigError, match="at least 1, got 0"):
        clear_rows(build("tiny"), model="tiny", repeat=0)


# ---- what is to be measured ---------------------------------------------------------------------------------------


def test_the_table_needs_each_protocol_on_each_network() -> None:
    quick = requirements(True, ("rep3", "new"))
    assert {(r.model, r.batch) for r in quick} == {("paper", 1)}
    assert [(r.network, r.protocol) for r in quick] == [
        ("loopback", "rep3"),
        ("loopback", "new"),
        ("lan", "rep3"),
        ("lan", "new"),
    ]


@pytest.mark.parametrize(("protocol", "rounds"), [("rep3", 22), ("beaver2", 16), ("beaver2-fss", 9)])
def test_rounds_of_the_paper_network(paper: Program, protocol: str, rounds: int) -> None:
    """What a clip waits for on a long link; one round is one way across it."""
    assert sum(step.rounds for step in predict_cost(paper, PROTOCOLS[protocol], 1)) == rounds


def test_every_protocol_is_measured_on_the_long_link() -> None:
    for protocol in PROTOCOLS:
        assert Requirement("paper", protocol, 1, "wan", 10) in requirements(False)


def test_the_full_run_holds_the_quick_one_and_opens_each_session_once() -> None:
    full = requirements(False, ("rep3", "new"))
    assert set(requirements(True, ("rep3", "new"))) < set(full)
    assert len({(r.model, r.protocol, r.batch, r.network) for r in full}) == len(full)
    sessions = [key for key, _ in groupby(full, lambda r: (r.model, r.network, r.repeat))]
    assert len(sessions) == len({session[:2] for session in sessions}) == 16
    assert {r.network for r in full[:16]} == {"loopback", "lan", "metro", "wan"}
    assert {r.model for r in full[:16]} == {"paper"}
    assert {(r.model, r.batch) for r in full} == {
        (model, batch) for model in ("tiny", "paper", "max", "medium") for batch in (1, 128)
    }
    assert {r.model for r in full} <= set(MODELS)


# ---- accuracy -----------------------------------------------------------------------------------------------------


def test_accuracy_is_the_mean_over_networks_beside_the_published_one() -> None:
    table = accuracy_table(synthetic.accuracy(), HEADLINES, REP3, stored=False)
    assert row_of(table, "floating point") == (
        "floating point", "70.49 % ± 0.49", "72.11 % (-1.6)", "42.71 % ± 0.49", "-", "-",
    )  # fmt: skip
    assert row_of(table, "under MPC, rep3")[1] == "70.14 % ± 0.00"
    assert row_of(table, "under MPC, rep3")[-1] == "2 of 576"
    assert "2 for random split (seeds 0, 1)" in table.notes[0]


def test_a_protocol_that_was_not_measured_is_shown_and_does_not_count_a_network_twice() -> None:
    protocols = with_protocol("new", 2, "semi-honest")
    one = synthetic.accuracy()
    table = accuracy_table(one, HEADLINES, protocols, stored=False)
    assert row_of(table, "under MPC, new")[1] == "not measured"
    twice = [*one.accuracy, *(msgspec.structs.replace(row, protocol="new", label_changes=0) for row in one.accuracy)]
    both = accuracy_table(msgspec.structs.replace(one, accuracy=tuple(twice)), HEADLINES, protocols, stored=False)
    assert both.notes[0] == table.notes[0]
    assert both.rows[:2] == table.rows[:2]
    assert row_of(both, "under MPC, new")[-1] == "0 of 576"


def test_stored_rows_say_where_and_when_and_that_they_are_stored() -> None:
    note = accuracy_table(synthetic.accuracy(), HEADLINES, REP3, stored=True).notes[-1]
    assert note.startswith("STORED results, not measured now but on Invented Processor")
    assert "2026-01-02T03:04:05" in note
    assert not accuracy_table(synthetic.accuracy(), HEADLINES, REP3, stored=False).notes[-1].startswith("STORED")


def test_the_package_holds_accuracy_rows_of_both_splits() -> None:
    stored = stored_accuracy()
    assert stored.kind == "accuracy"
    assert {(row.model, row.protocol, row.split) for row in stored.accuracy} >= {
        ("paper", "rep3", "random"),
        ("paper", "rep3", "speaker"),
    }
    for row in stored.accuracy:
        assert abs(row.float_correct - row.mpc_correct) <= row.label_changes <= row.rows


# ---- how it looks -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [80, 100])
def test_every_cell_is_readable_on_a_terminal(width: int) -> None:
    dealt = timed(
        100.0, protocol="dealt", parties=2, preprocessing=True, offline_ms=OFFLINE, offline_bytes=(3_500_000,) * 2
    )
    rows = [synthetic.row(network=used) for used in synthetic.NETWORKS]
    protocols = with_protocol("dealt", 2, "semi-honest", preprocessing=True)
    table = timing_table(of(dealt, *rows), HEADLINES, protocols)
    for made in (table, accuracy_table(synthetic.accuracy(), HEADLINES, REP3, stored=True)):
        text = printed(made, width)
        assert "…" not in text
        words = set(text.split())
        for row in made.rows:
            for cell in row:
                assert set(cell.split()) <= words, cell


def test_a_line_of_the_terminal_is_one_line_where_there_is_room() -> None:
    lines = printed(timing_table(of(timed(20.0)), HEADLINES, REP3), 120).splitlines()
    (mine,) = [line.split() for line in lines if "rep3 " in line and "3PC" in line]
    assert " ".join(mine) == "3PC semi-honest rep3 loopback none 20 ms (18 to 22) 22 0.16 < 0.3 s < 15"


def test_markdown_is_one_row_per_line_and_text_cannot_break_it() -> None:
    evil = msgspec.structs.replace(synthetic.row(), status="failed", reason="a | b\n<b> ~x~", online_ms=None)
    table = timing_table(of(evil), HEADLINES, REP3)
    lines = table.to_markdown().splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert len(rows) == 2 + len(table.rows)
    assert {line.replace("\\|", "").count("|") for line in rows} == {1 + len(table.columns)}
    assert "failed: a \\| b &lt;b> \\~x\\~" in table.to_markdown()


def test_the_results_page_shows_the_stored_accuracy(repository: Path) -> None:
    shown = repository / "docs" / "results" / STORED_ACCURACY.name
    assert shown.read_bytes() == STORED_ACCURACY.read_bytes()
