"""The tutorial and the API page run as they stand."""

from __future__ import annotations

import doctest
import io
import json
import re
from pathlib import Path

import pytest
from tests.cli.blocks import blocks_of, run_page, shell

from sottovoce.models.speech.corpora.ravdess import LABELS


@pytest.mark.slow
def test_the_tutorial(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with shell(monkeypatch) as commands:
        names = run_page(repository / "docs" / "tutorial.md", commands)
    report = json.loads((tmp_path / "results.json").read_text())
    files = [Path(row["file"]).name for row in report["results"]]
    assert files == ["faster.wav", "normal.wav", "notes.wav", "slower.wav"] and report["failed"] == 1
    labels = [row["predictions"][0]["label"] for row in report["results"] if "predictions" in row]
    # Through the command line and from Python, in one process and with three parties: the same labels.
    assert [result[0]["label"] for result in names["results"] if result] == labels == list(names["labels"])
    shown = "\n".join(commands.output)
    assert len(re.findall(r"normal\.wav +(\w+)", shown)) >= 3
    assert "Ranges, CALIBRATED" in shown and "RANDOM" in shown and "mutual TLS 1.3" in shown
    assert "InputError" not in shown and "AudioError" in shown  # the stream gave the bad file's error in its place
    assert set(labels) <= set(LABELS)


def test_the_examples_of_the_api_page(repository: Path) -> None:
    page = repository / "docs" / "api.md"
    text = "\n".join(block.text for block in blocks_of(page) if block.language == "pycon")
    test = doctest.DocTestParser().get_doctest(text, {}, page.name, str(page), 0)
    report = io.StringIO()
    found = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test, out=report.write)
    assert found.attempted > 20 and found.failed == 0, report.getvalue()


def test_every_block_is_of_a_kind_that_runs(repository: Path) -> None:
    """A block in another language would be shown and never tried."""
    for page, kinds in (("tutorial.md", {"sh", "python"}), ("api.md", {"pycon"})):
        found = blocks_of(repository / "docs" / page)
        assert len(found) > 5 and {block.language for block in found} == kinds
