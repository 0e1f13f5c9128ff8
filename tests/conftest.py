"""Fixtures and rules for the whole suite."""

from __future__ import annotations

import importlib.util
import os
import sys
import zlib
from pathlib import Path

import numba
import numpy as np
import pytest
from hypothesis import settings

REPOSITORY = Path(__file__).resolve().parent.parent
ROOMS = ("engine", "kernels", "models", "bench")

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


def missing_gpu() -> str | None:
    """Why tests marked `gpu` cannot run here, or None."""
    if importlib.util.find_spec("cupy") is None:
        return "needs a GPU: CuPy is not installed"
    import cupy

    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        return f"needs a GPU: {error}"
    return None if count else "needs a GPU: CUDA sees no device"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    needs_gpu = [item for item in items if "gpu" in item.keywords]
    if needs_gpu and (reason := missing_gpu()):
        for item in needs_gpu:
            item.add_marker(pytest.mark.skip(reason=reason))
    if os.geteuid() != 0:
        for item in items:
            if item.get_closest_marker("root"):
                item.add_marker(pytest.mark.skip(reason="needs root"))


# ---- compiled kernels ---------------------------------------------------------------------------------------------


def drop_stale_kernels(folder: Path) -> int:
    """Delete cached machine code older than the newest source in `folder`; return how many files went.

    Numba notices an edit of the file that a kernel stands in, not of a file whose function the kernel inlines: after
    such an edit it would run, and the tests would judge, the old code.
    """
    newest = max((source.stat().st_mtime for source in folder.rglob("*.py")), default=0.0)
    stale = [path for path in folder.rglob("__pycache__/*.nb[ic]") if path.stat().st_mtime < newest]
    for path in stale:
        path.unlink(missing_ok=True)
    return len(stale)


def pytest_configure(config: pytest.Config) -> None:
    if numba.config.DISABLE_JIT:
        raise pytest.UsageError("NUMBA_DISABLE_JIT is set: uncompiled kernels overflow differently and prove nothing")
    spec = importlib.util.find_spec("sottovoce")
    if spec is None or not spec.submodule_search_locations:
        raise pytest.UsageError("sottovoce is not installed in this environment: run `make test`")
    drop_stale_kernels(Path(next(iter(spec.submodule_search_locations)), "kernels").resolve())


def pytest_collection_finish(session: pytest.Session) -> None:
    """Compile before the first test: on a fresh machine our kernels and librosa's take longer than one test may."""
    few = 20  # not worth it, and nested sessions of tests/test_package.py are small
    if session.config.option.collectonly or len(session.items) <= few:
        return
    from sottovoce.kernels.warmup import warm_up
    from sottovoce.models.speech.extract import extract_features

    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None:
        reporter.write_line("compiling kernels where the cache on disk lacks them ...")
    warm_up()
    extract_features([np.sin(np.arange(22050) / 10)])


def pytest_report_header() -> list[str]:
    spec = importlib.util.find_spec("sottovoce")
    where = next(iter(spec.submodule_search_locations or [])) if spec else "not installed"
    return [f"sottovoce: {where}; numpy {np.__version__}, numba {numba.__version__}, {os.cpu_count()} cores"]


# ---- one copy of every room ---------------------------------------------------------------------------------------


def second_copies() -> list[str]:
    """Rooms imported as top-level packages: a second copy with its own classes, which works only by accident."""
    return [room for room in ROOMS if room in sys.modules]


def pytest_sessionfinish(session: pytest.Session) -> None:
    if second_copies():
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if copies := second_copies():
        terminalreporter.section("second copies", red=True)
        terminalreporter.line(f"imported as top-level packages: {', '.join(copies)}. Import sottovoce.{copies[0]}.")
