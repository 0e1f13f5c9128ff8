"""The seam between functions and protocols: what every protocol offers, and how it declares what that costs.

A protocol computes on shares of tensors over Z_2^64. Shapes are `(batch, …)`, batch first. Everything a protocol sends
is declared beforehand as a schedule of messages per operation; `tally.py` adds schedules up and the conformance suite
compares them with what the transport measured.
"""

from __future__ import annotations

import typing
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from sottovoce.engine.preprocessing.items import Item
from sottovoce.engine.program import Linear, Pool, Shape
from sottovoce.engine.tensors import U64

Structural = Callable[[NDArray[Any]], NDArray[Any]]
"""A rearrangement of a tensor: reshape, slice, take. It commutes with sharing."""


class AShare(ABC):
    """An arithmetic share: one party's part of a tensor over Z_2^64."""

    __slots__ = ()

    frac_bits: int

    @property
    @abstractmethod
    def shape(self) -> Shape:
        """Shape of the shared tensor, batch first."""

    @abstractmethod
    def map(self, rearrange: Structural, frac_bits: int | None = None) -> Self:
        """Apply a rearrangement to the shared tensor; optionally restate its fraction bits."""


class BShare(ABC):
    """A Boolean share: one party's part of a tensor of bits."""

    __slots__ = ()

    @property
    @abstractmethod
    def shape(self) -> Shape:
        """Shape of the tensor of bits."""

    @abstractmethod
    def map(self, rearrange: Structural) -> Self:
        """Apply a rearrangement to the tensor of bits."""


@dataclass(frozen=True, slots=True)
class Message:
    """One declared message: in `round` of the operation (from 1), from role to role, payload bytes without header."""

    round: int
    source: int
    target: int
    payload: int


Schedule = Sequence[Message]

A = TypeVar("A", bound=AShare)
B = TypeVar("B", bound=BShare)
W = TypeVar("W")
Z = TypeVar("Z")


class Declared(typing.Protocol):
    """What each operation sends: a module of functions, or an object. Counts are of elements.

    `load` is once per model. In protocols that multiply locally `linear` and `mul` send nothing.
    """

    @property
    def AND_INPUTS(self) -> int: ...
    def load(self, elements: int) -> Schedule: ...
    def linear(self, elements: int) -> Schedule: ...
    def mul(self, elements: int) -> Schedule: ...
    def reshare(self, elements: int) -> Schedule: ...
    def trunc(self, elements: int) -> Schedule: ...
    def trunc_relu(self, elements: int, compare_bits: int, pooled: int) -> Schedule: ...
    def and_(self, bits: int, inputs: int = 2) -> Schedule: ...
    def sign(self, elements: int, compare_bits: int) -> Schedule: ...
    def bit_inject(self, elements: int, pooled: int) -> Schedule: ...
    def relu(self, elements: int, compare_bits: int, pooled: int) -> Schedule: ...
    def open(self, elements: int, to: Collection[int]) -> Schedule: ...


class Demands(typing.Protocol):
    """The correlated randomness that each operation of a protocol with an offline phase uses, in the order of use."""

    def linear(self, step: Linear, batch: int) -> Sequence[Item]: ...
    def mul(self, elements: int) -> Sequence[Item]: ...
    def trunc(self, elements: int) -> Sequence[Item]: ...
    def trunc_relu(self, elements: int, compare_bits: int) -> Sequence[Item]: ...
    def and_(self, bits: int, inputs: int) -> Sequence[Item]: ...
    def sign(self, elements: int, compare_bits: int) -> Sequence[Item]: ...
    def bit_inject(self, elements: int) -> Sequence[Item]: ...
    def relu(self, elements: int, compare_bits: int) -> Sequence[Item]: ...


class Protocol(ABC, Generic[A, B, W, Z]):
    """A is the arithmetic share, B the Boolean one, W a linear layer's loaded weights, Z an untruncated product."""

    name: ClassVar[str]
    parties: ClassVar[int]
    and_inputs: int = 2
    """How many bits one AND takes, in one round."""

    # Local, free.

    @abstractmethod
    def add(self, x: A, y: A) -> A:
        """x + y, same shape and fraction bits."""

    @abstractmethod
    def sub(self, x: A, y: A) -> A:
        """x - y, same shape and fraction bits."""

    @abstractmethod
    def mul_public(self, x: A, factor: int, frac_bits: int) -> A:
        """factor * x for a public integer -2^63 <= factor < 2^63, read with frac_bits fraction bits."""

    @abstractmethod
    def concat(self, parts: Sequence[A], axis: int) -> A:
        """The parts, one after the other along an axis."""

    @abstractmethod
    def concat_bits(self, parts: Sequence[B], axis: int) -> B:
        """The tensors of bits, one after the other along an axis."""

    @abstractmethod
    def sum_pool(self, x: A, pool: Pool, frac_bits: int) -> A:
        """Window sums over the last axis."""

    @abstractmethod
    def xor_public(self, x: B, bits: NDArray[np.bool_]) -> B:
        """x XOR public bits, which broadcast to x's shape."""

    # Products.

    @abstractmethod
    def load(self, step: Linear, tensors: Mapping[str, A]) -> W:
        """A layer's weights and bias as the product needs them; done once per model."""

    @abstractmethod
    def linear(self, x: A, weights: W, step: Linear) -> Z:
        """The step's conv1d or dense product plus bias, not yet exchanged. x: (batch, *step.in_shape)."""

    @abstractmethod
    def mul(self, x: A, y: A) -> Z:
        """The elementwise product of two shared tensors of one shape, not yet exchanged."""

    @abstractmethod
    def as_product(self, x: A) -> Z:
        """x as a product that is not yet exchanged, so that it can be truncated; local, with fresh randomness."""

    @abstractmethod
    def reshare(self, z: Z) -> A:
        """The product as a share, not truncated."""

    @abstractmethod
    def trunc(self, z: Z, bits: int) -> A:
        """floor(product / 2^bits) or one more; needs |product| < 2^62 and 1 <= bits <= 32."""

    @abstractmethod
    def trunc_relu(self, z: Z, bits: int, compare_bits: int, pool: Pool | None, frac_bits: int) -> A:
        """ReLU of the truncated product v, |v| < 2^(compare_bits - 1), then window sums if given."""

    # Bits.

    @abstractmethod
    def and_(self, *inputs: B) -> B:
        """The AND of 2 to `and_inputs` tensors of bits of one shape."""

    @abstractmethod
    def msb(self, x: A, compare_bits: int) -> B:
        """1 where x < 0; needs |x| < 2^(compare_bits - 1)."""

    @abstractmethod
    def bit_inject(self, b: B, x: A) -> A:
        """b x, elementwise, same shape: x where the bit is 1, else 0."""

    @abstractmethod
    def relu(self, x: A, compare_bits: int, pool: Pool | None, frac_bits: int) -> A:
        """max(x, 0), |x| < 2^(compare_bits - 1), then window sums if given."""

    # Openings.

    @abstractmethod
    def refresh(self, x: A | B) -> A | B:
        """A sharing of the same for a client, who gets all parts: they must tell it nothing but the value. Local."""

    @abstractmethod
    def open(self, x: A, to: Collection[int] | None = None) -> U64 | None:
        """The tensor in the clear at the parties of the given ranks (default: all), None at the others."""


def pooled(shape: Shape, pool: Pool | None) -> Shape:
    """Shape after a pool over the last axis."""
    if pool is None:
        return shape
    time = (shape[-1] + sum(pool.padding) - pool.kernel) // pool.stride + 1
    return (*shape[:-1], time)


def broadcast_bias(step: Linear, bias: U64) -> U64:
    """A bias of one value per channel, or per channel and position, at the product's shape per clip."""
    shaped = bias.reshape(-1, 1) if step.kind == "conv1d" and bias.ndim == 1 else bias
    return np.ascontiguousarray(np.broadcast_to(shaped, step.linear_shape))
