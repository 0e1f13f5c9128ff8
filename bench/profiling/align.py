"""All parties' traces on one clock: which frame is which, and by how much the clocks differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from sottovoce.engine.errors import ConfigError
from sottovoce.engine.tracing.events import Event
from sottovoce.engine.tracing.file import PartyTrace, Request

Times = dict[tuple[int, int], int]


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame, seen from both ends."""

    source: int
    target: int
    lane: int
    send: Event
    recv: Event


@dataclass(frozen=True, slots=True)
class Aligned:
    """One request at all parties, by rank, on the clock of P0. bound_ns: how wrong a party's offset may be at most."""

    parties: tuple[Request, ...]
    frames: tuple[Frame, ...]
    offset_ns: tuple[int, ...]
    bound_ns: tuple[int, ...]


def align_clocks(traces: Sequence[PartyTrace]) -> list[Aligned]:
    """Every request of the traces, which must be of all parties by rank, on the clock of P0.

    Where all headers name one clock nothing is moved. Otherwise each request is aligned by its own frames, so that a
    drift between requests does no harm. As in NTP: let m(a, b) be the smallest difference, over the frames from a to b,
    of the end of recv on b's clock and the start of send on a's. Both delays being positive, b's clock is ahead of a's
    by (m(a, b) - m(b, a)) / 2, and the error is at most (m(a, b) + m(b, a)) / 2. Parties without frames in both
    directions are reached through others. Raises ConfigError where the traces do not belong together.
    """
    _check(traces)
    clocks = {trace.header.clock for trace in traces}
    one_clock = len(clocks) == 1 and clocks != {""}
    aligned = []
    for parties in zip(*(trace.requests for trace in traces), strict=True):
        frames = match_frames(parties)
        count = len(parties)
        offsets, bounds = ((0,) * count, (0,) * count) if one_clock else _offsets(count, frames)
        moved = tuple(shift_request(request, -offset) for request, offset in zip(parties, offsets, strict=True))
        aligned.append(Aligned(moved, match_frames(moved), offsets, bounds))
    return aligned


def match_frames(parties: Sequence[Request]) -> tuple[Frame, ...]:
    """The frames of one request: a lane delivers in order, so the n-th that is sent is the n-th that is received."""
    frames = []
    for lane, events in enumerate(zip(*(request.lanes for request in parties), strict=True)):
        for source, target in ((a, b) for a in range(len(parties)) for b in range(len(parties)) if a != b):
            sent = [e for e in events[source] if e.kind == "send" and e.peer == target]
            received = [e for e in events[target] if e.kind == "recv" and e.peer == source]
            if [e.bytes for e in sent] != [e.bytes for e in received]:
                raise ConfigError(
                    f"traces: lane {lane}: expected that P{target} received what P{source} sent ({len(sent)} frames), "
                    f"got {len(received)} frames or other lengths: are these files of one deployment?"
                )
            frames += [Frame(source, target, lane, s, r) for s, r in zip(sent, received, strict=True)]
    return tuple(frames)


def _check(traces: Sequence[PartyTrace]) -> None:
    """That these are the traces of all parties of one deployment, in order of rank."""
    if (
        not traces
        or traces[0].header.parties != len(traces)
        or [t.header.rank for t in traces] != [*range(len(traces))]
    ):
        ranks = ", ".join(f"P{t.header.rank}" for t in traces) or "none"
        raise ConfigError(f"traces: expected those of all parties, one of each, got {ranks}")
    for trace in traces:
        _check_events(trace)
        for name in ("protocol", "program", "lanes", "parties"):
            first, other = getattr(traces[0].header, name), getattr(trace.header, name)
            if first != other:
                raise ConfigError(f"traces: {name}: expected {first} as at P0, got {other} at P{trace.header.rank}")
        kinds, others = ([(r.batch, r.output) for r in t.requests] for t in (traces[0], trace))
        if kinds != others:
            raise ConfigError(
                f"traces: expected the same requests at all parties, got {len(kinds)} at P0 and {len(others)} at "
                f"P{trace.header.rank}: read them when the parties have stopped"
            )


FAR_NS: Final = 1 << 62
HOLDERS: Final = ("layer", "operation")
"""Events that others may lie in."""


def _check_events(trace: PartyTrace) -> None:
    """A file may come from another party: events must be in order, nested, and about parties that there are."""
    header = trace.header
    for request in trace.requests:
        sound = len(request.lanes) == header.lanes >= 1 and -FAR_NS < request.start_ns <= request.end_ns < FAR_NS
        sound &= request.batch >= 1
        if not sound or not all(_is_nested(lane, header.parties) for lane in request.lanes):
            raise ConfigError(f"traces: P{header.rank}: expected events in order and nested, on {header.lanes} lanes")


def _is_nested(lane: Sequence[Event], parties: int) -> bool:
    """Whether every event ends before the next beside it begins, and lies in the layer or operation around it."""
    around: list[Event] = []
    now = -FAR_NS
    for event in lane:
        if not 0 <= event.depth <= len(around):
            return False
        if event.depth < len(around):
            now = around[event.depth].end_ns  # of the event before it, beside it; what was inside ended earlier
            del around[event.depth :]
        last = around[-1].end_ns if around else FAR_NS
        if not now <= event.start_ns <= event.end_ns <= last or (around and around[-1].kind not in HOLDERS):
            return False
        if not 0 <= event.wait_ns <= event.end_ns - event.start_ns or not 0 <= event.bytes < FAR_NS:
            return False
        if event.kind in ("send", "recv") and not 0 <= event.peer < parties:
            return False
        now = event.start_ns
        around.append(event)
    return True


def _offsets(parties: int, frames: Sequence[Frame]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """How far each clock is ahead of P0's, and the bound of the error; nearest parties first (Dijkstra)."""
    least: Times = {}
    for frame in frames:
        pair = (frame.source, frame.target)
        difference = frame.recv.end_ns - frame.send.start_ns
        least[pair] = min(difference, least.get(pair, difference))
    known = {0: (0, 0)}
    while len(known) < parties:
        reach = [
            (bound + (least[a, b] + least[b, a]) // 2, b, offset + (least[a, b] - least[b, a]) // 2)
            for a, (offset, bound) in known.items()
            for b in range(parties)
            if b not in known and (a, b) in least and (b, a) in least
        ]
        if not reach:
            lost = ", ".join(f"P{rank}" for rank in range(parties) if rank not in known)
            raise ConfigError(f"traces: clocks: expected frames to and from {lost}, got none: cannot be aligned")
        bound, rank, offset = min(reach)
        known[rank] = (offset, bound)
    return tuple(known[r][0] for r in range(parties)), tuple(known[r][1] for r in range(parties))


def shift_request(request: Request, by_ns: int) -> Request:
    """The request as a clock that is by_ns ahead would have timed it."""
    if by_ns == 0:
        return request

    def moved(event: Event) -> Event:
        return msgspec.structs.replace(event, start_ns=event.start_ns + by_ns, end_ns=event.end_ns + by_ns)

    lanes = [[moved(event) for event in lane] for lane in request.lanes]
    return msgspec.structs.replace(
        request, start_ns=request.start_ns + by_ns, end_ns=request.end_ns + by_ns, lanes=lanes
    )
