"""Weights in a file beside the ONNX file: read where PyTorch puts them, and from nowhere else."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from tests.models.onnx.conftest import BOX, make_model

from sottovoce.engine.errors import ModelError
from sottovoce.models.evaluate import evaluate
from sottovoce.models.onnx import external, import_onnx

WEIGHT = np.random.default_rng(3).normal(size=(2, 3, 5)).astype(np.float32)


def write(folder: Path, change: Callable[[onnx.TensorProto], object] = lambda tensor: None) -> Path:
    """A model whose convolution's weight lies in weights.bin, behind 64 bytes of something else."""
    model = make_model(("Conv", WEIGHT))
    (tensor,) = model.graph.initializer
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "weights.bin"), ("offset", "64"), ("length", str(WEIGHT.nbytes))):
        tensor.external_data.add(key=key, value=value)
    change(tensor)
    folder.mkdir(exist_ok=True)
    (folder / "weights.bin").write_bytes(b"\xff" * 64 + WEIGHT.tobytes())
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def entry(key: str, value: str) -> Callable[[onnx.TensorProto], object]:
    def change(tensor: onnx.TensorProto) -> None:
        for found in tensor.external_data:
            if found.key == key:
                found.value = value
                return
        tensor.external_data.add(key=key, value=value)

    return change


def test_the_same_model_as_in_one_file(tmp_path: Path) -> None:
    x = np.random.default_rng(4).normal(size=(2, 3, 12))
    one_file = import_onnx(make_model(("Conv", WEIGHT)).SerializeToString(), **BOX)
    two_files = import_onnx(write(tmp_path), **BOX)
    np.testing.assert_array_equal(evaluate(two_files, x), evaluate(one_file, x))


def test_what_pytorch_exports_by_default(tmp_path: Path, repository: Path) -> None:
    for name in ("default_export.onnx", "default_export.onnx.data"):
        shutil.copy(repository / "tests/models/onnx/fixtures/torch" / name, tmp_path)
    graph = import_onnx(tmp_path / "default_export.onnx", features="mfcc40-mean")
    assert graph.input_shape == (1, 40)
    (tmp_path / "default_export.onnx.data").unlink()
    with pytest.raises(ModelError, match="keep the two files together"):
        import_onnx(tmp_path / "default_export.onnx", features="mfcc40-mean")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (entry("location", "../weights.bin"), "of the same folder"),
        (entry("location", "/etc/hostname"), "of the same folder"),
        (entry("location", "sub/weights.bin"), "of the same folder"),
        (entry("location", "sub\\weights.bin"), "of the same folder"),
        (entry("location", ".."), "of the same folder"),
        (entry("location", ""), "of the same folder"),
        (entry("location", "weights.bin\0"), "of the same folder"),
        (entry("location", "a" * 300), "of the same folder"),
        (lambda tensor: tensor.external_data.add(key="location", value="other"), "of the same folder"),
        (entry("location", "none.bin"), "keep the two files together"),
        (entry("location", "linked.bin"), "keep the two files together"),
        (entry("location", "folder"), "regular file|keep the two files"),
        (entry("location", "pipe"), "regular file"),
        (entry("offset", "-64"), "another place or length"),
        (entry("offset", "6_4"), "another place or length"),
        (entry("offset", "9" * 40), "another place or length"),
        (entry("offset", "65"), "at least 185 bytes, got 184"),
        (entry("offset", "9" * 18), "got 184"),
        (entry("length", "121"), "another place or length"),
        (entry("length", ""), "another place or length"),
    ],
)
def test_another_place(tmp_path: Path, change: Callable[[onnx.TensorProto], object], expected: str) -> None:
    folder = tmp_path / "model"
    path = write(folder, change)
    (tmp_path / "weights.bin").write_bytes(bytes(1000))
    (folder / "sub").mkdir()
    (folder / "sub" / "weights.bin").write_bytes(bytes(1000))
    (folder / "linked.bin").symlink_to(folder / "weights.bin")
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe")
    with pytest.raises(ModelError, match=expected):
        import_onnx(path, **BOX)


def test_bytes_have_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="save the model in one file"):
        import_onnx(path.read_bytes(), **BOX)


def test_not_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(external.ExternalData, "__init__", _limited)
    with pytest.raises(ModelError, match="in other files, got more"):
        import_onnx(write(tmp_path), **BOX)


def _limited(self: external.ExternalData, folder: Path | None) -> None:
    self.folder, self.left = folder, WEIGHT.nbytes - 1
