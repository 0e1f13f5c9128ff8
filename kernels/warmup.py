"""Compile every kernel once, before the first protocol message waits for it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import numpy as np
from numba.core.dispatcher import Dispatcher

from sottovoce.kernels.catalog import CATALOG

Progress = Callable[[str, int, int], None]


def warm_up(progress: Progress | None = None, names: Collection[str] = CATALOG.keys()) -> int:
    """Call kernels of the catalog (all, or those named) on their smallest sample: later calls neither compile nor load.

    `progress(name, done, total)` is called before each kernel, and as ("", total, total) at the end. Returns how many
    functions had to be compiled: 0 if all machine code came from the cache on disk.
    """
    before = _compiled()
    rng = np.random.default_rng(0)
    for done, name in enumerate(names):
        if progress is not None:
            progress(name, done, len(names))
        CATALOG[name].cpu(*CATALOG[name].samples(rng)[0])
    if progress is not None:
        progress("", len(names), len(names))
    return _compiled() - before


def is_warm(names: Collection[str] = CATALOG.keys()) -> bool:
    """Whether the cache on disk holds every kernel of these kernels' modules, by the files' names and times: cheap.

    A guess for the user's sake (is a progress bar worth showing?): after a change of CPU or of Numba's version it may
    say yes although `warm_up` will compile.
    """
    return all(_on_disk(dispatcher) for dispatcher in _dispatchers(names))


def _dispatchers(names: Collection[str] = CATALOG.keys()) -> Iterator[Dispatcher]:
    modules = {CATALOG[name].cpu.__module__ for name in names}
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
