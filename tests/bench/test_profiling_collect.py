"""Measuring with and without tracing in turns; the parties' processes are stood in for by threads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from tests.security.small import small_batch, small_model
from tests.serving.small import small_graph
from tests.traced import traced_cluster

from sottovoce.bench.profiling import collect
from sottovoce.bench.profiling.collect import WARM_UPS, Settings, profile_model
from sottovoce.bench.profiling.table import overhead_text
from sottovoce.bench.systems.base import Job, Running, Sample

ONLINE_MS = {True: 3.0, False: 2.0}
"""By whether tracing is on."""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """In which order the clusters are asked: True is the traced one."""
    order: list[bool] = []

    class Threads:
        def __init__(self, protocol: str, party_options: Sequence[Sequence[str]], device: str) -> None:
            assert (protocol, device) == ("rep3", "cpu,cpu,cpu")
            self.options = list(party_options)

        @contextmanager
        def start(self, job: Job) -> Iterator[Running]:
            compiled = small_model()
            with traced_cluster(compiled, job.scratch) as cluster:

                class One:
                    def prepare(self, batch: int, least: int, most: int) -> int:
                        assert not order, "prepared before either is timed"
                        assert (batch, least, most) == (2, WARM_UPS + 4, WARM_UPS + 4)
                        return most

                    def run(self, batch: int) -> Sample:
                        order.append(bool(traced))
                        cluster.run(small_batch(compiled, batch))
                        return Sample(online_ms=ONLINE_MS[bool(traced)], labels=np.zeros(batch))

                    def memory_mb(self) -> tuple[float, ...]:
                        return ()

                traced = self.options
                yield One()
            for written, words in zip(cluster.files, traced, strict=False):
                assert words[0] == "--trace" and list(words[2:]) == ["--nvtx"]
                Path(words[1]).write_bytes(written.read_bytes())

    monkeypatch.setattr(collect, "Sottovoce", Threads)
    return order


def test_overhead_is_measured_in_turns(asked: list[bool]) -> None:
    said: list[str] = []
    settings = Settings(batch=2, repeat=4, device="cpu,cpu,cpu", nvtx=True)
    profile = profile_model(small_graph(), settings, say=lambda what, detail="": said.append(what)).profile
    assert (profile.requests_measured, profile.batch) == (4, 2)  # the warm-ups are not among them
    assert len(asked) == 2 * (WARM_UPS + 4) and sum(asked) == WARM_UPS + 4
    rounds = list(zip(asked[::2], asked[1::2], strict=True))
    assert all(set(pair) == {True, False} for pair in rounds) and len(set(rounds)) == 2
    assert profile.overhead is not None and profile.online_ms is not None
    assert (profile.overhead.ratio.median, profile.overhead.ratio.n) == (1.5, 4)
    assert (profile.overhead.untraced_ms.median, profile.online_ms.median) == (2.0, 3.0)
    assert "1.500 (1.500 to 1.500) times an untraced one, 4 pairs" in overhead_text(profile)
    assert profile.network is not None and profile.environment is not None
    assert said[:2] == ["starting parties, untraced", "starting parties, traced"]
