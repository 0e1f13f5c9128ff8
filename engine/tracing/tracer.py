"""What makes a party a traced one: its means wrapped, its session timed, its requests written to a file."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from sottovoce.engine.backend.base import Backend
from sottovoce.engine.party import Party
from sottovoce.engine.profile import Profile
from sottovoce.engine.program import OutputKind, Program
from sottovoce.engine.protocols.base import AShare
from sottovoce.engine.protocols.table import ProtocolRow
from sottovoce.engine.session import Output, RunStats, Session
from sottovoce.engine.tracing.events import Ranges, Recorder
from sottovoce.engine.tracing.file import Header, Request
from sottovoce.engine.tracing.wrap import TracedProfile, TracedTransport, traced_backend, traced_row
from sottovoce.engine.transport.base import Transport

BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


class TracedSession(Session):
    """A session that keeps when its last request began and ended."""

    window: tuple[OutputKind, int, int, int] = ("label", 0, 0, 0)
    """Output kind, batch, start and end in ns."""

    def run(self, x: AShare, output: OutputKind) -> tuple[Output, RunStats]:
        """See Session."""
        start = time.monotonic_ns()
        result = super().run(x, output)
        self.window = (output, x.shape[0], start, time.monotonic_ns())
        return result


class Tracer:
    """One party's trace. In this order: `means` for each lane, `session`, and after each request `finish`.

    path: the file that it writes; None: only NVTX ranges. ranges: for nsys and ncu. Raises OSError if the file cannot
    be made. If it cannot be written later, `log` is told once and the party goes on without it.
    """

    def __init__(
        self,
        path: Path | None = None,
        *,
        ranges: Ranges | None = None,
        log: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._file = None if path is None else open(path, "wb")  # noqa: SIM115  # for as long as the party lives
        self._ranges = ranges
        self._log = log
        self._recorders: list[Recorder] = []
        self._session: TracedSession | None = None

    def means(self, transport: Transport, backend: Backend) -> tuple[Transport, Backend, Profile]:
        """The next lane's, recorded. The lane's keystreams must be filled by this backend to be recorded too."""
        recorder = Recorder(self._ranges)
        self._recorders.append(recorder)
        return TracedTransport(transport, recorder), traced_backend(backend, recorder), TracedProfile(recorder)

    def session(
        self,
        row: ProtocolRow,
        lanes: Sequence[Party],
        program: Program,
        tensors: Mapping[str, AShare],
        weights: bytes | None = None,
        chunk_elements: int | None = None,
    ) -> Session:
        """A session on lanes with means of this tracer."""
        self._session = TracedSession(traced_row(row), lanes, program, tensors, weights, chunk_elements)
        for recorder in self._recorders:
            recorder.take()  # laying out the weights is no part of a request
        header = Header(
            rank=lanes[0].rank,
            parties=row.parties,
            protocol=row.name,
            model=program.name,
            program=program.digest.hex(),
            lanes=len(lanes),
            device=lanes[0].backend.name,
            encrypted=all(lane.transport.encrypted for lane in lanes),
            clock=_clock(),
        )
        self._write(header)
        return self._session

    def finish(self) -> Request:
        """What the last request did; it is written to the file too. Call it when the answer is out."""
        assert self._session is not None, "finish before session"
        output, batch, start, end = self._session.window
        lanes = [recorder.take() for recorder in self._recorders]
        request = Request(batch=batch, output=output, start_ns=start, end_ns=end, lanes=lanes)
        self._write(request)
        return request

    def close(self) -> None:
        """Close the file. Idempotent."""
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
            self._file = None

    def _write(self, record: Header | Request) -> None:
        if self._file is None:
            return
        try:
            self._file.write(msgspec.json.encode(record) + b"\n")
            self._file.flush()
        except OSError as error:
            self._log(f"--trace: {error.strerror}: nothing more is written")
            self.close()


def _clock() -> str:
    """The id of this boot: processes with the same one read the same CLOCK_MONOTONIC."""
    try:
        return BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""
