"""What the answer waited for: back from its end, at every wait over to the party that was waited for."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from sottovoce.bench.profiling.align import Aligned
from sottovoce.bench.profiling.schema import Step, StepKind
from sottovoce.engine.tracing.events import Event
from sottovoce.engine.tracing.file import Request

Item = tuple[str, str, StepKind, str]
"""Layer, operation, kind, name."""
Place = tuple[int, int]
"""Rank, lane."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """A stretch of one lane's time that belongs to one item."""

    start_ns: int
    end_ns: int
    item: Item
    event: Event | None = None


def critical_path(requests: Sequence[Aligned]) -> tuple[Step, ...]:
    """Mean time of every item on the critical paths of the requests, longest first; together all of their time."""
    spent: dict[Item, int] = defaultdict(int)
    for request in requests:
        for item, nanoseconds in _walk(request):
            spent[item] += nanoseconds
    whole = max(sum(spent.values()), 1)
    steps = [
        Step(layer=layer, operation=op, kind=kind, name=name, ms=ns / len(requests) / 1e6, share=ns / whole)
        for (layer, op, kind, name), ns in spent.items()
        if ns
    ]
    return tuple(sorted(steps, key=lambda step: -step.ms))


def _walk(request: Aligned) -> list[tuple[Item, int]]:
    """The path of one request, from its end to its start."""
    lanes = {(rank, n): _pieces(p, n) for rank, p in enumerate(request.parties) for n in range(len(p.lanes))}
    # No event is another's equal: its place and its start name it.
    origin = {(f.target, f.lane, f.recv.start_ns): ((f.source, f.lane), f.send) for f in request.frames}
    found: list[tuple[Item, int]] = []
    rank = max(range(len(request.parties)), key=lambda r: request.parties[r].end_ns)
    place, now = _last(request.parties[rank], rank), request.parties[rank].end_ns
    while True:
        pieces = lanes[place]
        index = bisect_right(pieces, now - 1, key=lambda piece: piece.start_ns) - 1
        if index < 0:
            return found
        piece = pieces[index]
        event = piece.event
        if event is not None and event.kind == "recv" and event.wait_ns:
            sender, send = origin[*place, event.start_ns]
            if send.start_ns < now:  # else the clocks are too far apart to say
                layer, operation, _, name = piece.item
                left = min(send.end_ns, now)  # a send may return after the frame was received
                found.append(((layer, operation, "transfer", name), now - left))
                place, now = sender, left
                continue
        found.append((piece.item, now - piece.start_ns))
        now = piece.start_ns


def _last(request: Request, rank: int) -> Place:
    """The lane that ended last."""
    ends = [max((event.end_ns for event in lane if event.depth == 0), default=0) for lane in request.lanes]
    return rank, max(range(len(ends)), key=lambda n: ends[n])


def _pieces(request: Request, lane: int) -> list[_Piece]:
    """One lane's time from the request's start to its end, cut where the innermost event changes."""
    pieces: list[_Piece] = []
    around: list[tuple[int, Item]] = [(request.end_ns, ("", "", "python", "python"))]
    now = request.start_ns

    def advance(to: int, item: Item, event: Event | None = None) -> None:
        nonlocal now
        if to > now:
            pieces.append(_Piece(now, to, item, event))
            now = to

    for event in request.lanes[lane]:
        while len(around) > event.depth + 1:
            advance(*around.pop())
        advance(event.start_ns, around[-1][1])
        layer, operation, *_ = around[-1][1]
        if event.kind == "layer":
            around.append((event.end_ns, (event.name, "", "python", "python")))
        elif event.kind == "operation":
            around.append((event.end_ns, (layer, event.name, "python", "python")))
        else:
            advance(event.end_ns, (layer, operation, event.kind, event.name), event)
    while around:
        advance(*around.pop())
    return pieces
