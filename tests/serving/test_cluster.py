"""Free addresses: no two alike, and out of the way of ports that systems hand out."""

from __future__ import annotations

import socket

import pytest

from sottovoce.serving import cluster
from sottovoce.serving.cluster import free_addresses


def test_free_addresses_are_distinct_and_can_be_bound_beside_a_busy_one(monkeypatch: pytest.MonkeyPatch) -> None:
    (_, busy), (_, free) = free_addresses(2)
    assert busy != free
    with socket.create_server(("127.0.0.1", busy)):
        monkeypatch.setattr(cluster, "_port", iter([busy, free]).__next__)
        assert free_addresses(1) == (("127.0.0.1", free),)


def test_free_addresses_stay_below_the_ports_that_systems_hand_out() -> None:
    assert all(port in cluster.FREE_PORTS for _, port in free_addresses(20))
    assert cluster.FREE_PORTS.stop <= 32768
