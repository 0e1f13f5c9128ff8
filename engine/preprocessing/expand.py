"""From seeds to uniform words: a sub-key for each part, the clip's number as operation id: no position comes twice."""

from __future__ import annotations

import numpy as np

from sottovoce.engine.preprocessing.items import CIPHER, Part
from sottovoce.engine.prg import Fill, derive
from sottovoce.engine.program import Linear
from sottovoce.engine.tensors import U64, size


def words_of(part: Part, seed: bytes, clips: range, words: int, fill: Fill) -> U64:
    """The words of one part for each of the clips, (clips, words).

    "own": what the party draws. "derived": what the party whose derived words a dealer lets it draw, draws instead.
    """
    key = derive(seed, f"preprocessing/{part}")
    out = np.empty((len(clips), words), np.uint64)
    for row, clip in zip(out, clips, strict=True):
        fill(CIPHER, key, clip, 0, row)
    return out


def own_words(seed: bytes, index: int, words: int, fill: Fill) -> U64:
    """The words that a party draws for clip `index`: (words,)."""
    return words_of("own", seed, range(index, index + 1), words, fill).reshape(-1)


def derived_words(seed: bytes, index: int, words: int, fill: Fill) -> U64:
    """The derived words that a party draws for clip `index`: (words,)."""
    return words_of("derived", seed, range(index, index + 1), words, fill).reshape(-1)


def mask_words(mask_seed: bytes, step: Linear, fill: Fill) -> U64:
    """A party's share of B, the mask of a layer's weights, of the weight's shape: the same at each call.

    It is bound to one model by `Preprocessing.claim`.
    """
    out = np.empty(size(step.weight.shape), np.uint64)
    fill(CIPHER, derive(mask_seed, f"preprocessing/weights/{step.name}"), 0, 0, out)
    return out.reshape(step.weight.shape)
