"""Compile every kernel once, before the first protocol message waits for it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numba.core.dispatcher import Dispatcher

from sottovoce.kernels.catalog import CATALOG

Progress = Callable[[str, int, int], None]


def warm_up(progress: Progress | None = None) -> int:
    """Call every kernel of the catalog on its smallest sample, so that later calls neither compile nor load.

    `progress(name, done, total)` is called before each kernel, and as ("", total, total) at the end. Returns how many
    functions had to be compiled: 0 if all machine code came from the cache on disk.
    """
    before = _compiled()
    rng = np.random.default_rng(0)
    for done, row in enumerate(CATALOG.values()):
        if progress is not None:
            progress(row.name, done, len(CATALOG))
        row.cpu(*row.samples(rng)[0])
    if progress is not None:
        progress("", len(CATALOG), len(CATALOG))
    return _compiled() - before


def is_warm() -> bool:
    """Whether the cache on disk holds every kernel, by the files' names and times: cheap, loads no machine code.

    A guess for the user's sake (is a progress bar worth showing?): after a change of CPU or of Numba's version it may
    say yes although `warm_up` will compile.
    """
    return all(_on_disk(dispatcher) for dispatcher in _dispatchers())


def _dispatchers() -> Iterator[Dispatcher]:
    modules = {row.cpu.__module__ for row in CATALOG.values()}
    for module in sorted(modules):
        for value in vars(sys.modules[module]).values():
            if isinstance(value, Dispatcher) and value.__module__ == module:
                yield value


def _compiled() -> int:
    return sum(sum(dispatcher.stats.cache_misses.values()) for dispatcher in _dispatchers())


def _on_disk(dispatcher: Dispatcher) -> bool:
    source = Path(dispatcher.py_func.__code__.co_filename)
    folder = Path(dispatcher.stats.cache_path or "")
    line = dispatcher.py_func.__code__.co_firstlineno
    version = f"py{sys.version_info.major}{sys.version_info.minor}"
    pattern = f"{source.stem}.{dispatcher.py_func.__qualname__}-{line}.{version}*.nbi"
    written = [index.stat().st_mtime for index in folder.glob(pattern)]
    return bool(written) and max(written) >= source.stat().st_mtime
