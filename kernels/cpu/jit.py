"""The one way a CPU kernel is compiled: serial, without the GIL, cached on disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
from numpy.typing import NDArray

F = TypeVar("F", bound=Callable[..., Any])

Words = NDArray[Any]
"""A C-contiguous array of unsigned words, uint64 unless a docstring says otherwise."""


def kernel(function: F) -> F:
    """Compile lazily for the argument types of the first call; the machine code is cached next to the source.

    Integer arithmetic wraps mod 2^64. Every constant inside a kernel is typed (`np.uint64(1)`): a bare literal next to
    a uint64 makes Numba's result signed or float.
    """
    return cast(F, numba.njit(nogil=True, cache=True, error_model="numpy")(function))
