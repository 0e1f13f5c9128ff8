"""MP-SPDZ as a system under test: one program for each batch size, and the parties' processes of one at a time.

The weights and the features are secret inputs, shared before the timer starts; only the labels are opened. What
preprocessing a protocol needs, MP-SPDZ makes when it is needed, inside the measured time.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from sottovoce.bench.peers.model import neutral_layers
from sottovoce.bench.peers.mp_spdz.build import Build, Variant, find_build, find_variant
from sottovoce.bench.peers.mp_spdz.party import Party
from sottovoce.bench.peers.mp_spdz.program import (
    FEATURES_PARTY,
    FRACTION,
    VALUE_BITS,
    WEIGHTS_PARTY,
    encode_features,
    input_text,
    value_bits,
    write_program,
)
from sottovoce.bench.systems.base import Description, Job, Running, Sample
from sottovoce.bench.systems.ours import peak_memory_mb
from sottovoce.bench.systems.process import WorkerFailed

COMPILE_S: Final = 600.0
START_S: Final = 120.0
DEADLINE_S: Final = 120.0
LAST_CHARACTERS: Final = 200
"""Of each party, in an error."""
_NAME: Final = "sottovoce"
_CERTIFICATES_S: Final = 60.0


class MpSpdz:
    """See System. build: folder of a build, default: environment variable MP_SPDZ."""

    def __init__(self, protocol: str = "replicated-ring", build: str | os.PathLike[str] | None = None) -> None:
        self._variant = find_variant(protocol)
        self._path = build
        self.name = f"mp-spdz {protocol}"

    def describe(self) -> Description:
        """See System; encryption is the job's choice."""
        variant, build = self._variant, self._build()
        return Description(
            "mp-spdz",
            build.version,
            variant.name,
            variant.adversary,
            variant.security,
            variant.parties,
            encrypted=True,
            settings={
                "compiler options": " ".join(variant.compiler_options),
                "fixed point": f"{VALUE_BITS} bits, more where values need them; {FRACTION} after the point",
                **variant.settings,
                "preprocessing": "inside the measured time",
                "threads": "1",
            },
        )

    @contextmanager
    def start(self, job: Job) -> Iterator[Running]:
        """See System. MP-SPDZ refuses unencrypted links unless it was built for insecure benchmarks."""
        build, variant = self._build(), self._variant
        bits = value_bits(job.graph, job.features)
        program = write_program(neutral_layers(job.graph), variant.head, variant.parties, bits)
        folder = job.scratch / self.name.replace(" ", "-")
        sources, data = folder / "Programs" / "Source", folder / "Player-Data"
        for path in (sources, data):
            path.mkdir(parents=True)
        (sources / f"{_NAME}.mpc").write_text(program.text, encoding="utf-8")
        (data / f"Input-P{WEIGHTS_PARTY}-0").write_text(input_text(program.weights), encoding="utf-8")
        for batch in job.batches:
            command = [sys.executable, "-B", str(build.folder / "compile.py"), *variant.compiler_options]
            _do([*command, _NAME, str(batch)], folder, COMPILE_S)
        if job.encrypted:
            script = str(build.folder / "Scripts" / "setup-ssl.sh")
            _do(["bash", script, str(variant.parties), str(data)], folder, _CERTIFICATES_S)
        with ExitStack() as stack:
            yield _Running(build, variant, job, folder, stack)

    def _build(self) -> Build:
        build = find_build(self._path)
        build.check(self._variant)
        return build


class _Running:
    """See Running. stack: ends what runs last."""

    def __init__(self, build: Build, variant: Variant, job: Job, folder: Path, stack: ExitStack) -> None:
        self._build, self._variant, self._job, self._folder = build, variant, job, folder
        self._outer = stack
        self._stack = ExitStack()
        self._batch = 0
        self._parties: list[Party] = []
        self._memory: tuple[float, ...] = ()

    def prepare(self, batch: int, least: int, most: int) -> int:
        """See Running; another batch size than the last one starts other processes."""
        with self._last_words():
            if batch != self._batch:
                self._switch(batch)
        return most

    def run(self, batch: int) -> Sample:
        """See Running."""
        self.prepare(batch, 1, 1)
        with self._last_words():
            self._parties[-1].write_line("1")
            end = time.monotonic() + DEADLINE_S + batch
            spent = [party.wait_spent(end) for party in self._parties]
            labels = self._parties[0].wait_labels(end)
        self._memory = tuple(peak_memory_mb(party.pid) for party in self._parties)
        party_ms = tuple(1000 * each.seconds for each in spent)
        return Sample(
            online_ms=max(party_ms),
            labels=labels,
            party_ms=party_ms,
            bytes_sent=tuple(round(1e6 * each.megabytes) for each in spent),
            rounds=max(each.rounds for each in spent),
        )

    def memory_mb(self) -> tuple[float, ...]:
        """See Running; of the processes of the last batch size."""
        return self._memory

    @contextmanager
    def _last_words(self) -> Iterator[None]:
        """Add what the parties said of errors to an error."""
        try:
            yield
        except WorkerFailed as error:
            words = [party.last_words(LAST_CHARACTERS) for party in self._parties]
            told = [f"; last words of P{rank}: {text}" for rank, text in enumerate(words) if text]
            raise WorkerFailed(f"mp-spdz {self._variant.name} {error}{''.join(told)}") from None

    def _switch(self, batch: int) -> None:
        """End the processes of one batch size and start those of another."""
        self._parties, self._batch = [], 0
        self._stack.close()
        features = input_text([encode_features(self._job.batch(batch))])
        (self._folder / "Player-Data" / f"Input-P{FEATURES_PARTY}-0").write_text(features, encoding="utf-8")
        self._stack = self._outer.enter_context(ExitStack())
        for rank, command in enumerate(self._commands(batch)):
            log = self._folder / f"p{rank}.log"
            party = Party(f"P{rank}", command, folder=self._folder, log=log, env=_environment(self._build))
            self._parties.append(self._stack.enter_context(party))
        self._parties[0].wait_ready(time.monotonic() + START_S + batch)
        self._batch = batch

    def _commands(self, batch: int) -> list[list[str]]:
        parties = self._variant.parties
        lines = [f"{host}:{port}\n" for host, port in self._job.addresses(parties)]
        (self._folder / "parties").write_text("".join(lines), encoding="utf-8")
        executable = str(self._build.folder / self._variant.executable)
        options = [*self._variant.machine_options(batch), "-ip", str(self._folder / "parties")]
        options += [] if self._job.encrypted else ["-u"]
        commands = [
            [*self._job.network.prefix(rank), executable, str(rank), f"{_NAME}-{batch}", *options]
            for rank in range(parties)
        ]
        commands[-1].append("-I")  # the last party's inputs, one for each run, come from its standard input
        return commands


def _environment(build: Build) -> Mapping[str, str]:
    """The virtual machines find their library also in a build that was moved."""
    paths = [str(build.folder), os.environ.get("LD_LIBRARY_PATH", "")]
    return {**os.environ, "LD_LIBRARY_PATH": ":".join(filter(None, paths))}


def _do(command: list[str], folder: Path, limit_s: float) -> None:
    """Run a tool of the build to its end. Raises WorkerFailed with its last words."""
    what = f"mp-spdz: {Path(command[-3] if command[0] == 'bash' else command[2]).name}"
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=limit_s)
    except subprocess.TimeoutExpired:
        raise WorkerFailed(f"{what}: expected it to end within {limit_s:g} s, got no end") from None
    if done.returncode:
        words = (done.stderr.strip() or done.stdout.strip())[-400:]
        raise WorkerFailed(f"{what}: expected it to end well, got status {done.returncode}: {words}")
