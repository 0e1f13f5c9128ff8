"""From a classifier's parameters to something that runs requests. Here what is wrong with a parameter shows."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from sottovoce.engine.errors import ConfigError
from sottovoce.engine.program import OutputKind, Program
from sottovoce.engine.transport.tls import load_tls
from sottovoce.models.compiler.compile import Compiled, compile_graph
from sottovoce.models.load import load_model, sample_features
from sottovoce.serving.client import RemoteCluster
from sottovoce.serving.cluster import Cluster, load_cluster
from sottovoce.serving.comparison import AUTO, resolve
from sottovoce.serving.parameters import DEFAULT_MODEL, Parameters
from sottovoce.serving.runner import InProcess, PlainRunner, Runner

OF_THE_MODEL = ("weights", "labels", "features", "input_low", "input_high", "calibrate")
"""Parameters that only the model's owner can set: with a cluster the deployment has decided them."""


@dataclass(frozen=True, slots=True)
class Opened:
    """An open classifier. compiled: None with a cluster, whose model this process does not have. protocol: its row."""

    runner: Runner
    compiled: Compiled | None
    protocol: str

    @property
    def program(self) -> Program:
        """The public program that the parties run."""
        return self.runner.program


def open_runner(given: Parameters) -> Opened:
    """Load and compile the model, or connect with the cluster. Raises ConfigError, ModelError, TransportError."""
    for name in ("batch_size", "jobs", "lanes"):
        value = getattr(given, name)
        if not isinstance(value, int) or value < 1:
            raise ConfigError(f"{name}: expected a whole number of at least 1, got {value!r}")
    deadline: object = given.deadline_s
    if not isinstance(deadline, int | float) or not deadline > 0:
        raise ConfigError(f"deadline_s: expected a number of seconds above 0, got {deadline!r}")
    if given.cluster is not None:
        remote = _connect(given, given.cluster)
        return Opened(remote, None, remote.row.name)
    if given.certificates is not None or given.insecure_loopback:
        raise ConfigError("certificates, insecure_loopback: expected cluster= with them")
    compiled = _compile(given)
    if given.protocol == "plain":
        if given.device != "cpu":
            raise ConfigError(f"device: plain runs on the CPU, got {given.device!r}")
        return Opened(PlainRunner(compiled), compiled, "plain")
    row = resolve(given.protocol, given.comparison, compiled.program, given.network)
    runner = InProcess(compiled, row.name, lanes=given.lanes, deadline_s=given.deadline_s, device=given.device)
    return Opened(runner, compiled, row.name)


def _compile(given: Parameters) -> Compiled:
    graph = load_model(
        given.model,
        weights=given.weights,
        labels=given.labels,
        features=given.features,
        input_low=given.input_low,
        input_high=given.input_high,
    )
    outputs: tuple[OutputKind, ...] = ("label", "scores") if given.scores else ("label",)
    samples = None if given.calibrate is None else sample_features(given.calibrate, graph)
    return compile_graph(graph, outputs=outputs, calibrate=samples)


def _connect(given: Parameters, cluster: Cluster | str | os.PathLike[str]) -> RemoteCluster:
    described = [name for name in OF_THE_MODEL if getattr(given, name) is not None]
    if not isinstance(given.model, str) or given.model != DEFAULT_MODEL:
        described.insert(0, "model")
    if given.device != "cpu":
        described.append("device")
    if given.comparison != AUTO:
        described.append("comparison")
    if described:
        raise ConfigError(f"{', '.join(described)}: with cluster= the model's owner decides it when deploying")
    where = cluster if isinstance(cluster, Cluster) else load_cluster(Path(cluster))
    folder = given.certificates
    tls = load_tls(Path(folder)) if isinstance(folder, str | os.PathLike) else folder
    if tls is None and not given.insecure_loopback:
        raise ConfigError("certificates: a cluster needs this client's certificate folder")
    return RemoteCluster(where, tls, deadline_s=given.deadline_s, insecure_loopback=given.insecure_loopback)
