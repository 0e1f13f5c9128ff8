"""Tensors that travel as a seed: an owner of plaintext sends 32 bytes where a share is uniform."""

from __future__ import annotations

import numpy as np

from sottovoce.engine.prg import Fill, derive
from sottovoce.engine.tensors import U64

CIPHER = "chacha20"
INPUT_LABEL = "input share"


def expand_seed(seed: bytes, elements: int, fill: Fill) -> U64:
    """The tensor that a seed stands for, (elements,). Every seed is used for one tensor only."""
    out = np.empty(elements, np.uint64)
    fill(CIPHER, derive(seed, INPUT_LABEL), 0, 0, out)
    return out
