"""A whole run on made-up rows: what is reported is what the graph that is handed out does. Needs the extra `train`."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch: the extra `train`")

from sottovoce.engine.errors import ConfigError, InputError  # noqa: E402  (the skip comes first)
from sottovoce.models.evaluate import evaluate  # noqa: E402
from sottovoce.models.graph import Graph  # noqa: E402
from sottovoce.models.training.card import render  # noqa: E402
from sottovoce.models.training.dataset import TrainingSet  # noqa: E402
from sottovoce.models.training.recipe import Recipe, recipe_for  # noqa: E402
from sottovoce.models.training.run import Plan, find_device, train_all  # noqa: E402
from sottovoce.models.training.splits import split_rows, validation_split  # noqa: E402
from sottovoce.models.zoo import build, random_weights  # noqa: E402

LABELS = ("happy", "sad", "angry")


def _data(rows: int = 96) -> TrainingSet:
    rng = np.random.default_rng(0)
    labels = np.arange(rows) % 3
    features = rng.normal(size=(rows, 1, 40))
    features[:, 0, 0] -= 500
    features[np.arange(rows), 0, 10 + 6 * labels] += 12
    groups = np.arange(rows) // 12
    return TrainingSet(features, labels, groups, LABELS, {"name": "toy", "sha256": "0" * 64})


def _tiny() -> Graph:
    return build("tiny", random_weights("tiny", 0))


def _plan(**changes: object) -> Plan:
    recipe = Recipe(scaling="common", equalise=True, epochs=6, patience=3)
    return replace(Plan(_tiny(), _data(), recipe, seeds=(0, 1)), **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def outcome() -> object:
    return train_all(_plan())


def test_the_reported_figures_are_those_of_the_graph_that_is_handed_out(outcome: object) -> None:
    results, graph, data = outcome.results, outcome.graph, _data()  # type: ignore[attr-defined]
    row = results["splits"]["random"]["seeds"][0]
    split = split_rows("random", data.groups, 0)
    right = evaluate(graph, data.features).argmax(axis=1) == data.labels
    assert row["test_accuracy"] == pytest.approx(right[split.test].mean(), abs=1e-4)
    assert row["train_accuracy"] == pytest.approx(right[split.train].mean(), abs=1e-4) and row["train_accuracy"] > 0.8
    assert (row["train_rows"], row["test_rows"]) == (len(split.train), len(split.test))
    assert 0 < row["validation_rows"] < len(split.train) and row["kept_epoch"] <= row["epochs"] <= 6
    assert graph.labels == LABELS and results["fixed_point"]["margin_bound"] < 1e-3
    assert [r["seed"] for r in results["splits"]["by_speaker"]["seeds"]] == [0, 1]
    assert render(json.loads(json.dumps(results))).startswith("# Model card: `tiny`")


def test_the_run_repeats_itself(outcome: object) -> None:
    again = train_all(_plan(kinds=("random",), seeds=(0,)))
    assert (
        again.results["splits"]["random"]["seeds"][0]
        == (
            outcome.results["splits"]["random"]["seeds"][0]  # type: ignore[attr-defined]
        )
    )


def test_the_note_on_a_preset_is_kept_to_rows_that_it_is_about() -> None:
    """It says that test rows may have chosen the preset: not those of another corpus."""
    data = _data()
    data.features[1] = data.features[4]
    short = replace(recipe_for("tiny"), epochs=1)
    for title, is_noted in (("EmoDB", False), ("RAVDESS", True), (None, True)):
        named = replace(data, source={**data.source, **({} if title is None else {"title": title})})
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sottovoce.models.training.run.recipe_for", lambda name: short)
            results = train_all(_plan(data=named, recipe=short, kinds=("random",), seeds=(0,))).results
        assert ("note" in results["recipe"]) == is_noted
        assert results["data"]["repeated"] == 1


def test_copies_of_test_and_validation_rows_are_never_trained_on() -> None:
    """Copies of the rows that may not be seen are made useless: the network must not change."""
    data = _data()
    split = split_rows("random", data.groups, 0)
    copies = data.features[None] + 0.1
    held_out = validation_split("random", data.groups, split.train, 0, _plan().recipe.validation).test
    spoilt = copies.copy()
    spoilt[:, split.test] = spoilt[:, held_out] = -1e3
    runs = [
        train_all(_plan(data=replace(data, copies=version), kinds=("random",), seeds=(0,)))
        for version in (copies, spoilt)
    ]
    rows = [run.results["splits"]["random"]["seeds"][0] for run in runs]
    assert rows[0] == rows[1] and runs[0].results["recipe"]["copies"] == 1
    spoilt[:, split.train] = 100.0
    assert train_all(_plan(data=replace(data, copies=spoilt), kinds=("random",), seeds=(0,))).results != runs[0].results


def test_test_rows_do_not_reach_the_network() -> None:
    data = _data()
    split = split_rows("by_speaker", data.groups, 0)
    other = data.features.copy()
    other[split.test] = 5.0
    plain, changed = (
        train_all(_plan(data=replace(data, features=x), kinds=("by_speaker",), seeds=(0,))).graph
        for x in (data.features, other)
    )
    x = data.features[split.train]
    np.testing.assert_array_equal(evaluate(plain, x), evaluate(changed, x))


def test_an_interrupted_run_keeps_what_is_done() -> None:
    def stop(kind: str, row: object) -> None:
        raise KeyboardInterrupt

    results = train_all(_plan(recipe=Recipe(epochs=1, patience=0)), None, stop).results
    assert results["interrupted"] is True and list(results["splits"]) == ["random"]
    assert "interrupted" in render(results)

    def at_once(epochs: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_all(_plan(), at_once)


def test_features_outside_the_box_are_refused() -> None:
    data = _data()
    data.features[3, 0, 0] = 1e6
    with pytest.raises(InputError, match="inside its declared box"):
        train_all(_plan(data=data))


def test_a_split_that_cannot_be_made_is_refused_before_anything_is_trained() -> None:
    data = _data()
    trained: list[object] = []
    with pytest.raises(InputError, match="by speaker split"):
        train_all(_plan(data=replace(data, groups=0 * data.groups)), trained.append)
    assert trained == []


def test_one_label_is_nothing_to_learn() -> None:
    data = _data()
    with pytest.raises(InputError, match="at least two labels, got 1"):
        train_all(_plan(data=replace(data, labels=0 * data.labels, names=("happy",))))


def test_a_gpu_that_is_not_there_is_refused() -> None:
    assert find_device("cpu") == "cpu"
    if torch.cuda.is_available():
        assert find_device("auto") == "cuda"
        return
    assert find_device("auto") == "cpu"
    with pytest.raises(ConfigError, match="--device cuda"):
        find_device("cuda")
