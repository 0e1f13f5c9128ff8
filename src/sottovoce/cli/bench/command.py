"""`sottovoce bench`: every figure that the project gives about time, bytes and accuracy, measured here and now."""

from __future__ import annotations

from sottovoce.cli.bench import accuracy, compare, gpu, kernels, network, offline, paper, peers, report, sweep
from sottovoce.cli.connect import Subparsers

WORDS = (paper, sweep, peers, offline, network, kernels, gpu, compare, accuracy, report)


def add(commands: Subparsers) -> None:
    """Declare the command and its subcommands, one file each."""
    parser = commands.add_parser(
        "bench",
        help="measure: the paper's tables, sweeps, peers, networks, kernels",
        description="Measure on this machine. Results are JSON rows; tables, plots and CSV are made from them "
        "(docs/benchmarks.md).",
    )
    words = parser.add_subparsers(title="what", metavar="WHAT", dest="what", required=True)
    for word in WORDS:
        word.add(words)
