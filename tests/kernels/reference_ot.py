"""The kernels of oblivious transfer again in plain Python integers."""

from __future__ import annotations

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

RING = 1 << 64


def _stream(leaf: np.ndarray, operation: int, words: int) -> list[int]:
    """The words of a leaf's stream."""
    encryptor = Cipher(algorithms.AES128(leaf.tobytes()), modes.ECB()).encryptor()
    found: list[int] = []
    for block in range(-(-words // 2)):
        counter = (operation % RING).to_bytes(8, "big") + bytes(4) + block.to_bytes(4, "big")
        cipher = encryptor.update(counter)
        found += [int.from_bytes(cipher[:8], "little"), int.from_bytes(cipher[8:], "little")]
    return found[:words]


def field_vole(leaves: np.ndarray, operation: np.uint64, u: np.ndarray, v: np.ndarray) -> None:
    values, trees, _ = leaves.shape
    bits = values.bit_length() - 1
    for g in range(trees):
        streams = {values - 1 - p: _stream(leaves[p, g], int(operation), u.shape[1]) for p in range(values)}
        for w in range(u.shape[1]):
            total = 0
            weighted = [0] * bits
            for x, stream in streams.items():
                total ^= stream[w]
                for b in range(bits):
                    weighted[b] ^= stream[w] * (x >> b & 1)
            u[g, w] = total
            for b in range(bits):
                v[g * bits + b, w] = weighted[b]


def leaf_sums(
    leaves: np.ndarray,
    holes: np.ndarray,
    operation: np.uint64,
    offsets: np.ndarray,
    narrow: bool,
    u: np.ndarray,
    v: np.ndarray,
) -> None:
    values = leaves.shape[0]
    for i in range(leaves.shape[1]):
        start, end = int(offsets[i]), int(offsets[i + 1])
        total, weighted = [0] * (end - start), [0] * (end - start)
        for p in range(values):
            if p == holes[i]:
                continue
            stream = _stream(leaves[p, i], int(operation) + i, end - start)
            if narrow:
                stream = [half for word in stream for half in (word % (1 << 32), word >> 32)]
            for w in range(end - start):
                total[w] += stream[w]
                weighted[w] += (values - 1 - p) * stream[w]
        modulus = 1 << 32 if narrow else RING
        for w in range(end - start):
            u[start + w], v[start + w] = total[w] % modulus, weighted[w] % modulus


def transpose_bits(planes: np.ndarray, rows: np.ndarray) -> None:
    for n in range(rows.shape[0]):
        row = sum((int(planes[i, n // 64]) >> (n % 64) & 1) << i for i in range(128))
        rows[n, 0], rows[n, 1] = row % RING, row >> 64


def vole_correct(y: np.ndarray, u: np.ndarray, v: np.ndarray, shift: int, z: np.ndarray, packed: np.ndarray) -> None:
    bits, number = 64 - shift, 0
    for i in range(y.size):
        number |= ((int(y[i]) - int(u[i])) % (1 << bits)) << (i * bits)
        z[i] = (int(z[i]) + (int(v[i]) << shift)) % RING
    for i in range(packed.size):
        packed[i] = (number >> (64 * i)) % RING


def vole_join(
    packed: np.ndarray,
    u: np.ndarray,
    v: np.ndarray,
    digits: np.ndarray,
    offsets: np.ndarray,
    shift: int,
    z: np.ndarray,
) -> None:
    bits = 64 - shift
    number = sum(int(word) << (64 * i) for i, word in enumerate(packed))
    for i in range(digits.size):
        for w in range(int(offsets[i]), int(offsets[i + 1])):
            c = (number >> (w * bits)) % (1 << bits)
            z[w] = (int(z[w]) + ((int(digits[i]) * (c + int(u[w])) - int(v[w])) << shift)) % RING


def add_runs(x: np.ndarray, starts: np.ndarray, run: int, out: np.ndarray) -> None:
    for r, start in enumerate(starts):
        for i in range(run):
            out[start + i] = (int(out[start + i]) + int(x[r * run + i])) % RING
