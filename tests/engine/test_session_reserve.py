"""A batch that cannot be reserved: too little leaves the parties as they are, anything else ends the lanes."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.serving.small import small_graph

from sottovoce.engine.errors import PreprocessingError, TransportError
from sottovoce.engine.local import LocalCluster, run_parties
from sottovoce.engine.protocols.base import AShare
from sottovoce.models.compiler.compile import Compiled, compile_graph

CLIPS = 2


@pytest.fixture(scope="module")
def compiled() -> Compiled:
    return compile_graph(small_graph())


def shares(cluster: LocalCluster) -> list[AShare]:
    encoded: NDArray[np.uint64] = np.zeros((CLIPS, *cluster.program.input_shape), np.uint64)
    assert cluster.dealer is not None
    fill, row = cluster.dealer.fill, cluster.row
    slots = row.split(encoded, fill)
    bits = cluster.program.input_frac_bits
    return [row.receive(rank, slots[rank], encoded.shape, bits, fill) for rank in range(row.parties)]


def test_a_failure_at_one_party_ends_the_lanes_of_both(compiled: Compiled, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(clips: int) -> None:
        raise PreprocessingError("disk full")

    with LocalCluster(compiled.program, compiled.weights, "beaver2") as cluster:
        assert cluster.dealer is not None
        cluster.dealer.prepare(2 * CLIPS)
        inputs = shares(cluster)
        monkeypatch.setattr(cluster.dealer.parties[1], "reserve", full)
        with pytest.raises(PreprocessingError, match="disk full"):
            cluster.sessions[1].run(inputs[1], "label")
        with pytest.raises(TransportError):
            cluster.sessions[0].run(inputs[0], "label")


def test_too_little_leaves_the_lanes_as_they_are(compiled: Compiled) -> None:
    with LocalCluster(compiled.program, compiled.weights, "beaver2") as cluster:
        inputs = shares(cluster)

        def run(rank: int) -> None:
            with pytest.raises(PreprocessingError, match=f"expected {CLIPS} clips, 0 are left"):
                cluster.sessions[rank].run(inputs[rank], "label")

        run_parties([lambda: run(0), lambda: run(1)], cluster.close)
        labels, _ = cluster.run(np.zeros((CLIPS, *compiled.program.input_shape), np.uint64))
        assert labels.shape == (CLIPS,)
