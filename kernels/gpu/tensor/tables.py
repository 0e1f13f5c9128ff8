"""Tuned tables: what every variant took for some shapes on one kind of device. One JSON file each, in `tuned/`."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args

FOLDER = Path(__file__).parent / "tuned"
VERSION = 1

Kind = Literal["matmul", "conv1d"]
Variant = Literal["imad", "mma_u8", "cublas_s8", "crt_s8"]


@dataclass(frozen=True, slots=True)
class Case:
    """One product and what each variant took.

    A convolution counts as (batch * time_out, taps * channels) @ (taps * channels, columns), for one group.
    """

    kind: Kind
    rows: int
    inner: int
    columns: int
    medians_us: Mapping[Variant, float]


@dataclass(frozen=True, slots=True)
class Table:
    """model: name and compute capability of the device; driver, cupy: versions that the figures were taken with."""

    model: str
    driver: str
    cupy: str
    cases: tuple[Case, ...]


def path_for(model: str, folder: Path = FOLDER) -> Path:
    """The table's file: `nvidia-h100-80gb-hbm3-9.0.json`."""
    return folder / (re.sub(r"[^a-z0-9.]+", "-", model.lower()).strip("-") + ".json")


def write_table(table: Table, folder: Path = FOLDER) -> Path:
    """Write it in place of an older one of the same device."""
    path = path_for(table.model, folder)
    path.write_text(json.dumps({"version": VERSION, **asdict(table)}, indent=2) + "\n")
    return path


def read_table(path: Path) -> Table:
    """Raises ValueError if the file is not a table of this version, to the last field."""
    try:
        fields = _fields(json.loads(path.read_text()), "version", "model", "driver", "cupy", "cases")
        model, driver, cupy = texts = fields["model"], fields["driver"], fields["cupy"]
        cases = fields["cases"]
        if fields["version"] != VERSION or not all(isinstance(text, str) and text for text in texts):
            raise ValueError(f"expected version {VERSION} and names of model, driver and cupy")
        if not isinstance(cases, list) or not cases:
            raise ValueError("expected at least one case")
        return Table(model, driver, cupy, tuple(map(_case, cases)))
    except ValueError as error:
        raise ValueError(f"{path}: not a tuned table: {error}; tune the device again") from None


@lru_cache
def table_for(model: str, folder: Path = FOLDER) -> Table | None:
    """The device's table; None if there is none yet."""
    path = path_for(model, folder)
    if not path.exists():
        return None
    table = read_table(path)
    if table.model != model:
        raise ValueError(f"{path}: expected the table of {model}, got that of {table.model}; tune the device again")
    return table


def _case(value: Any) -> Case:
    fields = _fields(value, "kind", "rows", "inner", "columns", "medians_us")
    rows, inner, columns = sizes = fields["rows"], fields["inner"], fields["columns"]
    medians = fields["medians_us"]
    if fields["kind"] not in get_args(Kind) or not all(type(size) is int and size > 0 for size in sizes):
        raise ValueError(f"expected a kind of {get_args(Kind)} and positive sizes, got {fields['kind']!r} and {sizes}")
    if not isinstance(medians, dict) or not medians or not medians.keys() <= set(get_args(Variant)):
        raise ValueError(f"expected medians of {get_args(Variant)}, got {medians!r}")
    if not all(type(us) in (int, float) and 0 < us < math.inf for us in medians.values()):
        raise ValueError(f"expected positive microseconds, got {medians!r}")
    return Case(fields["kind"], rows, inner, columns, medians)


def _fields(value: Any, *names: str) -> dict[str, Any]:
    if not isinstance(value, dict) or value.keys() != set(names):
        raise ValueError(f"expected the fields {names}, got {sorted(value) if isinstance(value, dict) else value!r}")
    return value
