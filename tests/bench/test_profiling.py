"""From traces to a profile: clocks, lines, the critical path, the timeline, the table."""

from __future__ import annotations

import io
import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console
from tests.security.small import small_batch, small_model
from tests.traced import traced_cluster

from sottovoce.bench.profiling.align import align_clocks, shift_request
from sottovoce.bench.profiling.analyse import analyse
from sottovoce.bench.profiling.chrome import chrome_trace
from sottovoce.bench.profiling.critical import critical_path
from sottovoce.bench.profiling.schema import Line, Profile
from sottovoce.bench.profiling.table import critical_lines, make_table, overhead_text, request_text
from sottovoce.engine.backend.cpu import CpuBackend
from sottovoce.engine.cost import predict_cost
from sottovoce.engine.errors import ConfigError
from sottovoce.engine.protocols.table import find
from sottovoce.engine.structs import parse_json
from sottovoce.engine.tracing.events import Event
from sottovoce.engine.tracing.file import Header, PartyTrace, Request
from sottovoce.models.compiler.compile import Compiled

BATCH = 6
REQUESTS = 5
SECOND = 1_000_000_000
ROW = find("rep3")


@pytest.fixture(scope="module")
def small() -> Compiled:
    return small_model()


@pytest.fixture(scope="module")
def traces(small: Compiled, tmp_path_factory: pytest.TempPathFactory) -> list[PartyTrace]:
    """Five requests of six clips, in three chunks on two lanes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CpuBackend, "chunk_elements", 2 * small.program.width)
        with traced_cluster(small, tmp_path_factory.mktemp("traces"), lanes=2) as traced:
            for _ in range(REQUESTS):
                traced.run(small_batch(small, BATCH))
        return traced.traces()


def skewed(trace: PartyTrace, by_ns: int, drift_ns: int = 0) -> PartyTrace:
    """The trace as a machine with another clock would have written it; the clock drifts from request to request."""
    header = msgspec.structs.replace(trace.header, clock=f"machine {trace.header.rank}")
    requests = [shift_request(request, by_ns + number * drift_ns) for number, request in enumerate(trace.requests)]
    return PartyTrace(header, requests)


# ---- clocks ----


def test_one_clock_is_left_alone(traces: list[PartyTrace]) -> None:
    for one, *requests in zip(align_clocks(traces), *(t.requests for t in traces), strict=True):
        assert one.offset_ns == one.bound_ns == (0, 0, 0)
        assert list(one.parties) == requests
        assert len(one.frames) == sum(e.kind == "send" for r in requests for lane in r.lanes for e in lane) > 0


@pytest.mark.parametrize("skew", [(0, 0, 0), (0, 7 * SECOND, -3 * SECOND), (5 * SECOND, 10, -(1 << 60))])
def test_skewed_clocks_are_found_within_their_bound(traces: list[PartyTrace], skew: tuple[int, ...]) -> None:
    drift = 40_000_000
    moved = [skewed(t, by, drift if t.header.rank == 1 else 0) for t, by in zip(traces, skew, strict=True)]
    for number, one in enumerate(align_clocks(moved)):
        for rank, request in enumerate(one.parties):
            true = skew[rank] - skew[0] + (number * drift if rank == 1 else 0)
            assert abs(one.offset_ns[rank] - true) <= one.bound_ns[rank] < SECOND
            assert request.end_ns - request.start_ns == traces[rank].requests[number].end_ns - (
                traces[rank].requests[number].start_ns
            )
        assert one.bound_ns[1] > 0
        # Cause comes before effect.
        for frame in one.frames:
            if 0 in (frame.source, frame.target):
                assert frame.recv.end_ns >= frame.send.start_ns


def frames(*sent: tuple[int, int, int, int], parties: int = 3, ahead: Sequence[int] = (0, 0, 0)) -> list[PartyTrace]:
    """Traces with only frames (source, target, start of send, end of recv) in true time; `ahead`: of each clock."""
    lanes: list[list[Event]] = [[] for _ in range(parties)]
    for source, target, start, end in sent:
        start, arrived = start + ahead[source], end + ahead[target]
        lanes[source].append(Event("send", "A", start, start + 1, 0, target, 10))
        lanes[target].append(Event("recv", "A", arrived - 1, arrived, 0, source, 10, clock=1))
    return [
        PartyTrace(
            Header(
                rank=rank, parties=parties, protocol="rep3", model="m", program="00", lanes=1, device="cpu",
                encrypted=True, clock=str(rank),
            ),
            [Request(batch=1, output="label", start_ns=0, end_ns=9999, lanes=[lanes[rank]])],
        )
        for rank in range(parties)
    ]  # fmt: skip


def test_least_delays_count_and_the_way_may_lead_over_another_party() -> None:
    """P2 exchanges frames with P1 only. Delays: 10 and 30 at least between P0 and P1, 4 and 8 between P1 and P2."""
    sent = [(0, 1, 0, 500), (0, 1, 600, 610), (1, 0, 700, 730), (1, 2, 800, 804), (2, 1, 900, 908), (2, 1, 950, 990)]
    (one,) = align_clocks(frames(*sent, ahead=(0, 5000, -7000)))
    assert one.offset_ns == (0, 5000 - 10, -7000 - 10 - 2)
    assert one.bound_ns == (0, 20, 26)


def test_a_party_that_nobody_hears_cannot_be_aligned() -> None:
    with pytest.raises(ConfigError, match="expected frames to and from P2"):
        align_clocks(frames((0, 1, 0, 5), (1, 0, 6, 9), (0, 2, 10, 15)))


def test_traces_that_do_not_belong_together_are_refused(traces: list[PartyTrace]) -> None:
    def changed(**fields: Any) -> PartyTrace:
        return PartyTrace(msgspec.structs.replace(traces[1].header, **fields), traces[1].requests)

    first, second, third = traces
    lost = msgspec.structs.replace(
        second.requests[0], lanes=[[e for e in lane if e.kind != "send"] for lane in second.requests[0].lanes]
    )
    for bad, match in (
        ([first, second], "expected those of all parties, one of each, got P0, P1"),
        ([first, second, second], "got P0, P1, P1"),
        ([first, changed(program="11"), third], "program: expected .* as at P0, got 11 at P1"),
        ([first, PartyTrace(second.header, second.requests[:-1]), third], "same requests .* got 5 at P0 and 4 at P1"),
        ([first, PartyTrace(second.header, [lost, *second.requests[1:]]), third], "one deployment"),
    ):
        with pytest.raises(ConfigError, match=match):
            align_clocks(bad)


@pytest.mark.parametrize("field", ["depth", "peer", "start_ns", "end_ns", "wait_ns"])
def test_a_foreign_trace_cannot_say_what_cannot_be(traces: list[PartyTrace], field: str) -> None:
    first, second, third = traces
    request = second.requests[0]
    (lane, *others), wrong = (
        request.lanes,
        {"depth": 99, "peer": 7, "start_ns": 1 << 62, "end_ns": 0, "wait_ns": 1 << 40}[field],
    )
    index = next(i for i, event in enumerate(lane) if event.kind == "send")
    changed = [*lane[:index], msgspec.structs.replace(lane[index], **{field: wrong}), *lane[index + 1 :]]
    bad = msgspec.structs.replace(request, lanes=[changed, *others])
    for requests in ([bad, *second.requests[1:]], [msgspec.structs.replace(request, lanes=[]), *second.requests[1:]]):
        with pytest.raises(ConfigError, match=r"P1: expected events in order and nested, on . lanes"):
            align_clocks([first, PartyTrace(second.header, requests), third])


# ---- lines ----


def lines(line: Line) -> list[Line]:
    return [line, *(below for child in line.children for below in lines(child))]


def test_lines_add_up_and_equal_the_declared_cost(small: Compiled, traces: list[PartyTrace]) -> None:
    profile = analyse(traces).profile
    assert (profile.batch, profile.requests_measured, profile.requests, profile.lanes) == (BATCH, REQUESTS, 3, 2)
    total = profile.total
    for line in lines(total):
        if line.children:
            assert sum(c.total_ms for c in line.children) == pytest.approx(line.total_ms)
            assert sum(c.share for c in line.children) == pytest.approx(line.share)
            assert sum(c.wait_ms for c in line.children) == pytest.approx(line.wait_ms)
        assert line.compute_ms >= 0 and line.wait_ms >= 0 and line.device_ms is None
    assert total.share == pytest.approx(1.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CpuBackend, "chunk_elements", 2 * small.program.width)
        declared = {step.name: step for step in predict_cost(small.program, ROW, BATCH)}
    layers = {line.name: line for line in total.children if line.kind == "layer"}
    assert list(layers) == list(declared)
    for name, layer in layers.items():
        assert layer.bytes_sent == pytest.approx(sum(declared[name].bytes_sent) / 3)
        assert layer.calls == 3  # chunks
        assert layer.rounds == sum(line.rounds for line in layer.children)
        # Rounds are those of the lane with two of the three chunks; declared are all three on one lane.
        assert layer.rounds * 3 == declared[name].rounds * 2


def test_two_parties_with_preprocessing_are_profiled_alike(small: Compiled, tmp_path: Path) -> None:
    row = find("beaver2-fss")
    with traced_cluster(small, tmp_path, protocol=row.name) as traced:
        for _ in range(2):
            traced.run(small_batch(small, BATCH))
    profile = analyse(traced.traces()).profile
    declared = {step.name: step for step in predict_cost(small.program, row, BATCH)}
    layers = {line.name: line for line in profile.total.children if line.kind == "layer"}
    assert profile.parties == 2 and list(layers) == list(declared)
    for name, layer in layers.items():
        assert layer.bytes_sent == pytest.approx(sum(declared[name].bytes_sent) / 2)
        assert layer.rounds == declared[name].rounds


def test_the_parties_devices_are_told_apart(traces: list[PartyTrace]) -> None:
    devices = ("cpu", "cuda:1", "cuda:0")
    mixed = [
        PartyTrace(msgspec.structs.replace(trace.header, device=device), trace.requests)
        for trace, device in zip(traces, devices, strict=True)
    ]
    found = analyse(mixed[::-1])
    assert (found.profile.device, analyse(traces).profile.device) == ("cpu,cuda:1,cuda:0", "cpu")
    timeline = json.loads(chrome_trace(found.header, found.requests))["traceEvents"]
    names = [event["args"]["name"] for event in timeline if event["name"] == "process_name"]
    assert names == [f"P{rank} (rep3, {device})" for rank, device in enumerate(devices)]


def test_device_time_is_shown_where_there_is_some(traces: list[PartyTrace]) -> None:
    def on_device(event: Event) -> Event:
        return msgspec.structs.replace(event, device_ns=2_000_000) if event.name == "conv1d" else event

    fast = [
        PartyTrace(
            t.header,
            [msgspec.structs.replace(r, lanes=[[on_device(e) for e in lane] for lane in r.lanes]) for r in t.requests],
        )
        for t in traces
    ]
    total = analyse(fast).profile.total
    kernels = [line for line in lines(total) if line.name == "conv1d"]
    assert [line.device_ms for line in kernels] == [pytest.approx(2.0 * line.calls) for line in kernels]
    assert total.device_ms == pytest.approx(sum(line.device_ms or 0 for line in kernels)) and len(kernels) == 2


def test_one_batch_size_is_profiled(traces: list[PartyTrace]) -> None:
    mixed = [PartyTrace(t.header, [msgspec.structs.replace(t.requests[0], batch=2), *t.requests[1:]]) for t in traces]
    assert analyse(mixed).profile.requests_measured == REQUESTS - 1
    assert analyse(mixed, batch=2).profile.requests_measured == 1
    with pytest.raises(ConfigError, match="expected one of 2, 6, got 3"):
        analyse(mixed, batch=3)
    with pytest.raises(ConfigError, match="has a client asked"):
        analyse(mixed, warm_ups=REQUESTS)


# ---- critical path ----


def test_the_critical_path_of_a_known_request() -> None:
    """P1 computes 30, sends (2) and the frame takes 5 more; P0 has waited meanwhile, reads for 1, computes 12."""
    header = Header(
        rank=0, parties=2, protocol="p", model="m", program="00", lanes=1, device="cpu", encrypted=True, clock="c"
    )
    first = [
        Event("layer", "dense", 0, 50, 0),
        Event("operation", "open", 1, 50, 1),
        Event("recv", "OPEN", 2, 37, 2, 1, 10, 34, 1),
        Event("kernel", "add", 38, 50, 2),
    ]
    second = [
        Event("layer", "dense", 0, 33, 0),
        Event("operation", "open", 0, 33, 1),
        Event("kernel", "matmul", 0, 30, 2),
        Event("send", "OPEN", 30, 32, 2, 0, 10),
    ]
    traces = [
        PartyTrace(
            msgspec.structs.replace(header, rank=rank),
            [Request(batch=1, output="label", start_ns=0, end_ns=end, lanes=[events])],
        )
        for rank, events, end in ((0, first, 52), (1, second, 34))
    ]
    path = critical_path(align_clocks(traces))
    found = {(s.layer, s.operation, s.kind, s.name): round(s.ms * 1e6) for s in path}
    assert found == {
        ("dense", "open", "kernel", "matmul"): 30,
        ("dense", "open", "send", "OPEN"): 2,
        ("dense", "open", "transfer", "OPEN"): 5,
        ("dense", "open", "python", "python"): 1,
        ("dense", "open", "kernel", "add"): 12,
        ("", "", "python", "python"): 2,
    }
    assert sum(s.share for s in path) == pytest.approx(1.0)
    assert path[0].name == "matmul"


def test_the_critical_path_is_as_long_as_the_request(traces: list[PartyTrace]) -> None:
    for one in align_clocks(traces):
        path = critical_path([one])
        last = max(one.parties, key=lambda request: request.end_ns)
        starts = [request.start_ns for request in one.parties]
        spent = sum(step.ms for step in path) * 1e6
        assert last.end_ns - max(starts) - 1 <= spent <= last.end_ns - min(starts) + 1


@pytest.mark.timeout(20)
def test_the_critical_path_ends_also_with_clocks_that_cannot_be_right() -> None:
    """Each waits for a frame that the other sends later, as clocks that are wrong may have it."""
    header = Header(
        rank=0, parties=2, protocol="p", model="m", program="00", lanes=1, device="cpu", encrypted=True, clock="c"
    )
    lanes = [
        [Event("recv", "A", 0, 50, 0, 1 - rank, 10, 40, 1), Event("send", "A", 60, 62, 0, 1 - rank, 10)]
        for rank in range(2)
    ]
    wrong = [
        PartyTrace(
            msgspec.structs.replace(header, rank=rank),
            [Request(batch=1, output="label", start_ns=0, end_ns=70, lanes=[lanes[rank]])],
        )
        for rank in range(2)
    ]
    path = critical_path(align_clocks(wrong))
    assert {(step.kind, round(step.ms * 1e6)) for step in path} == {("recv", 50), ("send", 2), ("python", 18)}


# ---- timeline ----


def test_the_timeline_is_what_viewers_read(small: Compiled, traces: list[PartyTrace]) -> None:
    analysis = analyse([skewed(t, t.header.rank * SECOND) for t in traces])
    made = json.loads(chrome_trace(analysis.header, analysis.requests))
    assert set(made) == {"traceEvents", "displayTimeUnit", "otherData"}
    rows: dict[tuple[int, int], list[dict[str, Any]]] = defaultdict(list)
    arrows: dict[int, dict[str, dict[str, Any]]] = defaultdict(dict)
    names = {}
    for event in made["traceEvents"]:
        assert isinstance(event["name"], str) and event["pid"] in (0, 1, 2) and event["tid"] in (0, 1)
        if event["ph"] == "M":
            names[event["name"], event["pid"], event["tid"]] = event["args"]
        elif event["ph"] == "X":
            assert event["ts"] >= 0 and event["dur"] >= 0 and isinstance(event["args"], dict)
            rows[event["pid"], event["tid"]].append(event)
        else:
            assert event["ph"] in "sf" and event["ph"] not in arrows[event["id"]]
            arrows[event["id"]][event["ph"]] = event
    assert len(names) == 3 * (2 + 2) and names["thread_name", 2, 1] == {"name": "lane 1"}
    assert set(rows) == {(rank, lane) for rank in range(3) for lane in range(2)}
    for row in rows.values():
        _check_nesting(row)
        assert {"layer", "operation", "kernel", "send", "recv"} <= {event["cat"] for event in row}
    for number, pair in arrows.items():
        assert set(pair) == {"s", "f"}, number
        start, end = pair["s"], pair["f"]
        assert start["pid"] != end["pid"] and end["bp"] == "e"
        for arrow, cat in ((start, "send"), (end, "recv")):
            holds = [
                e for e in rows[arrow["pid"], arrow["tid"]]
                if e["cat"] == cat and e["ts"] <= arrow["ts"] <= e["ts"] + e["dur"]
            ]  # fmt: skip
            assert len(holds) == 1
    sends = sum(e["cat"] == "send" for row in rows.values() for e in row)
    assert (
        len(arrows)
        == sends
        == len(analysis.requests) * sum(sum(step.frames_sent) for step in predict_cost(small.program, ROW, BATCH)) * 3
    )  # chunks


def _check_nesting(row: Sequence[dict[str, Any]]) -> None:
    """Slices of a thread lie inside or beside each other, and come in order of time."""
    open_until: list[float] = []
    previous = 0.0
    for event in row:
        start, end = event["ts"], event["ts"] + event["dur"]
        assert start >= previous
        previous = start
        while open_until and open_until[-1] <= start:
            open_until.pop()
        assert not open_until or end <= open_until[-1] + 1e-3
        open_until.append(end)


# ---- table ----


def shown(profile: Profile, width: int, *, everything: bool = False) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width, highlight=False, markup=False).print(make_table(profile, everything=everything))
    return stream.getvalue()


def test_the_table_is_readable_at_80_columns(small: Compiled, traces: list[PartyTrace]) -> None:
    profile = analyse(traces).profile
    text = shown(profile, 80)
    rows = [line.rstrip() for line in text.splitlines()]
    assert all(len(row) <= 80 for row in rows)
    found = [row.split()[0] for row in rows if row.startswith("  ") and not row.startswith("   ") and row.split()]
    assert [name for name in found if name != "python"] == [*(s.name for s in small.program.steps), "argmax"]
    assert "request" in text and "100.0%" in text and "receive" in text and "░" in text and "…" not in text
    whole = shown(profile, 80, everything=True)
    assert "contract_leaves" in whole and len(whole.splitlines()) > len(rows)
    folded = sum(line.calls for line in lines(profile.total) if line.kind == "kernel")
    assert folded > 100


def test_the_closing_lines_name_the_slowest(traces: list[PartyTrace]) -> None:
    profile = analyse(traces).profile
    closing = critical_lines(profile)
    first = profile.critical_path[0]
    assert closing[-5].startswith("  1.") and first.layer in closing[-5] and f"{first.ms:.2f} ms" in closing[-5]
    kinds = [float(line.split()[0]) for line in closing[1:] if "%" in line and not line[2].isdigit()]
    assert sum(kinds) == pytest.approx(sum(s.ms for s in profile.critical_path), abs=0.05)
    assert kinds == sorted(kinds, reverse=True)
    assert "was not measured" in overhead_text(profile) and f"{profile.total.rounds} rounds" in request_text(profile)
    assert all(len(line) <= 80 for line in closing)


def test_json_comes_back_as_it_was(traces: list[PartyTrace]) -> None:
    profile = analyse(traces).profile
    encoded = msgspec.json.encode(profile)
    assert parse_json(encoded, Profile) == profile
    plain = json.loads(encoded)
    assert (plain["schema"], plain["version"], plain["overhead"]) == ("sottovoce-profile", 1, None)
    assert set(plain["total"]["children"][0]) >= {"name", "kind", "calls", "rounds", "bytes_sent", "compute_ms"}
