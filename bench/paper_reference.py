"""Published figures with their citations, from TOML: those of the package (paper_reference.toml) and the user's.

docs/paper.md describes the format.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from sottovoce.bench.toml import read_toml
from sottovoce.engine.errors import ConfigError

PACKAGED: Final = Path(__file__).with_name("paper_reference.toml")
MAX_BYTES: Final = 1 << 15

Adversary = Literal["semi-honest", "malicious"]
Bound = Literal["exactly", "about", "under"]
Way = Literal["float", "fixed", "mpc"]
Split = Literal["random", "speaker"]

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=500)]
Positive = Annotated[float, msgspec.Meta(gt=0)]
NotNegative = Annotated[float, msgspec.Meta(ge=0)]


class _Figure(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """source: the citation. place: where in it: abstract, table 3, … note: what else a reader must know."""

    source: Text
    place: Text
    note: str = ""

    @property
    def citation(self) -> str:
        """In one line."""
        return "; ".join(filter(None, (f"{self.source}, {self.place}", self.note)))


class TimingFigure(_Figure, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One clip under MPC, preprocessing included. parties: None where the source does not say.

    bound: whether the source says exactly, about or under time_s. offline_s: the part of time_s that is preprocessing.
    """

    adversary: Adversary
    parties: Annotated[int, msgspec.Meta(ge=2)] | None = None
    time_s: Positive
    bound: Bound = "exactly"
    offline_s: NotNegative | None = None
    rounds: Annotated[int, msgspec.Meta(ge=1)] | None = None
    mb_per_party: NotNegative | None = None


class AccuracyFigure(_Figure, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Correct labels in percent. way: in floating point, in fixed point (quantised) in the clear, or under MPC."""

    way: Way
    split: Split
    percent: Annotated[float, msgspec.Meta(gt=0, le=100)]


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    timing: tuple[TimingFigure, ...] = ()
    accuracy: tuple[AccuracyFigure, ...] = ()


@dataclass(frozen=True, slots=True)
class References:
    """All figures, in the order of reading: of two that fit equally well, the later one is taken."""

    timing: tuple[TimingFigure, ...] = ()
    accuracy: tuple[AccuracyFigure, ...] = ()

    def time(self, adversary: str, parties: int) -> TimingFigure | None:
        """For that number of parties; failing that, one that names no number."""
        for wanted in (parties, None):
            found = [figure for figure in self.timing if (figure.adversary, figure.parties) == (adversary, wanted)]
            if found:
                return found[-1]
        return None

    def share(self, way: Way, split: Split) -> AccuracyFigure | None:
        """For labels computed in that way on that split."""
        found = [figure for figure in self.accuracy if (figure.way, figure.split) == (way, split)]
        return found[-1] if found else None


def load_references(given: Path | None = None, folder: Path | None = None) -> References:
    """The package's figures, then the user's: of the file `given`, or else of a paper_reference.toml in `folder`.

    folder: None is the current one. Raises ConfigError that names file, row and field.
    """
    files = [PACKAGED]
    own = given if given is not None else (folder or Path.cwd()) / PACKAGED.name
    if given is not None or (own.is_file() and not own.samefile(PACKAGED)):
        files.append(own)
    read = [_read(file) for file in files]
    return References(
        tuple(figure for file in read for figure in file.timing),
        tuple(figure for file in read for figure in file.accuracy),
    )


def _read(path: Path) -> _File:
    what = "reference figures"
    file = read_toml(path, _File, MAX_BYTES, what, " (rows count from 0; the fields are in docs/paper.md)")
    for number, figure in enumerate(file.timing):
        _check(f"{what} {path}: timing row {number}", figure)
    return file


def _check(where: str, figure: TimingFigure) -> None:
    numbers = (figure.time_s, figure.offline_s, figure.mb_per_party)
    if not all(math.isfinite(number) for number in numbers if number is not None):
        raise ConfigError(f"{where}: expected finite numbers, got {numbers}")
    if figure.offline_s is not None and figure.offline_s > figure.time_s:
        raise ConfigError(f"{where}: expected offline_s within time_s = {figure.time_s:g}, got {figure.offline_s:g}")
