"""conv1d and dense with what the compiler fused behind them."""

from __future__ import annotations

from typing import TypeVar

from sottovoce.engine.program import Linear
from sottovoce.engine.protocols.base import AShare, BShare, Protocol

A = TypeVar("A", bound=AShare)
B = TypeVar("B", bound=BShare)
W = TypeVar("W")
Z = TypeVar("Z")


def linear(protocol: Protocol[A, B, W, Z], x: A, weights: W, step: Linear) -> A:
    """One Linear step, x: (batch, *in_shape) -> (batch, *out_shape)."""
    z = protocol.linear(x, weights, step)
    if step.relu and step.trunc_bits:
        return protocol.trunc_relu(z, step.trunc_bits, step.compare_bits, step.sum_pool, step.out_frac_bits)
    y = protocol.trunc(z, step.trunc_bits) if step.trunc_bits else protocol.reshare(z)
    if step.relu:
        return protocol.relu(y, step.compare_bits, step.sum_pool, step.out_frac_bits)
    return y if step.sum_pool is None else protocol.sum_pool(y, step.sum_pool, step.out_frac_bits)
