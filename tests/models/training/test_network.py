"""A Graph in PyTorch computes what the Graph says, and comes back as it was. Needs the extra `train`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch: the extra `train`")

from sottovoce.models.evaluate import evaluate  # noqa: E402  (the skip comes first)
from sottovoce.models.graph import (  # noqa: E402
    Affine,
    AvgPool,
    BatchNorm,
    Conv1d,
    Dense,
    Graph,
    Identity,
    LeakyRelu,
    MaxPool,
    Node,
    Relu,
    Reshape,
    SumPool,
    Transpose,
)
from sottovoce.models.training.network import Dropout, equalised, forward, to_graph, to_network  # noqa: E402

Rng = np.random.Generator


def _every_kind(rng: Rng) -> Graph:
    def norm(name: str, channels: int) -> BatchNorm:
        return BatchNorm(
            name, *rng.normal(size=(1, channels)), rng.uniform(0.5, 2, channels), *rng.normal(size=(2, channels))
        )

    nodes: tuple[Node, ...] = (
        Affine("affine", rng.uniform(0.5, 2, (2, 1)), rng.normal(size=(2, 20))),
        Conv1d("conv1", rng.normal(size=(4, 1, 3)), rng.normal(size=(4, 19)), 1, (2, 1), 2, 2),
        norm("norm1", 4),
        LeakyRelu("leaky", 0.3),
        MaxPool("max", 4, 2, (1, 2)),
        Conv1d("conv2", rng.normal(size=(3, 4, 2)), rng.normal(size=3), 2, (0, 1)),
        Relu("relu"),
        AvgPool("avg", 3, 1, (1, 1)),
        SumPool("sum", 2, 1, (1, 0), 2),
        Identity("dropout"),
        Transpose("transpose"),
        Reshape("flatten"),
        Dense("dense1", rng.normal(size=(5, 15)), rng.normal(size=5)),
        norm("norm2", 5),
        Dense("dense2", rng.normal(size=(3, 5)), rng.normal(size=3)),
    )
    return Graph("all", (2, 20), nodes, ("a", "b", "c"), (-9.0,), (9.0,))


def _logits(graph: Graph, x: np.ndarray) -> np.ndarray:
    network = to_network(graph, dtype=torch.float64)
    logits: np.ndarray = forward(network, torch.tensor(x)).numpy()
    return logits


def test_every_kind_of_layer_computes_the_same(rng: Rng) -> None:
    graph = _every_kind(rng)
    x = rng.normal(size=(6, 2, 20))
    np.testing.assert_allclose(_logits(graph, x), evaluate(graph, x), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("seed", range(12))
def test_random_models_compute_the_same(
    seed: int, random_graph: Callable[[int], Graph], box_inputs: Callable[..., np.ndarray], rng: Rng
) -> None:
    graph = random_graph(seed)
    x = box_inputs(graph, rng, 4)
    expected = evaluate(graph, x)
    np.testing.assert_allclose(_logits(graph, x), expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())


def test_there_and_back_changes_nothing(rng: Rng) -> None:
    graph = _every_kind(rng)
    back = to_graph(to_network(graph, dtype=torch.float64))
    x = rng.normal(size=(3, 2, 20))
    np.testing.assert_array_equal(evaluate(back, x), evaluate(graph, x))
    network = to_network(graph, dtype=torch.float64)
    with torch.no_grad():
        network.parameters["conv2.weight"] += 1  # tensors of its own: the graph must not follow
    np.testing.assert_array_equal(evaluate(graph, x), evaluate(back, x))
    assert not np.allclose(evaluate(to_graph(network), x), evaluate(graph, x))


def test_everything_trained_has_a_gradient_and_nothing_else_moves(rng: Rng) -> None:
    network = to_network(_every_kind(rng))
    for parameter in network.parameters.values():
        parameter.requires_grad_()
    constants = {name: tensor.clone() for name, tensor in network.constants.items()}
    dropout = Dropout(0.0, 0.0, torch.Generator().manual_seed(0))
    forward(network, torch.tensor(rng.normal(size=(8, 2, 20)), dtype=torch.float32), dropout).square().sum().backward()
    for name, parameter in network.parameters.items():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name
    for name, tensor in network.constants.items():
        assert torch.equal(tensor, constants[name]) == (not name.startswith("norm")), name


def test_dropout_drops_its_share_and_keeps_the_mean() -> None:
    dropout = Dropout(0.25, 0.5, torch.Generator().manual_seed(1))
    x = torch.ones(200, 500)
    for rate in (0.25, 0.5):
        y = dropout(x, rate)
        assert abs(float((y == 0).double().mean()) - rate) < 0.01 and abs(float(y.mean()) - 1) < 0.02
    assert dropout(x, 0.0) is x


def test_dropout_acts_in_training_only(rng: Rng) -> None:
    network = to_network(_every_kind(rng))
    x = torch.tensor(rng.normal(size=(4, 2, 20)), dtype=torch.float32)
    dropout = Dropout(0.5, 0.5, torch.Generator().manual_seed(1))
    assert torch.equal(forward(network, x), forward(network, x))
    assert not torch.equal(forward(network, x, dropout), forward(network, x, dropout))


def test_equalising_divides_by_the_size_of_each_position_and_to_graph_undoes_nothing(rng: Rng) -> None:
    nodes = (Reshape("flatten"), Dense("dense", rng.normal(size=(2, 6)), rng.normal(size=2)))
    graph = Graph("flat", (2, 3), nodes, ("a", "b"), (-1e3,), (1e3,))
    x = rng.normal(size=(50, 2, 3)) * [1.0, 10.0, 100.0]
    network = equalised(to_network(graph, dtype=torch.float64), torch.tensor(x))
    divisor = network.divisors["dense"].numpy()
    size = np.sqrt((x**2).mean(axis=(0, 1)))
    np.testing.assert_allclose(divisor, np.tile(size / size.mean(), 2))
    np.testing.assert_allclose(forward(network, torch.tensor(x)).numpy(), evaluate(to_graph(network), x), rtol=1e-10)
    dense = to_graph(network).nodes[1]
    assert isinstance(dense, Dense) and isinstance(nodes[1], Dense)
    np.testing.assert_allclose(dense.weight, nodes[1].weight / divisor)
    without = replace(graph, input_shape=(1, 6), nodes=(Reshape("flatten"), *nodes[1:]))
    assert equalised(to_network(without), torch.zeros(4, 1, 6)).divisors["dense"].isfinite().all()
