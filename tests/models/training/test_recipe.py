"""Settings, class weights and early stopping."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sottovoce.engine.errors import ConfigError
from sottovoce.models.training.recipe import NOTES, RECIPES, EarlyStopping, Recipe, class_weights, recipe_for


def test_balanced_weights_make_every_class_weigh_the_same() -> None:
    labels = np.array([0] * 6 + [1] * 2 + [3] * 4)
    weights = class_weights(labels, 4, "balanced")
    np.testing.assert_allclose(weights[:2], [12 / 24, 12 / 8])
    totals = weights[labels].sum() / 3
    for label in (0, 1, 3):
        assert weights[label] * (labels == label).sum() == pytest.approx(totals)
    assert np.isfinite(weights).all()  # class 2 has no rows
    np.testing.assert_array_equal(class_weights(labels, 4, "none"), np.ones(4))


def test_early_stopping_keeps_the_best_epoch_and_then_waits() -> None:
    stopping = EarlyStopping(2)
    steps = [(0.5, 1.0), (0.6, 1.0), (0.6, 0.9), (0.6, 0.9), (0.55, 0.1)]
    better = []
    for accuracy, loss in steps:
        assert not stopping.over
        better.append(stopping.better(accuracy, loss))
    assert better == [True, True, True, False, False] and stopping.over


def test_a_late_improvement_resets_the_wait() -> None:
    stopping = EarlyStopping(2)
    for accuracy in (0.5, 0.4, 0.6, 0.5):
        stopping.better(accuracy, 1.0)
    assert not stopping.over


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs: expected 1 to 100000, got 0"),
        ({"validation": 1.0}, "validation"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"class_weights": "some"}, "class_weights: expected none or balanced, got 'some'"),
        ({"scaling": "none"}, "scaling"),
    ],
)
def test_settings_without_sense_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(Recipe(), **change)  # type: ignore[arg-type]


def test_models_without_a_preset_have_the_defaults_and_every_note_a_preset() -> None:
    assert recipe_for("somebody's") == Recipe()
    assert recipe_for("paper") is RECIPES["paper"]
    assert set(NOTES) <= set(RECIPES)
