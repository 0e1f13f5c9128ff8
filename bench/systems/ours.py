"""A protocol of ours as a system under test: a process for each party, and one for the model's owner and the client.

Every process runs in its node of the network. The code is that of `sottovoce party`, `deploy` and `classify`, and of
`prepare` and `dealer` for protocols with preprocessing: material is made before anything is timed, by a dealer.
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Final

import msgspec
import numpy as np

from sottovoce import __version__
from sottovoce.bench.systems.base import Description, Job, Running, Sample
from sottovoce.bench.systems.client import ClientJob
from sottovoce.bench.systems.deployment import DEADLINE_S, START_S, Deployment
from sottovoce.bench.systems.process import WorkerFailed
from sottovoce.bench.systems.worker import Worker
from sottovoce.engine.backend.devices import missing_gpu
from sottovoce.engine.errors import ConfigError
from sottovoce.engine.protocols.table import find
from sottovoce.engine.structs import convert
from sottovoce.serving.cost import RequestCost
from sottovoce.serving.processes import Child, Children

SOURCE: Final = "dealer"
"""Of preprocessing; `bench offline` measures the others."""


class Sottovoce:
    """See System. party_options: by rank, more options for `sottovoce party`. device: of every party, or as many as
    parties with commas between."""

    def __init__(self, protocol: str, party_options: Sequence[Sequence[str]] = (), device: str = "cpu") -> None:
        self._row = find(protocol)
        self._device = device
        options = party_options or [()] * self._row.parties
        names = device.split(",")
        devices = names * self._row.parties if len(names) == 1 else names
        self._party_options = [(*more, "--device", name.strip()) for more, name in zip(options, devices, strict=False)]
        self.name = f"sottovoce {protocol}" + (f" on {device}" if device != "cpu" else "")

    def describe(self) -> Description:
        """See System; encryption is the job's choice. Raises ConfigError for devices that cannot be used here."""
        row = self._row
        check_devices(self._device, row.parties)
        settings = {"preprocessing": SOURCE} if row.preprocessing else {}
        return Description(
            "sottovoce", __version__, row.name, row.adversary, row.security, row.parties, True, row.preprocessing,
            settings, self._device,
        )  # fmt: skip

    @contextmanager
    def start(self, job: Job) -> Iterator[Running]:
        """See System. With preprocessing the processes start when there is material for them: see `prepare`."""
        deployment = Deployment(self._row, job, job.scratch / re.sub("[^a-z0-9]+", "-", self.name))
        with ExitStack() as stack:
            running = _Running(self.name, deployment, self._party_options, stack)
            if not self._row.preprocessing:
                running.start()
            yield running


def check_devices(devices: str, parties: int) -> None:
    """Raises ConfigError unless `devices` names those of so many parties, as --device does. `auto` is refused: a row
    says where it was measured."""
    names = [name.strip() for name in devices.split(",")]
    if len(names) not in (1, parties) or not all(re.fullmatch(r"cpu|cuda(:\d{1,3})?", name) for name in names):
        raise ConfigError(
            f"--device: expected cpu, cuda or cuda:N, one for all parties or {parties} with commas between, "
            f"got {devices!r}"
        )
    if names != ["cpu"] * len(names) and (reason := missing_gpu()):
        raise ConfigError(f"--device {devices}: {reason}")


class _Running:
    """See Running. outer: ends what runs last. left: clips for which there is material."""

    def __init__(
        self, name: str, deployment: Deployment, party_options: Sequence[Sequence[str]], outer: ExitStack
    ) -> None:
        self._name = name
        self._deployment = deployment
        self._party_options = party_options
        self._outer = outer
        self._stack = ExitStack()
        self._left = 0
        self._parties: list[Child] = []
        self._client: Worker | None = None

    def prepare(self, batch: int, least: int, most: int) -> int:
        """See Running; new material is made between two lives of the parties' processes."""
        if not self._deployment.row.preprocessing:
            return most
        requests = self._deployment.requests(batch, least, most)
        if requests * batch > self._left:
            batches = self._deployment.job.batches
            still = batches[batches.index(batch) :] if batch in batches else (batch,)
            missing = self._deployment.clips(still, least, most) - self._left
            self._stack.close()
            self._deployment.prepare(missing, SOURCE)
            self._left += missing
            self.start()
        return requests

    def start(self) -> None:
        """All processes, until the model is deployed."""
        job = self._deployment.job
        self._stack = self._outer.enter_context(ExitStack())
        children = self._stack.enter_context(Children(self._deployment.folder))
        self._parties = [self._deployment.party(children, rank, more) for rank, more in enumerate(self._party_options)]
        self._client = self._stack.enter_context(self._start_client())
        ready = self._client.hear(START_S)
        if ready.get("encrypted") is not job.encrypted:
            raise WorkerFailed(f"{self._name}: expected encrypted links to be {job.encrypted}, got the opposite")

    def run(self, batch: int) -> Sample:
        """See Running."""
        assert self._client is not None, "prepare comes first"
        answer = self._client.ask({"batch": batch}, DEADLINE_S + batch)
        self._left -= batch
        cost = convert(answer["cost"], RequestCost)
        return Sample(
            online_ms=cost.online_ms,
            labels=np.array(answer["labels"], np.int64),
            party_ms=cost.party_ms,
            wait_ms=cost.party_wait_ms,
            sharing_ms=cost.sharing_ms,
            opening_ms=cost.opening_ms,
            offline_ms=cost.offline_ms,
            offline_bytes=cost.offline_bytes,
            bytes_sent=cost.bytes_sent,
            rounds=cost.rounds,
            input_bytes=cost.input_bytes,
            output_bytes=cost.output_bytes,
        )

    def memory_mb(self) -> tuple[float, ...]:
        """See Running."""
        return tuple(peak_memory_mb(party.pid) for party in self._parties)

    def _start_client(self) -> Worker:
        deployment, job, folder = self._deployment, self._deployment.job, self._deployment.folder
        np.save(folder / "features.npy", job.features)
        described = ClientJob(
            model=str(deployment.model),
            features=str(folder / "features.npy"),
            cluster=str(deployment.cluster),
            certificates=None if deployment.certificates is None else str(deployment.certificates),
            deadline_s=DEADLINE_S,
        )
        (folder / "client.json").write_bytes(msgspec.json.encode(described))
        command = [
            *job.network.prefix(deployment.row.parties),
            *(sys.executable, "-m", "sottovoce.bench.systems.client", str(folder / "client.json")),
        ]
        return Worker(f"{self._name} client", command, folder=folder, log=folder / "client.log")


def peak_memory_mb(pid: int) -> float:
    """Peak resident size of a process so far, 0 where the kernel does not say."""
    with contextlib.suppress(OSError, ValueError), open(f"/proc/{pid}/status") as file:
        for line in file:
            if line.startswith("VmHWM:"):
                return float(line.split()[1]) / 1e3 * 1.024
    return 0.0
