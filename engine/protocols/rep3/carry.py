"""The sign of A + B mod 2^m for A known to roles 0 and 2 and B known to role 1, as a replicated bit.

Role 1 XOR-shares all monomials of each four bits of B (slot 1 from key 1, slot 2 sent to role 2). Carry generate and
propagate of a block are linear in those monomials with coefficients in A's bits, so roles 0 and 2 compute XOR shares of
them locally and re-share; a binary tree of replicated ANDs gives the carry into the top bit. The top bits of A and B
are part of the topmost G, on which that carry depends linearly, so the tree's result is the sign at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sottovoce.engine.protocols.rep3.roles import Roles, Tag
from sottovoce.engine.protocols.rep3.schedule import blocks
from sottovoce.engine.tensors import U64, words
from sottovoce.kernels.cpu.bits import leaf_rows

ALL_ONES = np.uint64(0xFFFFFFFFFFFFFFFF)
NONE = np.uint64(0)
Arrays = tuple[NDArray[Any], ...]


def nothing() -> Arrays:
    """No message to carry along."""
    return ()


def sign(
    roles: Roles,
    summand: NDArray[Any],
    compare_bits: int,
    with_leaves: Arrays = (),
    with_pairs: Callable[[], Arrays] = nothing,
) -> tuple[U64, U64]:
    """Both slots, packed (W,), of bit m - 1 of A + B. summand: (n,), A at roles 0 and 2, B at role 1.

    It may be uint32, the low halves, if m <= 32.
    with_leaves: arrays that ride along from role 1 to role 2 in the first message (at role 2: room for them).
    with_pairs: called at roles 0 and 2 before the second message; its arrays ride along from role 0 to role 2.
    """
    m, w = compare_bits, words(summand.size)
    k, rows = blocks(m), leaf_rows(m)
    bits = roles.backend.empty((m, w))
    slice_ = roles.kernels.slice_bits if summand.dtype == np.uint64 else roles.kernels.slice_halves
    slice_(summand, m, bits)
    if roles.role == 1:
        (slot1,) = roles.streams(1).masks.for_kernel(rows * w)
        slot2 = roles.backend.empty((rows, w))
        roles.kernels.monomials(bits, slot1.reshape(rows, w), slot2)
        roles.send(2, Tag.LEAVES, *with_leaves, slot2)
        return _carry_tree(roles, _pair_mask(roles, 1, k, w), _pair_mask(roles, 2, k, w))
    if roles.role == 0:
        (slot1,) = roles.streams(1).masks.for_kernel(rows * w)
        leaves = slot1.reshape(rows, w)
    else:
        leaves = roles.backend.empty((rows, w))
        roles.recv(1, Tag.LEAVES, *with_leaves, leaves)
    kept = _pair_mask(roles, 1 if roles.role == 0 else 2, k, w)
    masked = np.empty_like(kept)
    roles.kernels.contract_leaves(bits, leaves, ALL_ONES if roles.role == 0 else NONE, kept, masked)
    slot0 = np.empty_like(masked)
    if roles.role == 0:
        roles.send(2, Tag.PAIRS, *with_pairs(), masked)
        roles.recv(2, Tag.PAIRS, slot0)
        slot0 ^= masked
        return _carry_tree(roles, slot0, kept)
    roles.send(0, Tag.PAIRS, masked)
    roles.recv(0, Tag.PAIRS, *with_pairs(), slot0)
    slot0 ^= masked
    return _carry_tree(roles, kept, slot0)


def _pair_mask(roles: Roles, slot: int, k: int, w: int) -> U64:
    """The new slot 1 (roles 0, 1) or slot 2 (roles 1, 2) of the generate and propagate rows."""
    (mask,) = roles.streams(slot).masks.draw((2 * k - 1) * w)
    return mask.reshape(2 * k - 1, w)


def _carry_tree(roles: Roles, own: U64, nxt: U64) -> tuple[U64, U64]:
    """Both slots (W,) of what leaves all blocks, from those of the rows G_0 … G_(k-1), P_1 … P_(k-1)."""
    w = own.shape[1]
    while own.shape[0] > 1:
        k = (own.shape[0] + 1) // 2
        pairs, merged = k // 2, (k + 1) // 2
        gates = 2 * pairs - 1
        mask_own, mask_nxt = roles.zero_masks(gates * w)
        new_own = roles.backend.empty((2 * merged - 1, w))
        roles.kernels.carry_level(own, nxt, mask_own.reshape(gates, w), mask_nxt.reshape(gates, w), new_own)
        new_nxt = np.empty_like(new_own)
        if merged > pairs:
            new_nxt[pairs] = nxt[k - 1]
            new_nxt[merged + pairs - 1] = nxt[2 * k - 2]
        ands = slice(merged, merged + pairs - 1)
        roles.send(roles.before, Tag.LEVEL, new_own[:pairs], new_own[ands])
        roles.recv(roles.after, Tag.LEVEL, new_nxt[:pairs], new_nxt[ands])
        own, nxt = new_own, new_nxt
    return own[0], nxt[0]
