"""The documented cost tables are the declared ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from sottovoce.bench.costs import cost_table
from sottovoce.engine.protocols.table import PROTOCOLS


@pytest.mark.parametrize("name", PROTOCOLS)
def test_docs_show_the_declared_costs(name: str, repository: Path) -> None:
    page = (repository / "docs" / "protocols" / f"{name}.md").read_text(encoding="utf-8")
    between = page.split("<!-- costs: begin -->\n")[1].split("\n<!-- costs: end -->")[0]
    assert between == cost_table(name)
