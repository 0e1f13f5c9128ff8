"""Real features and recordings: the same label under MPC, in fixed point in the clear, and in float32.

The zoo's models have random weights here. SOTTOVOCE_FULL=1 takes five seeds and all rows and recordings instead of one
seed and some (`make test TESTS=tests/test_real_data.py ARGS=-s` shows what was found for each).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sottovoce.engine.protocols.table import PROTOCOLS
from sottovoce.models.evaluate import evaluate
from sottovoce.models.speech.extract import extract_features
from sottovoce.models.zoo import MODELS, build, list_models
from sottovoce.serving.classifier import Classifier
from tests.equality import FULL, compare_random, feature_rows, recordings

TRAINED = [name for name, row in MODELS.items() if row.weights is not None]
SEEDS = range(5) if FULL else range(1)
EVERY = {"rep3": 1, "beaver2": 1, "beaver2-fss": 1 if FULL else 8}
"""One of so many feature rows: keys for 1,440 comparisons of all rows take too long for each run."""


def _assert_same_labels(
    name: str, features: np.ndarray, protocol: str, report: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """features: (rows, *input_shape)."""
    logits = evaluate(build(name), features, np.float32)
    expected = logits.argmax(axis=1)
    top = np.sort(logits, axis=1)
    comparison = "boolean" if protocol == "beaver2" else "auto"  # else the network decides
    with Classifier(name, protocol=protocol, comparison=comparison) as mpc, Classifier(name, protocol="plain") as plain:
        assert mpc.compiled is not None
        inside = top[:, -1] - top[:, -2] <= mpc.compiled.report.margin_bound
        under_mpc, in_the_clear = mpc.predict(features), plain.predict(features)
        labels = mpc.classes_[expected]
    with capsys.disabled():
        rows = np.flatnonzero(inside).tolist()
        print(f"\n{report}, {protocol}: {inside.sum()} of {len(features)} rows inside the margin bound: {rows}")
    assert inside.sum() <= max(1, 0.01 * len(features))
    np.testing.assert_array_equal(under_mpc[~inside], labels[~inside])
    np.testing.assert_array_equal(in_the_clear[~inside], labels[~inside])


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", [name for name in TRAINED if MODELS[name].features == "mfcc40-mean"])
def test_trained_models_on_all_feature_rows(
    name: str, protocol: str, shared_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    features = feature_rows(shared_data)
    assert features.shape == (1440, 1, 40)
    _assert_same_labels(name, features[:: EVERY[protocol]], protocol, f"{name}, RAVDESS features", capsys)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", TRAINED)
def test_trained_models_on_all_recordings_of_actor_01(
    name: str, protocol: str, shared_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    batch = extract_features(recordings(shared_data), MODELS[name].features)
    assert len(batch.indices) == 60
    assert not batch.failed
    features = batch.features.reshape(-1, *MODELS[name].feature_set.input_shape)
    _assert_same_labels(name, features, protocol, f"{name}, RAVDESS recordings, actor 1", capsys)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", [name for name, row in MODELS.items() if row.features == "mfcc40-mean"])
def test_random_models_on_feature_rows(
    name: str, seed: int, shared_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = feature_rows(shared_data)
    found = compare_random(name, seed, rows if FULL else rows[::7])
    with capsys.disabled():
        print(f"\n{name}, seed {seed}, RAVDESS features: {found}")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", list_models())
def test_random_models_on_recordings(
    name: str, protocol: str, seed: int, shared_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = recordings(shared_data)
    assert len(files) == 60
    batch = extract_features(files if FULL else files[:: 10 if protocol == "rep3" else 30], MODELS[name].features)
    assert not batch.failed
    found = compare_random(name, seed, batch.features.reshape(-1, *MODELS[name].feature_set.input_shape), protocol)
    with capsys.disabled():
        print(f"\n{name}, seed {seed}, RAVDESS recordings, actor 1: {found}")
