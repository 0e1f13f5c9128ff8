"""The process of a benchmark's model owner and client: `python -m sottovoce.bench.systems.client JOB`.

JOB is a JSON file (`ClientJob`). It deploys the model, then answers {"batch": n} with what a request cost. The labels
go back to the benchmark, which compares them with those of the network in the clear: its features are samples.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from sottovoce.bench.systems.deployment import CLIENT, OWNER
from sottovoce.engine.errors import SottovoceError
from sottovoce.engine.structs import parse_json
from sottovoce.engine.transport.certificates import role_folder
from sottovoce.engine.transport.tls import Identity, TlsContexts, load_tls
from sottovoce.kernels.warmup import warm_up
from sottovoce.models.compiler.compile import compile_graph
from sottovoce.models.encode import encode_input
from sottovoce.models.onnx import import_onnx
from sottovoce.serving.client import RemoteCluster
from sottovoce.serving.cluster import load_cluster
from sottovoce.serving.cost import add_costs
from sottovoce.serving.messages import MAX_INPUT_ELEMENTS
from sottovoce.serving.owner import deploy


class ClientJob(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Paths: an ONNX file, features (rows, *input_shape) as npy, a cluster file, the folder of all certificates.

    certificates: None for plain TCP on loopback. deadline_s: the longest wait for a party.
    """

    model: str
    features: str
    cluster: str
    certificates: str | None
    deadline_s: float


def serve(job: ClientJob) -> None:
    """Deploy, say so, answer until standard input ends."""
    cluster = load_cluster(Path(job.cluster))
    insecure = job.certificates is None

    def tls(role: Identity) -> TlsContexts | None:
        return None if job.certificates is None else load_tls(Path(job.certificates) / role_folder(role))

    warm_up()
    compiled = compile_graph(import_onnx(Path(job.model)))
    features = np.load(job.features, allow_pickle=False)
    deploy(compiled, cluster, tls(Identity("owner", OWNER)), deadline_s=job.deadline_s, insecure_loopback=insecure)
    with RemoteCluster(
        cluster, tls(Identity("client", CLIENT)), client=CLIENT, deadline_s=job.deadline_s, insecure_loopback=insecure
    ) as client:
        _say({"ready": True, "encrypted": client.encrypted})
        encoded = np.empty((0,), np.uint64)
        for line in sys.stdin:
            batch = int(json.loads(line)["batch"])
            if len(encoded) != batch:
                encoded = encode_input(compiled.program, np.resize(features, (batch, *features.shape[1:])))
            # A request holds at most MAX_INPUT_ELEMENTS: what is larger goes as several, one after the other.
            answers = [client.run(part) for part in np.array_split(encoded, -(-encoded.size // MAX_INPUT_ELEMENTS))]
            labels = np.concatenate([labels for labels, _ in answers])
            _say({"labels": labels.tolist(), "cost": asdict(add_costs([cost for _, cost in answers]))})


def main(argv: list[str]) -> int:
    """See the module."""
    try:
        serve(parse_json(Path(argv[0]).read_bytes(), ClientJob))
    except SottovoceError as error:
        _say({"error": str(error)})
        return 1
    return 0


def _say(message: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
