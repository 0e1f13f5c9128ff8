"""The MP-SPDZ program computes the network: its text is run here on integers in the clear."""

from __future__ import annotations

import ast
from dataclasses import replace

import numpy as np
import pytest
from tests.bench.peers.mp_spdz_machine import Machine

from sottovoce.bench.peers.model import neutral_layers
from sottovoce.bench.peers.mp_spdz.build import VARIANTS
from sottovoce.bench.peers.mp_spdz.program import (
    FRACTION,
    VALUE_BITS,
    Program,
    encode_features,
    value_bits,
    write_program,
)
from sottovoce.engine.errors import ConfigError
from sottovoce.models.evaluate import evaluate
from sottovoce.models.graph import (
    Affine,
    AvgPool,
    BatchNorm,
    Conv1d,
    Dense,
    Graph,
    MaxPool,
    Node,
    Relu,
    Reshape,
    SumPool,
    output_shape,
)
from sottovoce.models.zoo import build

BATCH = 3


def chain(rng: np.random.Generator, input_shape: tuple[int, int], *parts: Node | int, labels: int = 5) -> Graph:
    """A number is a convolution of 3 with that many channels; a flatten and a dense layer come last."""
    nodes: list[Node] = []
    shape: tuple[int, ...] = input_shape
    for number, part in enumerate(parts):
        if isinstance(part, int):
            weight = rng.normal(size=(part, shape[0], 3)) / 3
            nodes.append(Conv1d(f"conv{number}", weight, rng.normal(size=part), padding=(1, 1)))
        else:
            nodes.append(replace(part, name=f"layer{number}"))
        shape = output_shape(nodes[-1], shape)
    size = int(np.prod(shape))
    nodes += [Reshape("flatten"), Dense("dense", rng.normal(size=(labels, size)) / size, rng.normal(size=labels))]
    return Graph("chain", input_shape, tuple(nodes), tuple("abcdefghijk"[:labels]), (-1.0,), (1.0,))


def computed(graph: Graph, features: np.ndarray, runs: int = 1) -> Machine:
    """What the program of `graph` does with `features`."""
    program = write_program(neutral_layers(graph), VARIANTS["sy-rep-ring"].head, 3, value_bits(graph, features))
    weights = [number for array in program.weights for number in array.ravel().tolist()]
    machine = Machine({0: encode_features(features).ravel().tolist(), 1: weights, 2: [1] * runs})
    machine.run(program.text, len(features))
    assert not machine.inputs[0] and not machine.inputs[1]
    return machine


def affine(rng: np.random.Generator, channels: int) -> Affine:
    return Affine("", rng.uniform(0.001, 0.01, (channels, 1)), rng.normal(size=(channels, 1)))


def graphs(rng: np.random.Generator) -> dict[str, Graph]:
    """Each with something that another has not."""
    strided = Conv1d("", rng.normal(size=(4, 3, 4)) / 4, rng.normal(size=4), stride=2, padding=(2, 1))
    norm = BatchNorm("", rng.normal(size=4), np.full(4, 0.5), rng.normal(size=4), rng.normal(size=4))
    return {
        "as the paper": chain(rng, (1, 16), 6, Relu(""), AvgPool("", 4, 4), 4, Relu("")),
        "standardised, bias by position": chain(rng, (3, 9), affine(rng, 3), 4, Relu("")),
        "stride": chain(rng, (3, 9), strided, norm, Relu("")),
        "averages of three": chain(rng, (2, 10), 4, Relu(""), AvgPool("", 3, 3), 3),
        "averages over an edge, twice": chain(rng, (2, 10), 4, AvgPool("", 3, 2, (1, 1)), SumPool("", 2, 1), Relu("")),
        "maxima": chain(rng, (2, 10), 4, Relu(""), MaxPool("", 2, 2), 3, labels=7),
        "overlapping maxima over an edge": chain(rng, (2, 11), 4, MaxPool("", 5, 2, (2, 1)), Relu(""), labels=2),
        "negative maxima over an edge": chain(rng, (2, 10), MaxPool("", 2, 2, (1, 1)), 3),
        "pooling first": chain(rng, (2, 10), MaxPool("", 2, 2), AvgPool("", 2, 2), 3),
    }


@pytest.mark.parametrize("name", graphs(np.random.default_rng(0)))
def test_logits_are_those_of_the_network(name: str, rng: np.random.Generator) -> None:
    graph = graphs(rng)[name]
    features = rng.uniform(-1, 1, (BATCH, *graph.input_shape))
    machine = computed(graph, features)
    expected = evaluate(graph, features)
    np.testing.assert_allclose(machine.logits[0] / 2.0**FRACTION, expected, atol=2e-3)
    assert machine.printed == ["ready", f"labels {expected.argmax(1).tolist()}"]


def test_it_answers_again_when_asked_again(rng: np.random.Generator) -> None:
    graph = graphs(rng)["overlapping maxima over an edge"]
    features = rng.uniform(-1, 1, (BATCH, *graph.input_shape))
    machine = computed(graph, features, runs=3)
    assert len(machine.printed) == 4 and len(set(machine.printed[1:])) == 1
    assert computed(graph, features, runs=0).printed == ["ready"]


def test_an_average_at_the_end_leaves_the_label(rng: np.random.Generator) -> None:
    weight, bias = rng.normal(size=(5, 2, 3)), rng.normal(size=5)
    nodes = (Conv1d("conv", weight, bias), AvgPool("pool", 6, 6), Reshape("flatten"))
    graph = Graph("global average", (2, 8), nodes, tuple("abcde"), (-1.0,), (1.0,))
    features = rng.uniform(-1, 1, (BATCH, 2, 8))
    machine = computed(graph, features)
    np.testing.assert_allclose(machine.logits[0] / 2.0**FRACTION / 6, evaluate(graph, features), atol=1e-3)
    assert machine.printed[1] == f"labels {evaluate(graph, features).argmax(1).tolist()}"


def paper() -> Program:
    return write_program(neutral_layers(build("paper")), VARIANTS["replicated-ring"].head, 3)


def test_text_of_the_papers_network() -> None:
    lines = paper().text.splitlines()
    start = lines.index("def forward():")
    assert lines[start + 1 :] == [
        "    v = features.get_vector()",
        "    v = conv(v, weight0, bias0, channels=1, time=40, filters=128, kernel=5, stride=1, left=2, steps=40)",
        "    v = rescale(v, 16)",
        "    v = relu(v)",
        "    v = sum_pool(v, channels=128, time=40, kernel=4, stride=4, left=0, right=0, steps=10)",
        "    v = conv(v, weight1, bias1, channels=128, time=10, filters=128, kernel=5, stride=1, left=2, steps=10)",
        "    v = rescale(v, 23)",
        "    v = relu(v)",
        "    v = conv(v, weight2, bias2, channels=128, time=10, filters=8, kernel=10, stride=1, left=0, steps=1)",
        "    v = rescale(v, 16)",
        "    return argmax(v, labels=8)",
        "",
        "",
        "serve(forward, asker=2)",
    ]
    assert lines[:3] == ["program.use_trunc_pr = True", "program.use_unsplit = 1", f"VALUE_BITS = {VALUE_BITS}"]
    sizes = [array.size for array in paper().weights]
    assert sizes == [128 * 5, 128 * 40, 128 * 5 * 128, 128, 8 * 1280, 8]


def test_only_the_label_and_the_wish_to_go_on_are_opened() -> None:
    revealed = [node for node in ast.walk(ast.parse(paper().text)) if getattr(node, "attr", "") == "reveal"]
    assert [ast.unparse(node) for node in revealed] == ["sint.get_input_from(asker).reveal", "forward().reveal"]


def test_weights_are_not_in_text_or_repr(rng: np.random.Generator) -> None:
    graph = chain(rng, (1, 8), 2)
    program = write_program(neutral_layers(graph), (), 3)
    assert repr(program).count("array") == 0
    for number in (n for array in program.weights for n in array.ravel().tolist()):
        assert str(abs(number)) not in program.text


def test_values_choose_the_bits(rng: np.random.Generator) -> None:
    graph = chain(rng, (1, 8), 2)
    features = rng.uniform(-1, 1, (BATCH, 1, 8))
    assert value_bits(graph, features) == VALUE_BITS
    assert VALUE_BITS < value_bits(graph, features * 2e5) <= 38
    with pytest.raises(ConfigError, match=r"layer 'conv0': expected values of at most 38 bits.*got values of \d\d"):
        value_bits(graph, features * 2e7)


@pytest.mark.parametrize("change", [{"groups": 2, "weight": np.ones((4, 1, 3))}, {"dilation": 2, "padding": (2, 2)}])
def test_convolutions_without_an_instruction_are_refused(rng: np.random.Generator, change: dict[str, object]) -> None:
    conv = replace(Conv1d("", np.ones((4, 2, 3)), np.ones(4), padding=(1, 1)), **change)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="layer 'layer0': expected a convolution without groups, got"):
        write_program(neutral_layers(chain(rng, (2, 8), conv)), (), 3)
