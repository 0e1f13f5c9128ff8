"""The timeline of all parties as Chrome trace events, for ui.perfetto.dev and chrome://tracing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from sottovoce.bench.profiling.align import Aligned
from sottovoce.engine.backend.devices import device_names
from sottovoce.engine.tracing.events import Event
from sottovoce.engine.tracing.file import Header

WORDS: Final = {"send": "send {} to P{}", "recv": "receive {} from P{}"}
WAIT: Final = "wait"


def chrome_trace(header: Header, requests: Sequence[Aligned]) -> bytes:
    """The JSON file. One process row per party, one thread row per lane; times in us from the first request on."""
    origin = min(request.start_ns for one in requests for request in one.parties)
    events: list[dict[str, Any]] = []
    devices = device_names(header.device, header.parties)
    for rank in range(header.parties):
        events.append(_meta("process_name", rank, 0, {"name": f"P{rank} ({header.protocol}, {devices[rank]})"}))
        events.append(_meta("process_sort_index", rank, 0, {"sort_index": rank}))
        for lane in range(header.lanes):
            events.append(_meta("thread_name", rank, lane, {"name": f"lane {lane}"}))
    arrow = 0
    for number, one in enumerate(requests):
        for rank, request in enumerate(one.parties):
            place = {"pid": rank, "tid": 0, "cat": "request"}
            name = f"request {number}, {request.batch} clips"
            events.append(_slice(name, request.start_ns - origin, request.end_ns - origin, place))
            for lane, recorded in enumerate(request.lanes):
                for event in recorded:
                    events += _slices(event, origin, {"pid": rank, "tid": lane, "cat": event.kind})
        for frame in one.frames:
            arrow += 1
            common = {"name": "frame", "cat": "frame", "id": arrow}
            # An arrow binds to the slice that is open at its time: a moment before the end of the receipt.
            start = {**common, "ph": "s", "pid": frame.source, "ts": _us(frame.send.start_ns - origin)}
            end = {**common, "ph": "f", "bp": "e", "pid": frame.target, "ts": _us(_inside(frame.recv) - origin)}
            events += [{**start, "tid": frame.lane}, {**end, "tid": frame.lane}]
    about = {"protocol": header.protocol, "model": header.model, "program": header.program}
    return msgspec.json.encode({"traceEvents": events, "displayTimeUnit": "ms", "otherData": about})


def _slices(event: Event, origin: int, place: dict[str, Any]) -> list[dict[str, Any]]:
    """The slice of an event; in that of a frame the waiting, at its start (where it lies in there is not recorded)."""
    start, end = event.start_ns - origin, event.end_ns - origin
    if event.peer < 0:
        device = {} if event.device_ns is None else {"device_us": _us(event.device_ns)}
        return [_slice(event.name, start, end, place, device)]
    name = WORDS[event.kind].format(event.name, event.peer)
    made = [_slice(name, start, end, place, {"bytes": event.bytes, "wait_us": _us(event.wait_ns)})]
    if event.wait_ns:
        wait = min(event.wait_ns, end - start)
        made.append(_slice(f"{WAIT} for P{event.peer}", start, start + wait, {**place, "cat": WAIT}))
    return made


def _slice(
    name: str, start: int, end: int, place: dict[str, Any], details: dict[str, Any] | None = None
) -> dict[str, Any]:
    return {"name": name, "ph": "X", "ts": _us(start), "dur": _us(end - start), **place, "args": details or {}}


def _meta(name: str, pid: int, tid: int, details: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "ph": "M", "pid": pid, "tid": tid, "args": details}


def _inside(event: Event) -> int:
    return max(event.start_ns, event.end_ns - 1)


def _us(nanoseconds: int) -> float:
    return nanoseconds / 1000
