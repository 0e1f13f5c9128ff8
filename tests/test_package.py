"""The package as a whole: what is installed, what an import costs, and the checks that guard the suite itself."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import pkgutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

import sottovoce

ROOMS = ("engine", "kernels", "models", "bench")
# Only these modules may need what the package does not depend on.
EXTRAS = {
    "cupy": ("sottovoce.kernels.gpu.cupy_device",),
    "torch": ("sottovoce.models.training",),
}


def module_names() -> list[str]:
    """Every module of the installed package."""
    found = (module.name for module in pkgutil.walk_packages(sottovoce.__path__, "sottovoce."))
    return [name for name in found if not name.endswith("__main__")]


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=False)


@pytest.fixture(scope="module")
def check_dist(repository: Path) -> ModuleType:
    return load(repository / ".ci" / "check_dist.py")


@pytest.fixture(scope="module")
def check_links(repository: Path) -> ModuleType:
    return load(repository / ".ci" / "check_links.py")


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# ---- the package --------------------------------------------------------------------------------------------------


def test_version_is_the_distribution_s() -> None:
    assert importlib.metadata.version("sottovoce") == sottovoce.__version__


def test_every_room_is_part_of_the_package() -> None:
    names = module_names()
    assert {f"sottovoce.{room}" for room in (*ROOMS, "cli", "serving")} <= set(names)


@pytest.mark.parametrize("name", module_names())
def test_every_module_imports(name: str) -> None:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        extra = (error.name or "").partition(".")[0]
        if not name.startswith(EXTRAS.get(extra, ("nothing may need it",))):
            raise
        pytest.skip(f"needs the extra {extra}")


def test_importing_sottovoce_is_light() -> None:
    """`import sottovoce` and `--help` must not wait for librosa or a compiler."""
    result = run_python(
        "import sys, sottovoce; print(sorted({'librosa', 'numba', 'torch', 'cupy'} & sys.modules.keys()))"
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "[]"


def test_nothing_of_cuda_is_imported_before_somebody_asks_for_a_gpu() -> None:
    modules = "sottovoce.kernels.catalog, sottovoce.engine.session, sottovoce.serving, sottovoce.cli"
    result = run_python(f"import sys, {modules}; print(sorted({{'cupy', 'cupy_backends'}} & sys.modules.keys()))")
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "[]"


def test_the_package_is_marked_as_typed() -> None:
    assert (Path(str(sottovoce.__file__)).parent / "py.typed").is_file()


def test_metadata_names_both_licences() -> None:
    metadata = importlib.metadata.metadata("sottovoce")
    assert metadata["License-Expression"] == "Apache-2.0 AND CC-BY-NC-SA-4.0"
    assert "LICENSE" in (metadata.get_all("License-File") or [])


def test_the_command_is_declared() -> None:
    commands = importlib.metadata.entry_points(group="console_scripts", name="sottovoce")
    assert [command.value for command in commands] == ["sottovoce.cli:main"]


# ---- house rules that no linter knows -----------------------------------------------------------------------------


def test_packaging_lists_every_source_folder(repository: Path) -> None:
    """What `only-include` does not list is silently missing from the wheel."""
    hatch = tomllib.loads((repository / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]
    package = repository / "src" / "sottovoce"
    needed = {f"src/sottovoce/{path.name}" for path in package.iterdir() if not path.is_symlink()} | set(ROOMS)
    needed -= {"src/sottovoce/__pycache__"}
    for target in ("wheel", "sdist"):
        assert needed <= set(hatch[target]["only-include"]), target


def test_every_source_folder_is_a_package(repository: Path) -> None:
    """Without __init__.py a folder is a namespace package: importable here, invisible to pkgutil and to mypy."""
    folders = {
        source.parent for room in ROOMS for source in (repository / room).rglob("*.py") if "data" not in source.parts
    }
    assert len(folders) > len(ROOMS)
    assert [folder for folder in sorted(folders) if not (folder / "__init__.py").is_file()] == []


# ---- the checks that guard the suite and the distributions --------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "workers", "code"), [("sottovoce.engine", "0", 0), ("engine", "0", 1), ("engine", "1", 1)]
)
def test_a_second_copy_of_a_room_fails_the_session(
    body: str, workers: str, code: int, tmp_path: Path, repository: Path
) -> None:
    (tmp_path / "conftest.py").write_text((repository / "tests" / "conftest.py").read_text())
    (tmp_path / "test_copy.py").write_text(
        f"import sys, types\n\ndef test_it():\n    sys.modules.setdefault({body!r}, types.ModuleType({body!r}))\n"
    )
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-n",
        workers,
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(tmp_path),
        str(tmp_path),
    ]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False)
    assert "1 passed" in result.stdout, result.stdout + result.stderr
    assert result.returncode == code
    assert ("second copies" in result.stdout) is bool(code)


def test_stale_machine_code_is_dropped(tmp_path: Path, repository: Path) -> None:
    conftest = load(repository / "tests" / "conftest.py")
    cache = tmp_path / "cpu" / "__pycache__"
    cache.mkdir(parents=True)
    source, old, new, other = tmp_path / "cpu" / "a.py", cache / "a.f.1.nbc", cache / "a.f.2.nbi", cache / "a.pyc"
    for path, mtime in ((source, 2000), (old, 1000), (new, 3000), (other, 1000)):
        path.touch()
        os.utime(path, (mtime, mtime))
    assert conftest.drop_stale_kernels(tmp_path) == 2  # what is new may call what is gone
    assert not old.exists()
    assert not new.exists()
    assert other.exists()
    new.touch()
    assert conftest.drop_stale_kernels(tmp_path) == 0
    assert new.exists()


def test_a_file_missing_from_the_wheel_is_noticed(check_dist: ModuleType) -> None:
    sources = ["engine/errors.py", "models/zoo/paper/weights.npz", "src/sottovoce/py.typed"]
    whole = {
        "sottovoce/engine/errors.py",
        "sottovoce/models/zoo/paper/weights.npz",
        "sottovoce/py.typed",
        "sottovoce-1.dist-info/METADATA",
    }
    assert check_dist.wheel_problems(whole, sources) == []
    for source in sources:
        problems = check_dist.wheel_problems(whole - {check_dist.in_wheel(source)}, sources)
        assert problems == [f"missing from the wheel: {source}"]
        assert check_dist.sdist_problems(set(sources) - {source}, sources) == [f"missing from the sdist: {source}"]
    stranger = check_dist.wheel_problems(whole | {"engine/errors.py"}, sources)
    assert stranger == ["in the wheel but not tracked: engine/errors.py"]


def test_a_licence_missing_from_the_wheel_is_noticed(check_dist: ModuleType) -> None:
    metadata = "License-Expression: Apache-2.0 AND CC-BY-NC-SA-4.0\nLicense-File: LICENSE\n"
    names = {"sottovoce-1.dist-info/entry_points.txt", "sottovoce-1.dist-info/licenses/LICENSE"}
    assert any("two parts" in problem for problem in check_dist.metadata_problems(metadata, names))
    assert any("LICENSE" in problem for problem in check_dist.metadata_problems(metadata, set()))
    wrong = metadata.replace(" AND CC-BY-NC-SA-4.0", "")
    assert any("licence is 'Apache-2.0'" in problem for problem in check_dist.metadata_problems(wrong, names))


def test_a_broken_link_is_noticed(check_links: ModuleType, tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    (tmp_path / "other.md").write_text("# A heading, with `code`\n\n## Twice\n\n## Twice\n")
    good = (
        "[a](other.md) [b](other.md#a-heading-with-code) [c](other.md#twice-1) [d](https://example.org/x) `[e](no.md)`"
    )
    page.write_text(good)
    assert check_links.broken_links(page) == []
    page.write_text(good + " [f](gone.md) [g](other.md#gone) [h](#gone)")
    assert check_links.broken_links(page) == ["gone.md", "other.md#gone", "#gone"]


def test_every_link_in_the_docs_leads_somewhere(check_links: ModuleType, repository: Path) -> None:
    assert check_links.main([str(repository)]) == 0
