"""`sottovoce certs`: the certificates of a deployment."""

from __future__ import annotations

import argparse
from pathlib import Path

from sottovoce.cli.connect import Subparsers
from sottovoce.cli.exits import Exit
from sottovoce.cli.output import printable, stdout_console
from sottovoce.engine.errors import ConfigError

DEFAULT_PORT = 7100


def add(commands: Subparsers) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "certs",
        help="make a deployment's certificates",
        description="Make an authority for one deployment and a folder of certificate and key for each role.",
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="a new folder")
    parser.add_argument("--parties", type=int, default=3, metavar="N", help="computing parties (default %(default)s)")
    parser.add_argument("--client", action="append", metavar="NAME", help="may be repeated (default alice)")
    parser.add_argument("--owner", action="append", metavar="NAME", help="may be repeated (default bob)")
    parser.add_argument(
        "--host",
        action="append",
        default=[],
        metavar="RANK=HOST",
        help="a party's host name or address, for its certificate and the cluster file; may be repeated",
    )
    parser.add_argument("--days", type=int, default=365, metavar="N", help="validity (default %(default)s)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Make them and say what goes where."""
    hosts = _hosts(args.host)
    from sottovoce.engine.transport.certificates import create_certificates

    folders = create_certificates(
        args.folder,
        parties=args.parties,
        clients=args.client or ["alice"],
        owners=args.owner or ["bob"],
        hosts=hosts,
        days=args.days,
    )
    console = stdout_console()
    console.print("Each folder goes to its role's machine, and only there: key.pem is that role's secret.")
    *roles, authority = folders
    width = max(len(str(folder)) for folder in folders)
    for folder in roles:
        console.print(f"  {printable(str(folder)):{width}}  to {_machine(folder.name, hosts)}", soft_wrap=True)
    where = f"  {printable(str(authority)):{width}}"
    console.print(f"{where}  offline, or delete ca-key.pem: it can make any role's certificate", soft_wrap=True)
    addresses = ", ".join(f'"{_bracketed(hosts.get(r, [f"HOST{r}"])[0])}:{DEFAULT_PORT}"' for r in range(args.parties))
    console.print("\nEvery role also needs the cluster file, which is no secret:")
    console.print(f'  protocol = "rep3"\n  lanes = 1\n  parties = [{addresses}]', soft_wrap=True)
    return Exit.OK


def _machine(folder: str, hosts: dict[int, list[str]]) -> str:
    if folder.startswith("party"):
        rank = int(folder.removeprefix("party"))
        return f"party {rank}" + (f" ({', '.join(hosts[rank])})" if rank in hosts else "")
    return folder.replace("-", " ", 1)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _hosts(options: list[str]) -> dict[int, list[str]]:
    hosts: dict[int, list[str]] = {}
    for option in options:
        rank, _, host = option.partition("=")
        if not rank.isascii() or not rank.isdigit() or not host:
            raise ConfigError(f"--host: expected RANK=HOST, got {option!r}")
        hosts.setdefault(int(rank), []).append(host)
    return hosts
