"""Parties as real processes that are killed or frozen: every wait ends, and says who is missing."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest

from sottovoce.engine.errors import SottovoceError, TransportError
from sottovoce.engine.transport.certificates import create_certificates, role_folder
from sottovoce.engine.transport.tls import Identity, TlsContexts, load_tls
from sottovoce.models.compiler.compile import compile_graph
from sottovoce.models.graph import Conv1d, Dense, Graph, Relu, Reshape
from sottovoce.serving.client import RemoteCluster
from sottovoce.serving.cluster import Cluster, free_addresses
from sottovoce.serving.owner import deploy
from tests.serving.deployment import some_input, tiny_model
from tests.serving.nursery import Forked, Nursery

DEADLINE_S = 2.0
PATIENCE_S = 60.0

pytestmark = pytest.mark.slow


def role_tls(folder: Path, role: Identity) -> TlsContexts:
    """A role's certificates of `party_processes(folder, tls=True)`."""
    return load_tls(folder / "certs" / role_folder(role))


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with closing(Nursery()) as running:
        yield running


@contextmanager
def party_processes(
    nursery: Nursery, folder: Path, *, tls: bool = False, deadline_s: float = DEADLINE_S
) -> Iterator[tuple[Cluster, list[Forked]]]:
    """Three `sottovoce party` processes on loopback, which may still be starting; killed on leaving."""
    if tls:
        create_certificates(folder / "certs", clients=["alice"], owners=["bob"])
    cluster = Cluster(free_addresses(3))
    (folder / "cluster.toml").write_text(cluster.to_toml())
    options = ["--cluster", str(folder / "cluster.toml"), "--deadline", str(deadline_s)]

    def links(rank: int) -> list[str]:
        certs = folder / "certs" / role_folder(Identity.party(rank))
        return ["--certs", str(certs)] if tls else ["--insecure-loopback"]

    processes = [
        nursery.start(["party", str(rank), *options, *links(rank)], folder, log_of(folder, rank)) for rank in range(3)
    ]
    try:
        yield cluster, processes
    finally:
        for process in processes:
            process.kill()


def log_of(folder: Path, rank: int) -> Path:
    return folder / f"p{rank}.log"


def wait_until_all_listen(folder: Path) -> None:
    """Else the first to be up might wait for the last for longer than DEADLINE_S: a busy machine starts slowly."""
    end = time.monotonic() + PATIENCE_S
    while waiting := [rank for rank in range(3) if "listens at" not in log_of(folder, rank).read_text()]:
        assert time.monotonic() < end, log_of(folder, waiting[0]).read_text()
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("victim", "fault"),
    [(0, signal.SIGKILL), (2, signal.SIGKILL), (0, signal.SIGSTOP), (1, signal.SIGSTOP)],
    ids=["P0 killed", "P2 killed", "P0 frozen", "P1 frozen"],
)
def test_a_party_that_is_gone_ends_every_wait(
    nursery: Nursery, tmp_path: Path, victim: int, fault: signal.Signals
) -> None:
    compiled = tiny_model()
    with party_processes(nursery, tmp_path) as (cluster, processes):
        wait_until_all_listen(tmp_path)
        deploy(compiled, cluster, None, insecure_loopback=True, deadline_s=20)
        client_deadline = 4 * DEADLINE_S
        with RemoteCluster(cluster, None, insecure_loopback=True, deadline_s=client_deadline) as client:
            assert client.run(some_input(compiled, 2))[0].shape == (2,)
            os.kill(processes[victim].pid, fault)
            began = time.monotonic()
            with pytest.raises(TransportError, match=r"P\d"):
                client.run(some_input(compiled, 2))
            assert time.monotonic() - began < 2 * client_deadline
        for rank in {0, 1, 2} - {victim}:
            status = processes[rank].wait(timeout_s=30)
            message = log_of(tmp_path, rank).read_text()
            assert status not in (0, None), message
            assert f"P{victim}" in message.splitlines()[-1]
            assert "Traceback" not in message


@pytest.mark.parametrize(
    ("victim", "fault"), [(1, signal.SIGKILL), (2, signal.SIGSTOP)], ids=["P1 killed", "P2 frozen"]
)
def test_a_party_that_goes_in_the_middle_of_a_request(
    nursery: Nursery, tmp_path: Path, victim: int, fault: signal.Signals
) -> None:
    rng = np.random.default_rng(0)
    nodes = (
        Conv1d("conv", rng.normal(0, 0.5, (64, 1, 3)), rng.normal(0, 0.5, 64), padding=(1, 1)),
        Relu("relu"),
        Reshape("flatten"),
        Dense("dense", rng.normal(0, 0.1, (3, 512)), rng.normal(0, 0.5, 3)),
    )
    compiled = compile_graph(Graph("wide", (1, 8), nodes, ("x", "y", "z"), (-1.0,), (1.0,)))
    with party_processes(nursery, tmp_path, tls=True) as (cluster, processes):
        wait_until_all_listen(tmp_path)
        deploy(compiled, cluster, role_tls(tmp_path, Identity("owner", "bob")), deadline_s=20)
        with RemoteCluster(cluster, role_tls(tmp_path, Identity("client", "alice")), deadline_s=30) as client:
            client.run(some_input(compiled, 1))
            busy = threading.Timer(0.5, lambda: os.kill(processes[victim].pid, fault))
            busy.start()
            with pytest.raises(TransportError, match=r"P\d"):
                client.run(some_input(compiled, 30_000))  # takes seconds
            busy.join()
        for rank, process in enumerate(processes):
            if rank != victim:
                assert process.wait(timeout_s=30) != 0


def test_parties_wait_for_a_late_one(nursery: Nursery, tmp_path: Path) -> None:
    compiled = tiny_model()
    with party_processes(nursery, tmp_path, deadline_s=30) as (cluster, processes):
        os.kill(processes[2].pid, signal.SIGSTOP)
        late = subprocess.Popen(["sh", "-c", f"sleep 1; kill -CONT {processes[2].pid}"])
        deploy(compiled, cluster, None, insecure_loopback=True, deadline_s=20)
        late.wait()
        with RemoteCluster(cluster, None, insecure_loopback=True) as client:
            assert client.run(some_input(compiled, 1))[0].shape == (1,)


def test_a_party_stops_on_sigterm(nursery: Nursery, tmp_path: Path) -> None:
    with party_processes(nursery, tmp_path) as (cluster, processes):
        wait_until_all_listen(tmp_path)
        deploy(tiny_model(), cluster, None, insecure_loopback=True, deadline_s=20)
        for process in processes:
            os.kill(process.pid, signal.SIGTERM)
        assert [process.wait(timeout_s=20) for process in processes] == [0, 0, 0]
        with pytest.raises(SottovoceError):
            RemoteCluster(cluster, None, insecure_loopback=True, deadline_s=1.0)
