"""Are the networks what was asked for? What `sottovoce bench network` shows."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Final

from sottovoce.bench.network.measure import exchange, receiving, server
from sottovoce.bench.network.open import Loopback, Namespaces, open_network
from sottovoce.bench.schema import NetworkRow
from sottovoce.bench.stats import summarise

MESSAGE_BYTES: Final = 32 * 1024
LOAD_S: Final = 2.0


def validate_profile(profile: str, nodes: int = 3) -> NetworkRow:
    """Open a network and measure it, alone and under load. Raises ConfigError where it cannot be opened."""
    with open_network(profile, nodes) as network:
        return validate(network)


def validate(network: Loopback | Namespaces, *, seconds: float = LOAD_S) -> NetworkRow:
    """Measure an open network further, `seconds` of it under full load. Raises ConfigError if nothing passes."""
    nodes = range(network.nodes)
    with ExitStack() as stack:
        ports = [stack.enter_context(server(network, node)) for node in nodes]
        message = exchange(network, network.nodes - 1, 0, ports[0], MESSAGE_BYTES, 1)
        cpu_s, start = network.shaper_s(), time.perf_counter()
        peers = [(node, (node + 1) % network.nodes) for node in nodes]
        transfers = [stack.enter_context(receiving(network, node, peer, ports[peer], seconds)) for node, peer in peers]
        rates = tuple(summarise(transfer()).median for transfer in transfers)
        share = (network.shaper_s() - cpu_s) / (time.perf_counter() - start)
    return NetworkRow(
        used=network.used,
        nodes=network.nodes,
        message_ms=summarise(message),
        together_mbit_s=rates,
        shaper_share=round(share, 3),
    )
