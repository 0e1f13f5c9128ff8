"""The options by which a role finds the parties and proves who it is."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sottovoce.engine.errors import ConfigError

if TYPE_CHECKING:
    from sottovoce.engine.program import Program
    from sottovoce.engine.protocols.table import ProtocolRow
    from sottovoce.engine.transport.tls import TlsContexts
    from sottovoce.serving.cluster import Cluster
    from sottovoce.serving.store import StoreAt

DEADLINE_S = 60.0
COMPARISONS = ("auto", "boolean", "fss")
NETWORKS = ("loopback", "lan", "metro", "wan")


def add_cluster_options(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """--cluster, --certs, --insecure-loopback, --deadline."""
    group = parser.add_argument_group("parties")
    group.add_argument("--cluster", type=Path, metavar="FILE", required=required, help="where the parties are (TOML)")
    group.add_argument("--certs", type=Path, metavar="DIR", help="this role's own certificate folder")
    group.add_argument(
        "--insecure-loopback",
        action="store_true",
        help="plain TCP instead of certificates, on 127.0.0.0/8 and ::1 only; every result is marked INSECURE",
    )
    group.add_argument(
        "--deadline",
        type=seconds,
        default=DEADLINE_S,
        metavar="S",
        help="longest wait for a peer (default 60)",
    )


def add_protocol_options(parser: argparse.ArgumentParser, *, default: str | None, text: str) -> None:
    """--protocol, --comparison, --network."""
    parser.add_argument("--protocol", default=default, metavar="P", help=text)
    parser.add_argument(
        "--comparison",
        choices=COMPARISONS,
        help="for beaver2: Boolean circuits, function secret sharing, or what is faster on --network (auto, default)",
    )
    parser.add_argument(
        "--network", choices=NETWORKS, help="for --comparison auto: what connects the parties (default loopback)"
    )


def add_device_option(parser: argparse.ArgumentParser, *, default: str | None, text: str) -> None:
    """--device."""
    parser.add_argument("--device", default=default, metavar="D", help=text)


def choose_protocol(args: argparse.Namespace, program: Program) -> ProtocolRow:
    """What the protocol options come to for a program. Raises ConfigError."""
    from sottovoce.serving.comparison import resolve

    return resolve(args.protocol, args.comparison or "auto", program, args.network or "loopback")


def add_store_options(parser: argparse.ArgumentParser, text: str) -> None:
    """--store, --store-key."""
    parser.add_argument("--store", type=Path, metavar="DIR", help=text)
    parser.add_argument(
        "--store-key",
        type=Path,
        metavar="FILE",
        help="the store's key, which `prepare` makes if it is not there; never inside a store (default "
        "~/.config/sottovoce/store.key)",
    )


def load_store(args: argparse.Namespace, *, create: bool = False) -> StoreAt:
    """Where --store and --store-key say. create: whether a key that is not there is made. Raises ConfigError."""
    from sottovoce.engine.preprocessing.keyfile import load_key, load_or_create_key
    from sottovoce.serving.store import StoreAt

    load = load_or_create_key if create else load_key
    return StoreAt(args.store.absolute(), load(store_key(args)))


def store_key(args: argparse.Namespace) -> Path:
    """The file that --store-key names, or the default."""
    from sottovoce.engine.preprocessing.keyfile import default_key_path

    path: Path = args.store_key or default_key_path()
    return path


def load_role(args: argparse.Namespace, kind: str, rank: int | None = None) -> tuple[Cluster, TlsContexts | None]:
    """The cluster, and the certificates, which must be those of a `kind` (party: of that rank). Raises ConfigError."""
    from sottovoce.engine.transport.tls import load_tls
    from sottovoce.serving.cluster import load_cluster

    cluster = load_cluster(args.cluster)
    if rank is not None and not 0 <= rank < len(cluster.addresses):
        raise ConfigError(f"RANK: expected {one_of(map(str, range(len(cluster.addresses))))}, got {rank}")
    if args.certs is None:
        if not args.insecure_loopback:
            raise ConfigError(f"--certs: expected this {kind}'s certificate folder (see `sottovoce certs`)")
        return cluster, None
    if args.insecure_loopback:
        raise ConfigError("--insecure-loopback: plain TCP does not use --certs; give one of them")
    tls = load_tls(args.certs)
    who = tls.identity
    if who.kind != kind or (rank is not None and who.rank != rank):
        wanted = kind if rank is None else f"{kind} {rank}"
        raise ConfigError(f"--certs {args.certs}: expected the certificate of {article(wanted)}, got that of {who}")
    return cluster, tls


def find_protocol(name: str) -> ProtocolRow | None:
    """The protocol that --protocol names; None for plain, which is no protocol. Raises ConfigError."""
    from sottovoce.engine.protocols.table import PROTOCOLS

    if name != "plain" and name not in PROTOCOLS:
        raise ConfigError(f"--protocol: expected {one_of((*PROTOCOLS, 'plain'))}, got {name!r}")
    return PROTOCOLS.get(name)


def one_of(words: Iterable[str]) -> str:
    """a; a or b; a, b or c."""
    *others, last = words
    return f"{', '.join(others)} or {last}" if others else last


def article(noun: str) -> str:
    """a client, an owner; a party with its rank needs none."""
    if noun[-1].isdigit():
        return noun
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def seconds(text: str) -> float:
    """For argparse: a positive, finite number of seconds."""
    value = float(text)
    if not 0 < value <= 86_400:
        raise argparse.ArgumentTypeError(f"expected more than 0 and at most 86400 seconds, got {text}")
    return value


def positive(text: str) -> int:
    """For argparse: a whole number of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, got {text}")
    return value


Subparsers = Any
"""What argparse's add_subparsers returns; its class is private."""
