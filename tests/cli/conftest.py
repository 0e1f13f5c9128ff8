"""The command line inside this process, and a deployment whose parties are threads of it."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from sottovoce.cli import main
from sottovoce.engine.errors import SottovoceError
from sottovoce.engine.program import OutputKind
from sottovoce.engine.transport.certificates import create_certificates
from sottovoce.engine.transport.tls import load_tls
from sottovoce.models.compiler.compile import Compiled, compile_graph
from sottovoce.models.graph import Dense, Graph, Reshape
from sottovoce.models.onnx import export_onnx
from sottovoce.models.speech.demo_clip import demo_clip_path
from sottovoce.serving.cluster import Cluster, free_addresses
from sottovoce.serving.party import PartyServer

RATE = 22_050


@pytest.fixture(scope="session")
def compiled_models() -> dict[tuple[str, tuple[str, ...]], Compiled]:
    return {}


@pytest.fixture(autouse=True)
def _compile_once(
    compiled_models: dict[tuple[str, tuple[str, ...]], Compiled], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compiling a model again for every command would be most of the time of these tests."""

    def compile_once(graph: Graph, *, outputs: tuple[OutputKind, ...], calibrate: np.ndarray | None = None) -> Compiled:
        if calibrate is not None or graph.name != "paper":
            return compile_graph(graph, outputs=outputs, calibrate=calibrate)
        key = (graph.name, outputs)
        if key not in compiled_models:
            compiled_models[key] = compile_graph(graph, outputs=outputs)
        return compiled_models[key]

    monkeypatch.setattr("sottovoce.serving.opening.compile_graph", compile_once)


@pytest.fixture(autouse=True)
def _interruptible() -> Iterator[None]:
    """Scripts start background jobs with SIGINT ignored, and children inherit that: these tests interrupt theirs."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command left behind."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.out)


RunCommand = Callable[..., Ran]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> RunCommand:
    """command("classify", path, ...) runs the command line in this process."""

    def run(*arguments: object) -> Ran:
        capsys.readouterr()
        status = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Ran(status, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def clip() -> Path:
    """The bundled recording."""
    return demo_clip_path()


@pytest.fixture
def tone(tmp_path: Path) -> Callable[[str, float], Path]:
    """tone(name, frequency) writes a second of a decaying tone."""

    def write(name: str, frequency: float) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        time = np.arange(RATE) / RATE
        soundfile.write(path, 0.5 * np.sin(2 * np.pi * frequency * time) * np.exp(-3 * time), RATE)
        return path

    return write


@pytest.fixture
def loud(tmp_path: Path) -> Path:
    """A model that no proof covers: LABEL_0 where the 40 features' sum is positive, LABEL_1 where it is negative."""
    nodes = (
        Reshape("flatten"),
        Dense("first", np.full((4, 40), 100, np.float32), np.zeros(4, np.float32)),
        Dense("last", np.array([[10] * 4, [-10] * 4], np.float32), np.zeros(2, np.float32)),
    )
    path = tmp_path / "loud.onnx"
    graph = Graph("loud", (1, 40), nodes, ("LABEL_0", "LABEL_1"), (-1e12,), (1e12,), "mfcc40-mean")
    path.write_bytes(export_onnx(graph))
    return path


@dataclass(frozen=True, slots=True)
class Deployment:
    """Options for a client and an owner of running parties. failures: what ended a party before it was told to end."""

    cluster: Path
    client: tuple[object, ...]
    owner: tuple[object, ...]
    certs: Path
    failures: list[SottovoceError]


@contextmanager
def running_parties(folder: Path, *, encrypted: bool) -> Iterator[Deployment]:
    """Three parties that wait for a model."""
    certs = folder / "certs"
    create_certificates(certs, clients=["alice"], owners=["bob"])
    cluster = Cluster(free_addresses(3))
    file = folder / "cluster.toml"
    file.write_text(cluster.to_toml())
    stop = threading.Event()
    failures: list[SottovoceError] = []

    def serve(rank: int) -> None:
        tls = load_tls(certs / f"party{rank}") if encrypted else None
        try:
            PartyServer(rank, cluster, tls, insecure_loopback=not encrypted, deadline_s=20).serve(stop)
        except SottovoceError as error:
            if not stop.is_set():
                failures.append(error)

    threads = [threading.Thread(target=serve, args=(rank,)) for rank in range(3)]
    for thread in threads:
        thread.start()
    common: tuple[object, ...] = ("--cluster", file, "--deadline", 20)
    client = (*common, "--certs", certs / "client-alice") if encrypted else (*common, "--insecure-loopback")
    owner = (*common, "--certs", certs / "owner-bob") if encrypted else (*common, "--insecure-loopback")
    try:
        yield Deployment(file, client, owner, certs, failures)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failures == []
