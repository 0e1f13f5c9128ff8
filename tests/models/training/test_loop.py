"""The training loop: it learns, it repeats itself, it stops early, and each setting does something.

Needs the extra `train`.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch: the extra `train`")

from sottovoce.models.evaluate import evaluate  # noqa: E402  (the skip comes first)
from sottovoce.models.graph import BatchNorm, Conv1d, Dense, Graph, MaxPool, Relu, Reshape  # noqa: E402
from sottovoce.models.training.architecture import arrays, untrained  # noqa: E402
from sottovoce.models.training.loop import Rows, fit  # noqa: E402
from sottovoce.models.training.recipe import Recipe  # noqa: E402

QUICK = Recipe(epochs=12, batch=16, learning_rate=0.02, mixup=0.0, patience=0)


def _graph() -> Graph:
    nodes = (
        Conv1d("conv", np.zeros((6, 1, 3)), np.zeros(6), padding=(1, 1)),
        BatchNorm("norm", np.zeros(6), np.ones(6), np.ones(6), np.zeros(6)),
        Relu("relu"),
        MaxPool("pool", 2, 2),
        Reshape("flatten"),
        Dense("dense", np.zeros((3, 36)), np.zeros(3)),
    )
    return untrained(Graph("toy", (1, 12), nodes, ("a", "b", "c"), (-9.0,), (9.0,)), ("a", "b", "c"), 0)


def _rows(count: int = 90, seed: int = 0) -> Rows:
    """Rows that give their label away: position 2, 5 or 8 is high."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    z = rng.normal(size=(count, 1, 12))
    z[np.arange(count), 0, 2 + 3 * labels] += 4
    return Rows(z, labels)


def _same(first: Graph, second: Graph) -> bool:
    a, b = arrays(first), arrays(second)
    return all(np.array_equal(a[name], b[name]) for name in a)


def test_it_learns_and_repeats_itself_bit_for_bit() -> None:
    rows = _rows()
    recipe = replace(QUICK, mixup=0.2, noise=0.05)
    first, again, other = (fit(_graph(), rows, recipe, seed) for seed in (3, 3, 4))
    assert _same(first.graph, again.graph) and first.history == again.history
    assert not _same(first.graph, other.graph)
    unseen = _rows(seed=1)
    assert np.mean(evaluate(first.graph, unseen.z).argmax(axis=1) == unseen.labels) > 0.9
    losses = [epoch.loss for epoch in first.history]
    assert len(losses) == 12 and losses[-1] < 0.5 * losses[0]


def test_the_given_graph_and_the_global_generator_are_left_alone() -> None:
    graph = _graph()
    before = arrays(graph)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    fit(graph, _rows(), replace(QUICK, epochs=1), 0)
    assert torch.equal(state, torch.get_rng_state())
    assert all(np.array_equal(before[name], array) for name, array in arrays(graph).items())


@pytest.mark.parametrize(
    "change",
    [
        {"class_weights": "balanced"},
        {"label_smoothing": 0.1},
        {"mixup": 0.4},
        {"noise": 0.2},
        {"dropout_dense": 0.6},
        {"average": 0.9},
        {"equalise": True},
        {"weight_decay": 0.5},
        {"batch": 32},
    ],
)
def test_each_setting_changes_the_network(change: dict[str, object]) -> None:
    rows = _rows(60)
    unequal = Rows(rows.z[:40], np.minimum(rows.labels[:40], 1))
    recipe = replace(QUICK, epochs=2)
    assert not _same(
        fit(_graph(), unequal, recipe, 0).graph,
        fit(_graph(), unequal, replace(recipe, **change), 0).graph,  # type: ignore[arg-type]
    )


def test_early_stopping_returns_the_weights_of_the_best_epoch() -> None:
    """Validation labels that say nothing: accuracy wanders, so the best epoch is not the last."""
    rng = np.random.default_rng(2)
    validation = Rows(_rows(30, 5).z, rng.integers(0, 3, 30))
    recipe = replace(QUICK, epochs=40, patience=4)
    fitted = fit(_graph(), _rows(), recipe, 0, validation=validation)
    accuracies = [epoch.validation_accuracy for epoch in fitted.history]
    assert len(accuracies) == fitted.kept + 4 < 40
    assert accuracies[fitted.kept - 1] == max(accuracy for accuracy in accuracies if accuracy is not None)
    logits = evaluate(fitted.graph, validation.z)
    assert np.mean(logits.argmax(axis=1) == validation.labels) == pytest.approx(accuracies[fitted.kept - 1])


def test_balanced_weights_find_the_rare_class() -> None:
    """Overlapping classes, 10 to 1: without weights the rare one is hardly ever answered."""
    rng = np.random.default_rng(0)
    labels = (np.arange(220) % 11 == 0).astype(np.int64)
    z = rng.normal(size=(220, 1, 12))
    z[:, 0, 4] += 1.5 * labels
    answered = []
    for weighting in ("none", "balanced"):
        recipe = replace(QUICK, epochs=6, class_weights=weighting, dropout_dense=0.5)  # type: ignore[arg-type]
        answers = evaluate(fit(_graph(), Rows(z, labels), recipe, 0).graph, z).argmax(axis=1)
        answered.append(int(((answers == 1) & (labels == 1)).sum()))
    assert answered[1] > answered[0]


def test_ten_steps_in_all_are_enough() -> None:
    """The cycle of the learning rate once divided by zero there."""
    assert len(fit(_graph(), _rows(32), replace(QUICK, epochs=5), 0).history) == 5
