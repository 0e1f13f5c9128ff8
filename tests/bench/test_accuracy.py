"""Labels counted three ways on a small invented corpus; the trainer is a stand-in, so no PyTorch is needed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sottovoce.bench import accuracy
from sottovoce.bench.accuracy import count_labels, measure_accuracy
from sottovoce.engine.errors import ConfigError, InputError
from sottovoce.engine.protocols.table import PROTOCOLS
from sottovoce.models.evaluate import evaluate
from sottovoce.models.graph import Graph
from sottovoce.models.training import extras
from sottovoce.models.training.dataset import TrainingSet
from sottovoce.models.training.splits import SplitKind, random_split
from sottovoce.models.zoo import build, random_weights

ROWS = 60


@pytest.fixture
def corpus(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Features that look like MFCCs, labels that the untrained network of seed 0 gives to two rows in three."""
    x = rng.normal(0, 10, (ROWS, 40))
    y = evaluate(untrained(0), x[:, None, :]).argmax(axis=1)
    y[::3] = (y[::3] + 1) % 8
    path = tmp_path / "corpus.npz"
    np.savez(path, X=x, y=y.astype(np.int64), speaker=np.arange(ROWS) // 6)
    return path


def untrained(seed: int) -> Graph:
    return build("tiny", random_weights("tiny", seed))


def stand_in(graph: Graph, data: TrainingSet, kind: SplitKind, seed: int) -> Graph:
    return untrained(0)


def test_a_row_for_each_split_and_seed_with_the_true_counts(corpus: Path) -> None:
    told: list[tuple[int, int, str]] = []
    asked: list[tuple[SplitKind, int]] = []

    def train(graph: Graph, data: TrainingSet, kind: SplitKind, seed: int) -> Graph:
        asked.append((kind, seed))
        return stand_in(graph, data, kind, seed)

    rows = measure_accuracy(
        corpus, model="tiny", seeds=(0, 3), progress=lambda *told_now: told.append(told_now), train=train
    )
    assert asked == [("random", 0), ("random", 3), ("by_speaker", 0), ("by_speaker", 3)]
    assert [(r.split, r.seed, r.protocol) for r in rows] == [
        (split, seed, protocol) for split in ("random", "speaker") for seed in (0, 3) for protocol in PROTOCOLS
    ]
    test = random_split(ROWS, 3).test
    right = int((test % 3 != 0).sum())
    for row in rows:
        if (row.split, row.seed) == ("random", 3):
            assert row.rows == len(test)
            assert row.float_correct == right
            # A label may change only where two logits are closer than fixed point tells apart.
            assert row.mpc_correct == pytest.approx(right, abs=row.label_changes)
            assert row.label_changes <= 1
    assert len(rows[0].data) == 64 and len({r.data for r in rows}) == 1
    assert [(done, total) for done, total, _ in told] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert "tiny, split speaker, seed 3" in told[-1][2]


def test_one_split_and_no_other(corpus: Path) -> None:
    rows = measure_accuracy(corpus, model="tiny", protocols=("rep3",), splits=("speaker",), seeds=(1,), train=stand_in)
    assert [(r.split, r.seed) for r in rows] == [("speaker", 1)]


def test_each_way_is_counted_on_its_own(monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    graph, x = untrained(0), rng.normal(0, 10, (5, 1, 40))
    monkeypatch.setattr(accuracy, "BATCH", 2)
    monkeypatch.setattr(accuracy, "evaluate", lambda graph, x: np.eye(8)[[0] * len(x)])
    monkeypatch.setattr(accuracy, "run_plain", lambda program, weights, x, output: np.full(len(x), 1))
    monkeypatch.setattr(
        accuracy, "_under_mpc", lambda compiled, protocol, batches: np.array([0, 1, 1, 1, 2][: sum(map(len, batches))])
    )
    (counts,) = count_labels(graph, x, np.array([0, 1, 1, 2, 2]), ["rep3"])
    assert counts == {
        "protocol": "rep3",
        "rows": 5,
        "float_correct": 1,
        "fixed_correct": 2,
        "mpc_correct": 4,
        "label_changes": 4,
        "fixed_differs_from_mpc": 2,
    }


def test_labels_under_mpc_do_not_depend_on_the_batches(
    monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    x, labels = rng.normal(0, 10, (7, 1, 40)), np.zeros(7, np.int64)
    whole = list(count_labels(untrained(0), x, labels, ["rep3"]))
    monkeypatch.setattr(accuracy, "BATCH", 3)
    assert list(count_labels(untrained(0), x, labels, ["rep3"])) == whole


def test_without_pytorch_the_error_says_what_to_install(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"training needs torch.*pip install"):
        measure_accuracy(corpus, model="tiny")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "huge"}, "model: expected one of .*paper.*, got 'huge'"),
        ({"protocols": ("rep4",)}, "protocol: expected one of"),
        ({"protocols": ()}, "accuracy: protocols: expected at least one"),
        ({"seeds": (1, 1)}, r"accuracy: seeds: .*each once, got \[1, 1\]"),
        ({"splits": ("random", "random")}, "accuracy: splits"),
    ],
)
def test_options_that_make_no_sense_are_refused_before_any_training(
    corpus: Path, options: dict[str, object], message: str
) -> None:
    def never(*_: object) -> Graph:
        raise AssertionError("trained")

    with pytest.raises(ConfigError, match=message):
        measure_accuracy(corpus, **{"model": "tiny", "train": never, **options})  # type: ignore[arg-type]


def test_a_file_of_other_features_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.npz"
    np.savez(path, X=np.zeros((4, 7)), y=np.zeros(4, np.int64), speaker=np.arange(4))
    with pytest.raises(InputError, match=r"other\.npz: expected X"):
        measure_accuracy(path, train=stand_in)
