"""Programs end to end in process: equal to the oracle, at the declared cost, whatever the cutting, lanes or cipher."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from sottovoce.engine.backend.cpu import CpuBackend
from sottovoce.engine.cost import predict_cost
from sottovoce.engine.errors import ConfigError, ProtocolError
from sottovoce.engine.local import LocalCluster
from sottovoce.engine.prg import CIPHERS
from sottovoce.engine.protocols.table import PROTOCOLS, find
from sottovoce.engine.session import Output, chunks, join_output, run_plain
from sottovoce.models.compiler.compile import Compiled, compile_graph
from sottovoce.models.encode import encode_input
from sottovoce.models.evaluate import evaluate
from sottovoce.models.graph import (
    Affine,
    AvgPool,
    Conv1d,
    Dense,
    Graph,
    LeakyRelu,
    MaxPool,
    Relu,
    Reshape,
    Transpose,
    output_shape,
)
from sottovoce.models.reference import fixed_reference
from sottovoce.models.zoo import build

LABELS = ("a", "b", "c")


@pytest.fixture(scope="module")
def small() -> Compiled:
    """Every kind of step in one small model: convs (strided, grouped, dilated), pools of both kinds, dense."""
    rng = np.random.default_rng(5)

    def weights(*shape: int) -> NDArray[np.float64]:
        return rng.normal(0, 0.4, shape)

    nodes = (
        Conv1d("conv1", weights(4, 2, 3), weights(4), padding=(1, 1)),
        Relu("relu1"),
        MaxPool("max1", 3, 2, (1, 1)),
        Conv1d("conv2", weights(6, 2, 3), weights(6), stride=1, padding=(2, 0), dilation=2, groups=2),
        Relu("relu2"),
        AvgPool("avg2", 2, 2),
        Reshape("flatten"),
        Dense("dense1", weights(5, 18), weights(5)),
        Relu("relu3"),
        Dense("dense2", weights(3, 5), weights(3)),
    )
    graph = Graph("small", (2, 16), nodes, LABELS, (-2.0,), (2.0,), features="")
    return compile_graph(graph, outputs=("label", "scores"))


def inputs(compiled: Compiled, rng: np.random.Generator, batch: int) -> NDArray[np.uint64]:
    """Encoded inputs over the whole box, corners among them."""
    shape = (batch, *compiled.program.input_shape)
    low, high = compiled.program.input_low[0], compiled.program.input_high[0]
    x = rng.uniform(low, high, shape)
    corners = rng.random(shape) < 0.3
    x[corners] = rng.choice([low, high], int(corners.sum()))
    return encode_input(compiled.program, x)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("batch", [1, 7])
def test_equals_plain_within_the_bound(small: Compiled, protocol: str, batch: int, rng: np.random.Generator) -> None:
    x = inputs(small, rng, batch)
    expected = run_plain(small.program, small.weights, x, "scores")
    with LocalCluster(small.program, small.weights, protocol) as cluster:
        logits, _ = cluster.run(x, "scores")
        labels, _ = cluster.run(x, "label")
    bound = 2 * max(small.report.logit_errors)
    assert np.abs(logits - expected).max() <= bound
    top = np.sort(expected, axis=1)
    sure = top[:, -1] - top[:, -2] > 2 * small.report.margin_bound
    assert sure.any()
    np.testing.assert_array_equal(labels[sure], expected.argmax(axis=1)[sure])


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_predicted_cost_is_measured_cost(
    small: Compiled, protocol: str, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CpuBackend, "chunk_elements", 200)
    for output in ("label", "scores"):
        for batch in (1, 3, 11):
            steps = predict_cost(small.program, find(protocol), batch, output)
            with LocalCluster(small.program, small.weights, protocol) as cluster:
                _, stats = cluster.run(inputs(small, rng, batch), output)
            for rank, measured in enumerate(stats):
                assert measured.bytes_sent == sum(s.bytes_sent[rank] for s in steps)
                assert measured.frames_sent == sum(s.frames_sent[rank] for s in steps)
                for step in steps:
                    spans = [s for s in measured.spans if s.layer == step.name]
                    assert sum(s.bytes_sent for s in spans) == step.bytes_sent[rank]
            assert max(s.rounds for s in stats) == sum(s.rounds for s in steps)


SCALE = np.linspace(-1.5, 2.0, 24)
FEATURES = {
    "exact slope": (LeakyRelu("leaky", 0.25),),
    "rounded slope": (LeakyRelu("leaky", 0.01),),
    "negative slope": (LeakyRelu("leaky", -0.3), MaxPool("max", 2, 2)),
    "exact slope, sum": (LeakyRelu("leaky", 0.5), AvgPool("mean", 4, 2, (1, 1))),
    "rounded slope, sum": (LeakyRelu("leaky", 0.3), AvgPool("mean", 3, 2, (1, 0))),
    "overlapping maxima": (MaxPool("max", 5, 2, (2, 2)), MaxPool("more", 4, 1)),
    "transpose": (Transpose("turn"), Conv1d("mix", SCALE.reshape(3, 8, 1), np.ones(3)), Transpose("back")),
    "factor per channel": (Relu("relu"), Affine("norm", SCALE[:3, None], SCALE[3:6, None]), MaxPool("max", 2, 2)),
    "factor per position": (Affine("std", SCALE.reshape(3, 8), SCALE[:8]), Relu("relu")),
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", FEATURES)
def test_every_kind_of_layer_runs_at_its_declared_cost(protocol: str, name: str, rng: np.random.Generator) -> None:
    """Scores within the bounds of float, the fixed-point oracle's own ones, and what `explain` would show measured."""
    nodes = (*FEATURES[name], Reshape("flatten"))
    shape: tuple[int, ...] = (3, 8)
    for node in nodes:
        shape = output_shape(node, shape)
    dense = Dense("dense", rng.normal(size=(3, *shape)), rng.normal(size=3))
    graph = Graph("one", (3, 8), (*nodes, dense), LABELS, (-2.0,), (2.0,))
    compiled = compile_graph(graph, outputs=("label", "scores"))
    features = rng.uniform(-2, 2, (5, 3, 8))
    x = encode_input(compiled.program, features)
    plain = run_plain(compiled.program, compiled.weights, x, "scores")
    oracle = fixed_reference(compiled.program, compiled.weights, x) * 2.0**-compiled.program.frac_bits
    np.testing.assert_array_equal(plain, oracle)
    bounds = np.asarray(compiled.report.logit_errors) + 1e-12
    steps = predict_cost(compiled.program, find(protocol), 5, "scores")
    with LocalCluster(compiled.program, compiled.weights, protocol) as cluster:
        logits, stats = cluster.run(x, "scores")
    assert np.all(np.abs(logits - evaluate(graph, features)) <= bounds)
    for rank, measured in enumerate(stats):
        assert measured.bytes_sent == sum(s.bytes_sent[rank] for s in steps)
    assert max(s.rounds for s in stats) == sum(s.rounds for s in steps)


def test_a_slope_costs_no_message_unless_it_is_rounded() -> None:
    """An exact slope is local; a rounded one adds the truncation's five messages."""
    costs = []
    for activation in (Relu("r"), LeakyRelu("r", 0.25), LeakyRelu("r", 0.01)):
        nodes = (MaxPool("max", 2, 2), activation, Reshape("flatten"), Dense("dense", np.ones((3, 12)), np.zeros(3)))
        program = compile_graph(Graph("one", (3, 8), nodes, LABELS, (-2.0,), (2.0,))).program
        step = next(s for s in predict_cost(program, find("rep3"), 1) if s.name == "r")
        costs.append((step.rounds, sum(step.frames_sent)))
    assert costs[0] == costs[1] and costs[2][1] == costs[0][1] + 5 and costs[2][0] > costs[0][0]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("cipher", CIPHERS)
@pytest.mark.parametrize("lanes", [1, 3])
def test_chunks_and_lanes_do_not_change_the_answer(
    small: Compiled,
    protocol: str,
    cipher: str,
    lanes: int,
    rng: np.random.Generator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x = inputs(small, rng, 13)
    expected = run_plain(small.program, small.weights, x, "scores")
    monkeypatch.setattr(CpuBackend, "chunk_elements", 150)
    assert len(chunks(small.program, 13)) > 3
    with LocalCluster(small.program, small.weights, protocol, lanes=lanes, cipher=cipher) as cluster:
        for _ in range(2):
            logits, _ = cluster.run(x, "scores")
            assert np.abs(logits - expected).max() <= 2 * max(small.report.logit_errors)
            labels, _ = cluster.run(x, "label")
            top = np.sort(expected, axis=1)
            sure = top[:, -1] - top[:, -2] > 2 * small.report.margin_bound
            assert sure.any()
            np.testing.assert_array_equal(labels[sure], expected.argmax(axis=1)[sure])


def test_chunks_cover_every_batch_once(small: Compiled, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CpuBackend, "chunk_elements", 200)
    for batch in (1, 2, 3, 10, 97):
        covered = [i for cut in chunks(small.program, batch) for i in range(cut.start, cut.stop)]
        assert covered == list(range(batch))


def test_paper_stays_below_the_promised_traffic() -> None:
    """At most 0.26 MB sent per party (mean) and 45 rounds for one clip."""
    program = compile_graph(build("paper")).program
    steps = predict_cost(program, find("rep3"), 1)
    assert sum(sum(s.bytes_sent) for s in steps) / 3 <= 260_000
    assert sum(s.rounds for s in steps) <= 45


def test_an_output_that_the_owner_does_not_allow_is_refused(rng: np.random.Generator) -> None:
    compiled = compile_graph(build("paper"))
    x = encode_input(compiled.program, np.zeros((1, 1, 40)))
    with (
        LocalCluster(compiled.program, compiled.weights) as cluster,
        pytest.raises(ProtocolError, match="output 'scores' is not among"),
    ):
        cluster.run(x, "scores")


def test_parts_that_do_not_fit_are_no_label(small: Compiled) -> None:
    row = find("rep3")
    parts = [Output("label", 2, np.array([value], np.uint8)) for value in (0b100, 0b001, 0b010)]
    with pytest.raises(ProtocolError, match="exactly one label"):
        join_output(row, small.program, parts)
    with pytest.raises(ProtocolError, match="differ"):
        join_output(row, small.program, [*parts[:2], Output("label", 3, parts[0].data)])


def test_unknown_protocol_is_named(small: Compiled) -> None:
    with pytest.raises(ConfigError, match=r"expected one of rep3.*got 'rot13'"):
        LocalCluster(small.program, small.weights, "rot13")
