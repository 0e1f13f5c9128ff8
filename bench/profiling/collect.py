"""Runs real party processes with and without tracing, in turns, and profiles them."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import msgspec

from sottovoce.bench.environment import environment
from sottovoce.bench.network.open import open_network
from sottovoce.bench.profiling.analyse import Analysis, analyse
from sottovoce.bench.profiling.schema import Overhead
from sottovoce.bench.runner import Say, quiet, sample_features
from sottovoce.bench.stats import summarise
from sottovoce.bench.systems.base import Job, Running
from sottovoce.bench.systems.deployment import nodes_of
from sottovoce.bench.systems.ours import Sottovoce, check_devices
from sottovoce.engine.protocols.table import find
from sottovoce.engine.tracing.file import read_trace
from sottovoce.models.graph import Graph

WARM_UPS: Final = 3


@dataclass(frozen=True, slots=True)
class Settings:
    """What to run. repeat: timed requests with tracing, and as many without. device: see `Sottovoce`. nvtx: see
    `sottovoce party --nvtx`."""

    protocol: str = "rep3"
    batch: int = 1
    repeat: int = 20
    lanes: int = 1
    device: str = "cpu"
    network: str = "loopback"
    encrypted: bool = True
    nvtx: bool = False


def profile_model(graph: Graph, settings: Settings, *, say: Say = quiet) -> Analysis:
    """Profile one model on this machine: a process for each party. Raises SottovoceError."""
    row = find(settings.protocol)
    check_devices(settings.device, row.parties)
    where = environment()
    with tempfile.TemporaryDirectory(prefix="sottovoce-profile-") as name:
        folder = Path(name)
        files = [folder / f"party{rank}.jsonl" for rank in range(row.parties)]
        more = ("--nvtx",) if settings.nvtx else ()
        options = [("--trace", str(file), *more) for file in files]
        with ExitStack() as stack:
            network = stack.enter_context(open_network(settings.network, nodes_of(row)))
            job = Job(
                graph,
                sample_features(graph),
                (settings.batch,),
                network,
                folder,
                lanes=settings.lanes,
                encrypted=settings.encrypted,
            )
            running = []
            for number, (what, party_options) in enumerate((("untraced", ()), ("traced", options))):
                say(f"starting parties, {what}")
                scratch = folder / what
                scratch.mkdir()
                system = Sottovoce(settings.protocol, party_options, settings.device)
                running.append(stack.enter_context(system.start(replace(job.of_system(number), scratch=scratch))))
            untraced, traced = _in_turns(running, settings, say)
        analysis = analyse([read_trace(file) for file in files], warm_ups=WARM_UPS)
    overhead = Overhead(
        ratio=summarise([a / b for a, b in zip(traced, untraced, strict=True)]),
        traced_ms=summarise(traced),
        untraced_ms=summarise(untraced),
    )
    profile = msgspec.structs.replace(
        analysis.profile,
        online_ms=summarise(traced),
        overhead=overhead,
        network=network.used,
        environment=where,
    )
    return replace(analysis, profile=profile)


def _in_turns(running: Sequence[Running], settings: Settings, say: Say) -> tuple[list[float], ...]:
    """Online times in ms of each system; who is asked first changes from round to round."""
    times: tuple[list[float], ...] = tuple([] for _ in running)
    requests = WARM_UPS + settings.repeat
    for system in running:
        system.prepare(settings.batch, requests, requests)
    for number in range(-WARM_UPS, settings.repeat):
        say("measuring", "warm-up" if number < 0 else f"round {number + 1} of {settings.repeat}")
        for place in range(len(running)):
            which = (place + number) % len(running)
            sample = running[which].run(settings.batch)
            if number >= 0:
                times[which].append(sample.online_ms)
    return times
