"""Parties of a real deployment write their traces."""

from __future__ import annotations

from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np

from sottovoce.engine.session import run_plain
from sottovoce.engine.tracing.file import read_trace
from sottovoce.engine.tracing.tracer import Tracer
from sottovoce.serving.client import RemoteCluster
from sottovoce.serving.owner import deploy
from tests.serving.deployment import deployment, some_input, tiny_model


def test_every_request_is_in_every_partys_file(tmp_path: Path) -> None:
    """With two lanes, one of which small batches leave idle; only frames between sessions are missing."""
    compiled = tiny_model()
    files = {rank: tmp_path / f"party{rank}.jsonl" for rank in range(3)}
    batches = [1, 4, 2]
    with ExitStack() as stack:
        tracers = {rank: stack.enter_context(closing(Tracer(file))) for rank, file in files.items()}
        running = stack.enter_context(deployment(lanes=2, max_requests=len(batches), tracers=tracers))
        deploy(compiled, running.cluster, None, insecure_loopback=True)
        with RemoteCluster(running.cluster, None, insecure_loopback=True) as client:
            for batch in batches:
                x = some_input(compiled, batch)
                labels, cost = client.run(x)
                expected = run_plain(compiled.program, compiled.weights, x, "label")
                assert labels.shape == expected.shape and np.isin(labels, range(3)).all()
        running.join()
        assert running.errors == {}
    for rank, file in files.items():
        trace = read_trace(file)
        assert (trace.header.rank, trace.header.encrypted, trace.header.lanes) == (rank, False, 2)
        assert [request.batch for request in trace.requests] == batches
        last = trace.requests[-1]
        sent = sum(event.bytes for lane in last.lanes for event in lane if event.kind == "send")
        assert sent == cost.bytes_sent[rank] > 0
        assert last.lanes[0] and not last.lanes[1]
        kernels = {event.name for event in last.lanes[0] if event.kind == "kernel"}
        assert "conv1d" in kernels and kernels & {"aes128_ctr_fill", "chacha20_fill"}  # also those of the keystreams
