"""`sottovoce explain` against what runs cost."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import RunCommand

from sottovoce.cli.exits import Exit


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
        assert text in ran.out


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


def test_plain_costs_no_message(command: RunCommand) -> None:
    value = command("explain", "--protocol", "plain", "--json").json
    assert value["input_sharing_bytes"] is None and value["total"]["rounds"] is None
    assert value["total"]["bytes_sent"] is None


def test_an_unknown_model_is_status_2(command: RunCommand) -> None:
    ran = command("explain", "nobody")
    assert (ran.status, ran.out) == (Exit.USAGE, "")
    assert "expected one of paper" in ran.err
