"""A protocol of ours as a system under test: a process for each party, and one for the model's owner and the client.

Every process runs in its node of the network. The code is that of `sottovoce party`, `deploy` and `classify`.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from sottovoce import __version__
from sottovoce.bench.systems.base import Description, Job, Network, Running, Sample
from sottovoce.bench.systems.client import CLIENT, OWNER, ClientJob
from sottovoce.bench.systems.worker import Worker, WorkerFailed
from sottovoce.engine.protocols.table import find
from sottovoce.engine.transport.certificates import create_certificates, role_folder
from sottovoce.engine.transport.tls import Identity
from sottovoce.models.onnx import export_onnx
from sottovoce.serving.cluster import Cluster, free_addresses
from sottovoce.serving.cost import RequestCost
from sottovoce.serving.processes import Child, Children

PORT: Final = 7100
START_S: Final = 240.0
"""For the first start on a machine, which compiles kernels."""
DEADLINE_S: Final = 120.0


class Sottovoce:
    """See System. party_options: by rank, more options for `sottovoce party`."""

    def __init__(self, protocol: str, party_options: Sequence[Sequence[str]] = ()) -> None:
        self._row = find(protocol)
        self._party_options = party_options or [()] * self._row.parties
        self.name = f"sottovoce {protocol}"

    def describe(self) -> Description:
        """See System; encryption is the job's choice."""
        row = self._row
        return Description(
            "sottovoce", __version__, row.name, row.adversary, row.security, row.parties, True, row.preprocessing
        )

    @contextmanager
    def start(self, job: Job) -> Iterator[Running]:
        """See System."""
        folder = job.scratch / self.name.replace(" ", "-")
        folder.mkdir()
        cluster = Cluster(_addresses(job.network, self._row.parties), self._row.name, job.lanes)
        (folder / "cluster.toml").write_text(cluster.to_toml(), encoding="utf-8")
        certificates = folder / "certs" if job.encrypted else None
        if certificates is not None:
            create_certificates(certificates, parties=self._row.parties, clients=[CLIENT], owners=[OWNER])
        with ExitStack() as stack:
            children = stack.enter_context(Children(folder))
            parties = [
                children.start(
                    f"P{rank}",
                    [
                        *("party", str(rank), "--stop-at-eof", "--cluster", str(folder / "cluster.toml")),
                        *("--deadline", f"{DEADLINE_S:g}", *_credentials(certificates, rank), *more),
                    ],
                    folder,
                    job.network.prefix(rank),
                )
                for rank, more in enumerate(self._party_options)
            ]
            client = stack.enter_context(self._client(job, folder, certificates))
            ready = client.hear(START_S)
            if ready.get("encrypted") is not job.encrypted:
                raise WorkerFailed(f"{self.name}: expected encrypted links to be {job.encrypted}, got the opposite")
            yield _Running(client, parties)

    def _client(self, job: Job, folder: Path, certificates: Path | None) -> Worker:
        (folder / "model.onnx").write_bytes(export_onnx(job.graph))
        np.save(folder / "features.npy", job.features)
        described = ClientJob(
            model=str(folder / "model.onnx"),
            features=str(folder / "features.npy"),
            cluster=str(folder / "cluster.toml"),
            certificates=None if certificates is None else str(certificates),
            deadline_s=DEADLINE_S,
        )
        (folder / "client.json").write_bytes(msgspec.json.encode(described))
        command = [
            *job.network.prefix(self._row.parties),
            *(sys.executable, "-m", "sottovoce.bench.systems.client", str(folder / "client.json")),
        ]
        return Worker(f"{self.name} client", command, folder=folder, log=folder / "client.log")


class _Running:
    def __init__(self, client: Worker, parties: Sequence[Child]) -> None:
        self._client = client
        self._parties = parties

    def run(self, batch: int) -> Sample:
        answer = self._client.ask({"batch": batch}, DEADLINE_S + batch)
        cost = msgspec.convert(answer["cost"], RequestCost)
        return Sample(
            online_ms=cost.online_ms,
            labels=np.array(answer["labels"], np.int64),
            party_ms=cost.party_ms,
            wait_ms=cost.party_wait_ms,
            sharing_ms=cost.sharing_ms,
            opening_ms=cost.opening_ms,
            bytes_sent=cost.bytes_sent,
            rounds=cost.rounds,
            input_bytes=cost.input_bytes,
            output_bytes=cost.output_bytes,
        )

    def memory_mb(self) -> tuple[float, ...]:
        return tuple(peak_memory_mb(party.pid) for party in self._parties)


def peak_memory_mb(pid: int) -> float:
    """Peak resident size of a process so far, 0 where the kernel does not say."""
    with contextlib.suppress(OSError, ValueError), open(f"/proc/{pid}/status") as file:
        for line in file:
            if line.startswith("VmHWM:"):
                return float(line.split()[1]) / 1e3 * 1.024
    return 0.0


def _addresses(network: Network, parties: int) -> tuple[tuple[str, int], ...]:
    if network.used.method == "loopback":
        return free_addresses(parties)
    return tuple((network.address(rank), PORT) for rank in range(parties))


def _credentials(certificates: Path | None, rank: int) -> list[str]:
    if certificates is None:
        return ["--insecure-loopback"]
    return ["--certs", str(certificates / role_folder(Identity.party(rank)))]
