"""Measure an open network: small exchanges for the round trip, a bulk transfer for the rate, both over TCP."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from sottovoce.bench.network import probe
from sottovoce.bench.schema import NetworkUsed
from sottovoce.bench.stats import summarise
from sottovoce.bench.systems.base import Network
from sottovoce.engine.errors import ConfigError
from sottovoce.engine.structs import parse_json

PING_BYTES: Final = 64
FEWEST, MOST = 6, 200
PINGS_S: Final = 0.25
"""Time for round trips, as far as the fewest and most allow."""
BULK_S: Final = 0.15
BULK_ROUND_TRIPS: Final = 10
"""Time for the bulk transfer: TCP's window has grown to its size halfway."""
TIMEOUT_S: Final = 60.0
EARLY: Final = 0.8
FAST: Final = 2.0
"""A network is refused whose median round trip is below EARLY times what was asked, or its rate above FAST times."""


def measured(network: Network, nodes: int) -> NetworkUsed:
    """`network.used` with what its last node measured towards its first.

    Raises ConfigError if nothing passes, or if the network delays or limits less than was asked.
    """
    used = network.used
    with server(network, 0) as port:
        times = exchange(network, nodes - 1, 0, port, PING_BYTES, PING_BYTES)
        with receiving(network, nodes - 1, 0, port, BULK_S + BULK_ROUND_TRIPS * _rtt_s(network)) as rates:
            rtt_ms, mbit_s = summarise(times), summarise(rates())
    early = used.rtt_ms is not None and rtt_ms.median < EARLY * used.rtt_ms
    if early or (used.mbit_s is not None and mbit_s.median > FAST * used.mbit_s):
        raise ConfigError(
            f"network {used.name} ({used.method}): expected {used.rtt_ms:g} ms and {used.mbit_s:g} Mbit/s, "
            f"measured {rtt_ms.median:.3g} ms and {mbit_s.median:.0f} Mbit/s; please report this"
        )
    return msgspec.structs.replace(used, measured_rtt_ms=rtt_ms, measured_mbit_s=mbit_s)


@contextmanager
def server(network: Network, node: int) -> Iterator[int]:
    """A probe that serves in that node; yields its port."""
    with _process(network, node, "serve", network.address(node)) as process:
        assert process.stdout is not None
        port = process.stdout.readline()
        if not port:
            raise ConfigError(f"network {network.used.name}: the probe of node {node} did not start")
        yield int(port)


def exchange(network: Network, node: int, peer: int, port: int, sent: int, reply: int) -> list[float]:
    """Times in ms from sending `sent` bytes to holding `reply` bytes; as many as fit into PINGS_S."""
    rtt_s = _rtt_s(network)
    count = MOST if rtt_s * MOST < PINGS_S else max(FEWEST, int(PINGS_S / rtt_s))
    with _process(network, node, "exchange", network.address(peer), port, sent, reply, count) as process:
        return _numbers(network, node, process)


@contextmanager
def receiving(network: Network, node: int, peer: int, port: int, seconds: float) -> Iterator[Callable[[], list[float]]]:
    """A bulk transfer from `peer` to `node` that has begun; what it yields waits for the rates, in Mbit/s."""
    with _process(network, node, "receive", network.address(peer), port, seconds) as process:
        yield lambda: _numbers(network, node, process)


def _rtt_s(network: Network) -> float:
    return (network.used.rtt_ms or 0.0) / 1e3


@contextmanager
def _process(network: Network, node: int, *arguments: object) -> Iterator[subprocess.Popen[bytes]]:
    """A probe in that node, ended in any case."""
    command = [*network.prefix(node), sys.executable, "-I", "-S", str(Path(probe.__file__)), *map(str, arguments)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True) as process:
        try:
            yield process
        finally:
            process.kill()


def _numbers(network: Network, node: int, process: subprocess.Popen[bytes]) -> list[float]:
    try:
        output, errors = process.communicate(timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        output, errors = b"", f"nothing in {TIMEOUT_S:g} s".encode()
    if not output:
        last = errors.decode(errors="replace").strip().rpartition("\n")[2]
        raise ConfigError(f"network {network.used.name}: nothing passed to node {node}: {last}")
    return parse_json(output, list[float])
