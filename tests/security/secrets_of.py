"""Adversarial secrets for an operation of the conformance table, within its range promise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tests.conformance.operations import Operation

I64 = NDArray[np.int64]
KINDS = ("zero", "minus one", "largest", "smallest", "random")


def secrets_of(operation: Operation, shape: tuple[int, ...], kind: str, seed: int = 1) -> list[I64]:
    """Input tensors of one kind; a constant operand of the table (the ones that a truncation multiplies with) stays."""
    rng = np.random.default_rng(seed)
    values = [v.reshape(shape) for v in operation.values(rng, shape)]
    out = []
    for v in values:
        constant = bool((v == v.flat[0]).all())
        fill = {"zero": 0, "minus one": -1, "largest": int(v.max()), "smallest": int(v.min())}
        out.append(v if constant or kind == "random" else np.full(shape, fill[kind], np.int64))
    return out
