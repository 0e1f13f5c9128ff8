"""Every kernel again in plain Python integers: same names, same arguments, no speed, no shared code."""

from __future__ import annotations

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

RING = 1 << 64


def _store(out: np.ndarray, values: list[int]) -> None:
    out.reshape(-1)[:] = np.array([value % RING for value in values], np.uint64)


def _ints(*arrays: np.ndarray) -> list[list[int]]:
    return [array.reshape(-1).tolist() for array in arrays]


def add(x: np.ndarray, y: np.ndarray, out: np.ndarray) -> None:
    _store(out, [a + b for a, b in zip(*_ints(x, y), strict=True)])


def sub(x: np.ndarray, y: np.ndarray, out: np.ndarray) -> None:
    _store(out, [a - b for a, b in zip(*_ints(x, y), strict=True)])


def neg(x: np.ndarray, out: np.ndarray) -> None:
    _store(out, [-a for a in x.tolist()])


def mul(x: np.ndarray, y: np.ndarray, out: np.ndarray) -> None:
    _store(out, [a * b for a, b in zip(*_ints(x, y), strict=True)])


def mul_add(x: np.ndarray, y: np.ndarray, z: np.ndarray, out: np.ndarray) -> None:
    _store(out, [a * b + c for a, b, c in zip(*_ints(x, y, z), strict=True)])


def scale(x: np.ndarray, c: np.uint64, out: np.ndarray) -> None:
    _store(out, [a * int(c) for a in x.tolist()])


def mul_cross(x0: np.ndarray, x1: np.ndarray, y0: np.ndarray, y1: np.ndarray, out: np.ndarray) -> None:
    rows = zip(*_ints(x0, x1, y0, y1), strict=True)
    _store(out, [(a0 + a1) * (b0 + b1) - a1 * b1 for a0, a1, b0, b1 in rows])


def xor(x: np.ndarray, y: np.ndarray, out: np.ndarray) -> None:
    _store(out, [a ^ b for a, b in zip(*_ints(x, y), strict=True)])


def mask_zero(x: np.ndarray, plus: np.ndarray, minus: np.ndarray, out: np.ndarray) -> None:
    _store(out, [a + b - c for a, b, c in zip(*_ints(x, plus, minus), strict=True)])


def remask_pair(x: np.ndarray, mine: np.ndarray, theirs: np.ndarray, kept: np.ndarray, total: np.ndarray) -> None:
    _store(kept, [a - b for a, b in zip(*_ints(x, mine), strict=True)])
    _store(total, [a + b for a, b in zip(*_ints(mine, theirs), strict=True)])


def sum3(a: np.ndarray, b: np.ndarray, c: np.ndarray, out: np.ndarray) -> None:
    _store(out, [sum(row) for row in zip(*_ints(a, b, c), strict=True)])


def take_half(x: np.ndarray, which: int, out: np.ndarray) -> None:
    out[:] = [a // 2 ** (32 * which) % 2**32 for a in x.tolist()]


def join_halves(low: np.ndarray, high: np.ndarray, out: np.ndarray) -> None:
    _store(out, [a + 2**32 * b for a, b in zip(*_ints(low, high), strict=True)])


def matmul(x: np.ndarray, w: np.ndarray, out: np.ndarray, accumulate: bool) -> None:
    left, right, held = x.tolist(), w.T.tolist(), out.tolist()
    values = []
    for row in range(x.shape[0]):
        for column in range(w.shape[1]):
            start = held[row][column] if accumulate else 0
            values.append(start + sum(a * b for a, b in zip(left[row], right[column], strict=True)))
    _store(out, values)


def conv1d(
    x: np.ndarray,
    w: np.ndarray,
    out: np.ndarray,
    stride: int,
    pad_left: int,
    dilation: int,
    groups: int,
    accumulate: bool,
) -> None:
    inputs, weights, held = x.tolist(), w.tolist(), out.tolist()
    _, taps, c_in, c_out = w.shape
    values = []
    for b, o, t in np.ndindex(out.shape):
        group, column = divmod(o, c_out)
        total = held[b][o][t] if accumulate else 0
        for tap in range(taps):
            position = t * stride + tap * dilation - pad_left
            if 0 <= position < x.shape[2]:
                for i in range(c_in):
                    total += inputs[b][group * c_in + i][position] * weights[group][tap][i][column]
        values.append(total)
    assert groups == w.shape[0]
    _store(out, values)


def sum_pool(x: np.ndarray, out: np.ndarray, kernel_size: int, stride: int, pad_left: int) -> None:
    rows, time = x.tolist(), x.shape[1]
    values = []
    for row, t in np.ndindex(out.shape):
        positions = range(t * stride - pad_left, t * stride - pad_left + kernel_size)
        values.append(sum(rows[row][position] for position in positions if 0 <= position < time))
    _store(out, values)


def _stream(out: np.ndarray, block_bytes: int, block: object) -> None:
    stream = b"".join(block(i) for i in range(-(-8 * out.size // block_bytes)))  # type: ignore[operator]
    _store(out, [int.from_bytes(stream[8 * i : 8 * i + 8], "little") for i in range(out.size)])


def chacha20_fill(key: np.ndarray, operation: int, chunk: int, out: np.ndarray) -> None:
    words = key.tolist()
    tail = [chunk, operation & 0xFFFFFFFF, operation >> 32]
    _stream(out, 64, lambda block: chacha20_block([*words, block, *tail]))


def chacha20_block(tail: list[int]) -> bytes:
    """The block function of RFC 8439 section 2.3 for state words 4 .. 15."""
    start = [0x61707865, 0x3320646E, 0x79622D32, 0x6B206574, *tail]
    state = list(start)

    def quarter(a: int, b: int, c: int, d: int) -> None:
        for p, q, r, bits in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            state[p] = (state[p] + state[q]) & 0xFFFFFFFF
            mixed = state[r] ^ state[p]
            state[r] = ((mixed << bits) | (mixed >> (32 - bits))) & 0xFFFFFFFF

    for _ in range(10):
        for i in range(4):
            quarter(i, 4 + i, 8 + i, 12 + i)
        for i in range(4):
            quarter(i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4)
    return b"".join(((a + b) & 0xFFFFFFFF).to_bytes(4, "little") for a, b in zip(state, start, strict=True))


def aes128_ctr_fill(key: np.ndarray, operation: int, chunk: int, out: np.ndarray) -> None:
    encryptor = Cipher(algorithms.AES128(key.tobytes()), modes.ECB()).encryptor()
    prefix = operation.to_bytes(8, "big") + chunk.to_bytes(4, "big")
    _stream(out, 16, lambda block: encryptor.update(prefix + block.to_bytes(4, "big")))
