"""Features to ring elements at the client, with the checks that the range proof rests on."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sottovoce.engine import fixed
from sottovoce.engine.errors import FeatureError
from sottovoce.engine.fixed import decode
from sottovoce.engine.program import Program

__all__ = ["as_array", "decode", "encode_input"]


def encode_input(program: Program, x: ArrayLike, first_row: int = 0) -> NDArray[np.uint64]:
    """x (batch, channels, time), or flat (batch, channels * time), as ring elements (batch, channels, time).

    Raises FeatureError for all but a non-empty batch of finite real numbers inside the program's declared box: that
    nothing overflows is proven in the box only. A message names row, feature and allowed interval, never the value;
    rows are counted from first_row, for callers that cut a long input.
    """
    values = _as_floats(program, x)
    flat = values.reshape(len(values), -1)
    _refuse(~np.isfinite(flat), "a finite number, got NaN or infinity", first_row)
    low, high = (np.broadcast_to(side, flat.shape[1:]) for side in (program.input_low, program.input_high))
    outside = (flat < low) | (flat > high)
    if bool(outside.any()):
        feature = int(np.argwhere(outside)[0, 1])
        allowed = f"a number in [{low[feature]:g}, {high[feature]:g}], the box that the model declares"
        _refuse(outside, f"{allowed}, got one outside", first_row)
    return fixed.encode(values, program.input_frac_bits)


def as_array(x: ArrayLike) -> NDArray[Any]:
    """x as an array. Raises FeatureError for rows of different lengths."""
    try:
        values: NDArray[Any] = np.asarray(x)
    except ValueError:
        raise FeatureError("features: expected an array, got rows of different lengths") from None
    return values


def _as_floats(program: Program, x: ArrayLike) -> NDArray[np.float64]:
    values = as_array(x)
    if values.dtype.kind not in "fiu":
        raise FeatureError(f"features: expected real numbers, got dtype {values.dtype}")
    expected = f"(batch, {', '.join(map(str, program.input_shape))})"
    if values.ndim == 2 and values.shape[1] == math.prod(program.input_shape):
        values = values.reshape(-1, *program.input_shape)
    if values.ndim != 3 or values.shape[1:] != program.input_shape:
        raise FeatureError(f"features: expected shape {expected}, got {values.shape}")
    if not len(values):
        raise FeatureError(f"features: expected at least one row of shape {expected}, got an empty batch")
    return np.ascontiguousarray(values, dtype=np.float64)


def _refuse(bad: NDArray[np.bool_], what: str, first_row: int) -> None:
    """Raise for the first True of bad (batch, features)."""
    if not bool(bad.any()):
        return
    row, feature = (int(i) for i in np.argwhere(bad)[0])
    rows = int(bad.any(axis=1).sum())
    more = f" ({rows} rows are affected)" if rows > 1 else ""
    raise FeatureError(f"features: row {first_row + row}, feature {feature}: expected {what}{more}")
