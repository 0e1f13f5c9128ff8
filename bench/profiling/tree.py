"""From events to lines: layer, operation, and in it kernels, sends, receipts and the rest, which is Python's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sottovoce.bench.profiling.schema import Line, LineKind
from sottovoce.engine.tracing.events import Event
from sottovoce.engine.tracing.file import Request

NAMES = {"send": "send", "recv": "receive"}
"""Frames of all tags are one line each."""


@dataclass(slots=True)
class _Node:
    """Sums over parties, lanes and requests; times in ns."""

    name: str
    kind: LineKind
    calls: int = 0
    rounds: int = 0
    bytes_sent: int = 0
    total_ns: int = 0
    wait_ns: int = 0
    device_ns: int | None = None
    children: dict[tuple[str, str], _Node] = field(default_factory=dict)

    def child(self, kind: LineKind, name: str) -> _Node:
        return self.children.setdefault((kind, name), _Node(name, kind))

    def own(self, nanoseconds: int) -> None:
        """Time outside all children."""
        node = self.child("python", "python")
        node.calls += 1
        node.total_ns += nanoseconds


def make_lines(requests: Sequence[Sequence[Request]]) -> Line:
    """The request's line with those below it, from requests by party, all with one batch size: means."""
    root = _Node("request", "request")
    for parties in requests:
        for request in parties:
            root.calls += 1
            # Lane 0 runs in the request's own thread; the others run beside it.
            inside = sum(_add_lane(root, lane) for lane in request.lanes)
            first = sum(e.end_ns - e.start_ns for e in request.lanes[0] if e.depth == 0)
            around = request.end_ns - request.start_ns - first
            root.own(around)
            root.total_ns += inside + around
        _add_rounds(root, parties)
    _sum_up(root)
    return _line(root, runs=len(requests) * len(requests[0]), requests=len(requests), whole=max(root.total_ns, 1))


def _add_lane(root: _Node, events: Sequence[Event]) -> int:
    """Add one lane's events below the root; returns the time of its outermost ones."""
    path, open_ns = [root], [0]
    spans: list[int] = []

    def close(depth: int) -> None:
        while len(path) > depth + 1:
            path.pop().own(spans.pop() - open_ns.pop())

    for event in events:
        close(event.depth)
        length = event.end_ns - event.start_ns
        node = path[-1].child(event.kind, NAMES.get(event.kind, event.name))
        node.calls += 1
        node.total_ns += length
        node.wait_ns += event.wait_ns
        if event.kind == "send":
            node.bytes_sent += event.bytes
        if event.device_ns is not None:
            node.device_ns = (node.device_ns or 0) + event.device_ns
        open_ns[-1] += length
        if event.kind in ("layer", "operation"):
            path.append(node)
            spans.append(length)
            open_ns.append(0)
    close(0)
    return open_ns[0]


def _add_rounds(root: _Node, parties: Sequence[Request]) -> None:
    """The rounds that each operation adds: growth of the largest clock of all parties, on the lane with most."""
    lanes = [_rounds([request.lanes[n] for request in parties]) for n in range(len(parties[0].lanes))]
    for layer, operation, rounds in max(lanes, key=lambda found: sum(row[2] for row in found)):
        node = root.child("layer", layer)
        node.rounds += rounds
        node.child("operation", operation).rounds += rounds
        root.rounds += rounds


def _rounds(lanes: Sequence[Sequence[Event]]) -> list[tuple[str, str, int]]:
    """(layer, operation, rounds) in order; all parties do the same operations in the same order."""
    clocks = [_clocks(lane) for lane in lanes]
    found, before = [], 0
    for step in zip(*clocks, strict=True):
        after = max(before, *(clock for _, _, clock in step))
        found.append((*step[0][:2], after - before))
        before = after
    return found


def _clocks(events: Sequence[Event]) -> list[tuple[str, str, int]]:
    """(layer, operation, the lane's clock behind it) at one party."""
    found: list[tuple[str, str, int]] = []
    layer, clock = "", 0
    for event in events:
        if event.kind == "layer":
            layer = event.name
        elif event.kind == "operation":
            found.append((layer, event.name, clock))
        elif event.kind == "recv" and found:
            clock = event.clock
            found[-1] = (*found[-1][:2], clock)
    return found


def _sum_up(node: _Node) -> None:
    """Bytes, waiting and device time of a line are those of the lines below it."""
    below = [child for (kind, _), child in node.children.items() if kind != "python"]
    for child in below:
        _sum_up(child)
    if below:
        node.bytes_sent = sum(child.bytes_sent for child in below)
        node.wait_ns = sum(child.wait_ns for child in below)
        device = [child.device_ns for child in below if child.device_ns is not None]
        node.device_ns = sum(device) if device else None


def _line(node: _Node, *, runs: int, requests: int, whole: int) -> Line:
    """runs: requests times parties. Layers and operations stay in their order, what is below goes by time."""
    children = [_line(c, runs=runs, requests=requests, whole=whole) for c in node.children.values()]
    children.sort(key=lambda line: (0, 0.0) if line.kind in ("layer", "operation") else (1, -line.total_ms))
    return Line(
        name=node.name,
        kind=node.kind,
        calls=node.calls / runs,
        rounds=node.rounds // requests,
        bytes_sent=node.bytes_sent / runs,
        compute_ms=(node.total_ns - node.wait_ns) / runs / 1e6,
        device_ms=None if node.device_ns is None else node.device_ns / runs / 1e6,
        wait_ms=node.wait_ns / runs / 1e6,
        share=node.total_ns / whole,
        children=tuple(children),
    )
