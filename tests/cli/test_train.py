"""`sottovoce train`, from recordings or features to a model that `explain` and `classify` take."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tests.cli.conftest import RunCommand

from sottovoce.cli import train
from sottovoce.cli.app import build_parser
from sottovoce.cli.exits import Exit
from sottovoce.engine.errors import ConfigError
from sottovoce.models.load import load_model
from sottovoce.models.onnx import export_onnx
from sottovoce.models.training import extras
from sottovoce.models.training.dataset import TrainingSet
from sottovoce.models.training.folder import FILES, check_folder
from sottovoce.models.training.recipe import recipe_for

RATE = 22_050
TORCH = all(importlib.util.find_spec(name) for name in extras.EXTRAS)
needs_torch = pytest.mark.skipif(not TORCH, reason="needs PyTorch and Matplotlib: the extra `train`")


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """RAVDESS by its names: four actors, three emotions, three takes each; a deep, a middle and a high tone."""
    folder = tmp_path_factory.mktemp("ravdess")
    rng = np.random.default_rng(0)
    for actor in range(1, 5):
        for emotion, frequency in ((3, 200), (4, 900), (5, 4_000)):
            for take in range(3):
                time = np.arange(int(0.2 * RATE)) / RATE
                tone = np.sin(2 * np.pi * frequency * rng.uniform(0.95, 1.05) * time) + 0.02 * rng.normal(
                    size=time.size
                )
                name = f"03-01-{emotion:02d}-01-{1 + take % 2:02d}-{1 + take // 2:02d}-{actor:02d}.wav"
                soundfile.write(folder / name, 0.3 * tone, RATE)
    (folder / "03-01-08-01-01-01-01.wav").write_bytes(b"no sound")
    return folder


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """A file of features whose labels stand in coefficient 20."""
    rng = np.random.default_rng(1)
    labels = np.arange(80) % 2
    x = rng.normal(size=(80, 40))
    x[:, 20] += 10 * labels
    path = tmp_path / "rows.npz"
    np.savez(path, X=x, y=labels, speaker=np.arange(80) // 10, labels=np.array(["low", "high"]))
    return path


# ---- without PyTorch ----------------------------------------------------------------------------------------------


def test_without_the_extra_one_line_says_what_to_install(
    command: RunCommand, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    ran = command("train", tmp_path, "--out", tmp_path / "out")
    assert (ran.status, ran.out) == (Exit.USAGE, "")
    assert ran.err.startswith("sottovoce: error: training needs torch and matplotlib: pip install -e '.[train]'")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "--out"),
        (("--out", "o", "--split", "half"), "invalid choice"),
        (("--out", "o", "--test-share", "1"), "more than 0 and less than 1"),
        (("--out", "o", "--seeds", "-1"), "--seeds"),
        (("--out", "o", "--class-weights", "some"), "invalid choice"),
        (("--out", "o", "--augment", "0"), "at least 1"),
    ],
)
def test_wrong_options_are_status_2(command: RunCommand, options: tuple[str, ...], message: str) -> None:
    ran = command("train", "corpus", *options)
    assert ran.status == Exit.USAGE and message in ran.err


def test_options_change_the_recipe_of_the_model_and_nothing_else() -> None:
    rows, data = np.zeros(1, dtype=np.int64), np.zeros((1, 1, 40))
    features = TrainingSet(data, rows, rows, ("a",), {})
    copied = TrainingSet(data, rows, rows, ("a",), {}, data[None])

    def recipe(*options: str, found: TrainingSet = features) -> object:
        args = build_parser().parse_args(["train", "corpus", "--out", "o", *options])
        return train._recipe(args, "paper", found)

    base = recipe_for("paper")
    assert recipe() == base
    changed = recipe("--epochs", "7", "--patience", "0", "--class-weights", "balanced", "--learning-rate", "0.1")
    assert (changed.epochs, changed.class_weights, changed.learning_rate) == (7, "balanced", 0.1)  # type: ignore[attr-defined]
    assert (changed.mixup, changed.scaling) == (base.mixup, base.scaling)  # type: ignore[attr-defined]
    assert recipe("--augment").noise == train.NOISE  # type: ignore[attr-defined]
    assert recipe("--augment", found=copied) == base  # recordings are altered, not their features


def test_several_models_get_a_folder_each() -> None:
    assert train._folders(Path("o"), ["tiny"]) == [Path("o")]
    assert train._folders(Path("o"), ["tiny", "../mine.onnx"]) == [Path("o/tiny"), Path("o/mine")]
    with pytest.raises(ConfigError, match="different names"):
        train._folders(Path("o"), ["mine.onnx", "other/mine.onnx"])


def test_the_files_of_an_earlier_run_are_not_overwritten_unasked(tmp_path: Path) -> None:
    check_folder(tmp_path / "new", force=False)
    (tmp_path / FILES[0]).write_bytes(b"mine")
    with pytest.raises(ConfigError, match=rf"holds {FILES[0]} of an earlier run; --force replaces"):
        check_folder(tmp_path, force=False)
    check_folder(tmp_path, force=True)
    assert (tmp_path / FILES[0]).read_bytes() == b"mine"
    with pytest.raises(ConfigError, match="expected a folder, got a file"):
        check_folder(tmp_path / FILES[0], force=True)


# ---- with it ------------------------------------------------------------------------------------------------------


@needs_torch
@pytest.mark.slow
def test_from_a_folder_of_recordings_to_a_model_that_classifies(
    command: RunCommand, recordings: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    options = ("--model", "tiny", "--epochs", 8, "--seeds", 0, 1, "--test-share", 0.25, "--augment", 1)
    options = (*options, "--cache", tmp_path / "cache")
    ran = command("train", recordings, "--out", out, *options, "--device", "cpu", "--progress", "lines")
    assert ran.status == Exit.OK, ran.err
    assert "ravdess: leaves out 1 unreadable file" in ran.err and "tiny, random split, seed 1" in ran.err
    assert "by speaker" in ran.out and f"explain {out / 'model.onnx'}" in ran.out
    assert {path.name for path in out.iterdir()} == set(FILES)
    assert len(list((tmp_path / "cache").rglob("*.features"))) == 36  # what is augmented is not kept
    results = json.loads((out / "results.json").read_text())
    assert results["labels"] == ["happy", "sad", "angry"] and results["splits"]["random"]["mean"] > 0.6
    assert results["data"]["speakers"] == 4 and results["recipe"]["copies"] == 1
    card = (out / "MODEL_CARD.md").read_text()
    assert "CC BY-NC-SA 4.0" in card and "Left out: 1 unreadable files." in card
    explained = command("explain", out / "model.onnx", "--json").json
    assert explained["margin_bound"] == pytest.approx(results["fixed_point"]["margin_bound"], rel=0.01)
    recording = sorted(recordings.glob("03-01-05-*.wav"))[0]
    found = command("classify", recording, "--model", out / "model.onnx", "--json").json
    assert found["results"][0]["predictions"][0]["label"] in results["labels"]
    again = command("train", recordings, "--out", out, "--model", "tiny")
    assert again.status == Exit.USAGE and "--force" in again.err


@needs_torch
@pytest.mark.slow
def test_several_models_from_a_file_of_features(command: RunCommand, rows: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ("--model", "tiny", "max", "--epochs", 2, "--seeds", 3, "--split", "speaker", "--device", "cpu", "--json")
    ran = command("train", rows, "--out", out, *options)
    assert ran.status == Exit.OK, ran.err
    models = ran.json["models"]
    assert [model["folder"] for model in models] == [str(out / "tiny"), str(out / "max")]
    for model in models:
        assert model["labels"] == ["low", "high"] and list(model["splits"]) == ["by_speaker"]
        assert set(model["files"]) == {path.name for path in Path(model["folder"]).iterdir()}
        assert (
            "model"
            in command(
                "explain",
                model["model"],
                "--weights",
                Path(model["folder"]) / "weights.npz",
                "--labels",
                "low,high",
                "--json",
            ).json
        )


@needs_torch
def test_an_interrupted_run_keeps_what_is_done_and_an_onnx_file_is_trained_anew(
    command: RunCommand, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(narrator: train.Narrator, text: str) -> None:
        if "seed 4" in text:
            raise KeyboardInterrupt

    monkeypatch.setattr(train.Narrator, "say", interrupt)
    options = ("--epochs", 1, "--seeds", 3, 4, 5, "--device", "cpu")
    ran = command("train", rows, "--model", "tiny", "--out", tmp_path / "first", *options, "--json")
    assert ran.status == Exit.INTERRUPTED and "interrupted: keeps" in ran.err
    (found,) = ran.json["models"]
    assert [row["seed"] for row in found["splits"]["random"]["seeds"]] == [3, 4] and set(found["files"]) == set(FILES)
    assert load_model(tmp_path / "first" / "model.onnx").name == "tiny"  # under which it is deployed
    model = tmp_path / "mine.onnx"
    model.write_bytes(export_onnx(replace(load_model(tmp_path / "first" / "model.onnx"), name="mine")))
    ran = command("train", rows, "--model", model, "--out", tmp_path / "second", "--seeds", 3, "--epochs", 1, "--json")
    (found,) = ran.json["models"]
    assert ran.status == Exit.OK and found["layers"] == ["Affine", "Conv1D(64, 5, same)", "ReLU", "Flatten", "Dense(2)"]
    assert found["fixed_point"]["margin_bound"] < 0.1 and "weights.npz" not in found["files"]
    assert not np.array_equal(model.read_bytes(), (tmp_path / "second" / "model.onnx").read_bytes())


@needs_torch
def test_what_cannot_be_trained_on_is_status_2(command: RunCommand, rows: Path, tmp_path: Path) -> None:
    for options, message in (
        (("--model", "nobody"), "expected one of"),
        (("--model", "medium"), "expected X"),
        (("--labels", "one"), "class numbers below 1"),
        (("--seeds", 1, 1), "each seed once"),
        (("--corpus", "nobody"), "corpus: expected one of"),
    ):
        ran = command("train", rows, "--out", tmp_path / "out", *options)
        assert (ran.status, ran.out) == (Exit.USAGE, "") and message in ran.err, options
    ran = command("train", tmp_path / "nothing", "--out", tmp_path / "out")
    assert ran.status == Exit.USAGE and not (tmp_path / "out").exists()


@needs_torch
def test_one_speaker_is_noticed_before_the_features_take_their_time(
    command: RunCommand, recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "one"
    folder.mkdir()
    for path in recordings.rglob("*-01.wav"):
        (folder / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr("sottovoce.models.training.dataset.extract_corpus", None)
    ran = command("train", folder, "--out", tmp_path / "out")
    assert ran.status == Exit.USAGE and "expected two speakers or more for a split by speaker" in ran.err
