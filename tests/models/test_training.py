"""The training code itself, on rows made up for the purpose. Needs the extra `train`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch: the extra `train`")

from sottovoce.models.training import paper  # noqa: E402  (these import torch)
from sottovoce.models.training.fold import Standardisation, unfolded  # noqa: E402
from sottovoce.models.training.network import Recipe, forward, initial_parameters, train  # noqa: E402
from sottovoce.models.zoo.paper import PARAMETERS, forward_float, load_weights  # noqa: E402


def _rows(count: int = 72) -> tuple[np.ndarray, np.ndarray]:
    """Features that give their label away: coefficient k is high for class k."""
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 8
    features = rng.normal(size=(count, 40))
    features[:, 0] -= 590
    features[np.arange(count), 10 + 3 * labels] += 20
    return features, labels


def test_the_network_in_training_is_the_network_that_is_shipped() -> None:
    parameters = initial_parameters(torch.Generator().manual_seed(1))
    assert sum(p.numel() for p in parameters.values()) == PARAMETERS
    z = np.random.default_rng(2).normal(size=(7, 40))
    got = forward({name: p.double() for name, p in parameters.items()}, torch.tensor(z)).numpy()
    arrays = {name: p.double().numpy() for name, p in parameters.items()}
    np.testing.assert_allclose(got, forward_float(unfolded(arrays), z), rtol=0, atol=1e-12)


def test_training_learns_and_repeats_itself_bit_for_bit() -> None:
    features, labels = _rows()
    recipe = Recipe(epochs=15)
    first, standardisation = train(features, labels, recipe, seed=3)
    again, _ = train(features, labels, recipe, seed=3)
    other, _ = train(features, labels, recipe, seed=4)
    for name in first:
        np.testing.assert_array_equal(first[name], again[name])
    assert not np.array_equal(first["dense.weight"], other["dense.weight"])
    assert isinstance(standardisation, Standardisation)
    logits = forward_float(unfolded(first), standardisation.apply(features))
    assert np.mean(logits.argmax(axis=1) == labels) > 0.9


def test_the_script_writes_weights_results_and_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = _rows(1_440)
    np.savez(tmp_path / "rows.npz", X=features, y=labels, block=np.arange(1_440) // 60)
    monkeypatch.setattr(paper, "Recipe", lambda: Recipe(epochs=1))
    paper.main(["--data", str(tmp_path / "rows.npz"), "--out", str(tmp_path / "out"), "--seeds", "0"])
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    (row,) = results["splits"]["random"]["seeds"]
    logits = forward_float(load_weights(tmp_path / "out" / "weights.npz"), features)
    test_rows = paper.random_split(1_440, 0).test
    assert row["test_accuracy"] == pytest.approx(
        np.mean(logits.argmax(axis=1) == labels, where=np.isin(np.arange(1_440), test_rows)), abs=1e-4
    )
    assert (tmp_path / "out" / "MODEL_CARD.md").read_text() == paper.render(results)
