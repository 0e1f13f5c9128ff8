"""Exact indistinguishability of an operation at one party, by construction.

Fix the corrupt party's shares and keys, and two secrets a, b. For the words U of the key it lacks, the view is V(a, U).
`mask_map` finds by experiment, for each 32-bit unit that the party receives, a unit of U of its own that it moves with
one to one: + delta or - delta mod 2^32 (a carry from the lower half aside) or XOR delta. `couple` then builds U' with
V(b, U') = V(a, U), correcting one message after the other. Since each step adds or XORs a function of what was settled
before to a unit that no other received unit claims, U -> U' is a bijection; so V(a, uniform) and V(b, uniform) have the
same distribution, exactly. Only openings are exempt: they are functions of the output.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sottovoce.engine.protocols.rep3.protocol import Rep3
from tests.conformance.operations import Operation
from tests.security.views import PARTIES, U64, Draw, Run, Slots, run_operation

U32 = NDArray[np.uint32]
PLUS, MINUS, XOR = 1, -1, 0
LOW32 = 0xFFFFFFFF
XORED = 1 << 32
"""Marks an effect as an XOR in a dictionary of effects."""


class NoCouplingError(AssertionError):
    """A received word is not masked by an unknown word of its own."""


@dataclass(frozen=True, slots=True)
class Experiment:
    """An operation at a corrupt party under fixed keys and rotation."""

    operation: Operation
    corrupt: int
    rotation: int
    keys: Mapping[tuple[int, int], bytes]
    protocol: type[Rep3] = Rep3

    def run(self, inputs: Sequence[Slots], script: Mapping[Draw, U64] | None = None) -> Run:
        """One run; script: words to use in place of the key's."""
        return run_operation(self.operation, inputs, self.rotation, self.keys, script, self.protocol)

    def unknown(self, run: Run) -> dict[Draw, U64]:
        """The words of the key that the corrupt party lacks; both holders must have drawn the same."""
        slot = (self.corrupt + 2) % PARTIES
        left, right = (
            {d: w for d, w in run.draws[(self.corrupt + n) % PARTIES].items() if d[0] == slot} for n in (1, 2)
        )
        if left.keys() != right.keys() or any((left[d] != right[d]).any() for d in left):
            raise NoCouplingError("the two holders of a key drew different words")
        return left

    def units(self, run: Run) -> list[U32]:
        """What the corrupt party received, message by message, in 32-bit units."""
        return [np.frombuffer(p, "<u4") for p in run.payloads(self.corrupt)]


@dataclass(frozen=True, slots=True)
class MaskMap:
    """For each received unit of each message: which draw, which unit of it, and how it enters."""

    draws: tuple[Draw, ...]
    draw: list[NDArray[np.int64]]
    unit: list[NDArray[np.int64]]
    sign: list[NDArray[np.int64]]


def mask_map(experiment: Experiment, inputs: Sequence[Slots], seed: int = 7) -> MaskMap:
    """Perturb one draw of the unknown key after the other. Raises NoCouplingError for a unit without its own mask.

    For whole words of bits: the number of elements must be a multiple of 64.
    """
    rng = np.random.default_rng(seed)
    base = experiment.run(inputs)
    words, before = experiment.unknown(base), experiment.units(base)
    draws = tuple(words)
    found = [[np.full(m.size, -1, np.int64) for m in before] for _ in range(3)]
    used = {d: np.zeros(2 * words[d].size, bool) for d in draws}
    candidates: list[list[list[tuple[int, int, int]]]] = [[[] for _ in m] for m in before]
    for number, draw in enumerate(draws):
        old = words[draw].view("<u4")
        new = rng.integers(1 << 8, (1 << 32) - (1 << 8), old.size, dtype=np.uint32) + old  # a delta far from 0
        after = experiment.units(experiment.run(inputs, {**words, draw: new.view("<u8")}))
        delta, flipped = new - old, new ^ old
        effects: dict[int, list[tuple[int, int]]] = {}
        for unit in range(old.size):
            effects.setdefault(int(flipped[unit]) | XORED, []).append((unit, XOR))
            for sign in (PLUS, MINUS):
                for carry in (-1, 0, 1):
                    effects.setdefault((sign * int(delta[unit]) + carry) & LOW32, []).append((unit, sign))
        for m, (x, y) in enumerate(zip(before, after, strict=True)):
            for i in np.flatnonzero(x != y):
                for effect in (int(x[i] ^ y[i]) | XORED, (int(y[i]) - int(x[i])) & LOW32):
                    candidates[m][i] += [(number, u, s) for u, s in effects.get(effect, [])]
    for m, message in enumerate(candidates):
        for i, choices in enumerate(message):
            free = [c for c in choices if not used[draws[c[0]]][c[1]]]
            if not free:
                reason = "shares its mask with another" if choices else "has no mask"
                raise NoCouplingError(f"message {m}, unit {i} of {len(message)}: {reason}")
            for column, value in zip(found, free[-1], strict=True):
                column[m][i] = value
            used[draws[free[-1][0]]][free[-1][1]] = True
    return MaskMap(draws, *found)


def couple(
    experiment: Experiment, first: Sequence[Slots], second: Sequence[Slots], masks: MaskMap
) -> tuple[Run, Run, dict[Draw, U64]]:
    """The run on `first`, a run on `second` with the same view, and the unknown words that make it so."""
    target_run = experiment.run(first)
    target = experiment.units(target_run)
    script = {d: w.copy() for d, w in experiment.unknown(target_run).items()}
    for _ in range(4 * len(target) + 4):
        run = experiment.run(second, script)
        now = experiment.units(run)
        wrong = next((m for m, (x, y) in enumerate(zip(target, now, strict=True)) if (x != y).any()), None)
        if wrong is None:
            return target_run, run, script
        for i in np.flatnonzero(target[wrong] != now[wrong]):
            units = script[masks.draws[masks.draw[wrong][i]]].view("<u4")
            u, sign = masks.unit[wrong][i], masks.sign[wrong][i]
            if sign == XOR:
                units[u] ^= target[wrong][i] ^ now[wrong][i]
            else:
                step = (int(target[wrong][i]) - int(now[wrong][i])) * int(sign)
                units[u] = (int(units[u]) + step) & LOW32
    raise NoCouplingError(f"message {wrong} cannot be made equal")
