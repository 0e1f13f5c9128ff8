"""Networks that are really opened."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sottovoce.bench.network import measure
from sottovoce.bench.network import open as opening
from sottovoce.bench.network.open import Loopback, open_network
from sottovoce.bench.network.profiles import Link, Profile
from sottovoce.bench.schema import NetworkUsed
from sottovoce.engine.errors import ConfigError

RECEIVE = """
import json, socket, sys, time
with socket.create_server((sys.argv[1], 0)) as server:
    print(server.getsockname()[1], flush=True)
    with server.accept()[0] as connection:
        start, total = time.monotonic(), 0
        while data := connection.recv(1 << 20):
            total += len(data)
        print(json.dumps([total, time.monotonic() - start]))
"""
SEND = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as connection:
    connection.sendall(bytes(int(sys.argv[3])))
"""
INTERFACES = "import socket; print([name for _, name in socket.if_nameindex()])"
NET_ADMIN, SYS_ADMIN = 12, 21


def why_not() -> str:
    """Why this machine cannot open a network with a link; empty if it can."""
    if not Path("/dev/net/tun").exists():
        return "needs /dev/net/tun"
    status = Path("/proc/self/status").read_text()
    capabilities = int(status.split("CapEff:")[1].split()[0], 16)
    allowed = all(capabilities >> bit & 1 for bit in (NET_ADMIN, SYS_ADMIN))
    return "" if allowed else "needs CAP_NET_ADMIN and CAP_SYS_ADMIN"


@pytest.mark.root
def test_metro_between_three_nodes_and_nothing_left() -> None:
    if reason := why_not():
        pytest.skip(reason)
    before = len(os.listdir("/proc/self/fd"))
    size = 8_000_000
    with open_network("metro", 3) as network:
        used, holder = network.used, network.holder
        command = [*network.prefix(2), sys.executable, "-I", "-S", "-c"]
        receiver = subprocess.Popen([*command, RECEIVE, network.address(2)], stdout=subprocess.PIPE, text=True)
        assert receiver.stdout is not None
        port = receiver.stdout.readline().strip()
        sender = [*network.prefix(0), sys.executable, "-I", "-S", "-c", SEND, network.address(2), port, str(size)]
        subprocess.run(sender, check=True)
        total, seconds = json.loads(receiver.communicate()[0])
        inside = subprocess.run([*command, INTERFACES], capture_output=True, text=True, check=True).stdout
    assert used.method in ("user-space", "netem") and (used.rtt_ms, used.mbit_s) == (5, 1_000)
    assert used.measured_rtt_ms is not None and used.measured_mbit_s is not None
    assert used.measured_rtt_ms.smallest >= 5 and used.measured_rtt_ms.lower < 4 * 5
    assert used.measured_mbit_s.upper > 1_000 / 8
    assert total == size
    assert 1_000 / 20 < size * 8e-6 / seconds < 1_000 * 1.05
    assert set(json.loads(inside.replace("'", '"'))) == {"lo", "link0"}, "no way out"
    deadline = time.monotonic() + 10
    while Path(f"/proc/{holder}").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not Path(f"/proc/{holder}").exists()
    assert not Path("/sys/class/net/link0").exists()
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.root
def test_the_network_goes_with_the_process_that_opened_it() -> None:
    if reason := why_not():
        pytest.skip(reason)
    program = (
        "from sottovoce.bench.network import open as o; from sottovoce.bench.network.profiles import Link\n"
        "with o._held('x', Link(0, 1000), 1) as network: print(network.holder, flush=True); input()"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        holder = Path("/proc", process.stdout.readline().decode().strip())
        assert holder.exists()
        process.kill()
    deadline = time.monotonic() + 10
    while holder.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not holder.exists()


def test_loopback_is_measured_too() -> None:
    with open_network("loopback", 2) as network:
        assert tuple(network.prefix(1)) == () and network.address(1) == "127.0.0.1"
        used = network.used
    assert used.method == "loopback" and used.rtt_ms is None
    assert used.measured_rtt_ms is not None and used.measured_rtt_ms.n == measure.MOST
    assert used.measured_mbit_s is not None and used.measured_mbit_s.median > 0


def test_a_network_that_does_not_delay_is_refused() -> None:
    used = NetworkUsed(name="wan", method="netem", rtt_ms=20, mbit_s=100)
    with pytest.raises(ConfigError, match=r"network wan \(netem\): expected 20 ms and 100 Mbit/s, measured"):
        measure.measured(Fast(1, used), 1)


class Fast(Loopback):
    """Loopback that claims to be something else."""


@pytest.mark.parametrize("nodes", [0, 65])
def test_too_few_or_too_many_nodes(nodes: int) -> None:
    with pytest.raises(ConfigError, match=f"expected 1 to 64 nodes, got {nodes}"), open_network("lan", nodes):
        pass


def test_a_refused_namespace_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho \'{"error": "/dev/net/tun: Permission denied"}\'\n')
    python.chmod(0o700)
    monkeypatch.setattr(opening.sys, "executable", str(python))
    says = r"network x: expected network namespaces, got /dev/net/tun: Permission denied; run as root .* loopback"
    with pytest.raises(ConfigError, match=says), open_network(Profile("x", Link(1, 1)), 2):
        pass
