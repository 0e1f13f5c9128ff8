"""Reads what `sottovoce bench compare` compares: timings by benchmark and pass, from kernel files and result files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from sottovoce.bench.schema import MAX_BYTES, Environment, Row, read_results
from sottovoce.engine.errors import ConfigError
from sottovoce.engine.files import read_bounded
from sottovoce.engine.structs import parse_json

Pass = tuple[float, ...]
"""The timings of one benchmark in one pass, in ms, in the order in which they were taken."""


@dataclass(frozen=True)
class Side:
    """One side of a comparison: passes by benchmark, and where they come from."""

    timings: dict[str, list[Pass]] = field(default_factory=dict)
    environments: list[Environment] = field(default_factory=list)

    @property
    def commits(self) -> list[str]:
        """Different commits, a "+" behind those with uncommitted changes; the version where there is no commit."""
        return _distinct(f"{e.commit[:10]}{'+' * e.dirty}" if e.commit else e.sottovoce for e in self.environments)

    @property
    def machines(self) -> list[str]:
        """Different machines."""
        return _distinct(f"{e.processor}, {e.cores} cores, Python {e.python}" for e in self.environments)


class _Stats(msgspec.Struct):
    data: tuple[float, ...]


class _Benchmark(msgspec.Struct):
    stats: _Stats
    param: str | None = None
    fullname: str = ""


class _KernelFile(msgspec.Struct):
    """The parts of a pytest-benchmark file that count; times in s."""

    benchmarks: tuple[_Benchmark, ...]
    sottovoce: Environment | None = None


def read_side(paths: Sequence[Path]) -> Side:
    """Read files, and folders of *.json files. Each file is a pass of what it holds.

    Raises ConfigError for a path that cannot be read, for a folder without files and where nothing was measured.
    """
    side = Side()
    for file in _files(paths):
        kernels = _kernel_file(file)
        if kernels is not None:
            _add_kernels(side, file, kernels)
        else:
            results = read_results(file)
            side.environments.append(results.environment)
            for row in results.rows:
                if row.samples_ms:
                    side.timings.setdefault(row_name(row), []).append(row.samples_ms)
    if not side.timings:
        raise ConfigError(f"compare: no timings in {', '.join(map(str, paths)) or 'no files'}")
    return side


def row_name(row: Row) -> str:
    """What makes two rows comparable: everything that was asked for, nothing that was measured."""
    parts = [row.system, row.protocol, row.adversary, row.model, f"batch {row.batch}", f"{row.lanes} lanes"]
    parts += [row.network.name, "" if row.encrypted else "not encrypted"]
    parts += [] if row.device == "cpu" else [f"on {row.device}"]
    return " ".join([*filter(None, parts), *(f"{key}={value}" for key, value in sorted(row.settings.items()))])


def _add_kernels(side: Side, file: Path, kernels: _KernelFile) -> None:
    if kernels.sottovoce is not None:
        side.environments.append(kernels.sottovoce)
    for benchmark in kernels.benchmarks:
        if not benchmark.stats.data:
            raise ConfigError(f"compare: {file} has no single timings: expected a file of --benchmark-json")
        name = benchmark.param or benchmark.fullname
        side.timings.setdefault(name, []).append(tuple(1000 * value for value in benchmark.stats.data))


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        found = sorted(path.glob("*.json"))
        if not found:
            raise ConfigError(f"compare: no *.json files in {path}")
        yield from found


def _kernel_file(file: Path) -> _KernelFile | None:
    """The file if it is pytest-benchmark's, else None."""
    try:
        text = read_bounded(file, MAX_BYTES)
        if "benchmarks" not in parse_json(text, dict[str, msgspec.Raw]):
            return None
        return parse_json(text, _KernelFile)
    except OSError as error:
        raise ConfigError(f"compare: {file}: {error.strerror}") from None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"compare: {file}: neither kernel timings nor results: {error}") from None


def _distinct(values: Iterator[str]) -> list[str]:
    return list(dict.fromkeys(values))
