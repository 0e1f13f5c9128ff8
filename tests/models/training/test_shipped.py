"""Every folder of trained weights in the zoo: its card, its licence, and that its weights do what the card says."""

from __future__ import annotations

import json
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sottovoce.models.compiler.compile import compile_graph
from sottovoce.models.training.card import render
from sottovoce.models.training.dataset import load_features
from sottovoce.models.training.measure import accuracy, confusion, logits_of
from sottovoce.models.training.recipe import NOTES, RECIPES
from sottovoce.models.training.splits import split_rows
from sottovoce.models.zoo import build

ZOO = Path(str(files("sottovoce.models.zoo")))
SHIPPED = sorted(path.parent.name for path in ZOO.glob("*/results.json"))

pytestmark = pytest.mark.parametrize("name", SHIPPED)


def _results(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((ZOO / name / "results.json").read_text())
    return loaded


def test_the_card_says_what_the_results_say(name: str) -> None:
    assert (ZOO / name / "MODEL_CARD.md").read_text() == render(_results(name))


def test_the_licence_names_itself_and_credits_the_data(name: str) -> None:
    text = (ZOO / name / "LICENSE-WEIGHTS").read_text()
    for words in ("CC-BY-NC-SA-4.0", "creativecommons.org/licenses/by-nc-sa/4.0/legalcode", "Livingstone", "Russo"):
        assert words in text
    assert _results(name)["data"]["licence"] == "CC BY-NC-SA 4.0"


def test_the_figures_add_up(name: str) -> None:
    results = _results(name)
    assert list(results["splits"]) == ["random", "by_speaker"] and not results["interrupted"]
    for split in results["splits"].values():
        rows = split["seeds"]
        assert [row["seed"] for row in rows] == [0, 1, 2, 3, 4]
        found = [row["test_accuracy"] for row in rows]
        assert split["mean"] == pytest.approx(np.mean(found), abs=1e-4)
        assert split["std"] == pytest.approx(np.std(found, ddof=1), abs=1e-4)
        for row in rows:
            table = np.array(row["confusion"])
            assert table.sum() == row["test_rows"]
            assert np.trace(table) / table.sum() == pytest.approx(row["test_accuracy"], abs=1e-4)


def test_the_recipe_is_the_preset_and_its_choice_is_told(name: str) -> None:
    recipe = _results(name)["recipe"]
    assert recipe.pop("note").startswith(NOTES[name])
    assert recipe == {**asdict(RECIPES[name]), "copies": 0}


def test_the_compiler_still_proves_the_card_s_margin_bound(name: str) -> None:
    found = compile_graph(build(name, ZOO / name / "weights.npz")).report.margin_bound
    assert 0 < found <= 1.01 * _results(name)["fixed_point"]["margin_bound"]


@pytest.mark.slow
def test_the_weights_give_the_reported_figures(name: str, shared_data: Path) -> None:
    results, graph = _results(name), build(name, ZOO / name / "weights.npz")
    data = load_features(shared_data / "ravdess" / "mfcc40_mean.npz", graph.input_shape, None, graph.labels)
    assert data.source["sha256"] == results["data"]["sha256"]
    assert len(data) - len(np.unique(data.features, axis=0)) == results["data"]["repeated"]
    shipped = results["shipped"]
    row = next(row for row in results["splits"][shipped["split"]]["seeds"] if row["seed"] == shipped["seed"])
    split = split_rows(shipped["split"], data.groups, shipped["seed"], results["test_share"])
    logits = logits_of(graph, data.features)
    assert accuracy(logits, data.labels, split.test) == row["test_accuracy"]
    assert accuracy(logits, data.labels, split.train) == row["train_accuracy"]
    assert confusion(logits, data.labels, split.test) == row["confusion"]
