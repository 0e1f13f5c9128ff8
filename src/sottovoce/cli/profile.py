"""`sottovoce profile`: where the time of a request goes, by layer, operation, kernel and message, at every party."""

from __future__ import annotations

import argparse
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from sottovoce.cli.connect import Subparsers, find_protocol, positive
from sottovoce.cli.exits import Exit
from sottovoce.cli.model import MODEL_OPTIONS, add_model_options, load_graph
from sottovoce.cli.output import (
    INSECURE,
    RANDOM,
    RANDOM_SUFFIX,
    TEXT_WIDTH,
    Narrator,
    add_progress,
    count,
    errors_as_json,
    remark,
    stdout_console,
)
from sottovoce.cli.warm import warm_up_visibly
from sottovoce.engine.errors import ConfigError

if TYPE_CHECKING:
    from sottovoce.bench.profiling.analyse import Analysis
    from sottovoce.bench.profiling.schema import Profile


def add(commands: Subparsers) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "profile",
        help="where the time of a request goes",
        description="Run the parties as processes on this machine, trace what each does, and show it by layer, "
        "operation, kernel and message; or read what `sottovoce party --trace` wrote. Names, sizes and times only: "
        "no value, no key and no label is in any of it.",
    )
    add_model_options(parser, positional=True, calibrated=False)
    group = parser.add_argument_group("measurement")
    group.add_argument("--protocol", default="rep3", metavar="P", help="default: rep3")
    group.add_argument("--batch", type=positive, metavar="N", help="clips per request (default 1)")
    group.add_argument("--repeat", type=positive, default=20, metavar="N", help="traced requests (default 20)")
    group.add_argument("--lanes", type=positive, default=1, metavar="L", help="threads of each party that compute")
    group.add_argument(
        "--device",
        metavar="D",
        help="what the parties compute with: cpu (default), cuda, cuda:N, or one for each party with commas between",
    )
    group.add_argument(
        "--network", default="loopback", metavar="NET", help="as in `sottovoce bench`; default: loopback"
    )
    group.add_argument(
        "--insecure-loopback", action="store_true", help="plain TCP on loopback instead of TLS; marked INSECURE"
    )
    group.add_argument("--nvtx", action="store_true", help="NVTX ranges in the parties (pip install nvtx)")
    group.add_argument(
        "--read", type=Path, nargs="+", metavar="FILE", help="run nothing: all parties' files of `party --trace`"
    )
    group = parser.add_argument_group("output")
    group.add_argument("--all", action="store_true", help="every line; without it small ones are folded")
    group.add_argument("--trace", type=Path, metavar="FILE", help="write a timeline for ui.perfetto.dev")
    group.add_argument("--json", action="store_true", help="one JSON object on standard output")
    add_progress(parser)
    parser.set_defaults(run=run)


@errors_as_json
def run(args: argparse.Namespace) -> int:
    """Measure or read, then show."""
    import msgspec

    if args.trace is not None and not args.trace.absolute().parent.is_dir():
        raise ConfigError(f"--trace {args.trace}: expected a folder that exists, got {args.trace.parent}")
    analysis = _measure(args) if args.read is None else _read(args)
    if args.trace is not None:
        from sottovoce.bench.profiling.chrome import chrome_trace

        args.trace.write_bytes(chrome_trace(analysis.header, analysis.requests))
        remark(f"wrote {args.trace}: open it at https://ui.perfetto.dev")
    if args.json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(analysis.profile), indent=1).decode() + "\n")
    else:
        _show(analysis.profile, everything=args.all)
    return Exit.OK


def _measure(args: argparse.Namespace) -> Analysis:
    from sottovoce.engine.tracing.events import load_ranges

    if find_protocol(args.protocol) is None:
        raise ConfigError("--protocol: expected one with parties, got 'plain', which has none")
    if args.nvtx:
        load_ranges()  # here, not in each of the processes
    graph = load_graph(args)
    from sottovoce.bench.profiling.collect import Settings, profile_model
    from sottovoce.cli.bench.options import progress
    from sottovoce.serving.processes import interrupted_by_sigterm

    warm_up_visibly(Narrator(args.progress), args.protocol)
    settings = Settings(
        protocol=args.protocol,
        batch=args.batch or 1,
        repeat=args.repeat,
        lanes=args.lanes,
        device=args.device or "cpu",
        network=args.network,
        encrypted=not args.insecure_loopback,
        nvtx=args.nvtx,
    )
    with interrupted_by_sigterm(), progress(args.progress) as say:
        return profile_model(graph, settings, say=say)


def _read(args: argparse.Namespace) -> Analysis:
    from sottovoce.bench.profiling.analyse import analyse
    from sottovoce.engine.tracing.file import read_trace

    given = [name for name in MODEL_OPTIONS if getattr(args, name, None) is not None]
    if given or args.device or args.nvtx or args.insecure_loopback:
        raise ConfigError("--read: expected no option of a measurement beside it but --batch: the files say the rest")
    return analyse([read_trace(path) for path in args.read], batch=args.batch)


def _show(profile: Profile, *, everything: bool) -> None:
    from sottovoce.bench.environment import describe
    from sottovoce.bench.profiling.table import critical_lines, make_table, overhead_text, request_text

    console = stdout_console()
    on = "" if profile.device == "cpu" else f" on {profile.device}"
    where = "" if profile.network is None else f" over {profile.network.name}"
    links = "TLS" if profile.encrypted else "plain TCP"
    title = (
        f"{profile.model}, {profile.protocol}, batch {profile.batch}: {profile.parties} processes{on}, "
        f"{count(profile.lanes, 'lane')}, {links}{where}"
    )
    console.print(title, style="bold", soft_wrap=True)
    if not profile.encrypted:
        console.print(textwrap.fill(INSECURE, TEXT_WIDTH), style="bold red", soft_wrap=True)
    if RANDOM_SUFFIX in profile.model:
        console.print(textwrap.fill(RANDOM, TEXT_WIDTH), style="bold red", soft_wrap=True)
    console.print(make_table(profile, everything=everything))
    how = (
        f"Means over the {profile.parties} parties and the {profile.requests} middle ones of "
        f"{count(profile.requests_measured, 'request')}. The bars of layers add up; waiting is for other parties' "
        "work and for messages."
    )
    console.print()
    texts = [how, request_text(profile), overhead_text(profile)]
    if profile.clock_bound_ms:
        texts.append(f"clocks: aligned by the frames of both directions, at most {profile.clock_bound_ms:.3f} ms apart")
    for text in texts:
        console.print(textwrap.fill(text, TEXT_WIDTH), soft_wrap=True)
    console.print()
    for line in critical_lines(profile):
        console.print(line, soft_wrap=True)
    if profile.environment is not None:
        console.print(textwrap.fill(describe(profile.environment), TEXT_WIDTH), style="dim", soft_wrap=True)
