"""A build of MP-SPDZ on this machine, and the protocols that the benchmark runs in it."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal

from sottovoce.engine.errors import ConfigError

VARIABLE: Final = "MP_SPDZ"
MAX_PREPARED: Final = 500_000
_GIT_S: Final = 10.0
_NUMBER: Final = re.compile(r"^## (\d\S*)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Variant:
    """A protocol of MP-SPDZ with the settings that suit it.

    split: parties' local sharing of a value's bits, for comparisons (`-Z`). head: lines of the program that choose how
    to truncate and how to turn bits into numbers; settings: the same in words. prepare: pieces of correlated randomness
    that it makes at a time, for each clip of a batch; None: MP-SPDZ's default.
    """

    name: str
    parties: int
    adversary: Literal["semi-honest", "malicious"]
    security: str
    split: int
    head: tuple[str, ...]
    settings: Mapping[str, str]
    prepare: int | None = None

    @property
    def executable(self) -> str:
        """File of its virtual machine in the build folder."""
        return f"{self.name}-party.x"

    @property
    def compiler_options(self) -> tuple[str, ...]:
        """For compile.py. The budget keeps a layer in one piece: one round where a split one would take several."""
        return ("-R", "64", "-Z", str(self.split), "-M", "-b", "10000000")

    def machine_options(self, batch: int) -> tuple[str, ...]:
        """For the executable. Too few pieces at a time cost rounds, too many are not used up."""
        return () if self.prepare is None else ("--batch-size", str(min(batch * self.prepare, MAX_PREPARED)))


_TRUNCATION = "program.use_trunc_pr = True"

VARIANTS: Mapping[str, Variant] = MappingProxyType(
    {
        row.name: row
        for row in (
            Variant(
                "replicated-ring",
                3,
                "semi-honest",
                "semi-honest, one of three parties",
                3,
                (_TRUNCATION, "program.use_unsplit = 1"),
                {"truncation": "probabilistic, of the protocol", "bits to numbers": "bit injection"},
            ),
            Variant(
                "sy-rep-ring",
                3,
                "malicious",
                "malicious with abort, one of three parties, 40 bits of statistical security",
                3,
                (),
                {
                    "truncation": "probabilistic, generic",
                    "bits to numbers": "dabits",
                    "batch size of preprocessing": f"20000 for each clip, at most {MAX_PREPARED}",
                },
                prepare=20_000,
            ),
            Variant(
                "rep4-ring",
                4,
                "malicious",
                "malicious with abort, one of four parties",
                4,
                (_TRUNCATION,),
                {"truncation": "probabilistic, of the protocol", "bits to numbers": "dabits"},
            ),
        )
    }
)


def find_variant(name: str) -> Variant:
    """The protocol of that name. Raises ConfigError with the known names."""
    if name not in VARIANTS:
        raise ConfigError(f"mp-spdz: protocol: expected one of {', '.join(VARIANTS)}, got {name!r}")
    return VARIANTS[name]


@dataclass(frozen=True, slots=True)
class Build:
    """A folder with MP-SPDZ's sources and what was built in them."""

    folder: Path

    def check(self, variant: Variant) -> None:
        """Raise ConfigError unless everything that a run needs is there."""
        for name in ("compile.py", "Scripts/setup-ssl.sh", variant.executable):
            if not (self.folder / name).is_file():
                raise ConfigError(
                    f"mp-spdz: expected {name} in {self.folder}, got none: build {variant.executable} there as "
                    "MP-SPDZ's documentation says (https://mp-spdz.readthedocs.io)"
                )

    @property
    def version(self) -> str:
        """Of the sources: `git describe` in a checkout, else the newest release of its change log, else "unknown"."""
        if (self.folder / ".git").exists():
            command = ["git", "-C", str(self.folder), "describe", "--tags", "--always"]
            try:
                return subprocess.run(
                    command, capture_output=True, text=True, check=True, timeout=_GIT_S
                ).stdout.strip()
            except (OSError, subprocess.SubprocessError):
                pass  # no git here, or a checkout of another user: the change log knows the release
        try:
            found = _NUMBER.search((self.folder / "CHANGELOG.md").read_text(encoding="utf-8", errors="replace"))
        except OSError:
            found = None
        return found[1] if found else "unknown"


def find_build(path: str | os.PathLike[str] | None = None) -> Build:
    """The build at `path`, default: environment variable MP_SPDZ. Raises ConfigError if there is no such folder."""
    chosen = path or os.environ.get(VARIABLE)
    if not chosen:
        raise ConfigError(
            f"mp-spdz: expected the folder of a build (--mp-spdz PATH or {VARIABLE}), got none: it is not installed "
            "from here, its users build it (https://mp-spdz.readthedocs.io)"
        )
    folder = Path(chosen).expanduser().resolve()
    if not folder.is_dir():
        raise ConfigError(f"mp-spdz: expected the folder of a build, got {os.fspath(chosen)!r}")
    return Build(folder)
