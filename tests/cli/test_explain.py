"""`sottovoce explain` against what runs cost."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from rich.console import Console
from tests.cli.conftest import RunCommand

from sottovoce.cli import explain
from sottovoce.cli.exits import Exit
from sottovoce.engine.protocols.table import PROTOCOLS


def test_the_paper_s_figures(command: RunCommand) -> None:
    ran = command("explain")
    assert ran.status == Exit.OK
    for text in (
        "93,064",
        "855,040",
        "6,400",
        "conv1",
        "argmax",
        "rewrites",
        "differ by more than",
        "input sharing",
        "public",
    ):
        assert text in " ".join(ran.out.split())


def test_predicted_is_measured(command: RunCommand, clip: Path) -> None:
    predicted = command("explain", "--batch", 2, "--json").json
    measured = command("classify", clip, clip, "--json").json
    assert predicted["program"] == measured["program"]
    assert predicted["total"]["bytes_sent"] == measured["cost"]["bytes_sent"]
    assert predicted["total"]["rounds"] == measured["cost"]["rounds"]
    total = predicted["total"]
    for field in ("multiplications", "comparisons", "relus", "rounds", "parameters"):
        assert total[field] == sum(layer[field] for layer in predicted["layers"])
    assert total["multiplications"] == 2 * 855_040
    assert predicted["margin_bound"] > 0 and predicted["rewrites"]
    assert predicted["input_sharing_bytes"] > 0 and predicted["output_opening_bytes"] > 0


def test_the_program_that_it_writes_is_named(command: RunCommand, tmp_path: Path) -> None:
    file = tmp_path / "paper.json"
    ran = command("explain", "--protocol", "beaver2", "--write-program", file)
    assert ran.err == f"wrote {file}: the public program of paper, for `sottovoce prepare` at each party\n"
    assert (
        "Cost of a request with 1 clip under beaver2\n" in ran.out and "\nprotocol    beaver2 (semi-honest" in ran.out
    )
    assert "1 clip under rep3\n" in command("explain").out


def test_it_fits_into_80_columns(command: RunCommand) -> None:
    for options in ((), ("--batch", 256), ("--protocol", "plain"), ("--protocol", "beaver2-fss")):
        lines = command("explain", *options).out.splitlines()
        assert len(lines) > 20 and max(map(len, lines)) <= 80


def test_on_a_terminal_of_80_columns_no_number_is_cut(command: RunCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    piped = command("explain", "--batch", 256).out
    wide = explain.stdout_console()

    def terminal() -> Console:
        return Console(file=sys.stdout, width=80, force_terminal=True, no_color=True, highlight=False, markup=False)

    monkeypatch.setattr(explain, "stdout_console", terminal)
    shown = re.sub("\x1b\\[[0-9;]*m", "", command("explain", "--batch", 256).out)
    assert wide.width > 80 and shown == piped


def test_an_unknown_protocol_is_status_2(command: RunCommand) -> None:
    for arguments in (("explain",), ("classify", "a.wav")):
        ran = command(*arguments, "--protocol", "rep4")
        assert (ran.status, ran.out) == (Exit.USAGE, "")
        assert f"--protocol: expected {', '.join(PROTOCOLS)} or plain, got 'rep4'" in ran.err


def test_plain_costs_no_message(command: RunCommand) -> None:
    value = command("explain", "--protocol", "plain", "--json").json
    assert value["input_sharing_bytes"] is None and value["total"]["rounds"] is None
    assert value["total"]["bytes_sent"] is None


def test_an_unknown_model_is_status_2(command: RunCommand) -> None:
    ran = command("explain", "nobody")
    assert (ran.status, ran.out) == (Exit.USAGE, "")
    assert "expected one of tiny, paper" in ran.err and ".onnx" in ran.err
