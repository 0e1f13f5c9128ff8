"""What the profiler found, as data: the JSON of `sottovoce profile --json`; the table is made from it."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from sottovoce.bench.schema import Environment, NetworkUsed, Summary

SCHEMA: Final = "sottovoce-profile"
VERSION: Final = 1
LineKind = Literal["request", "layer", "operation", "kernel", "send", "recv", "python"]
StepKind = Literal["kernel", "send", "recv", "python", "transfer"]


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the table: means over the parties of one request.

    compute_ms: host time without waiting; device_ms: None where the backend has none. rounds: those that the line adds,
    on the lane with most; 0 below operations. share: of compute and wait, in the request's. "python" is what a layer or
    operation does outside its children: the interpreter, allocation, rearranging arrays.
    """

    name: str
    kind: LineKind
    calls: float
    rounds: int
    bytes_sent: float
    compute_ms: float
    device_ms: float | None
    wait_ms: float
    share: float
    children: tuple[Line, ...] = ()

    @property
    def total_ms(self) -> float:
        """Host time and waiting."""
        return self.compute_ms + self.wait_ms


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """What the answer waited for: the time that one item spends on the critical path.

    transfer: from the end of a send to the end of the recv that waited for it: network, TLS, waking up.
    """

    layer: str
    operation: str
    kind: StepKind
    name: str
    ms: float
    share: float


class Overhead(msgspec.Struct, frozen=True, kw_only=True):
    """Requests with and without tracing, in turns, to two clusters; ratio: of each pair, traced over untraced."""

    ratio: Summary
    traced_ms: Summary
    untraced_ms: Summary


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """One profile. Requests are those that it rests on: the middle half by time, to leave out what the machine did.

    device: of every party, or as many as parties with commas between. request_ms: of all requests, from the first
    party's start to the last one's end. online_ms: as the client saw them, None where the traces came from files.
    clock_bound_ms: by how much clocks may be apart, 0 on one machine.
    """

    schema: str = SCHEMA
    version: int = VERSION
    model: str
    program: str
    protocol: str
    device: str
    encrypted: bool
    parties: int
    lanes: int
    batch: int
    requests: int
    requests_measured: int
    request_ms: Summary
    online_ms: Summary | None = None
    clock_bound_ms: float = 0.0
    overhead: Overhead | None = None
    network: NetworkUsed | None = None
    environment: Environment | None = None
    total: Line
    critical_path: tuple[Step, ...]
