"""The model card says what the results say, and nothing that they do not."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tests.models.training.samples import sample_results

from sottovoce.models.training.card import render
from sottovoce.models.training.folder import dump
from sottovoce.models.training.measure import accuracy, confusion, margins, mean_recall, summary
from sottovoce.models.training.splits import SPLIT_TITLES


def test_the_card_carries_the_figures() -> None:
    results = sample_results()
    card = render(results)
    random, speaker = (results["splits"][kind] for kind in SPLIT_TITLES)
    for text in (
        f"| random | {100 * random['mean']:.2f} % ± {100 * random['std']:.2f} |",
        f"| by speaker | {100 * speaker['mean']:.2f} % ± {100 * speaker['std']:.2f} |",
        "| by speaker | 1 | 1,020 | 30 | 3 of 4 | 98.00 % | 43.33 % |",
        "| **sad** | 3 | 15 | 2 |",
        "75 % of the rows for training, 25 % for testing",
        f"{100 * (random['mean'] - speaker['mean']):.1f} points lower",
        "seed 0 of the split random",
        "80.00 % on its 30 test rows",
        "Chance is 33.3 %",
        "early stopping after 20 epochs".capitalize(),
        "150 for the shipped weights",
        "conv1 32, argmax 48",
        "3.33 % of the 30 test rows are closer",
        "First layer times 8",
        "1,234 parameters",
        "ab" * 32,
        "Do not use it",
    ):
        assert text in card, text
    assert "interrupted" not in card and "{" not in card


def test_chance_is_that_of_the_split_with_the_largest_class() -> None:
    results = sample_results()
    for row in results["splits"]["by_speaker"]["seeds"]:
        row["confusion"][0][0] += 30
    assert "Chance is 66.7 %" in render(results)


def test_rows_that_occur_twice_are_said() -> None:
    results = sample_results()
    assert "Equal to another row" not in render(results)
    results["data"]["repeated"] = 2
    assert "Equal to another row: 2." in render(results)


def test_what_was_not_measured_is_said() -> None:
    results = sample_results(interrupted=True)
    del results["splits"]["by_speaker"]
    card = render(results)
    assert "The split by speaker was not measured." in card and "interrupted" in card
    assert "points lower" not in card and "| by speaker |" not in card


def test_a_model_without_a_proof_says_so() -> None:
    assert "**The range proof fails**" in render(sample_results(fixed_point={"error": "layer 'x': 70 bits"}))


def test_the_licence_is_that_of_the_data_or_unknown() -> None:
    data = {**sample_results()["data"], "title": "RAVDESS", "citation": "L. and R.", "licence": "CC BY-NC-SA 4.0"}
    known, unknown = render(sample_results(data=data)), render(sample_results())
    assert "CC BY-NC-SA 4.0" in known and "L. and R." in known
    assert "licence of the data is not known" in unknown and "CC BY" not in unknown


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ({"mixup": 0.0}, "ixup"),
        ({"average": 0.0}, "oving average"),
        ({"noise": 0.0}, "aussian noise"),
        ({"class_weights": "none"}, "weighted by the inverse"),
        ({"equalise": False}, "divided by the initial size"),
        ({"patience": 0}, "arly stopping after"),
        ({"balance_bits": 0}, "irst layer times"),
    ],
)
def test_a_setting_that_is_off_is_not_in_the_recipe(setting: dict[str, object], text: str) -> None:
    base = sample_results()["recipe"]
    full = {"mixup": 0.3, "average": 0.99, "noise": 0.1, "class_weights": "balanced", "equalise": True}
    assert text in render(sample_results(recipe={**base, **full}))
    assert text not in render(sample_results(recipe={**base, **full, **setting}))


def test_results_survive_the_file_and_rows_of_numbers_stay_on_one_line() -> None:
    results = sample_results()
    text = dump(results)
    assert json.loads(text) == results and render(json.loads(text)) == render(results)
    assert "[8, 1, 1]" in text and '"labels": [\n' in text


# ---- measures -----------------------------------------------------------------------------------------------------


def test_accuracy_recall_and_confusion_of_chosen_rows() -> None:
    logits = np.array([[2, 1, 0], [0, 3, 1], [5, 4, 0], [0, 0, 1], [9, 0, 0]], dtype=float)
    labels, rows = np.array([0, 1, 1, 2, 2]), np.array([0, 1, 2, 3])
    assert accuracy(logits, labels, rows) == 0.75
    table = confusion(logits, labels, rows)
    assert table == [[1, 0, 0], [1, 1, 0], [0, 0, 1]]
    assert mean_recall(table) == pytest.approx((1 + 0.5 + 1) / 3, abs=1e-4)
    assert mean_recall([[1, 1], [0, 0]]) == 0.5  # a class without rows does not count
    np.testing.assert_array_equal(margins(logits), [1, 2, 1, 1, 9])


def test_the_summary_of_one_network_has_no_deviation() -> None:
    assert summary([{"test_accuracy": 0.5}])["std"] == 0
    two = summary([{"test_accuracy": 0.5}, {"test_accuracy": 0.7}])
    assert (two["mean"], two["min"], two["max"]) == (0.6, 0.5, 0.7) and two["std"] == pytest.approx(0.1414, abs=1e-4)
