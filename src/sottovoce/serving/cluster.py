"""Where the parties are: a TOML file that every role has.

protocol = "rep3"
lanes = 1
parties = ["p0.example.org:7100", "p1.example.net:7100", "p2.example.com:7100"]

A protocol with preprocessing may name the dealer, too: dealer = "d.example.org:7100".
"""

from __future__ import annotations

import errno
import secrets
import socket
import tomllib
from dataclasses import dataclass
from pathlib import Path

from sottovoce.engine.errors import ConfigError
from sottovoce.engine.protocols.table import find
from sottovoce.engine.transport.tls import Address, parse_address

MAX_LANES = 16
FREE_PORTS = range(10_000, 32_000)


@dataclass(frozen=True, slots=True)
class Cluster:
    """addresses: of the parties, by rank. lanes: how many sub-batches a party computes at once. dealer: its address."""

    addresses: tuple[Address, ...]
    protocol: str = "rep3"
    lanes: int = 1
    dealer: Address | None = None

    def __post_init__(self) -> None:
        expected = find(self.protocol).parties
        if len(self.addresses) != expected:
            raise ConfigError(
                f"cluster: {self.protocol} needs the addresses of {expected} parties, got {len(self.addresses)}"
            )
        for rank, address in enumerate(self.addresses):
            if (first := self.addresses.index(address)) != rank:
                raise ConfigError(f"cluster: expected an address for each party, got that of P{first} for P{rank} too")
        if self.dealer is not None and not find(self.protocol).preprocessing:
            raise ConfigError(f"cluster: dealer: {self.protocol} needs no preprocessing; expected none")
        if self.dealer in self.addresses:
            raise ConfigError("cluster: dealer: expected an address of its own, got that of a party")
        if not 1 <= self.lanes <= MAX_LANES:
            raise ConfigError(f"cluster: lanes: expected 1 to {MAX_LANES}, got {self.lanes}")

    def to_toml(self) -> str:
        """The file's text."""
        parties = ", ".join(map(_quoted, self.addresses))
        dealer = "" if self.dealer is None else f"dealer = {_quoted(self.dealer)}\n"
        return f'protocol = "{self.protocol}"\nlanes = {self.lanes}\nparties = [{parties}]\n{dealer}'


def load_cluster(path: Path) -> Cluster:
    """Read a cluster file. Raises ConfigError that names the file and the field."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cluster file {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"cluster file {path}: not valid TOML: {error}") from None
    unknown = sorted(set(table) - {"protocol", "lanes", "parties", "dealer"})
    if unknown:
        raise ConfigError(f"cluster file {path}: unknown fields {', '.join(unknown)}")
    parties, lanes, protocol = table.get("parties"), table.get("lanes", 1), table.get("protocol", "rep3")
    dealer = table.get("dealer")
    if not isinstance(parties, list) or not all(isinstance(p, str) for p in parties):
        raise ConfigError(f'cluster file {path}: parties: expected a list of "host:port", one per party')
    if not isinstance(lanes, int) or not isinstance(protocol, str):
        raise ConfigError(f"cluster file {path}: expected lanes to be a number and protocol a text")
    if dealer is not None and not isinstance(dealer, str):
        raise ConfigError(f'cluster file {path}: dealer: expected "host:port"')
    try:
        where = None if dealer is None else parse_address(dealer)
        return Cluster(tuple(parse_address(p) for p in parties), protocol, lanes, where)
    except ConfigError as error:
        raise ConfigError(f"cluster file {path}: {error}") from None


def _quoted(address: Address) -> str:
    host, port = address
    return f'"[{host}]:{port}"' if ":" in host else f'"{host}:{port}"'


def free_addresses(number: int) -> tuple[Address, ...]:
    """Loopback addresses with ports that are free at this moment; somebody else may take one a moment later.

    They lie below the ports that systems hand out by themselves, so that neither a connection of somebody nor a
    listener without a port of its own takes one in that moment.
    """
    found: list[Address] = []
    sockets: list[socket.socket] = []
    try:
        while len(found) < number:
            address = ("127.0.0.1", _port())
            try:
                sockets.append(socket.create_server(address))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                continue
            found.append(address)
    finally:
        for sock in sockets:
            sock.close()
    return tuple(found)


def _port() -> int:
    return secrets.choice(FREE_PORTS)
