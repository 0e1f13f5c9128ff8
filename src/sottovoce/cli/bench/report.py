"""`sottovoce bench report`: tables, CSV, plots and a page, made from the JSON files of a folder."""

from __future__ import annotations

import argparse
from pathlib import Path

from sottovoce.cli.connect import Subparsers
from sottovoce.cli.exits import Exit


def add(words: Subparsers) -> None:
    """Declare the command."""
    parser = words.add_parser(
        "report",
        help="a page with tables and plots from a folder of results",
        description="Write README.md, a CSV file beside each file of results, and plots (extra `bench`) into FOLDER.",
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="holds the files that --out has written")
    parser.add_argument("--prices", type=Path, metavar="FILE", help="your prices (TOML; docs/benchmarks.md)")
    parser.add_argument("--no-plots", action="store_true", help="without Matplotlib")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write the page."""
    from sottovoce.bench.price import EXAMPLE_PRICES
    from sottovoce.bench.report.page import write_page

    print(write_page(args.folder, prices=args.prices or EXAMPLE_PRICES, plots=not args.no_plots))
    return Exit.OK
