"""Deliberately broken variants of `rep3`: each leaks in one place, and the checks of this folder must notice."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sottovoce.engine.party import Party
from sottovoce.engine.protocols.rep3.protocol import Rep3
from sottovoce.engine.protocols.rep3.roles import Roles
from tests.security.views import U64, ScriptedStream

Kernel = Callable[..., None]


class _RolesWithout(Roles):
    """Zero masks that are spoiled by a function."""

    spoil: Callable[[U64, U64], tuple[U64, U64]]

    def zero_masks(self, count: int) -> tuple[U64, U64]:
        own, nxt = super().zero_masks(count)
        return type(self).spoil(own, nxt)


def _with_masks(spoil: Callable[[U64, U64], tuple[U64, U64]]) -> type[Rep3]:
    roles = type("Spoilt", (_RolesWithout,), {"spoil": staticmethod(spoil)})

    class Broken(Rep3):
        def __init__(self, party: Party, rotation: int = 0) -> None:
            super().__init__(party, rotation)
            self.roles = roles(party, rotation)

    return Broken


def _with_kernel(name: str, undo: Callable[..., None]) -> type[Rep3]:
    """The kernel runs, then `undo` takes a mask off what it wrote."""

    class Broken(Rep3):
        def __init__(self, party: Party, rotation: int = 0) -> None:
            super().__init__(party, rotation)
            kernels = SimpleNamespace(**vars(party.backend.kernels))
            right: Kernel = getattr(kernels, name)

            def wrong(*args: Any) -> None:
                right(*args)
                undo(*args)

            setattr(kernels, name, wrong)
            self.kernels = self.roles.kernels = kernels

    return Broken


def _bare_deal(z: U64, mask: U64, a: U64, b: U64, g: U64, out: U64, gamma: NDArray[Any]) -> None:
    out -= mask


def _bare_gamma(z: U64, mask: U64, a: U64, b: U64, g: NDArray[Any], out: U64, gamma: NDArray[Any]) -> None:
    gamma += g


def _bare_top(*args: Any) -> None:
    top, opened = args[6], args[7]
    opened[:] = top


def _bare_low(*args: Any) -> None:
    remask, out = args[2], args[8]
    out += remask


def _bare_other_top(*args: Any) -> None:
    beta, opened = args[4], args[8]
    opened ^= beta


def _bare_half(*args: Any) -> None:
    remask, out = args[3], args[10]
    out += remask


def _bare_leaf(planes: U64, masks: U64, out: U64) -> None:
    out[-1] ^= masks[-1]


def _leaf_masks_twice(planes: U64, masks: U64, out: U64) -> None:
    out[1] ^= masks[1] ^ masks[0]


def _bare_pairs(planes: U64, leaves: U64, one: int, masks: U64, out: U64) -> None:
    out[0] ^= masks[0]


def _bare_top_pair(planes: U64, leaves: U64, one: int, masks: U64, out: U64) -> None:
    blocks = (len(out) + 1) // 2
    out[blocks - 1] ^= masks[blocks - 1]


def _bare_selected(x: U64, mine: U64, theirs: U64, kept: U64, total: U64) -> None:
    kept += mine


def _bare_selection(b0: U64, b1: U64, x0: U64, x1: U64, v_mask: U64, k_mask: U64, v: U64, k: U64) -> None:
    k += k_mask


def _one_mask_for_both(b0: U64, b1: U64, x0: U64, x1: U64, v_mask: U64, k_mask: U64, v: U64, k: U64) -> None:
    v += v_mask - k_mask


def _doubled(words: U64) -> U64:
    return words[np.arange(words.size) // 2]


BROKEN: dict[str, tuple[str, type[Rep3]]] = {
    "a product without a mask": ("mul", _with_masks(lambda own, nxt: (0 * own, 0 * nxt))),
    "a product masked by the receiver's key only": ("mul", _with_masks(lambda own, nxt: (own, 0 * nxt))),
    "an AND masked by the receiver's key only": ("and", _with_masks(lambda own, nxt: (own, 0 * nxt))),
    "one mask word for all elements": ("mul", _with_masks(lambda o, n: (0 * o + o[:1], 0 * n + n[:1]))),
    "one mask word for two elements": ("mul", _with_masks(lambda own, nxt: (_doubled(own), _doubled(nxt)))),
    "a dealt product without a mask": ("trunc 16", _with_kernel("trunc_deal", _bare_deal)),
    "a dealt product bit without a mask": ("trunc 16", _with_kernel("trunc_deal", _bare_gamma)),
    "msb(A) without a mask": ("trunc 16", _with_kernel("trunc_left", _bare_top)),
    "msb(B) without a mask": ("trunc 16", _with_kernel("trunc_right", _bare_other_top)),
    "a truncated half without a mask": ("trunc 16", _with_kernel("trunc_right", _bare_half)),
    "the low words without a mask": ("trunc_relu 32 16", _with_kernel("trunc_left", _bare_low)),
    "a sign bit without a mask": ("msb 32", _with_kernel("monomials", _bare_leaf)),
    "one mask for two monomials": ("msb 32", _with_kernel("monomials", _leaf_masks_twice)),
    "a generate bit without a mask": ("msb 32", _with_kernel("contract_leaves", _bare_pairs)),
    "the top generate bit without a mask": ("msb 32", _with_kernel("contract_leaves", _bare_top_pair)),
    "a selected word without a mask": ("bit_inject", _with_kernel("remask_pair", _bare_selected)),
    "a selecting bit without a mask": ("bit_inject", _with_kernel("select_share", _bare_selection)),
    "one mask for a selection's two words": ("bit_inject", _with_kernel("select_share", _one_mask_for_both)),
}


SUBTLE = {
    "msb(A) without a mask",
    "msb(B) without a mask",
    "a truncated half without a mask",
    "the low words without a mask",
    "one mask for two monomials",
    "the top generate bit without a mask",
}
"""Each of these words is uniform on its own; it leaks jointly with what its receiver knows. Only coupling notices."""


class ZeroStream(ScriptedStream):
    """Draws nothing but zeros."""

    __slots__ = ()

    def draw_at(self, operation: int, *words: int) -> tuple[U64, ...]:
        return tuple(0 * a for a in super().draw_at(operation, *words))


class RepeatingStream(ScriptedStream):
    """Gives the words of operation 0 again and again: what MaskReuseError is there to prevent."""

    __slots__ = ()

    def draw(self, *words: int) -> tuple[U64, ...]:
        self._next = 0
        return self.draw_at(0, *words)
