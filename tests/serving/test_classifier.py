"""The Python API: scikit-learn's predict, Hugging Face's result shape, streaming, bad input by its own error."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from sottovoce.engine.errors import AudioError, ConfigError, FeatureError, InputError
from sottovoce.models.graph import Dense, Graph, Reshape
from sottovoce.models.speech.demo_clip import demo_clip_path
from sottovoce.models.speech.extract import FeatureBatch, extract_features
from sottovoce.models.speech.features import FEATURE_SETS, get_feature_set
from sottovoce.models.zoo.paper import forward_float, load_weights
from sottovoce.serving.classifier import Classifier, PartialResultError
from sottovoce.serving.owner import deploy
from tests.serving.deployment import deployment


@pytest.fixture(scope="module")
def classifier() -> Iterator[Classifier]:
    """The shipped model, scores allowed, small batches."""
    with Classifier("paper", scores=True, batch_size=4) as made:
        yield made


@pytest.fixture(scope="module")
def labels_only() -> Iterator[Classifier]:
    """The shipped model as it is by default."""
    with Classifier("paper") as made:
        yield made


def features(rows: int, seed: int = 0) -> np.ndarray:
    """Plausible MFCC means."""
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 12, (rows, 40))
    x[:, 0] = rng.uniform(-800, -300, rows)
    return x


def test_predict_gives_labels_and_proba_their_probabilities(classifier: Classifier) -> None:
    x = features(11)
    float_logits = forward_float(load_weights(), x)
    labels, probabilities = classifier.predict(x), classifier.predict_proba(x)
    np.testing.assert_array_equal(labels, classifier.classes_[float_logits.argmax(axis=1)])
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    np.testing.assert_array_equal(labels, classifier.classes_[probabilities.argmax(axis=1)])
    assert classifier.compiled is not None
    error = np.abs(classifier.decision_function(x) - float_logits).max()
    assert error <= max(classifier.compiled.report.logit_errors)


def test_long_inputs_are_streamed_in_batches(classifier: Classifier, tmp_path: Path) -> None:
    x = features(10)
    np.save(tmp_path / "x.npy", x)
    done: list[int] = []
    labels = classifier.predict(np.load(tmp_path / "x.npy", mmap_mode="r"), progress=done.append)
    assert done == [4, 8, 10]
    assert classifier.last_cost is not None
    assert classifier.last_cost.batch == 10
    np.testing.assert_array_equal(labels, classifier.predict(x.reshape(10, 1, 40)))


def test_results_have_hugging_face_shape(classifier: Classifier, labels_only: Classifier) -> None:
    clip = demo_clip_path()
    samples, rate = soundfile.read(clip, dtype="float32")
    (single,) = labels_only.classify(clip)
    assert set(single) == {"label", "score"}
    assert single["score"] is None
    assert labels_only.classify([clip, str(clip)]) == [[single], [single]]
    assert labels_only.classify(samples, sample_rate=rate) == [single]
    best = classifier.classify(clip, top_k=3)
    scores = [entry["score"] for entry in best]
    assert best[0]["label"] == single["label"]
    assert scores == sorted(scores, reverse=True)
    assert 0 < sum(scores) < 1
    (again,) = classifier.classify(clip, scores=True)
    assert again["label"] == single["label"]
    assert again["score"] == pytest.approx(scores[0], abs=1e-4)  # truncations round differently in every run


def test_one_bad_file_does_not_lose_the_others(labels_only: Classifier, tmp_path: Path) -> None:
    (tmp_path / "empty.wav").touch()
    good = demo_clip_path()
    with pytest.raises(PartialResultError, match=r"1 of 3 recordings.*empty\.wav") as caught:
        labels_only.classify([good, tmp_path / "empty.wav", good])
    assert caught.value.results[1] is None
    assert caught.value.results[0] == caught.value.results[2] == labels_only.classify(good)
    assert list(caught.value.failures) == [1]
    with pytest.raises(AudioError, match="missing"):
        labels_only.classify(tmp_path / "missing.wav")


def test_streams_of_any_length_give_errors_in_place(classifier: Classifier, tmp_path: Path) -> None:
    good = demo_clip_path()

    def endless() -> Iterator[Path]:
        while True:
            yield good
            yield tmp_path / "missing.wav"

    found = classifier.classify_stream(endless())
    answers = [next(found) for _ in range(6)]
    assert [isinstance(a, InputError) for a in answers] == [False, True] * 3
    found.close()


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.full((3, 40), np.nan), "row 0, feature 0: expected a finite number"),
        (np.where(np.eye(3, 40, 5) == 1, np.inf, 0.0), "row 0, feature 5: expected a finite number"),
        (
            np.where(np.arange(40) == 7, 1e12, np.zeros((2, 40))),
            r"row 0, feature 7: expected a number in \[-419, 419\]",
        ),
        (np.zeros((2, 39)), r"expected shape \(batch, 1, 40\), got \(2, 39\)"),
        (np.zeros(40), r"got one clip of shape \(40,\): pass features\[None\]"),
        (np.zeros((0, 40)), "empty batch"),
        (np.array([["a"] * 40]), "dtype"),
        (np.zeros((1, 40), complex), "dtype complex"),
        ([[1.0, 2.0], [1.0]], "different lengths"),
        (None, "dtype object"),
    ],
)
def test_bad_features_are_refused(labels_only: Classifier, bad: object, message: str) -> None:
    with pytest.raises(FeatureError, match=message):
        labels_only.predict(bad)  # type: ignore[arg-type]


def test_errors_count_rows_over_all_batches_and_show_no_value(classifier: Classifier) -> None:
    x = features(10)
    x[9, 3] = 123456.75
    with pytest.raises(FeatureError, match="row 9, feature 3") as caught:
        classifier.predict(x)
    assert "123456" not in str(caught.value)


def test_scores_must_be_allowed(labels_only: Classifier) -> None:
    for call in (
        lambda: labels_only.predict_proba(features(1)),
        lambda: labels_only.classify(demo_clip_path(), top_k=2),
        lambda: labels_only.classify(demo_clip_path(), scores=True),
    ):
        with pytest.raises(ConfigError, match="opens labels only"):
            call()
    with pytest.raises(ConfigError, match="top_k: expected 1 to 8, got 9"):
        labels_only.classify(demo_clip_path(), top_k=9)


def test_a_graph_of_ones_own() -> None:
    weight = np.eye(3, 6) * 4
    graph = Graph("mine", (2, 3), (Reshape("flat"), Dense("d", weight, np.zeros(3))), ("a", "b", "c"), (-1.0,), (1.0,))
    with Classifier(graph) as mine:
        assert list(mine.predict(np.eye(3, 6).reshape(3, 2, 3))) == ["a", "b", "c"]
        with pytest.raises(ConfigError, match=r"expected features mfcc40-mean or .*, got None.* use predict"):
            mine.classify(demo_clip_path())


@pytest.mark.parametrize("name", list(FEATURE_SETS))
def test_recordings_for_every_feature_set(name: str) -> None:
    """Whatever the shape of a row, classify computes what predict is given."""
    features = get_feature_set(name)
    n = features.low.size
    weight = np.random.default_rng(0).normal(0, 1, (3, n)).astype(np.float32)
    box = (tuple(features.low.ravel().tolist()), tuple(features.high.ravel().tolist()))
    nodes = (Reshape("flat"), Dense("dense", weight, np.zeros(3, np.float32)))
    graph = Graph("any", features.input_shape, nodes, ("a", "b", "c"), *box, name)
    clip = demo_clip_path()
    rows = extract_features([clip], name).features
    with Classifier(graph, protocol="plain", scores=True) as mine:
        (label,) = mine.predict(rows)
        assert mine.classify(clip) == [{"label": label, "score": None}]
        np.testing.assert_allclose(mine.decision_function(rows)[0], weight @ rows.ravel(), rtol=1e-3, atol=0.1)


def test_jobs_reach_the_extraction(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, object]] = []

    def spy(recordings: object, features: str, **options: object) -> FeatureBatch:
        seen.append({"features": features, **options})
        return FeatureBatch(np.zeros((1, 40)), (0,), ("a.wav",), ())

    monkeypatch.setattr("sottovoce.serving.classifier.extract_features", spy)
    with Classifier("paper", protocol="plain", jobs=3) as classifier:
        classifier.classify("a.wav", sample_rate=8_000)
    assert seen == [{"features": "mfcc40-mean", "sample_rate": 8_000, "jobs": 3}]


def test_a_feature_set_of_another_shape_is_refused() -> None:
    nodes = (Reshape("flat"), Dense("dense", np.eye(3, 6), np.zeros(3)))
    graph = Graph("odd", (2, 3), nodes, ("a", "b", "c"), (-1.0,), (1.0,), "mfcc40-mean")
    with (
        Classifier(graph, protocol="plain") as classifier,
        pytest.raises(ConfigError, match=r"expected input shape \(1, 40\) with features mfcc40-mean, got \(2, 3\)"),
    ):
        classifier.classify(demo_clip_path())


def test_a_cluster_of_processes_gives_the_same(labels_only: Classifier) -> None:
    x = features(5)
    assert labels_only.compiled is not None
    with deployment() as running:
        deploy(labels_only.compiled, running.cluster, None, insecure_loopback=True)
        with Classifier(cluster=running.cluster, insecure_loopback=True) as remote:
            np.testing.assert_array_equal(remote.predict(x), labels_only.predict(x))
            assert remote.last_cost is not None
            assert not remote.last_cost.encrypted
            remote.predict(x[:1])
            cost = remote.last_cost
            assert sum(cost.bytes_sent) / 3 <= 260_000  # measured at the sockets, input sharing and opening apart
            assert cost.rounds <= 45
            assert cost.input_bytes > 0
            assert cost.output_bytes > 0
        with pytest.raises(ConfigError, match="certificate folder"):
            Classifier(cluster=running.cluster).open()
