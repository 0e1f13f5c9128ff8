"""Fixtures and rules for the whole suite."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from hypothesis import settings

REPOSITORY = Path(__file__).resolve().parent.parent
ROOMS = ("engine", "kernels", "models", "bench")
MOST_WORKERS = 8
COMPILED = pytest.StashKey[bool]()
COPIES = pytest.StashKey[set[str]]()

# Time limits are pytest-timeout's business: the first call of a kernel compiles it. In CI, the same examples each time.
settings.register_profile("sottovoce", deadline=None, print_blob=True, derandomize=bool(os.environ.get("CI")))
settings.load_profile("sottovoce")


# ---- fixtures -----------------------------------------------------------------------------------------------------


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Random numbers that differ from test to test and are the same in every run."""
    return np.random.default_rng(zlib.crc32(request.node.nodeid.encode()))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real recordings and features, not part of this repository; tests that need it skip without it."""
    path = Path(os.environ.get("SOTTOVOCE_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))
    if not path.is_dir():
        pytest.skip(f"no data at {path} (set SOTTOVOCE_SHARED_DATA)")
    return path


@pytest.fixture(scope="session")
def repository() -> Path:
    """The repository's (or the unpacked sdist's) top folder."""
    return REPOSITORY


# ---- what a test needs --------------------------------------------------------------------------------------------


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    needs_gpu = [item for item in items if item.get_closest_marker("gpu")]  # not keywords: a folder has that name
    if needs_gpu:
        from sottovoce.engine.backend.devices import missing_gpu

        if reason := missing_gpu():
            for item in needs_gpu:
                item.add_marker(pytest.mark.skip(reason=f"needs a GPU: {reason}"))
    if os.geteuid() != 0:
        for item in items:
            if item.get_closest_marker("root"):
                item.add_marker(pytest.mark.skip(reason="needs root"))


# ---- several processes (pytest-xdist) -----------------------------------------------------------------------------


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """For `-n auto`: one more than the cores, because many tests wait for deployments to start and stop."""
    return min(len(os.sched_getaffinity(0)), MOST_WORKERS) + 1


def is_worker(config: pytest.Config) -> bool:
    """Whether this process runs tests for another one."""
    return hasattr(config, "workerinput")


# ---- compiled kernels ---------------------------------------------------------------------------------------------


def drop_stale_kernels(folder: Path) -> int:
    """Delete all cached machine code if some is older than the newest source in `folder`; return how many files went.

    Numba notices an edit of the file that a kernel stands in, not of a file whose function the kernel inlines: after
    such an edit it would run, and the tests would judge, the old code. What is newer goes too: the edit may have come
    while kernels were compiled, and what a kernel from the cache calls is never compiled again by itself.
    """
    newest = max((source.stat().st_mtime for source in folder.rglob("*.py")), default=0.0)
    cached = list(folder.rglob("__pycache__/*.nb[ic]"))
    if all(path.stat().st_mtime >= newest for path in cached):
        return 0
    for path in cached:
        path.unlink(missing_ok=True)
    return len(cached)


def pytest_configure(config: pytest.Config) -> None:
    if numba.config.DISABLE_JIT:
        raise pytest.UsageError("NUMBA_DISABLE_JIT is set: uncompiled kernels overflow differently and prove nothing")
    spec = importlib.util.find_spec("sottovoce")
    if spec is None or not spec.submodule_search_locations:
        raise pytest.UsageError("sottovoce is not installed in this environment: run `make test`")
    if hasattr(config.option, "benchmark_disable"):
        config.option.benchmark_disable = True  # each runs once; --benchmark-enable times it
    if not is_worker(config):
        drop_stale_kernels(Path(next(iter(spec.submodule_search_locations)), "kernels", "cpu").resolve())


def pytest_collection_finish(session: pytest.Session) -> None:
    if not is_worker(session.config):
        compile_kernels(session.config, len(session.items))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_node_collection_finished(node: Any, ids: list[str]) -> None:
    """Workers wait for each other before the first test: compile here, once, or each would compile the same."""
    compile_kernels(node.config, len(ids))


def compile_kernels(config: pytest.Config, tests: int) -> None:
    """Compile before the first test: on a fresh machine our kernels and librosa's take longer than one test may."""
    few = 20  # not worth it, and nested sessions of tests/test_package.py are small
    if config.option.collectonly or tests <= few or config.stash.get(COMPILED, False):
        return
    from sottovoce.kernels.warmup import warm_up

    config.stash[COMPILED] = True
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None:
        reporter.write_line("compiling kernels where the cache on disk lacks them ...")
    librosa = "from sottovoce.cli.warm import load_feature_code; load_feature_code()"
    with subprocess.Popen([sys.executable, "-c", librosa]):  # beside ours: it takes longer
        warm_up()


def pytest_report_header() -> list[str]:
    spec = importlib.util.find_spec("sottovoce")
    where = next(iter(spec.submodule_search_locations or [])) if spec else "not installed"
    return [f"sottovoce: {where}; numpy {np.__version__}, numba {numba.__version__}, {os.cpu_count()} cores"]


# ---- one copy of every room ---------------------------------------------------------------------------------------


def second_copies(config: pytest.Config) -> list[str]:
    """Rooms imported as top-level packages, here or in a worker that has ended.

    Such a room is a second copy with its own classes, and works only by accident.
    """
    return sorted(config.stash.get(COPIES, set()) | {room for room in ROOMS if room in sys.modules})


def pytest_sessionfinish(session: pytest.Session) -> None:
    copies = second_copies(session.config)
    if is_worker(session.config):
        session.config.workeroutput["second_copies"] = copies  # type: ignore[attr-defined]
    elif copies:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """A worker has ended; one that crashed has nothing to tell, and fails the session anyway."""
    if error is None:
        node.config.stash.setdefault(COPIES, set()).update(node.workeroutput["second_copies"])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if copies := second_copies(config):
        terminalreporter.section("second copies", red=True)
        terminalreporter.line(f"imported as top-level packages: {', '.join(copies)}. Import sottovoce.{copies[0]}.")
