"""A share that is to be truncated is first made parts that only one party knows each."""

from __future__ import annotations

import numpy as np
import pytest

from sottovoce.engine.local import make_parties
from sottovoce.engine.protocols.rep3.protocol import Rep3
from sottovoce.engine.protocols.table import find
from sottovoce.engine.transport.memory import memory_mesh
from tests.security.views import PARTIES, U64, fixed_keys, shares_at, slots_of

SHAPE = (2, 3, 5)


def parts_of(changed: tuple[int, int] | None) -> list[U64]:
    """Each party's part of the same shared tensor, at first and again; one pair of parties has another key."""
    keys = fixed_keys(0)
    if changed is not None:
        keys[changed] = fixed_keys(1)[changed]
    own, nxt = np.random.default_rng(0).integers(0, 2**64, (2, *SHAPE), dtype=np.uint64)
    slots = [slots_of(np.arange(30, dtype=np.int64).reshape(SHAPE), 0, own, nxt)]
    parties = make_parties(find("rep3"), [memory_mesh(PARTIES)], pair_keys=keys)
    protocols = [Rep3(lanes[0]) for lanes in parties]
    rounds = [[p.as_product(shares_at(rank, slots)[0]).z for rank, p in enumerate(protocols)] for _ in range(2)]
    for parts in rounds:
        np.testing.assert_array_equal(sum(parts), np.arange(30, dtype=np.uint64).reshape(SHAPE))
    assert all((a != b).all() for a, b in zip(*rounds, strict=True))  # masks are fresh
    return rounds[0]


@pytest.mark.parametrize("pair", [(0, 1), (0, 2), (1, 2)])
def test_each_part_is_masked_by_both_of_its_owners_keys(pair: tuple[int, int]) -> None:
    """So no other party knows it: each of the two others lacks one of these keys."""
    before, after = parts_of(None), parts_of(pair)
    for rank in range(PARTIES):
        assert ((before[rank] != after[rank]).all(), (before[rank] == after[rank]).all()) == (
            rank in pair,
            rank not in pair,
        )
