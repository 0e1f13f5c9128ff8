"""JSON files of other formats in a folder of results: those of kernels and profiles are shown, others only named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from statistics import median
from typing import Any

import msgspec

from sottovoce.bench.profiling.schema import Profile
from sottovoce.bench.report import markdown, text
from sottovoce.bench.report.headlines import measured_on
from sottovoce.bench.schema import MAX_BYTES
from sottovoce.engine.errors import ConfigError
from sottovoce.engine.files import read_bounded
from sottovoce.engine.structs import parse_json


class _Stats(msgspec.Struct, frozen=True):
    median: float


class Benchmark(msgspec.Struct, frozen=True):
    """One entry of a pytest-benchmark file; times in s."""

    name: str
    stats: _Stats
    extra_info: dict[str, Any] = {}


class _Processor(msgspec.Struct, frozen=True):
    brand_raw: str = ""


class _Machine(msgspec.Struct, frozen=True):
    cpu: _Processor = _Processor()


class _Commit(msgspec.Struct, frozen=True):
    id: str | None = None


class _File(msgspec.Struct, frozen=True):
    """What is read of a file; schema: only files of results have one, benchmarks: only pytest-benchmark's."""

    kind: str = ""
    schema: int | None = None
    datetime: str = ""
    machine_info: _Machine = _Machine()
    commit_info: _Commit = _Commit()
    benchmarks: tuple[Benchmark, ...] = ()


@dataclass(frozen=True, slots=True)
class Other:
    """A file that holds no rows of ours. where: date, commit and machine, as far as it says."""

    path: PurePosixPath
    kind: str
    where: str = ""
    benchmarks: tuple[Benchmark, ...] = ()
    profile: Profile | None = None


def read_other(path: Path, place: PurePosixPath) -> Other | None:
    """None for a file of results; ConfigError for what is not JSON."""
    try:
        found = parse_json(read_bounded(path, MAX_BYTES), _File)
    except OSError as error:
        raise ConfigError(f"results {path}: {error.strerror}") from None
    except msgspec.ValidationError:
        return _profile(path, place)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"results {path}: not JSON: {error}") from None
    if found.schema is not None:
        return None
    if not found.benchmarks:
        return Other(place, found.kind or "another format")
    commit = f"commit {found.commit_info.id[:10]}" if found.commit_info.id else ""
    where = ", ".join(filter(None, (found.datetime[:10], commit, found.machine_info.cpu.brand_raw)))
    return Other(place, "kernels (pytest-benchmark)", where, found.benchmarks)


def _profile(path: Path, place: PurePosixPath) -> Other:
    try:
        found = parse_json(read_bounded(path, MAX_BYTES), Profile)
    except msgspec.ValidationError:
        return Other(place, "another format")
    where = "" if found.environment is None else measured_on(found.environment)
    return Other(place, "profile", where, profile=found)


def kernels_table(files: Sequence[Other]) -> str:
    """Every benchmark: the median over the files of each file's median, and its share of the machine's ceiling."""
    times: dict[str, list[Benchmark]] = {}
    for file in files:
        for benchmark in file.benchmarks:
            times.setdefault(_case(benchmark.name), []).append(benchmark)
    lines = []
    for name, found in times.items():
        seconds = median(benchmark.stats.median for benchmark in found)
        operations = found[0].extra_info.get("operations")
        shares = [share for b in found if isinstance(share := b.extra_info.get("fraction_of_ceiling"), float)]
        per_s = f"{text.figure(operations / seconds / 1e6)} M" if isinstance(operations, int) else text.NONE
        lines.append(
            (
                name, text.us(1e6 * seconds), per_s, str(found[0].extra_info.get("unit", text.NONE)),
                f"{100 * median(shares):.0f} %" if shares else text.NONE,
                str(found[0].extra_info.get("ceiling", text.NONE)),
            )
        )  # fmt: skip
    header = (
        "kernel / size / device",
        "median",
        "operations per second",
        "operation",
        "of the ceiling",
        "which ceiling",
    )
    passes = "one pass" if len(files) == 1 else f"median of {len(files)} passes"
    summary = f"<details><summary>All {text.count(len(lines), 'benchmark')}, {passes}</summary>"
    return f"{summary}\n\n{markdown.table(header, lines)}\n\n</details>"


def _case(name: str) -> str:
    """ "matmul/paper.dense-b1/cpu" of "test_kernel[matmul/paper.dense-b1/cpu]"."""
    return name.partition("[")[2].removesuffix("]") or name
