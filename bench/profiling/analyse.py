"""From traces to a profile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from sottovoce.bench.profiling.align import Aligned, align_clocks
from sottovoce.bench.profiling.critical import critical_path
from sottovoce.bench.profiling.schema import Profile
from sottovoce.bench.profiling.tree import make_lines
from sottovoce.bench.stats import summarise
from sottovoce.engine.errors import ConfigError
from sottovoce.engine.tracing.file import Header, PartyTrace


@dataclass(frozen=True, slots=True)
class Analysis:
    """A profile, and the requests that it was made from, for the timeline.

    header: P0's, but for its device: as --device says those of all parties.
    """

    profile: Profile
    header: Header
    requests: tuple[Aligned, ...]


def analyse(traces: Sequence[PartyTrace], *, batch: int | None = None, warm_ups: int = 0) -> Analysis:
    """Profile the traces of all parties: the requests of one batch size, the last one's if none is given.

    The first warm_ups requests are left out. Raises ConfigError where the traces do not belong together or are empty.
    """
    requests = align_clocks(sorted(traces, key=lambda trace: trace.header.rank))[warm_ups:]
    if not requests:
        raise ConfigError("traces: expected one request or more, got none: has a client asked?")
    size = requests[-1].parties[0].batch if batch is None else batch
    chosen = [one for one in requests if one.parties[0].batch == size]
    if not chosen:
        sizes = ", ".join(str(n) for n in sorted({one.parties[0].batch for one in requests}))
        raise ConfigError(f"traces: batch: expected one of {sizes}, got {size}")
    used = _middle(chosen)
    headers = sorted((trace.header for trace in traces), key=lambda h: h.rank)
    devices = [h.device for h in headers]
    header = msgspec.structs.replace(headers[0], device=",".join(devices if len({*devices}) > 1 else devices[:1]))
    profile = Profile(
        model=header.model,
        program=header.program,
        protocol=header.protocol,
        device=header.device,
        encrypted=all(trace.header.encrypted for trace in traces),
        parties=header.parties,
        lanes=header.lanes,
        batch=size,
        requests=len(used),
        requests_measured=len(chosen),
        request_ms=summarise([_elapsed_ns(one) / 1e6 for one in chosen]),
        clock_bound_ms=max(bound for one in chosen for bound in one.bound_ns) / 1e6,
        total=make_lines([one.parties for one in used]),
        critical_path=critical_path(used),
    )
    return Analysis(profile, header, tuple(chosen))


def _middle(requests: Sequence[Aligned]) -> list[Aligned]:
    """The middle half by time: means of it add up, and a request that the machine disturbed does not count."""
    ordered = sorted(requests, key=_elapsed_ns)
    aside = len(ordered) // 4
    return ordered[aside : len(ordered) - aside]


def _elapsed_ns(one: Aligned) -> int:
    return max(r.end_ns for r in one.parties) - min(r.start_ns for r in one.parties)
