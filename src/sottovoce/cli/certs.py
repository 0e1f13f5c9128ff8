"""`sottovoce certs`: the certificates of a deployment, and its cluster file."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sottovoce import __version__
from sottovoce.cli.connect import Subparsers, find_protocol
from sottovoce.cli.exits import Exit
from sottovoce.cli.output import errors_as_json, printable, stdout_console, write_json
from sottovoce.engine.errors import ConfigError

if TYPE_CHECKING:
    from sottovoce.engine.protocols.table import ProtocolRow

DEFAULT_PORT = 7100
DEALER_PORT = 7150
MAX_DAYS = 3650


def add(commands: Subparsers) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "certs",
        help="make a deployment's certificates",
        description="Make an authority for one deployment, a folder of certificate and key for each role, and the "
        "cluster file: for one machine, or with --host for several.",
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="a new folder")
    parser.add_argument(
        "--protocol", default="rep3", metavar="P", help="default: rep3; it decides how many parties there are"
    )
    parser.add_argument("--client", action="append", metavar="NAME", help="may be repeated (default alice)")
    parser.add_argument("--owner", action="append", metavar="NAME", help="may be repeated (default bob)")
    parser.add_argument(
        "--host",
        action="append",
        default=[],
        metavar="RANK=HOST",
        help="a party's host name or address, for its certificate and the cluster file; repeat it for every party, "
        "and for the dealer: dealer=HOST (default: all on this machine)",
    )
    parser.add_argument(
        "--no-dealer", action="store_true", help="none, where preprocessing could come from one (`prepare --source ot`)"
    )
    parser.add_argument("--cluster-file", type=Path, metavar="PATH", help="write the cluster file there, a new file")
    parser.add_argument("--days", type=int, default=365, metavar="N", help="validity (default %(default)s)")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.set_defaults(run=run)


@errors_as_json
def run(args: argparse.Namespace) -> int:
    """Make them and say what goes where."""
    clients, owners = args.client or ["alice"], args.owner or ["bob"]
    hosts, at_dealer = _hosts(args.host)
    row, dealer = _check(args, clients, owners, hosts, at_dealer)
    from sottovoce.engine.transport.certificates import create_certificates
    from sottovoce.serving.cluster import Cluster

    if hosts:
        addresses = tuple((hosts[rank][0], DEFAULT_PORT) for rank in range(row.parties))
        dealer_at = (at_dealer[0], DEALER_PORT) if at_dealer else None
    else:
        addresses = tuple(("127.0.0.1", DEFAULT_PORT + rank) for rank in range(row.parties))
        dealer_at = ("127.0.0.1", DEALER_PORT)
    cluster = Cluster(addresses, row.name, dealer=dealer_at if dealer else None)
    try:
        folders = create_certificates(
            args.folder,
            parties=row.parties,
            clients=clients,
            owners=owners,
            hosts=hosts,
            days=args.days,
            dealer=at_dealer if dealer else None,
        )
    except OSError as error:
        # A folder above it, or a temporary one beside it, whose name says nothing to the user.
        above = Path(error.filename or args.folder) in args.folder.parents
        raise ConfigError(f"certs: {error.strerror}: {error.filename if above else args.folder}") from None
    if args.cluster_file is not None:
        with open(args.cluster_file, "x", encoding="utf-8") as file:
            file.write(cluster.to_toml())
    if args.json:
        names = {folder.name: str(folder) for folder in folders}
        where = None if args.cluster_file is None else str(args.cluster_file)
        write_json({"version": __version__, "folders": names, "cluster": cluster.to_toml(), "cluster_file": where})
    else:
        _show(folders, hosts, at_dealer, cluster.to_toml(), args.cluster_file)
    return Exit.OK


def _show(
    folders: Sequence[Path], hosts: dict[int, list[str]], dealer: Sequence[str], toml: str, file: Path | None
) -> None:
    console = stdout_console()
    console.print("Each folder goes to its role's machine only: key.pem is that role's secret.")
    *roles, authority = folders
    width = max(len(str(folder)) for folder in folders)
    for folder in roles:
        console.print(f"  {printable(str(folder)):{width}}  to {_machine(folder.name, hosts, dealer)}", soft_wrap=True)
    where = f"  {printable(str(authority)):{width}}"
    console.print(f"{where}  offline, or delete ca-key.pem: it can certify anybody", soft_wrap=True)
    console.print("\nEvery role also needs the cluster file, which is no secret.")
    if file is None:
        console.print("Save these lines as cluster.toml:", style="bold")
    else:
        console.print(f"It is {printable(str(file))}:", soft_wrap=True)
    for line in toml.splitlines():
        console.print(f"  {line}", soft_wrap=True)
    if not hosts:
        console.print("It is for one machine; for several give --host RANK=HOST for each party.")


def _check(
    args: argparse.Namespace,
    clients: Sequence[str],
    owners: Sequence[str],
    hosts: dict[int, list[str]],
    at_dealer: Sequence[str],
) -> tuple[ProtocolRow, bool]:
    """Name the option that is wrong. Returns the protocol, and whether there is a dealer."""
    row = find_protocol(args.protocol)
    if row is None:
        raise ConfigError("--protocol: plain has no parties")
    dealer = row.preprocessing and not args.no_dealer
    if at_dealer and not dealer:
        raise ConfigError(f"--host: dealer: {row.name} without a dealer, or one that needs none")
    if hosts and dealer and not at_dealer:
        raise ConfigError("--host: expected dealer=HOST, too, or --no-dealer")
    parties = row.parties
    if not 1 <= args.days <= MAX_DAYS:
        raise ConfigError(f"--days: expected 1 to {MAX_DAYS}, got {args.days}")
    for option, names in (("--client", clients), ("--owner", owners)):
        for place, name in enumerate(names):
            if name in names[:place]:
                raise ConfigError(f"{option}: {name!r} is given twice")
    if hosts and set(hosts) != set(range(parties)):
        wanted = " and ".join(map(str, range(parties)))
        raise ConfigError(f"--host: expected one for each of the parties {wanted}, got {sorted(hosts)}")
    if args.cluster_file is not None and args.cluster_file.exists():
        raise ConfigError(f"--cluster-file: {args.cluster_file} exists; nothing is overwritten")
    if args.cluster_file is not None and not args.cluster_file.absolute().parent.is_dir():
        raise ConfigError(f"--cluster-file: no folder {args.cluster_file.absolute().parent}")
    return row, dealer


def _machine(folder: str, hosts: dict[int, list[str]], dealer: Sequence[str]) -> str:
    if folder == "dealer":
        return "the dealer" + (f" ({', '.join(dealer)})" if dealer else "")
    if folder.startswith("party"):
        rank = int(folder.removeprefix("party"))
        return f"party {rank}" + (f" ({', '.join(hosts[rank])})" if rank in hosts else "")
    return folder.replace("-", " ", 1)


def _hosts(options: list[str]) -> tuple[dict[int, list[str]], list[str]]:
    """Of the parties, by rank, and of the dealer."""
    hosts: dict[int, list[str]] = {}
    dealer: list[str] = []
    for option in options:
        rank, _, host = option.partition("=")
        if rank == "dealer" and host:
            dealer.append(host)
            continue
        if not rank.isascii() or not rank.isdigit() or not host:
            raise ConfigError(f"--host: expected RANK=HOST, got {option!r}")
        hosts.setdefault(int(rank), []).append(host)
    return hosts, dealer
