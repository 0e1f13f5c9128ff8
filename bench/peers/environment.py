"""A Python environment for a peer: made once with pip, from pinned versions, in a cache folder; reused after that."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sottovoce.engine.errors import ConfigError

INSTALL_S: Final = 3600.0
VERSION_S: Final = 60.0
LINE_LIMIT: Final = 300


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to make a peer's environment.

    package, version: what is compared. steps: arguments of one `pip install` each. pythons: the versions of Python
    that it runs on, best first; none: any. variable: of the process environment; it may name a Python that has the
    peer already, which is then used as it is.
    """

    package: str
    version: str
    variable: str
    steps: tuple[tuple[str, ...], ...]
    pythons: tuple[str, ...] = ()

    @property
    def folder(self) -> str:
        """Its name in the cache: another list of versions is another folder."""
        digest = hashlib.sha256(repr((self.version, self.steps, self.pythons)).encode()).hexdigest()
        return f"{self.package}-{digest[:12]}"


def own_python(recipe: Recipe) -> str | None:
    """The Python that the user names in the recipe's variable, or None. Raises ConfigError if there is none there."""
    named = os.environ.get(recipe.variable)
    if not named:
        return None
    found = shutil.which(named)
    if found is None:
        raise ConfigError(f"{recipe.variable}: expected a Python that has {recipe.package}, found none at {named!r}")
    return found


def find_python(recipe: Recipe) -> str:
    """A Python on this machine to make the environment with. Raises ConfigError that says which would do."""
    running = f"{sys.version_info.major}.{sys.version_info.minor}"
    if not recipe.pythons or running in recipe.pythons:
        return sys.executable
    for version in recipe.pythons:
        found = shutil.which(f"python{version}")
        if found is not None and _runs(found):
            return found
    names = " or ".join(recipe.pythons)
    raise ConfigError(
        f"{recipe.package} {recipe.version}: expected Python {names} on PATH, found none; install one, or set "
        f"{recipe.variable} to a Python that has {recipe.package}"
    )


def installed_version(recipe: Recipe, python: str) -> str:
    """The version of the package that `python` has. Raises ConfigError if it has none."""
    code = f"import importlib.metadata as m; print(m.version({recipe.package!r}))"
    try:
        found = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, timeout=VERSION_S)
    except (OSError, subprocess.TimeoutExpired):
        found = None
    if found is None or found.returncode != 0:
        raise ConfigError(f"{recipe.variable}: expected a Python that has {recipe.package}, got one without it")
    return found.stdout.strip()


def make_environment(recipe: Recipe, say: Callable[[str], None]) -> str:
    """The Python of the recipe's environment, installed now if it is not there yet; `say` is told before it is.

    Raises ConfigError with pip's last line if that fails; the next call then tries again.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sottovoce" / "peers"
    folder = cache / recipe.folder
    python, done = folder / "bin" / "python", folder / "complete"
    base = find_python(recipe)
    cache.mkdir(parents=True, exist_ok=True)
    with open(cache / f"{recipe.folder}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another run may be making it
        if done.exists():
            return str(python)
        say(f"{recipe.package} {recipe.version}: installing into {folder} (once; takes minutes)")
        with suppress(FileNotFoundError):
            shutil.rmtree(folder)
        _run(recipe, [base, "-I", "-m", "venv", str(folder)])
        for step in recipe.steps:
            say(f"{recipe.package} {recipe.version}: pip install {' '.join(step)}")
            _run(
                recipe, [str(python), "-I", "-m", "pip", "install", "--disable-pip-version-check", "--no-input", *step]
            )
        done.touch()
    return str(python)


def _run(recipe: Recipe, command: Sequence[str]) -> None:
    try:
        found = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=INSTALL_S,
        )
    except subprocess.TimeoutExpired:
        raise ConfigError(f"{recipe.package} {recipe.version}: pip did not end within {INSTALL_S:g} s") from None
    except OSError as error:
        raise ConfigError(f"{recipe.package} {recipe.version}: cannot run {command[0]}: {error.strerror}") from None
    if found.returncode != 0:
        lines = [line.strip() for line in found.stdout.split("\n") if line.strip()]
        errors = [line for line in lines if line.startswith("ERROR")] or lines or ["nothing"]
        raise ConfigError(
            f"{recipe.package} {recipe.version} could not be installed; pip's last words: {errors[-1][:LINE_LIMIT]}"
        )


def _runs(python: str) -> bool:
    """Whether it is more than a shim that ends with an error."""
    try:
        return subprocess.run([python, "-c", ""], capture_output=True, timeout=VERSION_S).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False
