"""`sottovoce bench gpu`: are the CUDA kernels right on this machine's GPU, and how fast are they and whole requests?"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from sottovoce.cli.bench.options import command_line, progress, writable
from sottovoce.cli.connect import Subparsers
from sottovoce.cli.exits import Exit
from sottovoce.cli.output import add_progress, errors_as_json, remark, stdout_console

if TYPE_CHECKING:
    from sottovoce.bench.gpu.schema import PartName

NAMES: tuple[PartName, ...] = ("correctness", "kernels", "end-to-end")


def add(words: Subparsers) -> None:
    """Declare the command."""
    parser = words.add_parser(
        "gpu",
        help="every CUDA kernel checked and timed on this machine's GPU, and whole requests on it",
        description="Compare every kernel with the CPU's, time it beside what the device can do, and run parties on "
        "it, beside parties on the CPU (docs/gpu.md). Every step is written at once; what does not fit the time is "
        "left out and named.",
    )
    parser.add_argument("--device", default="cuda", metavar="D", help="cuda (default) or cuda:N")
    parser.add_argument("--quick", action="store_true", help="fewer sizes, seeds and batches: at most nine minutes")
    parser.add_argument(
        "--parts", type=parts, default=NAMES, metavar="A,B", help=f"of {', '.join(NAMES)} (default: all)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("docs/results/gpu"),
        metavar="DIR",
        help="takes a file named by device and commit (default docs/results/gpu)",
    )
    parser.add_argument("--json", action="store_true", help="the results on standard output instead of tables")
    add_progress(parser)
    parser.set_defaults(run=run)


def parts(text: str) -> tuple[PartName, ...]:
    """The parts that --parts names, in their order."""
    wanted = {word.strip() for word in text.split(",")}
    if not wanted <= set(NAMES):
        raise argparse.ArgumentTypeError(f"expected some of {','.join(NAMES)}, got {text!r}")
    return tuple(name for name in NAMES if name in wanted)


@errors_as_json
def run(args: argparse.Namespace) -> int:
    """Check, measure, show. Exit status 1 if a kernel is wrong or a request failed; 2 without a GPU."""
    from sottovoce.bench.environment import environment
    from sottovoce.bench.gpu.run import run_gpu
    from sottovoce.bench.kernels.devices import gpu_number
    from sottovoce.bench.schema import encode_results
    from sottovoce.cli.bench.gpu_tables import show_gpu

    number = gpu_number(args.device)
    writable(args.out / "results.json")
    with progress(args.progress) as say:
        report, path = run_gpu(
            args.parts, number, args.out, environment(), command_line(args), quick=args.quick, say=say
        )
    remark(f"wrote {path}")
    if args.json:
        sys.stdout.write(encode_results(report.results).decode())
    else:
        show_gpu(report.results, stdout_console())
    for problem in (wrong := report.wrong()):
        remark(f"WRONG {problem}")
    return Exit.SOME_FAILED if wrong else Exit.OK
