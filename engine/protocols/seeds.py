"""Tensors that travel as a seed: an owner of plaintext sends 32 bytes where a share is uniform."""

from __future__ import annotations

from sottovoce.engine.prg import Fill, KeyStream
from sottovoce.engine.tensors import U64

INPUT_LABEL = "input share"


def expand_seed(seed: bytes, elements: int, fill: Fill) -> U64:
    """The tensor that a seed stands for, (elements,). Every seed is used for one tensor only."""
    return KeyStream(seed, "chacha20", fill, INPUT_LABEL).draw(elements)[0]
