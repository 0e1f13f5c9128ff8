"""The commands for kernels that have netem, and what happens on one that has not."""

from __future__ import annotations

import subprocess

import pytest

from sottovoce.bench.network import netem
from sottovoce.bench.network.profiles import Link

LINK = Link(rtt_ms=5, mbit_s=1_000)


def test_commands() -> None:
    assert [" ".join(command) for command in netem.switch_commands(LINK, ["/proc/1/fd/7", "/proc/1/fd/8"])] == [
        "ip link add switch type bridge",
        "ip link set switch up",
        "ip link add port0 type veth peer name link0 netns /proc/1/fd/7",
        "ip link set port0 master switch up",
        "tc qdisc add dev port0 root netem rate 1000000kbit 24 limit 100000",
        "ip link add port1 type veth peer name link0 netns /proc/1/fd/8",
        "ip link set port1 master switch up",
        "tc qdisc add dev port1 root netem rate 1000000kbit 24 limit 100000",
    ]
    assert [" ".join(command) for command in netem.node_commands(LINK)] == [
        "tc qdisc add dev link0 root netem delay 2500us rate 1000000kbit 24 limit 100000"
    ]


def test_each_way_is_delayed_by_half_a_round_trip_once() -> None:
    words = [word for command in netem.switch_commands(LINK, ["x"]) for word in command]
    assert "delay" not in words


def test_it_is_tried_before_anything_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        ran.append(command)
        return subprocess.CompletedProcess(command, 2, stderr="Error: Specified qdisc kind is unknown.\n")

    monkeypatch.setattr(netem, "new_namespace", lambda: 3)
    monkeypatch.setattr(netem.shutil, "which", lambda name: name)
    monkeypatch.setattr(netem.subprocess, "run", run)
    with pytest.raises(netem.NetemMissingError, match="qdisc kind is unknown"):
        netem.build(LINK, 3, "/proc/1/fd")
    assert ran == netem.try_commands()


def test_without_iproute2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(netem, "new_namespace", lambda: 3)
    monkeypatch.setattr(netem.shutil, "which", lambda name: None)
    with pytest.raises(netem.NetemMissingError, match="tc: not installed"):
        netem.build(LINK, 3, "/proc/1/fd")
