"""The exact truncation by role: role 2 deals, role 0 holds A, role 1 holds B (kernels/cpu/trunc.py has the algebra).

Role 2 hands its part of the product to role 1, masked by key 0, so A = z_0 - r (role 0) and B = z_1 + z_2 + r (role 1).
The truncated pair is re-shared as y_0 = t_0 - r_a, y_1 = r_a + r_b, y_2 = t_1 - r_b with r_a, r_b from key 1.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sottovoce.engine.protocols.rep3.roles import Roles, Tag
from sottovoce.engine.tensors import U64, words


@dataclass(frozen=True, slots=True)
class Left:
    """Role 0 between its two steps: `out` becomes y_0, its low 64 - f bits are final already; y1 is final."""

    top: U64 = field(repr=False)
    opened: U64 = field(repr=False)
    alpha: U64 = field(repr=False)
    gamma: NDArray[Any] = field(repr=False)
    out: U64 = field(repr=False)
    y1: U64 = field(repr=False)


@dataclass(frozen=True, slots=True)
class Right:
    """Role 1's results: opened = msb(B) ^ beta for role 0, summand = (B >> f) + r_a mod 2^32, y1, y2 (role 2's too)."""

    opened: U64 = field(repr=False)
    summand: NDArray[np.uint32] = field(repr=False)
    y1: U64 = field(repr=False)
    y2: U64 = field(repr=False)


def open_left(roles: Roles, z: U64, bits: int) -> Left:
    """Role 0, step 1: local; `opened` is to be sent to role 1."""
    n, w = z.size, words(z.size)
    (mask,) = roles.streams(0).masks.for_kernel(n)
    alpha, gamma = _dealt_left(roles, n)
    remasks = roles.streams(1).masks.for_kernel(n, n)
    top, opened = roles.backend.empty(w), roles.backend.empty(w)
    out, y1 = roles.backend.empty(n), roles.backend.empty(n)
    roles.kernels.trunc_left(z, mask, *remasks, alpha, bits, top, opened, out, y1)
    return Left(top, opened, alpha, gamma, out, y1)


def finish_left(roles: Roles, left: Left, bits: int) -> None:
    """Role 0, step 2: receive e from role 1 and settle the top f bits of y_0."""
    other = np.empty_like(left.top)
    roles.recv(1, Tag.TRUNC_RETURN, other)
    roles.kernels.trunc_left_finish(left.top, left.opened, other, left.alpha, left.gamma, bits, left.out)


def right(roles: Roles, z: U64, bits: int) -> Right:
    """Role 1: receive from roles 2 and 0, compute its side."""
    n, w = z.size, words(z.size)
    remasks = roles.streams(1).masks.for_kernel(n, n)
    (beta,) = roles.streams(2).dealing.draw(w)
    z2, gamma, other = roles.backend.empty(n), roles.backend.empty(n, np.uint32), roles.backend.empty(w)
    roles.recv(2, Tag.TRUNC_DEAL, z2, gamma)
    roles.recv(0, Tag.TRUNC_OPEN, other)
    opened, summand = roles.backend.empty(w), roles.backend.empty(n, np.uint32)
    y2, y1 = roles.backend.empty(n), roles.backend.empty(n)
    roles.kernels.trunc_right(z, z2, *remasks, beta, gamma, other, bits, opened, summand, y2, y1)
    return Right(opened, summand, y1, y2)


def deal(roles: Roles, z: U64) -> None:
    """Role 2: send its masked part and gamma_1 to role 1."""
    n, w = z.size, words(z.size)
    (mask,) = roles.streams(0).masks.for_kernel(n)
    alpha, gamma = _dealt_left(roles, n)
    (beta,) = roles.streams(2).dealing.draw(w)
    z2, gamma1 = roles.backend.empty(n), roles.backend.empty(n, np.uint32)
    roles.kernels.trunc_deal(z, mask, alpha, beta, gamma, z2, gamma1)
    roles.send(1, Tag.TRUNC_DEAL, z2, gamma1)


def _dealt_left(roles: Roles, n: int) -> tuple[U64, NDArray[Any]]:
    """alpha and gamma_0, which role 2 deals to role 0 by key 0."""
    alpha, gamma = roles.streams(0).dealing.draw(words(n), (n + 1) // 2)
    return alpha, gamma.view(np.uint32)[:n]
