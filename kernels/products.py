"""Where the products of several layers lie in flat arrays: the table that `triple_products` takes on every device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class ProductLayer:
    """One layer's convolution, per clip, and the first words of its arrays. A matrix product has one position and tap.

    a_at: of its input (c_in, time) in a clip's words of A. b_at: of its weights (groups, taps, c_in / groups,
    c_out / groups) in B. c_at: of its product (c_out, time_out) in a clip's words of C.
    """

    a_at: int
    b_at: int
    c_at: int
    c_in: int
    c_out: int
    time: int = 1
    taps: int = 1
    time_out: int = 1
    stride: int = 1
    pad_left: int = 0
    dilation: int = 1
    groups: int = 1

    @property
    def weights(self) -> int:
        """Words of its weights."""
        return self.taps * self.c_in * self.c_out // self.groups


def layer_table(layers: Sequence[ProductLayer]) -> NDArray[np.int64]:
    """(layers, fields) int64, fields in the order of `ProductLayer`."""
    return np.array([astuple(layer) for layer in layers], np.int64).reshape(-1, len(fields(ProductLayer)))


def check_layers(layers: Sequence[ProductLayer], a0: Any, a1: Any, b: Any, c0: Any, out: Any) -> None:
    """ValueError unless a0 and a1, and c0 and out, have the same two-dimensional shapes with as many clips, every layer
    lies inside of them and of b, and no two layers' products overlap."""
    if a0.shape != a1.shape or c0.shape != out.shape or a0.shape[0] != c0.shape[0]:
        raise ValueError("triple_products: a0 and a1, or c0 and out, do not have matching shapes")
    for number, layer in enumerate(layers):
        where = f"triple_products: layer {number}"
        steps = (layer.stride, layer.dilation, layer.groups)
        if min(steps) < 1 or layer.c_in % layer.groups or layer.c_out % layer.groups:
            raise ValueError(f"{where}: stride, dilation and groups must be positive, groups divide c_in and c_out")
        extents = (
            ("A", layer.a_at, layer.c_in * layer.time, a0.shape[1]),
            ("B", layer.b_at, layer.weights, b.size),
            ("C", layer.c_at, layer.c_out * layer.time_out, out.shape[1]),
        )
        if min(layer.c_in, layer.c_out, layer.time, layer.taps, layer.time_out) < 0:
            raise ValueError(f"{where}: sizes must not be negative")
        for name, first, count, room in extents:
            if first < 0 or first + count > room:
                raise ValueError(f"{where}: expected {name} inside {room} words, got {count} from word {first}")
    end = 0
    for first, count in sorted((layer.c_at, layer.c_out * layer.time_out) for layer in layers):
        if first < end:
            raise ValueError(f"triple_products: two layers write the words from {first} on")
        end = first + count
