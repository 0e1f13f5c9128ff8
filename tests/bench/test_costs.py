"""The documented cost tables are the declared ones."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sottovoce.bench.costs import cost_table
from sottovoce.engine.protocols.table import PROTOCOLS

TABLE = re.compile(r"<!-- costs: begin -->\n(.*?)\n<!-- costs: end -->", re.DOTALL)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_docs_show_the_declared_costs(name: str, repository: Path) -> None:
    pages = sorted((repository / "docs" / "protocols").glob("*.md"))
    assert cost_table(name) in [table for page in pages for table in TABLE.findall(page.read_text(encoding="utf-8"))]


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("rep3", "| elementwise product | 192 | 24 | 1 |"),
        ("rep3", "| truncation | 226 | 28.25 | 3 |"),
        ("beaver2", "| conv1d, dense layer (per input) | 128 | 16 | 1 | 0 / 0 |"),  # 8 bytes each way
        ("beaver2", "| conv1d, dense layer (per output) | 0 | 0 | 0 | 8 / 0 |"),  # P_0 expands its part from a seed
        ("beaver2", "| AND (per bit) | 4 | 0.5 | 1 | 0.125 / 0 |"),
        ("beaver2", "| selection b x | 130 | 16.25 | 1 | 16 / 0 |"),
    ],
)
def test_lines_that_can_be_checked_by_hand(name: str, line: str) -> None:
    assert line in cost_table(name).splitlines()


def test_only_common_words_go_to_the_party_that_expands_the_rest() -> None:
    lines = [line.split(" | ") for line in cost_table("beaver2-fss").splitlines()[2:]]
    offline = {name.removeprefix("| "): last.removesuffix(" |").split(" / ") for name, *_, last in lines}
    first, second = map(float, offline["sign, m = 32"])
    assert first > second > 0, "keys: correction words for both, a share of the result for one"
    assert offline["truncation"] == ["4", "0"]
