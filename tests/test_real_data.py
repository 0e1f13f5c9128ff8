"""Real features and recordings: the same label under MPC, in fixed point in the clear, and in float32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sottovoce.models.speech.features import extract_features
from sottovoce.models.zoo.paper import forward_float, load_weights
from sottovoce.serving.classifier import Classifier


def _assert_same_labels(features: np.ndarray, report: str, capsys: pytest.CaptureFixture[str]) -> None:
    logits = forward_float(load_weights(), features, np.float32)
    expected = logits.argmax(axis=1)
    top = np.sort(logits, axis=1)
    with Classifier("paper") as mpc, Classifier("paper", protocol="plain") as plain:
        assert mpc.compiled is not None
        inside = top[:, -1] - top[:, -2] <= mpc.compiled.report.margin_bound
        under_mpc, in_the_clear = mpc.predict(features), plain.predict(features)
        labels = mpc.classes_[expected]
    with capsys.disabled():
        rows = np.flatnonzero(inside).tolist()
        print(f"\n{report}: {inside.sum()} of {len(features)} rows inside the margin bound: {rows}")
    assert inside.mean() <= 0.01
    np.testing.assert_array_equal(under_mpc[~inside], labels[~inside])
    np.testing.assert_array_equal(in_the_clear[~inside], labels[~inside])


@pytest.mark.slow
def test_all_feature_rows(shared_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with np.load(shared_data / "ravdess" / "mfcc40_mean.npz") as data:
        features = data["X"]
    assert features.shape == (1440, 40)
    _assert_same_labels(features, "RAVDESS features", capsys)


@pytest.mark.slow
def test_all_recordings_of_actor_01(shared_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    batch = extract_features(sorted((shared_data / "ravdess" / "Actor_01").glob("*.wav")))
    assert len(batch.indices) == 60
    assert not batch.failed
    _assert_same_labels(batch.features, "RAVDESS recordings, actor 1", capsys)
