"""The worked examples run as they stand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from sottovoce.models.speech.ravdess import LABELS


def test_a_file_that_is_no_recording(repository: Path, tmp_path: Path) -> None:
    script = repository / "examples" / "classify_recordings.py"
    (tmp_path / "text.wav").write_text("not a recording")
    result = subprocess.run(
        [sys.executable, str(script), "text.wav"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=55,
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
        timeout=55,
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
