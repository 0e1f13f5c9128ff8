"""Tracing: it changes nothing, records everything, and is not there when it is off."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from tests.security.small import small_batch, small_model
from tests.traced import Full, Ranging, traced_cluster

from sottovoce.engine.backend.cpu import CpuBackend
from sottovoce.engine.errors import ConfigError, PeerClosedError
from sottovoce.engine.local import LocalCluster
from sottovoce.engine.profile import Profile
from sottovoce.engine.protocols.base import Protocol
from sottovoce.engine.protocols.rep3.protocol import Rep3
from sottovoce.engine.protocols.rep3.roles import Tag
from sottovoce.engine.protocols.table import PROTOCOLS
from sottovoce.engine.session import Session
from sottovoce.engine.tracing.events import Recorder, load_ranges
from sottovoce.engine.tracing.file import read_trace
from sottovoce.engine.tracing.tracer import Tracer
from sottovoce.engine.tracing.wrap import OPERATIONS, TracedTransport
from sottovoce.engine.transport.conformance import CHECKS
from sottovoce.engine.transport.memory import MemoryTransport, memory_mesh
from sottovoce.kernels.catalog import CATALOG
from sottovoce.models.compiler.compile import Compiled


@pytest.fixture(scope="module")
def small() -> Compiled:
    return small_model()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_tracing_changes_neither_answers_nor_costs(small: Compiled, protocol: str, tmp_path: Path) -> None:
    x = small_batch(small, 5)
    with LocalCluster(small.program, small.weights, protocol) as cluster:
        labels, stats = cluster.run(x)
    with traced_cluster(small, tmp_path, protocol=protocol) as traced:
        for _ in range(2):
            same, measured = traced.run(x)
            np.testing.assert_array_equal(same, labels)
            for off, on in zip(stats, measured, strict=True):
                assert (on.bytes_sent, on.frames_sent, on.rounds) == (off.bytes_sent, off.frames_sent, off.rounds)
                assert [s.layer for s in on.spans] == [s.layer for s in off.spans]


@pytest.mark.parametrize("lanes", [1, 2])
def test_events_add_up_to_what_the_lanes_counted(
    small: Compiled, lanes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CpuBackend, "chunk_elements", 2 * small.program.width)
    with traced_cluster(small, tmp_path, lanes=lanes) as traced:
        _, stats = traced.run(small_batch(small, 6))
    for trace, measured in zip(traced.traces(), stats, strict=True):
        (request,) = trace.requests
        events = [event for lane in request.lanes for event in lane]
        assert len(request.lanes) == trace.header.lanes == lanes and all(request.lanes)
        assert sum(e.bytes for e in events if e.kind == "send") == measured.bytes_sent
        assert sum(e.kind == "send" for e in events) == measured.frames_sent
        assert sum(e.wait_ns for e in events) // lanes == measured.wait_ns > 0
        assert max(e.clock for e in events) == measured.rounds
        assert [e.name for e in events if e.kind == "layer"] == [s.layer for s in measured.spans]
        assert len(measured.spans) == 3 * len(small.program.steps) + 3  # three chunks
        assert {e.name for e in events if e.kind == "operation"} <= set(OPERATIONS)
        assert {e.name for e in events if e.kind == "kernel"} <= set(CATALOG)
        assert {e.name for e in events if e.kind in ("send", "recv")} <= {tag.name for tag in Tag}
        assert {"linear", "trunc_relu", "msb"} <= {e.name for e in events}
        assert {"conv1d", "aes128_ctr_fill"} <= {e.name for e in events}
        assert all(request.start_ns <= e.start_ns <= e.end_ns <= request.end_ns for e in events)


def test_events_lie_inside_each_other(small: Compiled, tmp_path: Path) -> None:
    with traced_cluster(small, tmp_path) as traced:
        traced.run(small_batch(small, 1))
    for trace in traced.traces():
        around: list[tuple[str, int, int]] = []
        for event in trace.requests[0].lanes[0]:
            del around[event.depth :]
            assert len(around) == event.depth
            assert all(start <= event.start_ns and event.end_ns <= end for _, start, end in around)
            assert [kind for kind, *_ in around] == ["layer", "operation"][: event.depth]
            around.append((event.kind, event.start_ns, event.end_ns))


def test_every_operation_of_the_base_class_is_traced() -> None:
    public = {n for n, f in vars(Protocol).items() if callable(f) and not n.startswith("_")}
    assert set(OPERATIONS) == public and len(public) > 15


def test_nothing_is_wrapped_without_tracing(small: Compiled) -> None:
    with LocalCluster(small.program, small.weights) as cluster:
        party = cluster.parties[0][0]
        assert type(party.transport) is MemoryTransport and type(party.profile) is Profile
        assert vars(party.backend.kernels) == {name: row.cpu for name, row in CATALOG.items()}
        assert type(cluster.sessions[0]) is Session and type(cluster.row.make(party, 0)) is Rep3


@pytest.mark.parametrize("check", CHECKS)
def test_a_traced_lane_is_a_transport(check: str) -> None:
    """The public conformance kit: order, deadlines, errors, counters."""
    lanes = memory_mesh(3, deadline_s=0.2)
    try:
        CHECKS[check]([TracedTransport(lane, Recorder()) for lane in lanes])
    finally:
        for lane in lanes:
            lane.close()


def test_nvtx_ranges_surround_layers_and_operations(small: Compiled, tmp_path: Path) -> None:
    ranges = [Ranging() for _ in range(3)]
    with traced_cluster(small, tmp_path, ranges=ranges) as traced:
        traced.run(small_batch(small, 1))
    for one, trace in zip(ranges, traced.traces(), strict=True):
        spans = [e.name for e in trace.requests[0].lanes[0] if e.kind in ("layer", "operation")]
        loading = len(one.said) - len(spans)
        assert one.open == [] and one.said[loading:] == spans and set(one.said[:loading]) == {"load"}


def test_spans_close_when_an_operation_fails() -> None:
    ranges = Ranging()
    recorder = Recorder(ranges)
    broken = recorder.operation("open", lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError), recorder.span("layer", "dense"):
        broken()
    assert ranges.open == [] and recorder.depth == 0
    assert [(e.name, e.depth, e.end_ns >= e.start_ns > 0) for e in recorder.take()] == [
        ("dense", 0, True),
        ("open", 1, True),
    ]


def test_the_package_nvtx_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = SimpleNamespace(push_range=print, pop_range=print)
    monkeypatch.setitem(sys.modules, "nvtx", fake)
    assert load_ranges() is fake
    monkeypatch.setitem(sys.modules, "nvtx", None)
    with pytest.raises(ConfigError, match="pip install nvtx"):
        load_ranges()


def test_a_full_disk_does_not_stop_the_party(small: Compiled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    with traced_cluster(small, tmp_path) as traced:
        tracer = traced.tracers[1]
        tracer.close()
        monkeypatch.setattr(tracer, "_file", Full())
        monkeypatch.setattr(tracer, "_log", said.append)
        for _ in range(2):
            traced.run(small_batch(small, 1))
    assert said == ["--trace: No space left on device: nothing more is written"]


def test_a_failed_receipt_stays_an_error_of_the_lane() -> None:
    lanes = memory_mesh(2, deadline_s=0.2)
    traced = TracedTransport(lanes[0], Recorder())
    lanes[1].close("gone")
    with pytest.raises(PeerClosedError, match="gone"):
        traced.recv(1, 3, [np.empty(1, np.uint64)])


def test_a_trace_file_is_read_strictly(small: Compiled, tmp_path: Path) -> None:
    with traced_cluster(small, tmp_path) as traced:
        traced.run(small_batch(small, 1))
    lines = traced.files[0].read_bytes().splitlines(keepends=True)
    header = json.loads(lines[0])
    assert (header["schema"], header["version"], header["rank"], len(lines)) == ("sottovoce-trace", 1, 0, 2)
    bad = tmp_path / "bad.jsonl"
    for content, match in (
        (b"", "empty file"),
        (b"[1, 2\n", "expected what `sottovoce party --trace` writes"),
        (json.dumps({**header, "version": 2}).encode(), "expected sottovoce-trace 1, got"),
        (lines[0] + lines[1][:-20], "expected what"),
        (b'{"rows": []}\n', "expected sottovoce-trace 1, got ''"),
    ):
        bad.write_bytes(content)
        with pytest.raises(ConfigError, match=match):
            read_trace(bad)
    with pytest.raises(ConfigError, match="No such file"):
        read_trace(tmp_path / "none")
    with pytest.raises(OSError, match="nowhere"):
        Tracer(tmp_path / "nowhere" / "p0.jsonl")
