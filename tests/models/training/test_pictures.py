"""The pictures are PNG files of a size that can be read. Needs the extra `train`."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from tests.models.training.samples import sample_results

pytest.importorskip("matplotlib", reason="needs Matplotlib: the extra `train`")

from sottovoce.models.training.pictures import draw_confusion, draw_curves

PNG = b"\x89PNG\r\n\x1a\n"


def _size(path: Path) -> tuple[int, int]:
    content = path.read_bytes()
    assert content.startswith(PNG) and content.endswith(b"IEND\xaeB`\x82")
    width, height = struct.unpack(">II", content[16:24])
    return width, height


@pytest.mark.parametrize("draw", [draw_curves, draw_confusion])
def test_a_picture_of_one_or_two_splits(tmp_path: Path, draw: object) -> None:
    assert callable(draw)
    both, one = sample_results(), sample_results()
    del one["splits"]["random"]
    draw(both, tmp_path / "both.png")
    draw(one, tmp_path / "one.png")
    (wide, high), (narrow, same) = _size(tmp_path / "both.png"), _size(tmp_path / "one.png")
    assert wide == 2 * narrow and high == same and 400 <= high <= 2_000 and narrow >= 400


def test_curves_without_a_validation_part(tmp_path: Path) -> None:
    results = sample_results()
    for split in results["splits"].values():
        for row in split["seeds"]:
            row["history"].update(validation_loss=[], validation_accuracy=[])
    draw_curves(results, tmp_path / "curves.png")
    assert _size(tmp_path / "curves.png")[0] > 400


def test_many_classes_make_a_larger_matrix(tmp_path: Path) -> None:
    results = sample_results(labels=[f"class {i}" for i in range(12)])
    for split in results["splits"].values():
        for row in split["seeds"]:
            row["confusion"] = [[i + j for j in range(12)] for i in range(12)]
    draw_confusion(results, tmp_path / "twelve.png")
    draw_confusion(sample_results(), tmp_path / "three.png")
    assert _size(tmp_path / "twelve.png")[1] > _size(tmp_path / "three.png")[1]
