"""A lane for a party whose arrays lie on a device: messages are staged through host memory.

Sending is deferred: `send` starts the copy to the host and returns, so that the kernels that follow are launched at
once; the frame leaves before this party waits for anything, or at `flush`. The order of frames, the counters and the
rounds are those of the lane itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from sottovoce.engine.backend.base import Backend
from sottovoce.engine.backend.gpu import GpuBackend
from sottovoce.engine.errors import TransportError
from sottovoce.engine.transport.base import Counters, Transport
from sottovoce.kernels.gpu.device import Array, Device


def lane_for(transport: Transport, backend: Backend) -> Transport:
    """The lane as the protocol on this backend is to use it."""
    return Staged(transport, backend.device) if isinstance(backend, GpuBackend) else transport


class Staged(Transport):
    """Arrays of the device, or numpy's, over a lane that knows numpy's only."""

    def __init__(self, lane: Transport, device: Device) -> None:
        self.rank = lane.rank
        self.parties = lane.parties
        self.encrypted = lane.encrypted
        self._lane = lane
        self._device = device
        self._waiting: list[tuple[int, int, list[Any]]] = []

    @property
    def counters(self) -> Counters:  # type: ignore[override]
        """The lane's. Deferred frames are sent first, so that they are counted."""
        self.flush()
        return self._lane.counters

    @property
    def deadline_s(self) -> float:
        """The lane's."""
        return self._lane.deadline_s

    @deadline_s.setter
    def deadline_s(self, value: float) -> None:
        self._lane.deadline_s = value

    def send(self, to: int, tag: int, parts: Sequence[Array]) -> None:
        """See Transport. Host arrays are sent at once; those of the device are copied as they are now."""
        if all(isinstance(part, np.ndarray) for part in parts):
            self.flush()
            self._lane.send(to, tag, parts)
            return
        staged = [part.copy() if isinstance(part, np.ndarray) else self._device.download(part) for part in parts]
        self._waiting.append((to, tag, staged))

    def flush(self) -> None:
        """Send what is waiting, in order."""
        waiting, self._waiting = self._waiting, []
        for to, tag, parts in waiting:
            self._lane.send(to, tag, [part if isinstance(part, np.ndarray) else part.wait() for part in parts])

    def recv(self, frm: int, tag: int, parts: Sequence[Array]) -> None:
        """See Transport. The copies to the device are under way when this returns."""
        self.flush()
        staged = [self._host(part) for part in parts]
        self._lane.recv(frm, tag, staged)
        for host, part in zip(staged, parts, strict=True):
            if host is not part:
                self._device.upload_into(host, part)

    def recv_bytes(self, frm: int, tag: int, limit: int) -> bytes:
        self.flush()
        return self._lane.recv_bytes(frm, tag, limit)

    def close(self, reason: str = "") -> None:
        """Close the lane. What waits is sent if nothing went wrong, so that no peer misses a last message."""
        try:
            if not reason:
                with suppress(TransportError):  # a peer that has gone misses nothing
                    self.flush()
        finally:
            self._waiting.clear()
            self._lane.close(reason)

    def _host(self, part: Array) -> Any:
        return part if isinstance(part, np.ndarray) else self._device.staging(part.shape, part.dtype)
