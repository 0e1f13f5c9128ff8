"""Distributed comparison again in plain Python integers: one comparison at a time, blocks as 128-bit integers."""

from __future__ import annotations

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

KEY = bytes.fromhex("243f6a8885a308d313198a2e03707344")
LEAF = 7


def hashed(node: int, tweak: int) -> int:
    """H(seed | tweak) of a node."""
    x = (node >> 2 << 2) | tweak
    encryptor = Cipher(algorithms.AES128(KEY), modes.ECB()).encryptor()
    return int.from_bytes(encryptor.update(x.to_bytes(16, "little")), "little") ^ x


def key_for(secret: int, bits: int, roots: tuple[int, int]) -> list[int]:
    """The correction blocks for the low bits - 1 bits of the secret; the last is the leaf's."""
    length = bits - 1
    nodes, controls, key = list(roots), [0, 1], []
    for position in range(length - 1, LEAF - 1, -1):
        bit = secret >> position & 1
        left = (nodes[0] ^ nodes[1] ^ bit ^ 1) & 1
        children = [[hashed(node, side) for side in (0, 1)] for node in nodes]
        lost = children[0][1 - bit] ^ children[1][1 - bit]
        word = (lost & ~3) | left << 1 | (lost & 1)
        key.append(word)
        for b in range(2):
            held = controls[b]
            controls[b] = (nodes[b] & 1) ^ (held & (left ^ bit))
            nodes[b] = children[b][bit] ^ held * word
    below = secret % (1 << min(LEAF, length))
    key.append(hashed(nodes[0], 2) ^ hashed(nodes[1], 2) ^ ((1 << below) - 1))
    return key


def share_of(point: int, bits: int, party: int, root: int, key: list[int]) -> int:
    """The party's share of 1{point < secret}, of the low bits - 1 bits of both."""
    length = bits - 1
    node, control, share = root, party, 0
    for word, position in zip(key, range(length - 1, LEAF - 1, -1), strict=False):
        bit = point >> position & 1
        children = [node & 1 ^ control * (word >> 1 & 1)]
        children.append(children[0] ^ control)
        if bit == 0:
            share ^= children[1]
        node = hashed(node, bit) ^ control * word
        control = children[bit]
    leaf = hashed(node, 2) ^ control * key[-1]
    return share ^ (leaf >> point % (1 << min(LEAF, length)) & 1)


def blocks(rows: np.ndarray) -> list[list[int]]:
    """(2 k, n) words -> n lists of k blocks."""
    pairs = rows.reshape(rows.shape[0] // 2, 2, rows.shape[1])
    return [[int(low) | int(high) << 64 for low, high in pairs[:, :, e]] for e in range(rows.shape[1])]


def dcf_gen(r: np.ndarray, bits: int, root_0: np.ndarray, root_1: np.ndarray, correction: np.ndarray) -> None:
    roots = zip(blocks(root_0), blocks(root_1), strict=True)
    for e, (secret, ((first,), (second,))) in enumerate(zip(r.tolist(), roots, strict=True)):
        for i, block in enumerate(key_for(secret, bits, (first, second))):
            correction[2 * i, e], correction[2 * i + 1, e] = block % 2**64, block >> 64


def dcf_eval(
    c: np.ndarray,
    bits: int,
    one: np.uint64,
    root: np.ndarray,
    correction: np.ndarray,
    top: np.ndarray,
    out: np.ndarray,
) -> None:
    party, words = 0 if one else 1, top.tolist()
    for e, (point, (node,), key) in enumerate(zip(c.tolist(), blocks(root), blocks(correction), strict=True)):
        public = (1 - party) * (point >> (bits - 1) & 1)
        words[e // 64] ^= (public ^ share_of(point, bits, party, node, key)) << e % 64
    out[:] = np.array(words, np.uint64)
