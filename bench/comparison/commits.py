"""Two commits against each other: two worktrees, and kernel passes in turn, so that a drifting machine hits both."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from sottovoce.bench.comparison.compare import Comparison, compare_sides
from sottovoce.bench.comparison.observations import read_side
from sottovoce.bench.kernels.run import run_pass
from sottovoce.engine.errors import ConfigError

Pass = Callable[[Path, Path], None]
"""(worktree, file to write): one pass of the worktree's kernels."""


def compare_commits(
    a_ref: str,
    b_ref: str,
    *,
    passes: int = 5,
    select: str | None = None,
    quick: bool = False,
    bound: float = 1.10,
    confidence: float = 0.95,
    repository: Path | None = None,
    out: Path | None = None,
) -> Comparison:
    """Time the kernels of two commits of `repository` (default: where we are), `passes` pairs of passes.

    Both run with this interpreter and its packages, each from a worktree of its own in a temporary folder with a cache
    of its own for compiled kernels. A pair is A then B, the next one B then A, so that a steady drift cancels. out: a
    folder that keeps the timings (a/pass-01.json, …). select, quick: as in `run_kernels`. A line on stderr tells of
    each pass. Raises ConfigError for a commit that does not exist or has no kernel suite, and for fewer than 2 passes.
    """
    if passes < 2:
        raise ConfigError(f"compare commits: expected 2 passes or more, got {passes}")

    def run(tree: Path, file: Path) -> None:
        own = {"PYTHONPATH": str(tree / "src"), "NUMBA_CACHE_DIR": str(tree / ".numba")}
        suite = tree / "src" / "sottovoce" / "bench" / "kernels"
        run_pass(file, select=select, quick=quick, suite=suite, environment=own)

    with tempfile.TemporaryDirectory(prefix="sottovoce-compare-") as name:
        folder = Path(name)
        kept = (out or folder / "timings").resolve()
        with worktrees(repository or Path.cwd(), folder, a_ref, b_ref) as trees:
            for tree, ref in zip(trees, (a_ref, b_ref), strict=True):
                if not (tree / "bench" / "kernels" / "pytest.ini").is_file():
                    raise ConfigError(f"compare commits: {ref} has no kernel suite (bench/kernels): choose a later one")
            run_in_turn(trees, kept, passes, run)
        a, b = (read_side([kept / side]) for side in ("a", "b"))
    return compare_sides(a, b, bound=bound, confidence=confidence, paired=True)


def run_in_turn(trees: tuple[Path, Path], out: Path, passes: int, run: Pass) -> None:
    """A B, B A, A B, …: write out/a/pass-01.json, out/b/pass-01.json and so on."""
    sides = dict(zip("ab", trees, strict=True))
    for side in sides:
        try:
            (out / side).mkdir(parents=True)
        except FileExistsError:
            raise ConfigError(f"compare commits: {out / side} exists: choose another folder or remove it") from None
    for number in range(1, passes + 1):
        for side in "ab" if number % 2 else "ba":
            sys.stderr.write(f"kernels: pass {number} of {passes}, {side.upper()} …\n")
            run(sides[side], out / side / f"pass-{number:02}.json")


@contextlib.contextmanager
def worktrees(repository: Path, folder: Path, a_ref: str, b_ref: str) -> Iterator[tuple[Path, Path]]:
    """Check the two commits out below `folder`; the repository forgets the worktrees at the end."""
    commits = [_commit(repository, ref) for ref in (a_ref, b_ref)]
    trees = folder / "a", folder / "b"
    with contextlib.ExitStack() as stack:
        for tree, commit in zip(trees, commits, strict=True):
            _git(repository, "worktree", "add", "--quiet", "--detach", str(tree), commit)
            stack.callback(_git, repository, "worktree", "remove", "--force", str(tree))
        yield trees


def _commit(repository: Path, ref: str) -> str:
    return _git(repository, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")


def _git(repository: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(repository), *arguments], capture_output=True, text=True)
    except OSError as error:
        raise ConfigError(f"compare commits: git cannot be started: {error.strerror}") from None
    if done.returncode:
        reason = done.stderr.strip() or "no such commit"
        raise ConfigError(f"compare commits: git {arguments[0]} {arguments[-1]} in {repository}: {reason}")
    return done.stdout.strip()
