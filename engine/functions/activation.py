"""ReLU and leaky ReLU."""

from __future__ import annotations

from typing import TypeVar

from sottovoce.engine.program import Relu
from sottovoce.engine.protocols.base import AShare, BShare, Protocol

A = TypeVar("A", bound=AShare)
B = TypeVar("B", bound=BShare)
W = TypeVar("W")
Z = TypeVar("Z")


def activation(protocol: Protocol[A, B, W, Z], x: A, step: Relu) -> A:
    """One Relu step, x: (batch, *in_shape) -> (batch, *out_shape).

    With slope n / 2^s: 2^s y = (2^s - n) relu(x) + n x. Window sums commute with that, so a leaky ReLU sends what a
    ReLU sends, and what the truncation sends if there is one.
    """
    frac_bits = step.out_frac_bits + step.trunc_bits
    positive = protocol.relu(x, step.compare_bits, step.sum_pool, frac_bits)
    if step.slope or step.slope_bits:
        summed = x if step.sum_pool is None else protocol.sum_pool(x, step.sum_pool, frac_bits)
        positive = protocol.add(
            protocol.mul_public(positive, (1 << step.slope_bits) - step.slope, frac_bits),
            protocol.mul_public(summed, step.slope, frac_bits),
        )
    return protocol.trunc(protocol.as_product(positive), step.trunc_bits) if step.trunc_bits else positive
