"""The items that `beaver2` asks for."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from sottovoce.engine.backend.cpu import CpuBackend
from sottovoce.engine.errors import ProtocolError
from sottovoce.engine.preprocessing.items import Field, Fields, Item, Scaled, Unit, plus, xor
from sottovoce.engine.program import Linear
from sottovoce.engine.tensors import U64, size
from sottovoce.kernels.cpu.beaver_bits import LEAF_PRODUCTS, leaf_product_rows, merge_mask_rows, merge_monomials
from sottovoce.kernels.products import ProductLayer

MAX_AND_INPUTS = 8


@dataclass(frozen=True, slots=True)
class Product(Item):
    """A triple (A, B, C = A * B) of a layer's own convolution or matrix product [Beaver 91, SecureML 2017/396].

    own: a, (clips * in,), the mask A of the layer's input. derived: c, (clips * out,). B, the mask of the layer's
    weights, belongs to the model and is the same for every clip.
    """

    step: Linear
    clips: int = 1

    @property
    def fields(self) -> tuple[Field, ...]:
        """a and c."""
        return (
            Field("a", "own", Unit.WORDS, self.clips * size(self.step.in_shape)),
            Field("c", "derived", Unit.WORDS, self.clips * size(self.step.linear_shape)),
        )

    def times(self, clips: int) -> Product:
        """For so many times the clips."""
        return replace(self, clips=self.clips * clips)

    def derive(self, own: tuple[Fields, Fields], mask: U64 | None) -> Fields:
        """C = (A_0 + A_1) * B."""
        c = np.empty((self.clips, *self.step.linear_shape), np.uint64)
        a = plus(own, "a").reshape(self.clips, *self.step.in_shape)
        backend = CpuBackend()
        backend.linear(self.step, a, backend.pack_linear(self.step, self._of(mask)), c, False)
        return {"c": c.reshape(-1)}

    def layers(self, a_at: int, b_at: int, c_at: int) -> list[ProductLayer]:
        """For `triple_products`, clip by clip: a and c from these columns on, B at word b_at of all."""
        step = self.step
        if step.kind == "dense":
            first = ProductLayer(a_at, b_at, c_at, c_in=step.weight.shape[1], c_out=step.weight.shape[0])
        else:
            (c_in, time), (c_out, time_out) = step.in_shape, step.linear_shape
            geometry = (step.stride, step.padding[0], step.dilation, step.groups)
            first = ProductLayer(a_at, b_at, c_at, c_in, c_out, time, step.weight.shape[2], time_out, *geometry)
        inputs, outputs = size(step.in_shape), size(step.linear_shape)
        return [replace(first, a_at=a_at + k * inputs, c_at=c_at + k * outputs) for k in range(self.clips)]

    def _of(self, mask: U64 | None) -> U64:
        if mask is None:
            raise ProtocolError(f"preprocessing: layer {self.step.name!r}: expected the mask of its weights, got none")
        return mask


@dataclass(frozen=True, slots=True)
class Mul(Scaled):
    """Elementwise triples [Beaver 91]: own a, b (n,); derived c = a b."""

    @property
    def fields(self) -> tuple[Field, ...]:
        """a, b and c."""
        return (
            Field("a", "own", Unit.WORDS, self.n),
            Field("b", "own", Unit.WORDS, self.n),
            Field("c", "derived", Unit.WORDS, self.n),
        )

    def derive(self, own: tuple[Fields, Fields], mask: U64 | None) -> Fields:
        """c = (a_0 + a_1)(b_0 + b_1)."""
        return {"c": plus(own, "a") * plus(own, "b")}

    def correct(self, own: tuple[Fields, Fields], drawn: Fields, mask: U64 | None) -> Fields:
        """The same minus c_0, in one pass."""
        c = np.empty(self.n, np.uint64)
        CpuBackend().kernels.triple_mul(own[0]["a"], own[1]["a"], own[0]["b"], own[1]["b"], drawn["c"], c)
        return {"c": c}


@dataclass(frozen=True, slots=True)
class Wrap(Scaled):
    """For a truncation's wrap bit: own `bit`, alpha at P_0 and beta at P_1; derived product = alpha beta mod 2^32."""

    @property
    def fields(self) -> tuple[Field, ...]:
        """bit and product."""
        return Field("bit", "own", Unit.FLAGS, self.n), Field("product", "derived", Unit.HALVES, self.n)

    def derive(self, own: tuple[Fields, Fields], mask: U64 | None) -> Fields:
        """product = alpha beta, as numbers."""
        both: U64 = np.bitwise_and(own[0]["bit"], own[1]["bit"])
        return {"product": unpacked(both, self.n).astype(np.uint32)}


@dataclass(frozen=True, slots=True)
class Leaves(Scaled):
    """For the carries of pairs of bits, one summand known to each party.

    own: mask (bits, W), a row for each of the `bits` low bits: alpha_i at P_0, beta_i at P_1. derived: products
    (leaf_product_rows(bits), W): for each pair of bits the sums of products of a monomial in alpha and one in beta that
    LEAF_PRODUCTS lists; for a last single bit alpha beta.
    """

    bits: int

    @property
    def fields(self) -> tuple[Field, ...]:
        """mask and products."""
        return (
            Field("mask", "own", Unit.BITS, self.n, self.bits),
            Field("products", "derived", Unit.BITS, self.n, leaf_product_rows(self.bits)),
        )

    def derive(self, own: tuple[Fields, Fields], mask: U64 | None) -> Fields:
        """The rows, pair after pair."""
        alpha, beta = own[0]["mask"], own[1]["mask"]
        out: list[U64] = []
        for low in range(0, self.bits, 2):
            count = min(2, self.bits - low)
            a, b = alpha[low : low + count], beta[low : low + count]
            for terms in LEAF_PRODUCTS if count == 2 else (((1, 1),),):
                out.append(np.bitwise_xor.reduce([monomial(a, left) & monomial(b, right) for left, right in terms]))
        return {"products": np.stack(out)}


@dataclass(frozen=True, slots=True)
class Merge(Scaled):
    """For one level of the radix-4 carry tree over `blocks` blocks: products of shared mask bits.

    own: mask (merge_mask_rows(blocks), W). derived: products, a row for each element of merge_monomials(blocks), which
    lists the mask rows that are multiplied.
    """

    blocks: int

    @property
    def fields(self) -> tuple[Field, ...]:
        """mask and products."""
        return (
            Field("mask", "own", Unit.BITS, self.n, merge_mask_rows(self.blocks)),
            Field("products", "derived", Unit.BITS, self.n, len(merge_monomials(self.blocks))),
        )

    def derive(self, own: tuple[Fields, Fields], mask: U64 | None) -> Fields:
        """The AND of each listed set of rows."""
        joined = xor(own, "mask")
        out = [np.bitwise_and.reduce(joined[list(chosen)]) for chosen in merge_monomials(self.blocks)]
        return {"products": np.stack(out)}


@dataclass(frozen=True, slots=True)
class Ands(Scaled):
    """For n ANDs of 2 <= inputs <= 8 shared bits each, in one round.

    own: mask (inputs, W). derived: products, the AND of every set of at least two rows, sets as binary numbers in
    ascending order: (2^inputs - 1 - inputs, W).
    """

    inputs: int = 2

    def __post_init__(self) -> None:
        if not 2 <= self.inputs <= MAX_AND_INPUTS:
            raise ProtocolError(f"preprocessing: AND: expected 2 to {MAX_AND_INPUTS} inputs, got {self.inputs}")

    @property
    def fields(self) -> tuple[Field, ...]:
        """mask and products."""
        return (
            Field("mask", "own", Unit.BITS, self.n, self.inputs),
            Field("products", "derived", Unit.BITS, self.n, (1 << self.inputs) - 1 - self.inputs),
        )

    def derive(self, own: tuple[Fields, Fields], mask: U64 | None) -> Fields:
        """The AND of each set of rows."""
        joined = xor(own, "mask")
        out = [monomial(joined, s) for s in range(1 << self.inputs) if s.bit_count() > 1]
        return {"products": np.stack(out)}


@dataclass(frozen=True, slots=True)
class Select(Scaled):
    """For products of one party's bit with the other's number, both ways.

    own: value (n,), a number to be multiplied by the other's bit, and bit, to be multiplied by the other's value.
    derived: left = value_0 bit_1, right = value_1 bit_0, (n,) each.
    """

    @property
    def fields(self) -> tuple[Field, ...]:
        """value, bit, left and right."""
        return (
            Field("value", "own", Unit.WORDS, self.n),
            Field("bit", "own", Unit.FLAGS, self.n),
            Field("left", "derived", Unit.WORDS, self.n),
            Field("right", "derived", Unit.WORDS, self.n),
        )

    def derive(self, own: tuple[Fields, Fields], mask: U64 | None) -> Fields:
        """The two products."""
        bits = [unpacked(o["bit"], self.n).astype(np.uint64) for o in own]
        return {"left": own[0]["value"] * bits[1], "right": own[1]["value"] * bits[0]}


def monomial(bits: U64, chosen: int) -> U64:
    """The AND of the rows whose numbers are the set bits of `chosen` (not 0)."""
    out: U64 = np.bitwise_and.reduce(bits[[i for i in range(bits.shape[0]) if chosen >> i & 1]])
    return out


def unpacked(flags: U64, n: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Packed bits -> (n,) of 0 and 1."""
    return np.unpackbits(flags.view(np.uint8), count=n, bitorder="little")
