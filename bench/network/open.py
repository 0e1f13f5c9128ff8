"""Open a network to measure on: `with open_network("wan", 4) as network`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import msgspec

from sottovoce.bench.network.holder import Answer
from sottovoce.bench.network.measure import measured
from sottovoce.bench.network.namespaces import address_of
from sottovoce.bench.network.profiles import Link, Profile, parse_profile
from sottovoce.bench.schema import NetworkUsed
from sottovoce.engine.errors import ConfigError
from sottovoce.engine.structs import parse_json

MAX_NODES = 64
STOP_S = 5.0
ADVICE = (
    "run as root (in a container with --cap-add=NET_ADMIN,SYS_ADMIN --device=/dev/net/tun), or use --network loopback"
)


@dataclass(frozen=True, slots=True)
class Loopback:
    """All nodes on this machine's loopback address."""

    nodes: int
    used: NetworkUsed

    def prefix(self, node: int) -> tuple[str, ...]:
        """No words: a command runs as it is."""
        return ()

    def address(self, node: int) -> str:
        """The loopback address."""
        return "127.0.0.1"

    def shaper_s(self) -> float:
        """CPU time of the process that carries the packets: there is none."""
        return 0.0


@dataclass(frozen=True, slots=True)
class Namespaces:
    """One network namespace for each node, held open by a process of ours. held: its descriptors, by node."""

    nodes: int
    used: NetworkUsed
    holder: int
    held: tuple[int, ...]
    user: bool

    def prefix(self, node: int) -> tuple[str, ...]:
        """nsenter's words: network namespace only, same files, same user, same environment."""
        user = ("--preserve-credentials", f"--user=/proc/{self.holder}/ns/user") if self.user else ()
        return ("nsenter", *user, f"--net=/proc/{self.holder}/fd/{self.held[node]}", "--")

    def address(self, node: int) -> str:
        """Inside the namespaces; unreachable from outside."""
        return address_of(node)

    def shaper_s(self) -> float:
        """CPU time of the process that carries the packets, in s; with netem it does nothing."""
        with open(f"/proc/{self.holder}/stat") as file:
            user, system = file.read().rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


@contextmanager
def open_network(profile: Profile | str, nodes: int) -> Iterator[Loopback | Namespaces]:
    """A network of `nodes` nodes, measured; gone when the context is left, or when this process dies.

    profile: one of `PROFILES`, or its name, or text for `parse_profile`. With a link, netem is tried first, then TUN
    devices and a process of ours; `used.method` says which. Raises ConfigError if neither can be had here.
    """
    if not 1 <= nodes <= MAX_NODES:
        raise ConfigError(f"network: expected 1 to {MAX_NODES} nodes, got {nodes}")
    profile = parse_profile(profile) if isinstance(profile, str) else profile
    if profile.link is None:
        loopback = Loopback(nodes, NetworkUsed(name=profile.name, method="loopback"))
        yield replace(loopback, used=measured(loopback, nodes))
        return
    with _held(profile.name, profile.link, nodes) as network:
        yield replace(network, used=measured(network, nodes))


@contextmanager
def _held(name: str, link: Link, nodes: int) -> Iterator[Namespaces]:
    if not sys.platform.startswith("linux") or shutil.which("nsenter") is None:
        raise ConfigError(f"network {name}: expected Linux with nsenter (package util-linux); {ADVICE}")
    command = [
        sys.executable,
        "-P",
        "-m",
        "sottovoce.bench.network.holder",
        str(nodes),
        str(link.rtt_ms),
        str(link.mbit_s),
    ]
    # A session of its own: Ctrl-C reaches us alone, and the network outlives the clean-up of what runs on it.
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
    assert holder.stdin is not None and holder.stdout is not None
    try:
        line = holder.stdout.readline()
        try:
            answer = parse_json(line, Answer)
        except msgspec.DecodeError:
            raise ConfigError(f"network {name}: its process ended with status {holder.wait()}; {ADVICE}") from None
        if answer.error:
            raise ConfigError(f"network {name}: expected network namespaces, got {answer.error}; {ADVICE}")
        used = NetworkUsed(name=name, method=answer.method, rtt_ms=link.rtt_ms, mbit_s=link.mbit_s)
        yield Namespaces(nodes, used, holder.pid, tuple(answer.namespaces), answer.user)
    finally:
        holder.stdin.close()
        holder.stdout.close()
        try:
            holder.wait(STOP_S)
        except subprocess.TimeoutExpired:
            holder.kill()
            holder.wait()
