"""scikit-learn's conventions: parameters that are stored and cloned, lazy opening, scores, what repr shows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone, is_classifier
from sklearn.metrics import get_scorer

from sottovoce.engine.errors import ConfigError, FeatureError, InputError, ModelError, RangeProofError
from sottovoce.engine.transport.certificates import create_certificates
from sottovoce.engine.transport.tls import load_tls
from sottovoce.models.graph import Dense, Graph, Reshape
from sottovoce.serving.aio import AsyncClassifier
from sottovoce.serving.classifier import Classifier
from tests.serving.small import LABELS, small_features, small_graph


def test_the_constructor_only_stores(tmp_path: Path) -> None:
    """Nothing is opened or checked, so wrong parameters are no error yet."""
    made = Classifier("nobody", batch_size=0, cluster=tmp_path / "missing.toml", labels=["a"])
    assert made.opened is None
    assert made.get_params()["model"] == "nobody"
    assert made.get_params(deep=False) == made.get_params()
    assert made.last_cost is None


@pytest.mark.parametrize("kind", [Classifier, AsyncClassifier])
def test_a_clone_has_equal_parameters_and_shares_nothing(kind: type[Classifier]) -> None:
    samples, graph = small_features(4), small_graph()
    original = kind(graph, calibrate=samples, batch_size=7, labels=["a", "b", "c"])
    copied = clone(original)
    assert type(copied) is kind
    given, got = original.get_params(), copied.get_params()
    assert given.keys() == got.keys()
    assert got["batch_size"] == 7 and got["labels"] == ["a", "b", "c"] and got["labels"] is not given["labels"]
    np.testing.assert_array_equal(got["calibrate"], samples)
    assert not np.shares_memory(got["calibrate"], samples)
    assert got["model"] is not graph
    assert not np.shares_memory(got["model"].nodes[0].weight, graph.nodes[0].weight)  # type: ignore[union-attr]


def test_an_open_classifier_s_clone_is_closed_and_independent() -> None:
    x = small_features(5)
    with Classifier(small_graph(), protocol="plain") as original:
        copied = clone(original)
        assert copied.opened is None
        with copied:
            np.testing.assert_array_equal(copied.predict(x), original.predict(x))
            assert copied.opened is not original.opened
        assert original.opened is not None


def test_certificates_can_be_cloned(tmp_path: Path) -> None:
    create_certificates(tmp_path / "certs", clients=["alice"])
    tls = load_tls(tmp_path / "certs" / "client-alice")
    original = Classifier(cluster="cluster.toml", certificates=tls)
    assert clone(original).certificates is tls
    assert repr(original) == "Classifier(cluster='cluster.toml', certificates=<certificates of client alice>)"


def test_parameters_change_through_set_params() -> None:
    x = small_features(4)
    with Classifier(small_graph(), protocol="plain") as classifier:
        before = classifier.predict(x)
        assert classifier.set_params(labels=("a", "b", "c"), scores=True) is classifier
        assert classifier.opened is None
        assert list(classifier.classes_) == ["a", "b", "c"]
        assert [dict(zip(LABELS, "abc", strict=True))[label] for label in before] == list(classifier.predict(x))
        with pytest.raises(ConfigError, match=r"expected some of model, weights, .*, got colour"):
            classifier.set_params(colour="red")
        assert classifier.predict_proba(x).shape == (4, 3)


def test_repr_shows_parameters_and_no_contents() -> None:
    assert repr(Classifier()) == "Classifier()"
    secret = np.array([[0.123456789]])
    shown = repr(Classifier(small_graph(), weights={"w": secret}, calibrate=secret, scores=True))
    assert (
        shown == "Classifier(model=<Graph 'small'>, weights=<1 arrays>, calibrate=<array (1, 1) float64>, scores=True)"
    )
    shown = repr(AsyncClassifier(b"0123456789", calibrate=[[0.123456789]], labels=["a"]))
    assert shown == "AsyncClassifier(model=<10 bytes>, labels=['a'], calibrate=<list of 1>)"


@pytest.mark.parametrize(
    ("parameters", "kind", "message"),
    [
        ({"deadline_s": float("nan")}, ConfigError, "deadline_s: expected a number of seconds above 0, got nan"),
        ({"batch_size": 0}, ConfigError, "batch_size: expected a whole number of at least 1, got 0"),
        ({"jobs": 1.5}, ConfigError, "jobs: expected a whole number"),
        ({"certificates": "certs"}, ConfigError, "expected cluster= with them"),
        ({"cluster": "c.toml"}, ConfigError, "^model: with cluster= the model's owner decides"),
        (
            {"model": "paper", "cluster": "c.toml", "calibrate": np.ones((2, 2))},
            ConfigError,
            "^calibrate: with cluster=",
        ),
        ({"model": "paper", "cluster": "missing.toml"}, ConfigError, r"missing\.toml"),
        ({"model": "nobody"}, ModelError, "expected one of .*paper.*, got 'nobody'"),
        ({"protocol": "shamir"}, ConfigError, "shamir"),
        ({"labels": ["a", "b"]}, ModelError, "expected one logit for each of 2 labels"),
        ({"calibrate": np.zeros((3, 5))}, ModelError, r"calibrate: .* \(clips, 16\).*got shape \(3, 5\)"),
    ],
)
def test_wrong_parameters_show_when_it_is_opened(parameters: dict, kind: type[Exception], message: str) -> None:
    classifier = Classifier(**{"model": small_graph(), **parameters})
    for use in (classifier.open, lambda: classifier.predict(small_features(1))):
        with pytest.raises(kind, match=message):
            use()
    assert classifier.opened is None


def test_a_closed_classifier_opens_again() -> None:
    x = small_features(6)
    classifier = Classifier(small_graph())
    labels = classifier.predict(x)
    first = classifier.opened
    assert first is not None and classifier.open().opened is first
    classifier.close()
    classifier.close()
    assert classifier.opened is None
    np.testing.assert_array_equal(classifier.predict(x), labels)
    assert classifier.opened is not first
    classifier.close()


def test_facts_about_the_model() -> None:
    with Classifier(small_graph(), protocol="plain") as classifier:
        assert list(classifier.classes_) == list(LABELS)
        assert classifier.n_features_in_ == 16
        assert not classifier.calibrated
        assert classifier.compiled is not None


def test_score_is_the_share_of_right_labels() -> None:
    x = small_features(8)
    with Classifier(small_graph(), protocol="plain") as classifier:
        truth = classifier.predict(x)
        assert classifier.score(x, truth) == 1
        wrong = truth.copy()
        wrong[:2] = "nobody"
        assert classifier.score(x, list(wrong)) == 0.75
        assert is_classifier(classifier)
        assert get_scorer("accuracy")(classifier, x, wrong.astype(object)) == 0.75
        for bad, message in ((truth[:3], "a label for each of 8 clips, got 3"), (np.zeros(8, int), "dtype int")):
            with pytest.raises(InputError, match=message):
                classifier.score(x, bad)


def test_every_form_of_features() -> None:
    x = small_features(5)
    with Classifier(small_graph(), protocol="plain", batch_size=2) as classifier:
        expected = classifier.predict(x)
        for form in (x.reshape(5, 16), x.tolist(), [list(row.ravel()) for row in x], list(x)):
            np.testing.assert_array_equal(classifier.predict(form), expected)
        for one in (x[0], x[0].ravel()):
            with pytest.raises(FeatureError, match=r"expected \(clips, 16\) or \(clips, 2, 8\), got one clip"):
                classifier.predict(one)


def test_calibration_is_explicit_and_visible() -> None:
    """A model that cannot be proven runs on ranges seen on samples, and everything says so."""
    weight = np.full((3, 16), 1e12)
    graph = Graph("big", (2, 8), (Reshape("flat"), Dense("dense", weight, np.zeros(3))), LABELS, (-1e6,), (1e6,))
    x = np.sign(small_features(4))
    with pytest.raises(RangeProofError, match=r"layer 'dense'.*bits.*calibrate="):
        Classifier(graph, protocol="plain").open()
    with Classifier(small_graph(), calibrate=x.reshape(4, 16), protocol="plain") as classifier:
        assert classifier.calibrated
        classifier.predict(x)
        assert classifier.last_cost is not None and classifier.last_cost.calibrated
