"""What each party receives in each operation of `rep3` is uniform, whatever the secret.

The corrupt party's own shares are constants (0 and 1) and the secret is constant too, so that a word that went out
without a mask, or under a mask used before or known to the receiver, is anything but uniform.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import combinations, product

import numpy as np
import pytest
from numpy.typing import NDArray

from sottovoce.engine.prg import KeyStream
from sottovoce.engine.protocols.rep3.protocol import Rep3
from tests.conformance.operations import OPERATIONS, Operation
from tests.security.secrets_of import secrets_of
from tests.security.statistics import as_bytes, non_uniform, related, repeated
from tests.security.views import PARTIES, U64, Draw, Run, fixed_keys, run_operation, slots_of

Bytes = NDArray[np.uint8]
SHAPE = (4, 8, 64)
"""2048 elements: a vector of bits is 256 bytes, one of words 16 KiB."""
OWN, NEXT = 0, 1
SECRETS = ("zero", "minus one", "largest")
COMMUNICATING = [name for name, o in OPERATIONS.items() if name not in ("add", "sub")]


def runs_of(
    operation: Operation, corrupt: int, rotation: int, protocol: type[Rep3] = Rep3, **options: Callable[..., KeyStream]
) -> list[Run]:
    """One run for each secret, each under keys of its own."""
    out = []
    for number, kind in enumerate(SECRETS):
        inputs = [slots_of(v, corrupt, OWN, NEXT) for v in secrets_of(operation, SHAPE, kind)]
        keys = fixed_keys(1000 * corrupt + 100 * rotation + number)
        out.append(run_operation(operation, inputs, rotation, keys, None, protocol, **options))
    return out


def findings(operation: Operation, runs: list[Run], corrupt: int) -> list[str]:
    """Everything in the corrupt party's view that is not as uniform and independent words would be."""
    views = [[np.frombuffer(m, np.uint8) for m in run.payloads(corrupt)] for run in runs]
    found = ["a message twice in a run" for view in views if repeated(m.tobytes() for m in view)]
    if operation.name == "open":  # the last slot is fixed by the output and the party's own slots: see the simulator
        return found
    for run, view in zip(runs, views, strict=True):
        found += _in_one_view(view)
        found += _against_keys(view, run.draws[corrupt])
    for first, second in combinations(views, 2):
        if repeated(m.tobytes() for m in first + second):
            found.append("a message of one run again in another")
        for i, (x, y) in enumerate(zip(first, second, strict=True)):
            if why := related(x, y):
                found.append(f"message {i} of two runs: {why}")
    return found


def _in_one_view(view: list[Bytes]) -> list[str]:
    found = [f"message {i}: {why}" for i, m in enumerate(view) if (why := non_uniform(m))]
    for i, m in enumerate(view):
        pairs = np.frombuffer(m, "<u8", m.size // 16 * 2)
        for how, (x, y) in (("halves", np.split(pairs, 2)), ("even and odd words", (pairs[::2], pairs[1::2]))):
            if why := related(x, y):
                found.append(f"the {how} of message {i}: {why}")
    for (i, x), (j, y) in combinations(enumerate(view), 2):
        size = min(x.size, y.size) // 8 * 8
        if size and (why := related(x[:size], y[:size])):
            found.append(f"messages {i} and {j}: {why}")
    return found


def _against_keys(view: list[Bytes], draws: Mapping[Draw, U64]) -> list[str]:
    """A message against the words that its receiver can compute: every draw, from its start and from its end."""
    found = []
    for (i, m), (draw, words) in product(enumerate(view), draws.items()):
        known = as_bytes(words)
        size = min(m.size, known.size) // 8 * 8
        for end, block in (("start", known[:size]), ("end", known[known.size - size :])):
            if size and (why := related(m[:size], block)):
                found.append(f"message {i} and the {end} of {draw}: {why}")
    return found


@pytest.mark.parametrize("corrupt", range(PARTIES))
@pytest.mark.parametrize("name", COMMUNICATING)
def test_view_is_uniform(name: str, corrupt: int) -> None:
    operation = OPERATIONS[name]
    rotation = (2 * corrupt + COMMUNICATING.index(name)) % PARTIES  # all roles of each operation, all rotations
    assert findings(operation, runs_of(operation, corrupt, rotation), corrupt) == []
