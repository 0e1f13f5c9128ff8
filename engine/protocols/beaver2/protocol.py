"""`beaver2`: two parties, semi-honest, one corruption, correlated randomness from preprocessing.

Invariant: x = x_0 + x_1 mod 2^64 (XOR for bits); P_i holds x_i. Every message is the sender's share of something plus
fresh uniform words that only the sender knows (its own part of an item of preprocessing), so each party's view is
uniform and independent of the secrets. Adversary: semi-honest, at most one of the two parties; a dealer, if there is
one, works with neither. Failure probability: none beyond the PRG's (and, in `beaver2-fss`, that of the keys).
Rounding: a truncation gives floor or floor + 1. Costs: schedule.py. Proof sketch: docs/protocols/beaver2.md.
Triples [Beaver 91, SecureML 2017/396], truncation by the wrap bit [Cheetah 2022/207], comparison by a carry tree of
multi-input ANDs [ABY2.0 2020/1225], or by function secret sharing [BCG+ 2020/1392].
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sottovoce.engine.errors import ProtocolError
from sottovoce.engine.fixed import ring_constant
from sottovoce.engine.party import Party
from sottovoce.engine.preprocessing.fss import Dcf, sign_share
from sottovoce.engine.preprocessing.items import Fields, Item
from sottovoce.engine.preprocessing.kinds import MAX_AND_INPUTS, Ands, Leaves, Merge, Mul, Product, Select, Wrap
from sottovoce.engine.program import Linear, Pool, Shape
from sottovoce.engine.protocols.base import Protocol, broadcast_bias, pooled
from sottovoce.engine.protocols.beaver2.schedule import HALF_BITS, PIPELINED_BITS, leaf_blocks, levels
from sottovoce.engine.protocols.beaver2.share import PARTIES, Beaver2AShare, Beaver2BShare, Beaver2Weights
from sottovoce.engine.tensors import U64, pack_bits, size, unpack_bits, words

ALL_ONES = np.uint64(0xFFFFFFFFFFFFFFFF)
NONE = np.uint64(0)
ONE = np.uint64(1)
OFFSET = np.uint64(1 << 62)
Arrays = tuple[NDArray[Any], ...]


class Tag(IntEnum):
    """What a frame carries; a frame with another tag than the expected one is refused."""

    WEIGHTS = 1
    INPUT = 2
    FACTORS = 3
    WRAP = 4
    SIGN = 5
    MERGE = 6
    AND = 7
    SELECT = 8
    OPEN = 9


class Beaver2(Protocol[Beaver2AShare, Beaver2BShare, Beaver2Weights, Beaver2AShare]):
    """One party's side of the protocol, on one lane, with Boolean comparison. A product is a share at once."""

    name = "beaver2"
    parties = PARTIES
    and_inputs = MAX_AND_INPUTS

    def __init__(self, party: Party, rotation: int = 0) -> None:
        if party.parties != PARTIES:
            raise ProtocolError(f"beaver2: expected {PARTIES} parties, got {party.parties}")
        self.party = party
        self.backend = party.backend
        self.kernels = party.backend.kernels
        self.first = party.rank == 0
        self.peer = 1 - party.rank
        self.one = ONE if self.first else NONE
        """This party's share of the number 1."""
        self.ones = ALL_ONES if self.first else NONE
        """This party's share of 64 bits 1."""

    # Local.

    def add(self, x: Beaver2AShare, y: Beaver2AShare) -> Beaver2AShare:
        """x + y."""
        _same(x, y, "add")
        return Beaver2AShare(self._binary("add", x.part, y.part), x.frac_bits)

    def sub(self, x: Beaver2AShare, y: Beaver2AShare) -> Beaver2AShare:
        """x - y."""
        _same(x, y, "sub")
        return Beaver2AShare(self._binary("sub", x.part, y.part), x.frac_bits)

    def mul_public(self, x: Beaver2AShare, factor: int, frac_bits: int) -> Beaver2AShare:
        """factor * x."""
        out = np.empty_like(x.part)
        self.kernels.scale(x.part.reshape(-1), ring_constant(factor), out.reshape(-1))
        return Beaver2AShare(out, frac_bits)

    def concat(self, parts: Sequence[Beaver2AShare], axis: int) -> Beaver2AShare:
        """The parts, one after the other along an axis."""
        return Beaver2AShare(np.concatenate([p.part for p in parts], axis), parts[0].frac_bits)

    def concat_bits(self, parts: Sequence[Beaver2BShare], axis: int) -> Beaver2BShare:
        """The tensors of bits, one after the other along an axis."""
        bits = np.concatenate([unpack_bits(p.part, p.shape) for p in parts], axis)
        return Beaver2BShare(pack_bits(bits), bits.shape)

    def sum_pool(self, x: Beaver2AShare, pool: Pool, frac_bits: int) -> Beaver2AShare:
        """Window sums over the last axis."""
        out = self.backend.empty(pooled(x.shape, pool))
        rows = x.part.reshape(-1, x.shape[-1])
        self.kernels.sum_pool(rows, out.reshape(-1, out.shape[-1]), pool.kernel, pool.stride, pool.padding[0])
        return Beaver2AShare(out, frac_bits)

    def xor_public(self, x: Beaver2BShare, bits: NDArray[np.bool_]) -> Beaver2BShare:
        """x XOR public bits: P_0 absorbs them."""
        return Beaver2BShare(x.part ^ self._packed(bits, x.shape), x.shape) if self.first else x

    # Products.

    def load(self, step: Linear, tensors: Mapping[str, Beaver2AShare]) -> Beaver2Weights:
        """Open E = W - B, once per model; B never hides other weights (`Preprocessing.claim`). 1 round."""
        if self.party.preprocessing is None:
            raise ProtocolError(f"party {self.party.rank}: beaver2: expected a source of preprocessing, got none")
        weight, bias = tensors[step.weight.name], tensors[step.bias.name]
        mask = self.party.preprocessing.mask(step)
        masked = weight.part - mask
        (other,) = self._exchange(Tag.WEIGHTS, masked)
        masked += other
        packed = self.backend.pack_beaver(step, mask + masked if self.first else mask, masked)
        return Beaver2Weights(self.backend.hold(packed), self.backend.hold(broadcast_bias(step, bias.part)))

    def linear(self, x: Beaver2AShare, weights: Beaver2Weights, step: Linear) -> Beaver2AShare:
        """z_i = C_i + D * (B_i + E at P_0) + A_i * E + bias_i with D = X - A opened. 1 round."""
        batch = x.shape[0]
        item = self._take(Product(step, batch))
        a, c = item["a"], item["c"]
        masked = self._binary("sub", x.part.reshape(-1), a)
        (other,) = self._exchange(Tag.INPUT, masked)
        masked += other
        z = c.reshape(batch, *step.linear_shape) + self.backend.use(weights.bias)
        packed = self.backend.use(weights.packed)
        self.backend.beaver_linear(step, masked.reshape(x.shape), a.reshape(x.shape), packed, z)
        return Beaver2AShare(z, x.frac_bits + step.weight.frac_bits)

    def mul(self, x: Beaver2AShare, y: Beaver2AShare) -> Beaver2AShare:
        """z_i = c_i + e a_i + d b_i + (d e at P_0), d = x - a and e = y - b opened. 1 round."""
        _same(x, y, "mul")
        item = self._take(Mul(size(x.shape)))
        d, e = (self._binary("sub", v.part.reshape(-1), item[k]) for v, k in ((x, "a"), (y, "b")))
        other_d, other_e = self._exchange(Tag.FACTORS, d, e)
        d += other_d
        e += other_e
        z = self.backend.empty(x.shape)
        self.kernels.beaver_mul(item["a"], item["b"], item["c"], d, e, self.one, z.reshape(-1))
        return Beaver2AShare(z, x.frac_bits + y.frac_bits)

    def as_product(self, x: Beaver2AShare) -> Beaver2AShare:
        """x."""
        return x

    def reshare(self, z: Beaver2AShare) -> Beaver2AShare:
        """z."""
        return z

    def trunc(self, z: Beaver2AShare, bits: int) -> Beaver2AShare:
        """Exact truncation by the wrap bit, 1 round, 1 bit each way."""
        wrap = _Wrap(self, z, bits)
        (other,) = self._exchange(Tag.WRAP, wrap.opened)
        return Beaver2AShare(wrap.finish(other).reshape(z.shape), z.frac_bits - bits)

    def trunc_relu(
        self, z: Beaver2AShare, bits: int, compare_bits: int, pool: Pool | None, frac_bits: int
    ) -> Beaver2AShare:
        """Truncation, ReLU, window sums. For m <= 32 the sign starts beside the truncation."""
        if compare_bits > PIPELINED_BITS:
            return self.relu(self.trunc(z, bits), compare_bits, pool, frac_bits)
        wrap = _Wrap(self, z, bits)
        sign, (other,) = self._sign(wrap.out, compare_bits, wrap.opened)
        y = Beaver2AShare(wrap.finish(other).reshape(z.shape), z.frac_bits - bits)
        return self._select_positive(sign, y, pool, frac_bits)

    # Bits.

    def and_(self, *inputs: Beaver2BShare) -> Beaver2BShare:
        """The AND of 2 to 8 bits, 1 round: x_j + a_j opened, monomials of the a_j dealt [ABY2.0]."""
        shape = inputs[0].shape
        if not 2 <= len(inputs) <= MAX_AND_INPUTS or any(x.shape != shape for x in inputs):
            got = ", ".join(str(x.shape) for x in inputs)
            raise ProtocolError(
                f"party {self.party.rank}: and_: expected 2 to {MAX_AND_INPUTS} inputs of one shape, got {got}"
            )
        item = self._take(Ands(size(shape), len(inputs)))
        opened = np.stack([x.part for x in inputs])
        opened ^= item["mask"]
        (other,) = self._exchange(Tag.AND, opened)
        opened ^= other
        out = self.backend.empty(words(size(shape)))
        self.kernels.ands_eval(opened, item["mask"], item["products"], self.ones, out)
        return Beaver2BShare(out, shape)

    def msb(self, x: Beaver2AShare, compare_bits: int) -> Beaver2BShare:
        """The sign bit."""
        return Beaver2BShare(self._sign(x.part.reshape(-1), compare_bits)[0], x.shape)

    def bit_inject(self, b: Beaver2BShare, x: Beaver2AShare) -> Beaver2AShare:
        """b x, 1 round."""
        if b.shape != x.shape:
            raise ProtocolError(f"party {self.party.rank}: bit_inject: expected equal shapes, got {b.shape}, {x.shape}")
        return Beaver2AShare(self._select(b.part, x.part.reshape(-1)).reshape(x.shape), x.frac_bits)

    def relu(self, x: Beaver2AShare, compare_bits: int, pool: Pool | None, frac_bits: int) -> Beaver2AShare:
        """Sign, then x where it is not negative."""
        return self._select_positive(self._sign(x.part.reshape(-1), compare_bits)[0], x, pool, frac_bits)

    # Outputs.

    def open(self, x: Beaver2AShare, to: Collection[int] | None = None) -> U64 | None:
        """The tensor in the clear at the parties of the given ranks (default: both), None at the other. 1 round."""
        rank = self.party.rank
        receivers = range(PARTIES) if to is None else to
        if not set(receivers) <= set(range(PARTIES)):
            raise ProtocolError(f"party {rank}: open: expected ranks below {PARTIES}, got {sorted(receivers)}")
        if self.peer in receivers:
            self.party.transport.send(self.peer, Tag.OPEN, [x.part])
        if rank not in receivers:
            return None
        other = np.empty_like(x.part)
        self.party.transport.recv(self.peer, Tag.OPEN, [other])
        return self.backend.download(x.part + other)

    def refresh(self, x: Beaver2AShare | Beaver2BShare) -> Beaver2AShare | Beaver2BShare:
        """x_0 + r, x_1 - r (XOR for bits) with r from the key of both parties, which neither a dealer nor a client has.

        A dealer knows the dealt words that the parts contain; with a client it must not learn more than the output.
        """
        flat = x.part.reshape(-1)
        (mask,) = self.party.streams[0].masks.draw(flat.size)
        if isinstance(x, Beaver2BShare):
            return Beaver2BShare(flat ^ mask, x.shape)
        kernel = "add" if self.first else "sub"
        return Beaver2AShare(self._binary(kernel, flat, mask).reshape(x.shape), x.frac_bits)

    # Helpers.

    def _sign(self, part: U64, compare_bits: int, *ride: U64) -> tuple[U64, Arrays]:
        """XOR share (W,) of bit m - 1 of the sum of both parties' parts (n,), and what the other sent along `ride`.

        Pairs of bits first: each party knows its own summand's bits, so carries are products of private bits. Then a
        tree that makes four blocks one in a round. [CrypTFlow2's leaves, ABY2.0's multi-input gates]
        """
        n, w, m = part.size, words(part.size), compare_bits
        planes = self.backend.empty((m, w))
        self.kernels.slice_bits(part, m, planes)
        item = self._take(Leaves(n, m - 1))
        opened = planes[: m - 1] ^ item["mask"]
        *others, other = self._exchange(Tag.SIGN, *ride, opened)
        rows = self.backend.empty((2 * leaf_blocks(m) - 1, w))
        self.kernels.leaf_eval(opened, other, item["mask"], item["products"], self.ones, rows)
        for blocks in levels(m):
            item = self._take(Merge(n, blocks))
            opened = np.empty_like(item["mask"])
            self.kernels.merge_open(rows, item["mask"], opened)
            (other,) = self._exchange(Tag.MERGE, opened)
            opened ^= other
            merged = self.backend.empty((2 * -(-blocks // 4) - 1, w))
            self.kernels.merge_eval(rows, opened, item["mask"], item["products"], self.ones, merged)
            rows = merged
        return rows[0] ^ planes[m - 1], tuple(others)

    def _select_positive(self, sign: U64, x: Beaver2AShare, pool: Pool | None, frac_bits: int) -> Beaver2AShare:
        """x where the sign bit is 0, summed over windows."""
        chosen = self._select(~sign if self.first else sign, x.part.reshape(-1))
        out = Beaver2AShare(chosen.reshape(x.shape), frac_bits)
        return out if pool is None else self.sum_pool(out, pool, frac_bits)

    def _select(self, bit: U64, x: U64) -> U64:
        """b x = b_0 x_0 + b_1 x_1 + b_1 u_0 + b_0 u_1 with u_i = (1 - 2 b_i) x_i, both products by one triple each."""
        item = self._take(Select(x.size))
        mine, theirs = (item["left"], item["right"]) if self.first else (item["right"], item["left"])
        opened_value, opened_bit = np.empty_like(x), np.empty_like(bit)
        self.kernels.select_open(bit, x, item["value"], item["bit"], opened_value, opened_bit)
        other_value, other_bit = self._exchange(Tag.SELECT, opened_value, opened_bit)
        out = np.empty_like(x)
        self.kernels.select_finish(bit, x, other_value, opened_bit, other_bit, item["bit"], mine, theirs, out)
        return out

    def _exchange(self, tag: Tag, *parts: NDArray[Any]) -> Arrays:
        """Send the parts in one frame, receive as many of the same shapes."""
        others = tuple(np.empty_like(p) for p in parts)
        self.party.transport.send(self.peer, tag, parts)
        self.party.transport.recv(self.peer, tag, others)
        return others

    def _take(self, item: Item) -> Fields:
        if self.party.material is None:
            raise ProtocolError(f"party {self.party.rank}: beaver2: expected preprocessed material, got none")
        return {name: self.backend.upload(field) for name, field in self.party.material.take(item).items()}

    def _packed(self, bits: NDArray[np.bool_], shape: Shape) -> U64:
        return self.backend.upload(pack_bits(np.broadcast_to(bits, shape)))

    def _binary(self, kernel: str, x: U64, y: U64) -> U64:
        out = np.empty_like(x)
        getattr(self.kernels, kernel)(x.reshape(-1), y.reshape(-1), out.reshape(-1))
        return out


class Beaver2Fss(Beaver2):
    """With comparison by distributed comparison functions: one round, keys from a dealer."""

    name = "beaver2-fss"

    def _sign(self, part: U64, compare_bits: int, *ride: U64) -> tuple[U64, Arrays]:
        """c = y + r mod 2^m opened, then evaluated by each party with its key."""
        item = Dcf(part.size, compare_bits)
        fields = self._take(item)
        if compare_bits <= HALF_BITS:
            masked = self.backend.empty(part.size, np.uint32)
            self.kernels.take_half(part, 0, masked)
        else:
            masked = part.copy()
        masked += fields["mask"]
        *others, other = self._exchange(Tag.SIGN, *ride, masked)
        masked += other
        return sign_share(self.backend, item, fields, masked, self.ones), tuple(others)


class _Wrap:
    """A truncation by f bits between its two local steps; the low 64 - f bits of `out` are final already.

    z + 2^62 = A + B, 0 <= A + B < 2^63, A known to P_0 and B to P_1: the sum wrapped iff msb(A) OR msb(B).
    """

    def __init__(self, protocol: Beaver2, z: Beaver2AShare, bits: int) -> None:
        flat = z.part.reshape(-1)
        self._protocol, self._bits = protocol, bits
        self._item: Fields = protocol._take(Wrap(flat.size))
        self.top, self.opened = (protocol.backend.empty(words(flat.size)) for _ in range(2))
        self.out = np.empty_like(flat)
        offset, correction = (OFFSET, ring_constant(1 - (1 << 62 - bits))) if protocol.first else (NONE, NONE)
        protocol.kernels.wrap_open(flat, offset, correction, bits, self._item["bit"], self.top, self.opened, self.out)

    def finish(self, other: NDArray[Any]) -> U64:
        """The truncated share, given the other party's opened bits."""
        p, item = self._protocol, self._item
        p.kernels.wrap_finish(self.top, self.opened, other, item["bit"], item["product"], p.one, self._bits, self.out)
        return self.out


def _same(x: Beaver2AShare, y: Beaver2AShare, operation: str) -> None:
    if x.shape != y.shape or (operation != "mul" and x.frac_bits != y.frac_bits):
        raise ProtocolError(
            f"beaver2 {operation}: expected equal shapes and scales, "
            f"got {x.shape} with {x.frac_bits} and {y.shape} with {y.frac_bits} fraction bits"
        )
