"""What the figures were measured on."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from sottovoce import __version__
from sottovoce.bench.schema import Environment

PACKAGES: Final = ("numpy", "numba", "cryptography", "msgspec", "cupy", "torch")
ROOMS: Final = ("engine", "kernels", "models", "bench")


def environment() -> Environment:
    """This machine, now. Nothing in it names the machine or its user."""
    commit, dirty = _commit()
    return Environment(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        sottovoce=__version__,
        commit=commit,
        dirty=dirty,
        platform=f"{platform.system()} {platform.release()}, {platform.machine()}",
        python=platform.python_version(),
        processor=processor(),
        cores=len(os.sched_getaffinity(0)),
        memory_gb=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        load=tuple(round(value, 2) for value in os.getloadavg()),
        packages=_versions(),
    )


def processor() -> str:
    """The processor's name, as the kernel gives it."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def describe(where: Environment) -> str:
    """One line for the foot of a table."""
    commit = f", commit {where.commit[:10]}{' with changes' if where.dirty else ''}" if where.commit else ""
    load = " ".join(f"{value:g}" for value in where.load)
    return (
        f"{where.processor}, {where.cores} cores, {where.memory_gb:g} GB, load before {load}; Python {where.python}, "
        f"sottovoce {where.sottovoce}{commit}, {where.created}"
    )


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _commit() -> tuple[str, bool]:
    """Of the checkout that this code runs from, and whether its rooms were changed since; ("", False) without one."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return "", False

    def git(*arguments: str) -> str:
        return subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True).stdout

    try:
        return git("rev-parse", "HEAD").strip(), bool(git("status", "--porcelain", "--", *ROOMS, "src").strip())
    except (OSError, subprocess.CalledProcessError):
        return "", False
