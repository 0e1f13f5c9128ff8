"""The worked examples run as they stand."""

from __future__ import annotations

import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sottovoce.models.speech.corpora.ravdess import LABELS
from sottovoce.models.speech.demo_clip import demo_clip_path


def test_a_file_that_is_no_recording(repository: Path, tmp_path: Path) -> None:
    script = repository / "examples" / "classify_recordings.py"
    (tmp_path / "text.wav").write_text("not a recording")
    result = subprocess.run(
        [sys.executable, str(script), "text.wav"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("text.wav: recording text.wav: expected a sound file") == 2


def test_classify_recordings(repository: Path, tmp_path: Path) -> None:
    script = repository / "examples" / "classify_recordings.py"
    result = subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    lines = [line.strip() for line in result.stdout.splitlines()]
    assert any(line.startswith("broken.wav: recording") for line in lines)
    assert any("3 clips, 22 rounds" in line for line in lines)
    labels = [line for line in lines if line in LABELS]
    assert len(labels) == 5 and lines.count("bad recording") == 1  # six of the stream, the fourth of them bad
    assert labels[:2] == [labels[3], labels[4]]  # the stream begins again: the same recordings, the same labels
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def example(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., list[str]]:
    """Runs examples/name in this process; gives what it prints, line by line. It must leave nothing behind."""
    monkeypatch.chdir(tmp_path)

    def run(name: str, *arguments: object) -> list[str]:
        before = sorted(tmp_path.iterdir())
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(repository / "examples" / name), run_name="__main__")
        assert ended.value.code == 0
        assert sorted(tmp_path.iterdir()) == before
        return [line.strip() for line in capsys.readouterr().out.splitlines()]

    return run


def test_onnx_model(example: Callable[..., list[str]]) -> None:
    lines = example("onnx_model.py")
    assert lines[0].startswith("tiny: ") and lines[0].endswith("labels angry, calm, happy")
    assert lines[1] == "ranges proven"
    assert lines[2].startswith("demo.wav: ") and lines[2].split()[1] in ("angry", "calm", "happy")
    assert "14 rounds" in lines[3]


def test_onnx_model_without_a_proof(example: Callable[..., list[str]], loud: Path) -> None:
    """A file of one's own that no proof covers, with labels from the command line."""
    lines = example("onnx_model.py", loud.name, "high,low", demo_clip_path())
    assert lines[0].endswith("labels high, low")
    assert lines[1].startswith("not proven: layer '")
    assert lines[2] == "ranges calibrated on samples, not proven"
    assert lines[3] == "demo.wav: low"  # the sum of the clip's MFCCs is negative


def test_async_service(example: Callable[..., list[str]]) -> None:
    lines = example("async_service.py")
    assert "the impatient user has left" in lines
    answered = [line for line in lines if line.endswith("labels")]
    assert answered == ["Ada: 64 labels", "Ben: 10 labels", "Cleo: 1 labels"]
    assert lines.count("bad recording") == 1 and sum(line in LABELS for line in lines) == 2
    (steps,) = (line.split()[-3] for line in lines if line.startswith("meanwhile"))
    assert int(steps.replace(",", "")) > 10
