"""Check that a built wheel and sdist hold every tracked file of the rooms, and the wheel nothing else.

Usage: check_dist.py DIST_FOLDER      (run inside the git checkout that the distributions were built from)
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.parser import HeaderParser
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("engine", "kernels", "models", "bench")
PACKAGE = "src/sottovoce"
LINK_MODE = "120000"
# Besides the rooms, the sdist holds what is needed to read, test and rebuild the project.
SDIST_EXTRA = ("tests", "docs", "examples", ".ci", "pyproject.toml", "README.md", "CHANGELOG.md", "CONTRIBUTING.md",
               "LICENSE", "Makefile")  # fmt: skip


def tracked(*paths: str) -> list[str]:
    """Tracked files below `paths`, without symbolic links."""
    # A checkout owned by another user is common in containers; git would refuse to list it.
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z", "--stage", "--", *paths]
    listing = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    entries = [entry.partition("\t") for entry in listing.split("\0") if entry]
    return sorted({path for head, _, path in entries if not head.startswith(LINK_MODE)})


def in_wheel(path: str) -> str:
    """The name in the wheel of a tracked file: engine/x -> sottovoce/engine/x, src/sottovoce/x -> sottovoce/x."""
    return path.removeprefix("src/") if path.startswith(PACKAGE + "/") else f"sottovoce/{path}"


def wheel_problems(names: set[str], sources: list[str]) -> list[str]:
    """What is missing from the wheel's `names`, or there without being tracked."""
    expected = {in_wheel(path): path for path in sources}
    missing = [f"missing from the wheel: {path}" for name, path in sorted(expected.items()) if name not in names]
    strangers = [
        f"in the wheel but not tracked: {name}"
        for name in sorted(names - expected.keys())
        if ".dist-info/" not in name and not name.endswith("/")
    ]
    return missing + strangers


def sdist_problems(names: set[str], sources: list[str]) -> list[str]:
    """What is missing from the sdist; `names` are without its top folder."""
    return [f"missing from the sdist: {path}" for path in sources if path not in names]


def metadata_problems(metadata: str, names: set[str]) -> list[str]:
    """Licence, licence files and command as pyproject.toml declares them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    header = HeaderParser().parsestr(metadata)
    problems = []
    if header["License-Expression"] != project["license"]:
        problems.append(f"the wheel's licence is {header['License-Expression']!r}, expected {project['license']!r}")
    declared = set(header.get_all("License-File") or [])
    wanted = {path.relative_to(ROOT).as_posix() for glob in project["license-files"] for path in ROOT.glob(glob)}
    problems += [f"licence file not named in the wheel's metadata: {path}" for path in sorted(wanted - declared)]
    problems += [
        f"licence file not in the wheel: {path}"
        for path in sorted(declared)
        if not any(name.endswith(f".dist-info/licenses/{path}") for name in names)
    ]
    if project["license"].count("AND") and len(declared) < 2:
        problems.append(f"the licence names two parts but the wheel has only these licence files: {sorted(declared)}")
    if not any(name.endswith(".dist-info/entry_points.txt") for name in names):
        problems.append("the wheel has no entry point")
    return problems


def only(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise SystemExit(f"check_dist: expected one {pattern} in {folder}, found {len(found)}")
    return found[0]


def main(arguments: list[str]) -> int:
    folder = Path(arguments[0])
    rooms = tracked(*ROOMS, PACKAGE)
    for room in (*ROOMS, PACKAGE):
        if not any(path.startswith(room + "/") for path in rooms):
            raise SystemExit(f"check_dist: git tracks no file in {room}: not the checkout that was built?")
    with zipfile.ZipFile(only(folder, "*.whl")) as wheel:
        names = set(wheel.namelist())
        metadata = wheel.read(next(name for name in names if name.endswith(".dist-info/METADATA"))).decode()
    with tarfile.open(only(folder, "*.tar.gz")) as sdist:
        sdist_names = {member.name.partition("/")[2] for member in sdist.getmembers() if member.isfile()}
    problems = [
        *wheel_problems(names, rooms),
        *sdist_problems(sdist_names, [*rooms, *tracked(*SDIST_EXTRA)]),
        *metadata_problems(metadata, names),
    ]
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"distributions: {len(rooms)} tracked files of the rooms, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
