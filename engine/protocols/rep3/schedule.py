"""What each `rep3` operation sends, message by message: the declaration that the tests hold the code to.

Roles 0, 1, 2 are parties (rank - rotation) mod 3. Payloads are bytes, without the frame header.
"""

from __future__ import annotations

from collections.abc import Collection

from sottovoce.engine.protocols.base import Message
from sottovoce.engine.tensors import words
from sottovoce.kernels.cpu.bits import RADIX, leaf_rows

PIPELINED_BITS = 32
"""Comparison widths up to this start beside the truncation."""


def blocks(compare_bits: int) -> int:
    """Radix-4 blocks of the low m - 1 bits."""
    return -(-(compare_bits - 1) // RADIX)


def levels(compare_bits: int) -> list[int]:
    """AND gates of each level of the carry tree."""
    k, gates = blocks(compare_bits), []
    while k > 1:
        gates.append(2 * (k // 2) - 1)
        k = (k + 1) // 2
    return gates


AND_INPUTS = 2


def load(elements: int) -> list[Message]:
    """Nothing."""
    return []


def linear(elements: int) -> list[Message]:
    """Nothing: a product is exchanged with its truncation or re-sharing."""
    return []


def mul(elements: int) -> list[Message]:
    """Nothing, as for `linear`."""
    return []


def reshare(elements: int) -> list[Message]:
    """Each party sends its masked part to the one before: 24 bytes per element, 1 round."""
    return [Message(1, role, (role - 1) % 3, 8 * elements) for role in range(3)]


def open(elements: int, to: Collection[int] = (0, 1, 2)) -> list[Message]:
    """Each receiving role gets the slot that it lacks from the role before: 8 bytes per element, 1 round."""
    return [Message(1, (role - 1) % 3, role, 8 * elements) for role in sorted(to)]


def trunc(elements: int) -> list[Message]:
    """28 bytes and 2 bits per element, 3 rounds."""
    return [
        Message(1, 2, 1, 12 * elements),
        Message(1, 0, 1, 8 * words(elements)),
        Message(2, 1, 0, 8 * words(elements)),
        Message(2, 1, 2, 8 * elements),
        Message(3, 0, 2, 8 * elements),
    ]


def and_(bits: int, inputs: int = AND_INPUTS) -> list[Message]:
    """3 bits per AND of two, 1 round."""
    return [Message(1, role, (role - 1) % 3, 8 * words(bits)) for role in range(3)]


def sign(elements: int, compare_bits: int, first: int = 1) -> list[Message]:
    """Leaves, re-sharing of generate and propagate, carry tree: 2 + ceil(log2(ceil((m-1)/4))) rounds."""
    w = 8 * words(elements)
    pairs = 2 * blocks(compare_bits) - 1
    out = [
        Message(first, 1, 2, leaf_rows(compare_bits) * w),
        Message(first + 1, 0, 2, pairs * w),
        Message(first + 1, 2, 0, pairs * w),
    ]
    for level, gates in enumerate(levels(compare_bits)):
        out += [Message(first + 2 + level, role, (role - 1) % 3, gates * w) for role in range(3)]
    return out


def bit_inject(elements: int, pooled: int, first: int = 1) -> list[Message]:
    """16 bytes per element and 16 per result, 2 rounds."""
    return [
        Message(first, 1, 2, 16 * elements),
        Message(first + 1, 0, 1, 8 * pooled),
        Message(first + 1, 2, 1, 8 * pooled),
    ]


def relu(elements: int, compare_bits: int, pooled: int) -> list[Message]:
    """Sign, then injection."""
    head = sign(elements, compare_bits)
    return head + bit_inject(elements, pooled, 1 + max(m.round for m in head))


def trunc_relu(elements: int, compare_bits: int, pooled: int) -> list[Message]:
    """Truncation with the sign started beside it (m <= 32), then injection; wider comparisons follow the truncation."""
    if compare_bits > PIPELINED_BITS:
        tail = relu(elements, compare_bits, pooled)
        return trunc(elements) + [Message(3 + m.round, m.source, m.target, m.payload) for m in tail]
    w = 8 * words(elements)
    extra = {(2, 1, 2): 8 * elements, (3, 0, 2): 4 * elements}
    head = sign(elements, compare_bits, 2)
    merged = [
        Message(m.round, m.source, m.target, m.payload + extra.get((m.round, m.source, m.target), 0))
        if m.round <= 3
        else m
        for m in head
    ]
    return [
        Message(1, 2, 1, 12 * elements),
        Message(1, 0, 1, w),
        Message(1, 0, 2, 4 * elements),
        Message(2, 1, 0, w),
        *merged,
        *bit_inject(elements, pooled, 1 + max(m.round for m in head)),
    ]
