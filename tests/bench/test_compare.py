"""`bench compare`: what it reads, what it answers, how often it is wrong (simulated), and that it hides nothing."""

from __future__ import annotations

import io
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from rich.console import Console

from sottovoce.bench.comparison.commits import run_in_turn, worktrees
from sottovoce.bench.comparison.compare import DRIFT, ONLY_ONE, Comparison, compare, compare_sides
from sottovoce.bench.comparison.observations import Side
from sottovoce.bench.comparison.table import render
from sottovoce.bench.schema import Environment, Results, Row, write_results
from sottovoce.engine.errors import ConfigError

WHERE = Environment(
    created="", sottovoce="1", commit="c" * 40, platform="", python="3", processor="P", cores=2, memory_gb=1, load=()
)
Medians = dict[str, list[float]]


def side(medians: Medians, where: Environment = WHERE) -> Side:
    """Passes of a single round each."""
    return Side({name: [(value,) for value in values] for name, values in medians.items()}, [where])


def kernel_file(path: Path, timings: dict[str, list[float]], **extra: object) -> Path:
    """A file as pytest-benchmark writes it; times in s."""
    benchmarks = [{"param": name, "fullname": "", "stats": {"data": data}} for name, data in timings.items()]
    path.write_text(json.dumps({"machine_info": {}, "benchmarks": benchmarks, **extra}))
    return path


def answers(comparison: Comparison) -> dict[str, str]:
    return {change.name: change.answer for change in comparison.changes}


# ---- answers --------------------------------------------------------------------------------------------------------


def test_every_answer() -> None:
    steady = [1.0, 1.01, 0.99, 1.0]
    a = side({"slow": steady, "fast": steady, "same": steady, "wild": steady, "edge": steady, "gone": steady})
    b = side(
        {
            "slow": [1.3, 1.31, 1.29, 1.3],
            "fast": [0.7, 0.71, 0.69, 0.7],
            "same": [1.02, 1.0, 1.01, 1.0],
            "wild": [0.5, 3.0, 1.0, 4.0],
            "edge": [1.1, 1.11, 1.09, 1.1],
            "new": steady,
        }
    )
    found = compare_sides(a, b)
    assert answers(found) == {"wild": "unclear", "slow": "slower", "edge": "unclear", "same": "same", "fast": "faster"}
    assert found.failed and found.only_a == ("gone",) and found.only_b == ("new",)
    assert not compare_sides(a, b, bound=1.5).failed
    assert not compare_sides(a, a).failed and set(answers(compare_sides(a, a)).values()) == {"same"}


def test_more_comparisons_need_more_evidence() -> None:
    steady, slow = [1.0, 1.05, 0.95], [1.35, 1.45, 1.25]
    alone = compare_sides(side({"k": steady}), side({"k": slow}))
    others = {str(number): steady for number in range(50)}
    among = compare_sides(side({"k": steady, **others}), side({"k": slow, **others}))
    assert alone.failed and not among.failed
    assert among.changes[0].interval.low < alone.changes[0].interval.low


def test_rounds_inside_a_pass_are_not_evidence(tmp_path: Path) -> None:
    """A slow pass of a thousand rounds is one slow pass."""
    calm, busy = [1e-3] * 1000, [1.4e-3] * 1000
    a = [kernel_file(tmp_path / f"a{i}.json", {"k": calm}) for i in range(3)]
    b = [kernel_file(tmp_path / f"b{i}.json", {"k": busy if i == 0 else calm}) for i in range(3)]
    assert not compare(a, b).failed


def test_one_pass_is_cut_into_stretches_and_says_so(tmp_path: Path, rng: np.random.Generator) -> None:
    a, b, c = (
        [kernel_file(tmp_path / f"{name}.json", {"k": list(factor * rng.normal(1e-3, 1e-5, 80))})]
        for name, factor in (("a", 1), ("b", 1.5), ("c", 2))
    )
    assert compare(a, c).failed and ONLY_ONE in compare(a, c).notes
    # So much a machine may change its pace between two runs.
    assert compare(a, b).changes[0].answer == "unclear" and not compare(a, b).failed


def test_notes_tell_what_weakens_the_answer() -> None:
    a = side({"k": [1.0, 1.0]})
    other = side({"k": [1.0, 1.0]}, msgspec.structs.replace(WHERE, cores=4))
    assert compare_sides(a, a).notes == (DRIFT,)
    assert compare_sides(a, a, paired=True).notes == ()
    assert any("different machines" in note for note in compare_sides(a, other).notes)


def test_table_shows_verdict_commits_and_what_is_missing() -> None:
    a, b = side({"slow": [1.0, 1.0, 1.01], "gone": [1.0]}), side({"slow": [2.0, 2.0, 2.01]})
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(render(compare_sides(a, b)))
    text = console.export_text()
    for part in ("FAILED", "slow", "1 ms", "2 ms", "cccccccccc", "only in A: gone"):
        assert part in text


# ---- how often it is wrong ------------------------------------------------------------------------------------------

Mood = Callable[[np.random.Generator, int], np.ndarray]


def still(rng: np.random.Generator, passes: int) -> np.ndarray:
    return np.zeros(passes)


def drifting(rng: np.random.Generator, passes: int) -> np.ndarray:
    """Slow noise common to all benchmarks of a pass: a random walk of 5 % a pass."""
    return np.cumsum(rng.normal(0, 0.05, passes))


def session(rng: np.random.Generator, mood: Mood, *, passes: int, slower: float) -> tuple[Side, Side]:
    """Passes of 10 benchmarks in the order A B, B A, …; the first benchmark is `slower` in B."""
    common, sides = mood(rng, 2 * passes), (Side(), Side())
    for name in range(10):
        for number in range(passes):
            order = (0, 1) if number % 2 == 0 else (1, 0)
            for at, which in enumerate(order):
                ms = np.exp(common[2 * number + at] + rng.normal(0, 0.03))
                factor = slower if which == 1 and name == 0 else 1
                sides[which].timings.setdefault(str(name), []).append((float(factor * ms),))
    return sides


@pytest.mark.parametrize("mood", [still, drifting])
def test_false_alarms_and_power(mood: Mood, rng: np.random.Generator) -> None:
    """Seeded. See docs/kernel-benchmarks.md for the rates of longer simulations."""
    alarms = caught = 0
    for _ in range(10):
        alarms += compare_sides(*session(rng, mood, passes=8, slower=1.0), paired=True).failed
        found = compare_sides(*session(rng, mood, passes=8, slower=1.3), paired=True)
        caught += answers(found)["0"] == "slower"
    assert alarms == 0
    assert caught >= (8 if mood is still else 5)


# ---- files ----------------------------------------------------------------------------------------------------------


def test_results_are_matched_by_what_was_asked(tmp_path: Path) -> None:
    def results(name: str, factor: float) -> Path:
        rows = tuple(
            Row(protocol="rep3", parties=3, model="paper", batch=batch, samples_ms=(factor, factor * 1.01, factor))
            for batch in (1, 128)
        )
        write_results(tmp_path / name, Results(kind="sweep", command="", environment=WHERE, rows=rows))
        return tmp_path / name

    a, b = ([results(f"{name}{i}.json", factor) for i in range(3)] for name, factor in (("a", 1.0), ("b", 2.0)))
    found = compare(a, b)
    assert [change.name for change in found.changes] == [
        "sottovoce rep3 paper batch 1 1 lanes loopback",
        "sottovoce rep3 paper batch 128 1 lanes loopback",
    ]
    assert found.failed and found.commits == (("c" * 10,), ("c" * 10,))


def test_folders_and_files_that_cannot_be_used(tmp_path: Path) -> None:
    good = kernel_file(tmp_path / "good.json", {"k": [1.0, 1.0, 1.0, 1.0]})
    assert compare([tmp_path], [good]).changes[0].passes == (1, 1)
    empty, text, stats_only = tmp_path / "empty", tmp_path / "text.txt", tmp_path / "stats.txt"
    empty.mkdir()
    text.write_text("{")
    kernel_file(stats_only, {"k": []})
    for path, message in (
        (empty, "no \\*.json"),
        (text, "neither kernel timings nor results"),
        (tmp_path / "absent", "No such file"),
        (stats_only, "no single timings"),
        (kernel_file(tmp_path / "other.txt", {"else": [1.0]}), "no benchmark on both sides"),
    ):
        with pytest.raises(ConfigError, match=message):
            compare([good], [path])
    with pytest.raises(ConfigError, match="bound"):
        compare([good], [good], bound=0.9)


# ---- commits --------------------------------------------------------------------------------------------------------


def test_worktrees_hold_the_two_commits_and_go_again(tmp_path: Path) -> None:
    repository, folder = tmp_path / "repository", tmp_path / "trees"
    repository.mkdir()
    folder.mkdir()

    def git(*arguments: str) -> str:
        who = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
        return subprocess.run(
            ["git", *who, *arguments], cwd=repository, check=True, capture_output=True, text=True
        ).stdout

    git("init", "-q")
    for content in ("one", "two"):
        (repository / "file").write_text(content)
        git("add", "file")
        git("commit", "-qm", content)
    with worktrees(repository, folder, "HEAD~1", "HEAD") as trees:
        assert [(tree / "file").read_text() for tree in trees] == ["one", "two"]
    assert len(git("worktree", "list").splitlines()) == 1
    with pytest.raises(ConfigError, match="no such commit"), worktrees(repository, folder, "HEAD", "--all"):
        pass


def test_passes_alternate(tmp_path: Path) -> None:
    order: list[str] = []

    def run(tree: Path, file: Path) -> None:
        order.append(tree.name)
        file.write_text(tree.name)

    run_in_turn((tmp_path / "old", tmp_path / "new"), tmp_path / "out", 3, run)
    assert order == ["old", "new", "new", "old", "old", "new"]
    assert [file.read_text() for file in sorted((tmp_path / "out" / "b").iterdir())] == ["new"] * 3
