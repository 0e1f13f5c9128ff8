"""Search processes' memory for byte strings, all at once."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

WINDOW = 64 << 20
MARGIN = 256


def needles(name: str, values: NDArray[Any], count: int = 3) -> dict[str, bytes]:
    """Runs of `count` consecutive values at three places of an array, as bytes; runs with a 0 or repeats are passed."""
    flat = np.ascontiguousarray(values).reshape(-1)
    found: dict[str, bytes] = {}
    for place in (0, flat.size // 2, flat.size - count):
        run = flat[place : place + count]
        if len(np.unique(run)) == count and (run != 0).all():
            found[f"{name}[{place}] as {run.dtype}"] = run.tobytes()
    return found


def memory(pid: int) -> Iterator[bytes]:
    """All readable memory, in overlapping windows, but for the code of shared libraries."""
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", buffering=0) as mem:
        for line in maps:
            span, mode, _, _, _, *path = line.split(maxsplit=5)
            name = path[0].strip() if path else ""
            if "r" not in mode or name.startswith("[v") or ("w" not in mode and ".so" in name):
                continue
            start, end = (int(x, 16) for x in span.split("-"))
            while start < end:
                size = min(WINDOW, end - start)
                try:
                    yield os.pread(mem.fileno(), size, start)
                except OSError:
                    break
                start += size if start + size >= end else size - MARGIN


@numba.njit(nogil=True)
def _candidates(data: Any, first: Any, second: Any, out: Any) -> int:
    """Places where both tables know the next four bytes; stops when `out` is full."""
    count = 0
    for i in range(data.size - 3):
        a = np.uint32(data[i]) | np.uint32(data[i + 1]) << np.uint32(8)
        if first[a]:
            b = np.uint32(data[i + 2]) | np.uint32(data[i + 3]) << np.uint32(8)
            if second[b]:
                out[count] = i
                count += 1
                if count == out.size:
                    return count
    return count


class Search:
    """A set of named strings to look for."""

    def __init__(self, wanted: Mapping[str, bytes]) -> None:
        self.wanted = dict(wanted)
        self._first, self._second = np.zeros(1 << 16, np.bool_), np.zeros(1 << 16, np.bool_)
        self._anchors: dict[bytes, list[tuple[str, int]]] = {}
        for name, needle in self.wanted.items():
            at = max(range(len(needle) - 3), key=lambda i, n=needle: len(set(n[i : i + 4]) - {0, 255}))
            anchor = needle[at : at + 4]
            self._first[int.from_bytes(anchor[:2], "little")] = True
            self._second[int.from_bytes(anchor[2:], "little")] = True
            self._anchors.setdefault(anchor, []).append((name, at))

    def in_bytes(self, data: bytes | bytearray) -> set[str]:
        """Names of those that occur."""
        found: set[str] = set()
        out = np.empty(1 << 20, np.int64)
        view = np.frombuffer(data, np.uint8)
        offset = 0
        while True:
            count = _candidates(view[offset:], self._first, self._second, out)
            for i in out[:count] + offset:
                for name, at in self._anchors.get(bytes(data[i : i + 4]), ()):
                    needle = self.wanted[name]
                    if name not in found and data[max(i - at, 0) : i - at + len(needle)] == needle:
                        found.add(name)
            if count < out.size:
                return found
            offset = int(out[-1]) + 1

    def in_process(self, pid: int) -> set[str]:
        """Names of those that occur in a process's memory."""
        return set().union(*(self.in_bytes(window) for window in memory(pid)))
