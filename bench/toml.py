"""TOML files that the user writes: price tables, published figures."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TypeVar

import msgspec

from sottovoce.engine.errors import ConfigError
from sottovoce.engine.files import read_bounded
from sottovoce.engine.structs import convert

T = TypeVar("T")


def read_toml(path: Path, kind: type[T], limit: int, what: str, hint: str) -> T:
    """Read a file of at most `limit` bytes, strictly, as a `kind`.

    Raises ConfigError that begins with `what` and the path; for a field that is wrong it names the field and ends with
    the hint, which says where all of them are described.
    """
    where = f"{what} {path}"
    try:
        return convert(tomllib.loads(read_bounded(path, limit).decode()), kind)
    except OSError as error:
        raise ConfigError(f"{where}: {error.strerror}") from None
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: {error}{hint}") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{where}: not valid TOML: {error}") from None
