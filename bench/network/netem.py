"""The kernel's own delay and rate: veth pairs to one bridge, netem on both ends of each."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence

from sottovoce.bench.network.namespaces import DEVICE, configure, inside, new_namespace
from sottovoce.bench.network.profiles import ETHERNET_HEADER, FRAMING, Link

LIMIT_PACKETS = 100_000
"""Packets that netem holds; more are dropped. Above TCP's windows."""
COMMAND_TIMEOUT_S = 10


class NetemMissingError(Exception):
    """This kernel has no netem, or a tool is missing: says which command failed and how."""


def try_commands() -> list[list[str]]:
    """Do nothing to the network, and fail where the kernel has no netem."""
    return [["tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms"]]


def switch_commands(link: Link, ports: Sequence[str]) -> list[list[str]]:
    """In the switch's namespace: a bridge, and for each port a veth pair whose other end goes to a node.

    ports: paths of the nodes' namespaces. A port's netem is what its node's link receives.
    """
    commands = [["ip", "link", "add", "switch", "type", "bridge"], ["ip", "link", "set", "switch", "up"]]
    for node, path in enumerate(ports):
        port = f"port{node}"
        commands += [
            ["ip", "link", "add", port, "type", "veth", "peer", "name", DEVICE, "netns", path],
            ["ip", "link", "set", port, "master", "switch", "up"],
            _netem(port, link, delay=False),
        ]
    return commands


def node_commands(link: Link) -> list[list[str]]:
    """In a node's namespace: what its link sends, and the delay."""
    return [_netem(DEVICE, link, delay=True)]


def build(link: Link, nodes: int, own_descriptors: str) -> list[int]:
    """Make the nodes' namespaces and the switch between them; return their descriptors.

    own_descriptors: folder of this process's descriptors ("/proc/PID/fd"). Raises NetemMissingError, OSError.
    """
    new_namespace()
    _run(try_commands())
    namespaces = [new_namespace() for _ in range(nodes)]
    new_namespace()
    _run(switch_commands(link, [f"{own_descriptors}/{namespace}" for namespace in namespaces]))
    for node, namespace in enumerate(namespaces):
        with inside(namespace):
            configure(node)
            _run(node_commands(link))
    return namespaces


def _netem(device: str, link: Link, *, delay: bool) -> list[str]:
    words = ["tc", "qdisc", "add", "dev", device, "root", "netem"]
    if delay:
        words += ["delay", f"{link.delay_ns / 1e3:g}us"]
    # netem counts the Ethernet header; the second number adds the rest of the framing.
    rest = FRAMING - ETHERNET_HEADER
    return [*words, "rate", f"{link.mbit_s * 1e3:.0f}kbit", str(rest), "limit", str(LIMIT_PACKETS)]


def _run(commands: Sequence[Sequence[str]]) -> None:
    for command in commands:
        if shutil.which(command[0]) is None:
            raise NetemMissingError(f"{command[0]}: not installed (package iproute2)")
        done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S)
        if done.returncode != 0:
            raise NetemMissingError(f"{' '.join(command)}: {done.stderr.strip()}")
