"""MODEL everywhere: ONNX files, random weights, calibration, and the marks that must not be missed."""

from __future__ import annotations

import argparse
import io
import math
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.cli.conftest import RunCommand, running_parties

from sottovoce.cli import classify, model
from sottovoce.cli.exits import Exit
from sottovoce.models import zoo
from sottovoce.models.onnx import export_onnx
from sottovoce.models.speech import extract
from sottovoce.models.zoo import build, random_weights

Tone = Callable[[str, float], Path]
LABELS = ("a", "b", "c")


def encrypted(archive: bytes) -> bytes:
    """A zip archive whose first member says that it is encrypted."""
    flags = archive.index(b"PK\x01\x02") + 8
    return archive[:6] + b"\x01" + archive[7:flags] + b"\x01" + archive[flags + 1 :]


@pytest.fixture
def onnx_file(tmp_path: Path) -> Path:
    """tiny with three labels."""
    graph = build("tiny", random_weights("tiny", 5, labels=LABELS), labels=LABELS)
    path = tmp_path / "mine.onnx"
    path.write_bytes(export_onnx(replace(graph, name="mine")))
    return path


def saved(*array: np.ndarray, **arrays: np.ndarray) -> bytes:
    """The bytes of an npy file, or of an npz file."""
    file = io.BytesIO()
    np.savez(file, **arrays) if arrays else np.save(file, *array)
    return file.getvalue()


def parse(*words: object) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    model.add_model_options(parser, positional=True)
    return parser.parse_args([str(word) for word in words])


def test_an_onnx_file_is_a_model(command: RunCommand, onnx_file: Path, clip: Path) -> None:
    shown = command("explain", onnx_file)
    assert shown.status == Exit.OK
    assert shown.out.startswith("mine, layer by layer") and "mfcc40-mean" in shown.out
    value = command("classify", clip, "--model", onnx_file, "--json").json
    assert value["results"][0]["predictions"][0]["label"] in LABELS
    assert value["random_weights"] is False and value["calibrated"] is False
    renamed = command("classify", clip, "--model", onnx_file, "--labels", "x, y,z", "--json").json
    label = value["results"][0]["predictions"][0]["label"]
    assert renamed["results"][0]["predictions"][0]["label"] == dict(zip(LABELS, "xyz", strict=True))[label]


def test_box_and_features_are_the_caller_s(command: RunCommand, onnx_file: Path, clip: Path) -> None:
    assert "within -1500 … 600," in command("explain", onnx_file, "--box", -1500, 600).out
    narrow = command("classify", clip, "--model", onnx_file, "--box", "-1", "1", "--protocol", "plain")
    assert narrow.status == Exit.USAGE and "the box that the model declares" in narrow.err
    for words in (("--features", "mfcc40-frames151"), ("--features", "nobody")):
        ran = command("explain", onnx_file, *words)
        assert ran.status == Exit.USAGE and "mfcc40" in ran.err


def test_random_weights_are_marked_wherever_they_are_used(command: RunCommand, clip: Path) -> None:
    options = ("--random-weights", 7)
    shown = command("explain", "tiny", *options)
    assert shown.out.startswith("tiny-random-weights-7, layer by layer") and "\nRANDOM: " in shown.out
    assert command("explain", "tiny", *options, "--json").json["random_weights"] is True
    told = command("classify", clip, "--model", "tiny", *options, "--protocol", "plain")
    assert "model     tiny-random-weights-7," in told.out and "\nRANDOM: " in told.out
    value = command("classify", clip, "--model", "tiny", *options, "--protocol", "plain", "--json").json
    assert value["random_weights"] is True and value["model"] == "tiny-random-weights-7"
    assert "RANDOM" not in command("explain").out
    other = command("explain", "tiny", "--random-weights", 8, "--json").json
    assert other["program"] != command("explain", "tiny", *options, "--json").json["program"]


def test_deployed_models_keep_their_marks(command: RunCommand, clip: Path, tmp_path: Path) -> None:
    """The client knows only the public program, and tells its user all the same."""
    np.save(tmp_path / "x.npy", np.random.default_rng(1).uniform(-50, 50, (16, 40)))
    with running_parties(tmp_path, encrypted=False) as running:
        options = ("--random-weights", 1, "--calibrated", tmp_path / "x.npy", "--json")
        deployed = command("deploy", "tiny", *options, *running.owner)
        assert deployed.status == Exit.OK, deployed.err
        assert deployed.json["random_weights"] is True and deployed.json["calibrated"] is True
        assert deployed.json["encrypted"] is False and deployed.json["outputs"] == ["label"]
        ran = command("classify", clip, *running.client)
        for mark in ("INSECURE", "CALIBRATED, not proven", "RANDOM", "tiny-random-weights-1"):
            assert mark in ran.out
        value = command("classify", clip, "--json", *running.client).json
        assert value["random_weights"] is True and value["calibrated"] is True
        assert value["program"] == deployed.json["program"]


def test_a_model_without_a_proof_is_refused_and_calibration_is_the_way_out(
    command: RunCommand, loud: Path, tone: Tone, tmp_path: Path
) -> None:
    for words in (("explain", loud), ("classify", tone("a.wav", 300), "--model", loud)):
        refused = command(*words)
        assert (refused.status, refused.out) == (Exit.USAGE, "")
        assert "layer '" in refused.err and "bits" in refused.err and "--calibrated" in refused.err
    x = np.random.default_rng(0).uniform(-1e-3, 1e-3, (8, 40))
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "one.npz", anything=x.reshape(8, 1, 40))
    np.savez(tmp_path / "named.npz", features=x, y=np.arange(8))
    programs = set()
    for data in ("x.npy", "one.npz", "named.npz"):
        ran = command("explain", loud, "--calibrated", tmp_path / data, "--json")
        assert ran.status == Exit.OK, ran.err
        programs.add(ran.json["program"])
        assert ran.json["calibrated"] is True
        assert "calibrated" in [layer.get("ranges") for layer in ran.json["layers"]]
    assert len(programs) == 1
    shown = command("explain", loud, "--calibrated", tmp_path / "x.npy").out
    assert "Ranges, CALIBRATED, not proven" in shown and "\nCALIBRATED, not proven: " in shown
    assert any(line.startswith("first") and line.endswith("calibrated") for line in shown.splitlines())
    assert max(map(len, shown.splitlines())) <= 80


def test_calibration_on_a_folder_of_recordings(command: RunCommand, onnx_file: Path, tone: Tone) -> None:
    folder = tone("clips/a.wav", 300).parent
    tone("clips/b.wav", 700)
    (folder / "broken.wav").write_text("x")
    ran = command("explain", onnx_file, "--calibrated", folder, "--json")
    assert ran.status == Exit.OK and ran.json["calibrated"] is True
    assert "leaves out" in ran.err and "broken.wav" in ran.err and "calibrates on 2 samples" in ran.err


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda path: path.write_bytes(b"junk"), "expected an npy or npz file"),
        (lambda path: path.write_bytes(saved(np.zeros((3, 7)))), "got shape (3, 7)"),
        (lambda path: path.write_bytes(saved(a=np.zeros(1), b=np.zeros(1))), "one named features, got a, b"),
        (lambda path: path.write_bytes(saved(np.array([{}]))), "expected an npy or npz file"),
        (lambda path: path.write_bytes(encrypted(saved(a=np.zeros(1)))), "expected an npy or npz file"),
        (lambda path: path.mkdir(), "expected recordings, got none"),
        (lambda path: None, "No such file"),
    ],
)
def test_bad_sample_features_are_status_2(
    make: Callable[[Path], object], text: str, command: RunCommand, tmp_path: Path
) -> None:
    path = tmp_path / "samples"
    make(path)
    ran = command("explain", "tiny", "--random-weights", 0, "--calibrated", path)
    assert (ran.status, ran.out) == (Exit.USAGE, "")
    assert text in ran.err and str(path) in ran.err


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("paper", "--random-weights", -1), "a seed of at least 0"),
        (("paper", "--random-weights", 1, "--weights", "w.npz"), "not allowed with"),
        (("missing.onnx",), "no such file"),
        (("missing.onnx", "--random-weights", 1), "expected a seed of at least 0, for one of tiny, paper"),
        (("paper", "--labels", "a,,b"), "expected names with commas"),
        (("paper", "--labels", "a,b"), "one logit for each of 2 labels"),
        (("paper", "--box", 1, 0), "finite low <= high"),
        (("paper", "--box", "nan", 0), "finite low <= high"),
    ],
)
def test_options_that_do_not_fit_are_status_2(words: tuple[object, ...], text: str, command: RunCommand) -> None:
    ran = command("explain", *words)
    assert (ran.status, ran.out) == (Exit.USAGE, "")
    assert text in ran.err


def test_a_model_without_weights_says_where_to_get_some(command: RunCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoo, "MODELS", {"bare": replace(zoo.MODELS["tiny"], name="bare", weights=None)})
    ran = command("explain", "bare")
    assert (ran.status, ran.out) == (Exit.USAGE, "")
    assert "no trained weights for it: --weights FILE, an .onnx file in its place, or --random-weights" in ran.err


def test_with_a_cluster_the_deployment_decides(command: RunCommand, clip: Path) -> None:
    for words in (("--random-weights", 0), ("--labels", "a"), ("--box", 0, 1), ("--calibrated", "x")):
        ran = command("classify", clip, "--cluster", "missing.toml", *words)
        assert ran.status == Exit.USAGE and f"{words[0]}: with --cluster the deployment decides it" in ran.err


def test_options_reach_another_process_unchanged(onnx_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`demo` hands them to the owner's process, which runs in another folder."""
    monkeypatch.chdir(onnx_file.parent)
    words = ("mine.onnx", "--labels", "x,y,z", "--features", "mfcc40-mean", "--box", "-0.1", "1e-07")
    again = parse(*model.forward_model_options(parse(*words)))
    assert Path(again.model) == onnx_file
    assert again.labels == ("x", "y", "z") and again.features == "mfcc40-mean"
    assert again.box == [-0.1, 1e-07] and math.copysign(1, again.box[0]) < 0
    tiny_box = parse(*model.forward_model_options(parse("tiny", "--box", "-0.000001", "1e30")))
    assert tiny_box.box == [-1e-6, 1e30]
    again = parse(*model.forward_model_options(parse("tiny", "--random-weights", 4)))
    assert (again.model, again.random_weights) == ("tiny", 4)
    assert model.forward_model_options(parse()) == []


def test_jobs_reach_the_extraction(command: RunCommand, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    real = extract.extract_features

    def spy(recordings: object, features: str, **options: object) -> object:
        seen.append((features, options.pop("jobs")))
        return real(recordings, features, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(extract, "extract_features", spy)
    assert command("classify", clip, "--jobs", 3, "--protocol", "plain").status == Exit.OK
    assert seen == [("mfcc40-mean", 3)]
    assert classify.MODEL_OPTIONS == model.MODEL_OPTIONS


def test_the_zoo_is_listed(command: RunCommand) -> None:
    ran = command("models")
    assert ran.status == Exit.OK and max(map(len, ran.out.splitlines())) <= 80
    rows = {line.split()[0]: line.split()[1:] for line in ran.out.splitlines()[1:6]}
    assert rows["paper"] == ["1x40", "mfcc40-mean", "93,064", "8", "shipped"]
    assert rows["frames"][:2] == ["40x151", "mfcc40-frames151"]
    found = {row["name"]: row for row in command("models", "--json").json["models"]}
    assert set(found) == set(rows)
    assert found["medium"]["input_shape"] == [1, 162] and found["paper"]["weights_shipped"] is True
    for name, row in found.items():
        shipped = zoo.MODELS[name].weights is not None
        assert row["weights_shipped"] is shipped and (rows[name][-2:] != ["none", "shipped"]) is shipped
        assert row["labels"] == list(zoo.MODELS[name].labels)


def test_what_people_take_for_a_model(command: RunCommand, tmp_path: Path) -> None:
    """The folder that `train` writes, a file of weights: the message names what to pass instead."""
    (tmp_path / "trained").mkdir()
    (tmp_path / "trained" / "model.onnx").write_bytes(b"")
    for word, hint in (
        (tmp_path / "trained", f"the model of this folder is {tmp_path / 'trained' / 'model.onnx'}"),
        (tmp_path / "w.npz", f"MODEL --weights {tmp_path / 'w.npz'}"),
        ("papper", "or an .onnx file, got 'papper'"),
    ):
        ran = command("explain", word)
        assert ran.status == Exit.USAGE and hint in ran.err and "Graph" not in ran.err


def test_sample_files_that_claim_more_than_they_hold_are_status_2(command: RunCommand, tmp_path: Path) -> None:
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (%s,), }"
    for number, text in enumerate((header % b"1000000000000000", header % (b"9" * 40), b"(" * 900, b"{'descr':")):
        body = b"\x93NUMPY\x01\x00" + (len(text) + 1).to_bytes(2, "little") + text + b"\n" + bytes(64)
        for suffix in ("npy", "npz"):
            path = tmp_path / f"{number}.{suffix}"
            path.write_bytes(body)
            if suffix == "npz":
                with zipfile.ZipFile(path, "w") as archive:
                    archive.writestr("features.npy", body)
            ran = command("explain", "tiny", "--calibrated", path)
            assert (ran.status, ran.out) == (Exit.USAGE, "") and "expected an npy or npz file of numbers" in ran.err
