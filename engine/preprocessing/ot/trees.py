"""Trees of seeds [GGM 86]: one party knows all leaves, the other all but one, which it has chosen unseen.

The children of a node s are E_0(s) ^ s and E_1(s) ^ s under two public keys. A choice of k bits takes k OTs of 128-bit
pads. The pads of the first are the nodes below the root. At each further level the knowing party sends the sums of all
left and of all right children, each under one pad; the other gets the side of its choice, hence the one child on that
side that it could not compute [BGI 16; all-but-one OT as in 2022/192].

Nodes are (nodes of a level, T, 2): T trees side by side, low word first. The leaf at position p stands for the number
2^k - 1 - p, and the missing leaf stands for the choice itself.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sottovoce.engine.preprocessing.ot.hashing import FixedKey
from sottovoce.engine.tensors import U64

Keys = tuple[FixedKey, FixedKey]
"""E_0 and E_1."""


def correction_words(depth: int) -> int:
    """Words that the knowing party sends for a tree of so many levels."""
    return 4 * (depth - 1)


def grow(keys: Keys, pads: U64) -> tuple[U64, U64]:
    """All leaves and the corrections to send.

    pads: (2, T, depth, 2), of choice 0 and 1, for the most significant bit first -> leaves (2^depth, T, 2), corrections
    (T, correction_words(depth)).
    """
    _, trees, depth, _ = pads.shape
    nodes = np.ascontiguousarray(pads[:, :, 0])
    corrections = np.empty((trees, depth - 1, 2, 2), np.uint64)
    for level in range(1, depth):
        nodes = _children(keys, nodes)
        for side in range(2):
            corrections[:, level - 1, side] = np.bitwise_xor.reduce(nodes[side::2], axis=0) ^ pads[side, :, level]
    return nodes, corrections.reshape(trees, -1)


def puncture(keys: Keys, bits: NDArray[np.uint8], pads: U64, corrections: U64) -> tuple[U64, NDArray[np.int64]]:
    """All leaves but one, which is left 0, and its position.

    bits: (T, depth) of 0 and 1, the most significant first. pads: (T, depth, 2), the chosen ones -> leaves
    (2^depth, T, 2), holes (T,).
    """
    trees, depth = bits.shape
    sent = corrections.reshape(trees, depth - 1, 2, 2)
    every = np.arange(trees)
    side = bits.astype(np.int64)
    holes = 1 - side[:, 0]
    nodes = np.zeros((2, trees, 2), np.uint64)
    nodes[side[:, 0], every] = pads[:, 0]
    for level in range(1, depth):
        nodes = _children(keys, nodes)
        nodes[2 * holes, every] = 0
        nodes[2 * holes + 1, every] = 0
        sums = np.stack([np.bitwise_xor.reduce(nodes[s::2], axis=0) for s in range(2)])
        chosen = side[:, level]
        nodes[2 * holes + chosen, every] = sums[chosen, every] ^ pads[:, level] ^ sent[every, level - 1, chosen]
        holes = 2 * holes + 1 - chosen
    return nodes, holes


def _children(keys: Keys, nodes: U64) -> U64:
    """Left and right children in turn."""
    out = np.empty((2 * nodes.shape[0], *nodes.shape[1:]), np.uint64)
    for side in range(2):
        out[side::2] = keys[side].mmo(nodes)
    return out


def as_keys(leaves: U64) -> NDArray[np.uint8]:
    """(X, T, 2) words -> (X, T, 16) bytes, as the kernels take them."""
    return leaves.view(np.uint8)
