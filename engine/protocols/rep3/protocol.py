"""`rep3`: three parties, semi-honest, one corruption.

Invariant: x = x_0 + x_1 + x_2 mod 2^64 (XOR for bits); P_i holds (x_i, x_(i+1)); the key k_i of slot i is known to
P_(i-1) and P_i. Every message is masked by a fresh word of a key that its receiver does not hold, so each party's view
is uniform and independent of the secrets. Adversary: semi-honest, at most one party. Failure probability: none beyond
the PRG's. Rounding: a truncation gives floor or floor + 1. Costs: schedule.py. Proof sketch: docs/protocols/rep3.md.
Products [AFLNO16, ABY3], truncation by the wrap bit [Cheetah].

The code is written for *roles* 0, 1, 2; a rotation says which party plays which, so that parts of a batch balance load.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from sottovoce.engine.errors import ProtocolError
from sottovoce.engine.fixed import ring_constant
from sottovoce.engine.party import Party
from sottovoce.engine.program import Linear, Pool, Shape
from sottovoce.engine.protocols.base import Protocol, broadcast_bias, pooled
from sottovoce.engine.protocols.rep3.carry import sign
from sottovoce.engine.protocols.rep3.roles import PARTIES, Roles, Tag
from sottovoce.engine.protocols.rep3.schedule import PIPELINED_BITS
from sottovoce.engine.protocols.rep3.share import Rep3AShare, Rep3BShare, Rep3Product, Rep3Weights
from sottovoce.engine.protocols.rep3.trunc import deal, finish_left, open_left, right
from sottovoce.engine.tensors import U64, pack_bits, size, unpack_bits

INCLUDE = np.uint64(1)
EXCLUDE = np.uint64(0)
LOW, HIGH = 0, 1


class Rep3(Protocol[Rep3AShare, Rep3BShare, Rep3Weights, Rep3Product]):
    """One party's side of the protocol, on one lane."""

    name = "rep3"
    parties = PARTIES

    def __init__(self, party: Party, rotation: int = 0) -> None:
        self.roles = Roles(party, rotation)
        self.backend = party.backend
        self.kernels = party.backend.kernels

    # Local.

    def add(self, x: Rep3AShare, y: Rep3AShare) -> Rep3AShare:
        """x + y."""
        _same(x, y, "add")
        return Rep3AShare(self._binary("add", x.own, y.own), self._binary("add", x.nxt, y.nxt), x.frac_bits)

    def sub(self, x: Rep3AShare, y: Rep3AShare) -> Rep3AShare:
        """x - y."""
        _same(x, y, "sub")
        return Rep3AShare(self._binary("sub", x.own, y.own), self._binary("sub", x.nxt, y.nxt), x.frac_bits)

    def mul_public(self, x: Rep3AShare, factor: int, frac_bits: int) -> Rep3AShare:
        """factor * x: each slot times the factor."""
        own, nxt = np.empty_like(x.own), np.empty_like(x.nxt)
        for slot, out in ((x.own, own), (x.nxt, nxt)):
            self.kernels.scale(slot.reshape(-1), ring_constant(factor), out.reshape(-1))
        return Rep3AShare(own, nxt, frac_bits)

    def concat(self, parts: Sequence[Rep3AShare], axis: int) -> Rep3AShare:
        """The parts, one after the other along an axis."""
        own = np.concatenate([p.own for p in parts], axis)
        nxt = np.concatenate([p.nxt for p in parts], axis)
        return Rep3AShare(own, nxt, parts[0].frac_bits)

    def concat_bits(self, parts: Sequence[Rep3BShare], axis: int) -> Rep3BShare:
        """The tensors of bits, one after the other along an axis."""
        own, nxt = (
            np.concatenate([unpack_bits(a, p.shape) for a, p in zip(slot, parts, strict=True)], axis)
            for slot in ([p.own for p in parts], [p.nxt for p in parts])
        )
        return Rep3BShare(pack_bits(own), pack_bits(nxt), own.shape)

    def sum_pool(self, x: Rep3AShare, pool: Pool, frac_bits: int) -> Rep3AShare:
        """Window sums over the last axis."""
        return Rep3AShare(self._pool(x.own, pool), self._pool(x.nxt, pool), frac_bits)

    def xor_public(self, x: Rep3BShare, bits: NDArray[np.bool_]) -> Rep3BShare:
        """x XOR public bits: role slot 0 absorbs them."""
        packed = self.backend.upload(pack_bits(np.broadcast_to(bits, x.shape)))
        if self.roles.role == 0:
            return Rep3BShare(x.own ^ packed, x.nxt, x.shape)
        if self.roles.role == 2:
            return Rep3BShare(x.own, x.nxt ^ packed, x.shape)
        return x

    # Products.

    def load(self, step: Linear, tensors: Mapping[str, Rep3AShare]) -> Rep3Weights:
        """Lay out a layer's weights for the product kernels; done once per model."""
        weight, bias = tensors[step.weight.name], tensors[step.bias.name]
        parts = (weight.own, weight.own + weight.nxt)
        own, both = (self.backend.hold(self.backend.pack_linear(step, part)) for part in parts)
        return Rep3Weights(own, both, self.backend.hold(broadcast_bias(step, bias.own)))

    def linear(self, x: Rep3AShare, weights: Rep3Weights, step: Linear) -> Rep3Product:
        """z_i = x_i (w_i + w_(i+1)) + x_(i+1) w_i + bias_i, local."""
        z = self.backend.empty((x.shape[0], *step.linear_shape))
        z[:] = self.backend.use(weights.bias)
        for part, w in ((x.own, weights.both), (x.nxt, weights.own)):
            self.backend.linear(step, part, self.backend.use(w), z, True)
        return Rep3Product(z, x.frac_bits + step.weight.frac_bits)

    def mul(self, x: Rep3AShare, y: Rep3AShare) -> Rep3Product:
        """z_i = x_i (y_i + y_(i+1)) + x_(i+1) y_i, local."""
        _same(x, y, "mul")
        z = self.backend.empty(x.shape)
        flat = [a.reshape(-1) for a in (x.own, x.nxt, y.own, y.nxt)]
        self.kernels.mul_cross(*flat, z.reshape(-1))
        return Rep3Product(z, x.frac_bits + y.frac_bits)

    def as_product(self, x: Rep3AShare) -> Rep3Product:
        """z_i = x_i + r_i - r_(i+1), local: as in a product, no other party knows this part."""
        z = np.empty_like(x.own)
        self.kernels.mask_zero(x.own.reshape(-1), *self.roles.zero_masks(z.size), z.reshape(-1))
        return Rep3Product(z, x.frac_bits)

    def reshare(self, z: Rep3Product) -> Rep3AShare:
        """Masked by a sharing of zero, each part goes to the party before. 1 round."""
        flat = z.z.reshape(-1)
        own, nxt = np.empty_like(flat), np.empty_like(flat)
        self.kernels.mask_zero(flat, *self.roles.zero_masks(flat.size), own)
        self.roles.send(self.roles.before, Tag.RESHARE, own)
        self.roles.recv(self.roles.after, Tag.RESHARE, nxt)
        return Rep3AShare(own.reshape(z.z.shape), nxt.reshape(z.z.shape), z.frac_bits)

    def trunc(self, z: Rep3Product, bits: int) -> Rep3AShare:
        """Exact truncation by the wrap bit, 3 rounds; see trunc.py."""
        roles, flat = self.roles, z.z.reshape(-1)
        if roles.role == 0:
            left = open_left(roles, flat, bits)
            roles.send(1, Tag.TRUNC_OPEN, left.opened)
            finish_left(roles, left, bits)
            roles.send(2, Tag.TRUNC_RETURN, left.out)
            own, nxt = left.out, left.y1
        elif roles.role == 1:
            part = right(roles, flat, bits)
            roles.send(0, Tag.TRUNC_RETURN, part.opened)
            roles.send(2, Tag.TRUNC_RETURN, part.y2)
            own, nxt = part.y1, part.y2
        else:
            deal(roles, flat)
            own, nxt = np.empty_like(flat), np.empty_like(flat)
            roles.recv(1, Tag.TRUNC_RETURN, own)
            roles.recv(0, Tag.TRUNC_RETURN, nxt)
        return Rep3AShare(own.reshape(z.z.shape), nxt.reshape(z.z.shape), z.frac_bits - bits)

    def trunc_relu(self, z: Rep3Product, bits: int, compare_bits: int, pool: Pool | None, frac_bits: int) -> Rep3AShare:
        """Truncation, ReLU, window sums. For m <= 32 the sign starts beside the truncation.

        The low 64 - f bits of role 0's truncated share do not depend on the wrap bit, so it sends the low words
        at once: roles 0 and 2 know A' = y_0 mod 2^m, role 1 knows B' = (B >> f) + r_a, and A' + B' is the
        truncated value mod 2^m.
        """
        if compare_bits > PIPELINED_BITS:
            return self.relu(self.trunc(z, bits), compare_bits, pool, frac_bits)
        roles, flat = self.roles, z.z.reshape(-1)
        if roles.role == 0:
            left = open_left(roles, flat, bits)
            roles.send(1, Tag.TRUNC_OPEN, left.opened)
            low = self._half(left.out, LOW)
            roles.send(2, Tag.TRUNC_LOW, low)

            def top_words() -> tuple[NDArray[np.uint32], ...]:
                finish_left(roles, left, bits)
                return (self._half(left.out, HIGH),)

            bit = sign(roles, low, compare_bits, with_pairs=top_words)
            own, nxt = left.out, left.y1
        elif roles.role == 1:
            part = right(roles, flat, bits)
            roles.send(0, Tag.TRUNC_RETURN, part.opened)
            bit = sign(roles, part.summand, compare_bits, with_leaves=(part.y2,))
            own, nxt = part.y1, part.y2
        else:
            deal(roles, flat)
            low, high = (self.backend.empty(flat.size, np.uint32) for _ in range(2))
            own, nxt = np.empty_like(flat), np.empty_like(flat)
            roles.recv(0, Tag.TRUNC_LOW, low)
            bit = sign(roles, low, compare_bits, with_leaves=(own,), with_pairs=lambda: (high,))
            self.kernels.join_halves(low, high, nxt)
        return self._select_positive(bit, own, nxt, z.z.shape, pool, frac_bits)

    # Bits.

    def and_(self, *inputs: Rep3BShare) -> Rep3BShare:
        """x AND y, 1 round."""
        if len(inputs) != self.and_inputs:
            raise ProtocolError(f"party {self.roles.party.rank}: and_: expected 2 inputs, got {len(inputs)}")
        x, y = inputs
        if x.shape != y.shape:
            raise ProtocolError(f"party {self.roles.party.rank}: and_: expected equal shapes, got {x.shape}, {y.shape}")
        own, nxt = np.empty_like(x.own), np.empty_like(x.own)
        self.kernels.and_cross(x.own, x.nxt, y.own, y.nxt, *self.roles.zero_masks(own.size), own)
        self.roles.send(self.roles.before, Tag.AND, own)
        self.roles.recv(self.roles.after, Tag.AND, nxt)
        return Rep3BShare(own, nxt, x.shape)

    def msb(self, x: Rep3AShare, compare_bits: int) -> Rep3BShare:
        """The sign bit: roles 0 and 2 know A = x_0, role 1 knows B = x_1 + x_2, both mod 2^m."""
        return Rep3BShare(*self._sign(x.own.reshape(-1), x.nxt.reshape(-1), compare_bits), x.shape)

    def bit_inject(self, b: Rep3BShare, x: Rep3AShare) -> Rep3AShare:
        """b x, 2 rounds, 4 ring elements in all."""
        if b.shape != x.shape:
            raise ProtocolError(
                f"party {self.roles.party.rank}: bit_inject: expected equal shapes, got {b.shape}, {x.shape}"
            )
        return self._select(b.own, b.nxt, x.own.reshape(-1), x.nxt.reshape(-1), x.shape, None, x.frac_bits)

    def relu(self, x: Rep3AShare, compare_bits: int, pool: Pool | None, frac_bits: int) -> Rep3AShare:
        """Sign, then x where it is not negative."""
        own, nxt = x.own.reshape(-1), x.nxt.reshape(-1)
        return self._select_positive(self._sign(own, nxt, compare_bits), own, nxt, x.shape, pool, frac_bits)

    # Outputs.

    def open(self, x: Rep3AShare, to: Collection[int] | None = None) -> U64 | None:
        """The tensor in the clear at the parties of the given ranks (default: all), None at the others. 1 round.

        P_(i+1) gets from P_i slot i, the one that it lacks.
        """
        rank = self.roles.party.rank
        receivers = range(PARTIES) if to is None else to
        if not set(receivers) <= set(range(PARTIES)):
            raise ProtocolError(f"party {rank}: open: expected ranks below {PARTIES}, got {sorted(receivers)}")
        if (rank + 1) % PARTIES in receivers:
            self.roles.send(self.roles.after, Tag.OPEN, x.own)
        if rank not in receivers:
            return None
        last = np.empty_like(x.own)
        self.roles.recv(self.roles.before, Tag.OPEN, last)
        return self.backend.download(x.own + x.nxt + last)

    def refresh(self, x: Rep3AShare | Rep3BShare) -> Rep3AShare | Rep3BShare:
        """x: its slots were masked afresh by the operation that made it."""
        return x

    # Helpers.

    def _sign(self, own: U64, nxt: U64, compare_bits: int) -> tuple[U64, U64]:
        summand = (own, own + nxt if self.roles.role == 1 else own, nxt)[self.roles.role]
        return sign(self.roles, summand, compare_bits)

    def _select_positive(
        self, bit: tuple[U64, U64], own: U64, nxt: U64, shape: Shape, pool: Pool | None, frac_bits: int
    ) -> Rep3AShare:
        """x where the sign bit is 0: role slot 0 of the bit is flipped, then selected."""
        bit_own, bit_nxt = bit
        if self.roles.role == 0:
            bit_own = ~bit_own
        elif self.roles.role == 2:
            bit_nxt = ~bit_nxt
        return self._select(bit_own, bit_nxt, own, nxt, shape, pool, frac_bits)

    def _select(
        self, bit_own: U64, bit_nxt: U64, own: U64, nxt: U64, shape: Shape, pool: Pool | None, frac_bits: int
    ) -> Rep3AShare:
        """b x summed over windows: slot 0 of b and x is side 0 (roles 0, 2), the other slots are side 1 (role 1)."""
        roles, n = self.roles, own.size
        out_shape = pooled(shape, pool)
        count = size(out_shape)
        if roles.role == 1:
            v_mask, k_mask = roles.streams(1).masks.for_kernel(n, n)
            v, k = np.empty_like(own), np.empty_like(own)
            self.kernels.select_share(bit_own, bit_nxt, own, nxt, v_mask, k_mask, v, k)
            roles.send(2, Tag.SELECT, v, k)
            new_own, new_nxt = self.backend.empty(count), self.backend.empty(count)
            roles.recv(0, Tag.SELECTED, new_own)
            roles.recv(2, Tag.SELECTED, new_nxt)
            return Rep3AShare(new_own.reshape(out_shape), new_nxt.reshape(out_shape), frac_bits)
        mask_0, mask_2 = roles.streams(0).masks.for_kernel(count, count)
        out = np.empty_like(own)
        if roles.role == 0:
            v, k = roles.streams(1).masks.for_kernel(n, n)
            self.kernels.select_eval(bit_own, own, nxt, INCLUDE, v, k, out)
            mine, theirs = mask_0, mask_2
        else:
            v, k = np.empty_like(own), np.empty_like(own)
            roles.recv(1, Tag.SELECT, v, k)
            self.kernels.select_eval(bit_nxt, nxt, own, EXCLUDE, v, k, out)
            mine, theirs = mask_2, mask_0
        part = self._pool(out.reshape(shape), pool).reshape(-1) if pool is not None else out
        masks = self.backend.empty(count)
        self.kernels.remask_pair(part, mine, theirs, part, masks)
        roles.send(1, Tag.SELECTED, part)
        slot0, kept = masks.reshape(out_shape), part.reshape(out_shape)
        return Rep3AShare(slot0, kept, frac_bits) if roles.role == 0 else Rep3AShare(kept, slot0, frac_bits)

    def _pool(self, x: U64, pool: Pool) -> U64:
        out = self.backend.empty(pooled(x.shape, pool))
        rows = x.reshape(-1, x.shape[-1])
        self.kernels.sum_pool(rows, out.reshape(-1, out.shape[-1]), pool.kernel, pool.stride, pool.padding[0])
        return out

    def _half(self, x: U64, which: int) -> NDArray[np.uint32]:
        """The low (0) or high (1) 32 bits of each word."""
        out = self.backend.empty(x.size, np.uint32)
        self.kernels.take_half(x, which, out)
        return out

    def _binary(self, kernel: str, x: U64, y: U64) -> U64:
        out = np.empty_like(x)
        getattr(self.kernels, kernel)(x.reshape(-1), y.reshape(-1), out.reshape(-1))
        return out


def _same(x: Rep3AShare, y: Rep3AShare, operation: str) -> None:
    if x.shape != y.shape or (operation != "mul" and x.frac_bits != y.frac_bits):
        raise ProtocolError(
            f"rep3 {operation}: expected equal shapes and scales, "
            f"got {x.shape} with {x.frac_bits} and {y.shape} with {y.frac_bits} fraction bits"
        )
