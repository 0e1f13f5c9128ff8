"""Published figures from TOML: which one stands beside a cell, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from sottovoce.bench import paper_reference
from sottovoce.bench.paper_reference import PACKAGED, AccuracyFigure, References, TimingFigure, load_references
from sottovoce.engine.errors import ConfigError

ROW = """
[[timing]]
adversary = "semi-honest"
parties = 3
time_s = 0.25
source = "A. Author: A Title, 2020"
place = "table 3"
"""


def timing(time_s: float, parties: int | None = None, adversary: str = "semi-honest") -> TimingFigure:
    assert adversary == "semi-honest" or adversary == "malicious"
    return TimingFigure(source="s", place="p", adversary=adversary, parties=parties, time_s=time_s)


def own(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_package_has_the_papers_headlines_and_the_notebooks_accuracy(tmp_path: Path) -> None:
    found = load_references(folder=tmp_path)
    assert {(f.adversary, f.parties, f.bound, f.time_s) for f in found.timing} == {
        ("semi-honest", None, "under", 0.3),
        ("malicious", None, "about", 1.6),
    }
    assert all("2007.00253" in f.citation and "abstract" in f.citation for f in found.timing)
    assert {(f.way, f.split, f.percent) for f in found.accuracy} == {
        ("float", "random", 72.11),
        ("fixed", "random", 70.32),
    }


def test_rows_of_the_user_are_added_and_win_where_they_fit_better(tmp_path: Path) -> None:
    packaged = load_references(folder=tmp_path)
    found = load_references(own(tmp_path, ROW))
    assert found.timing[: len(packaged.timing)] == packaged.timing
    three, two = found.time("semi-honest", 3), found.time("semi-honest", 2)
    assert three is not None and two is not None
    assert (three.time_s, three.citation) == (0.25, "A. Author: A Title, 2020, table 3")
    assert two.time_s == 0.3


def test_a_file_in_the_current_folder_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = load_references()
    (tmp_path / PACKAGED.name).write_text(ROW, encoding="utf-8")
    assert len(load_references().timing) == len(before.timing) + 1
    assert load_references(own(tmp_path, "")) == before  # a file that is given is read instead


def test_the_packages_own_file_is_not_read_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PACKAGED.parent)
    assert len(load_references().timing) == 2


def test_the_number_of_parties_counts_more_than_the_order() -> None:
    found = References((timing(1.0, 3), timing(2.0, 3), timing(3.0), timing(4.0, 3, "malicious")))
    assert found.time("semi-honest", 3) == timing(2.0, 3)
    assert found.time("semi-honest", 4) == timing(3.0)
    assert found.time("malicious", 3) == timing(4.0, 3, "malicious")
    assert found.time("malicious", 2) is None


def test_accuracy_is_found_by_way_and_split() -> None:
    first, last = (AccuracyFigure(source="s", place="p", way="mpc", split="random", percent=p) for p in (60, 61))
    found = References(accuracy=(first, last))
    assert found.share("mpc", "random") == last
    assert found.share("mpc", "speaker") is None
    assert found.share("float", "random") is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("0.25", '"fast"'), r"Expected `float`, got `str` - at `\$\.timing\[0\]\.time_s`"),
        (("0.25", "0"), r"time_s"),
        (("0.25", "inf"), r"timing row 0: expected finite numbers"),
        (("0.25", "nan"), r"mine\.toml"),
        (("semi-honest", "honest"), r"Invalid enum value 'honest' - at `\$\.timing\[0\]\.adversary`"),
        (("parties = 3", "parties = 1"), r"parties"),
        (("parties = 3", "partys = 3"), r"unknown field `partys`"),
        (("parties = 3", "offline_s = 0.5"), r"expected offline_s within time_s = 0\.25, got 0\.5"),
        (("parties = 3", 'bound = "roughly"'), r"roughly"),
        (('source = "A. Author: A Title, 2020"', 'source = ""'), r"source"),
        (('source = "A. Author: A Title, 2020"', ""), r"missing required field `source`"),
        (('place = "table 3"', ""), r"missing required field `place`"),
        (("[[timing]]", "[timing]"), r"timing"),
        (("[[timing]]", "[[timing"), r"not valid TOML"),
    ],
)
def test_what_makes_no_sense_is_refused_with_file_and_field(
    tmp_path: Path, change: tuple[str, str], message: str
) -> None:
    assert change[0] in ROW
    with pytest.raises(ConfigError, match=message) as caught:
        load_references(own(tmp_path, ROW.replace(*change)))
    assert "mine.toml" in str(caught.value)


def test_accuracy_over_a_hundred_percent_is_refused(tmp_path: Path) -> None:
    text = '[[accuracy]]\nway = "float"\nsplit = "random"\npercent = 172.0\nsource = "s"\nplace = "p"\n'
    with pytest.raises(ConfigError, match="percent"):
        load_references(own(tmp_path, text))


def test_a_file_that_is_missing_too_large_or_not_text_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml: No such file"):
        load_references(tmp_path / "none.toml")
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not valid TOML"):
        load_references(binary)
    large = own(tmp_path, ROW + "#" * PACKAGED.stat().st_size)
    monkeypatch.setattr(paper_reference, "MAX_BYTES", PACKAGED.stat().st_size)
    with pytest.raises(ConfigError, match="at most"):
        load_references(large)
