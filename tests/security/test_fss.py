"""Keys of the distributed comparison: one party's key says nothing about r, and none answers twice."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sottovoce.engine.backend.cpu import CpuBackend
from sottovoce.engine.errors import MaskReuseError
from sottovoce.engine.preprocessing.fss import Dcf
from sottovoce.engine.preprocessing.items import Layout
from sottovoce.engine.preprocessing.local import LocalDealer
from sottovoce.engine.tensors import U64
from sottovoce.kernels.cpu.dcf_portable import ONE, SEED, TWO, ZERO, node_hash
from tests.security.statistics import Z_LIMIT, non_uniform, related, two_sample

KEYS = 8192
BITS = (12, 32)
SECRETS = (0, 0x5A5A5A5A)
CONTROLS = 3
"""Bits of a correction word that correct control bits."""


Own = dict[str, NDArray[Any]]


def own_of(rng: np.random.Generator, party: int, r: int, root: U64) -> tuple[Own, Own]:
    """Both parties' own fields for KEYS keys for one r: `party` always draws the same words, the other fresh ones."""
    mask = np.full(KEYS, 0xC0FFEE11, np.uint32)
    mine: Own = {"mask": mask, "root": np.repeat(root, KEYS, axis=1)}
    other: Own = {"mask": np.uint32(r) - mask, "root": rng.integers(0, 2**64, (2, KEYS), dtype=np.uint64)}
    return (mine, other) if party == 0 else (other, mine)


def correction(rng: np.random.Generator, party: int, r: int, bits: int, root: U64) -> U64:
    return Dcf(KEYS, bits).derive(own_of(rng, party, r, root), None)["correction"]


def suspicious(rows: U64) -> str:
    """Why correction words that one party gets, its own key held fixed, are not uniform; "" if nothing says so.

    The simulator draws them uniformly. Looked at: each row, bit by bit; rows in pairs; control bits in pairs.
    """
    for number, row in enumerate(rows):
        if why := non_uniform(row):
            return f"row {number}: {why}"
    for number in range(len(rows) - 2):
        if why := related(rows[number], rows[number + 2]):
            return f"rows {number} and {number + 2}: {why}"
    return _control_pairs(rows[:-2:2])


def _control_pairs(rows: U64) -> str:
    bits = np.concatenate([(rows >> np.uint64(k)).astype(np.int64) & 1 for k in range(CONTROLS)])
    signs = 1 - 2 * bits
    products = signs @ signs.T / np.sqrt(bits.shape[1])
    np.fill_diagonal(products, 0)
    worst = float(np.abs(products).max(initial=0.0))
    return f"control bits in pairs: z = {worst:.1f}" if worst > Z_LIMIT else ""


@pytest.mark.parametrize("party", [0, 1])
@pytest.mark.parametrize("bits", BITS)
def test_a_key_does_not_depend_on_the_secret(rng: np.random.Generator, bits: int, party: int) -> None:
    root = rng.integers(0, 2**64, (2, 1), dtype=np.uint64)
    views = [correction(rng, party, r, bits, root) for r in SECRETS]
    for view in views:
        assert suspicious(view) == ""
    for first, second in zip(*views, strict=True):
        assert two_sample(first.view(np.uint8), second.view(np.uint8)) < Z_LIMIT


@pytest.mark.parametrize("party", [0, 1])
def test_nor_with_what_the_party_expands_from_its_root(rng: np.random.Generator, party: int) -> None:
    """The party knows its node on r's path if it guesses r, and takes its own children and leaf off."""
    bits, r = 9, 0b0_1011_0110
    root = rng.integers(0, 2**64, (2, 1), dtype=np.uint64)
    got = correction(rng, party, r, bits, root)
    for side in (ZERO, ONE):
        assert suspicious(np.concatenate([got[:2] ^ node_hash(root, np.array([side])), got[2:]])) == ""
        held = np.uint64(2**64 - 1) if party else ZERO
        node = node_hash(root, np.array([side])) ^ (held & got[:2])
        assert suspicious(np.concatenate([got[:2], got[2:] ^ node_hash(node, np.full(KEYS, TWO))])) == ""


@pytest.mark.parametrize("forced", ["control bit", "seed", "nothing"])
def test_the_statistics_notice_a_root_without_entropy(rng: np.random.Generator, forced: str) -> None:
    """Where the other party's root lacks its control bit or its seed, the correction words show it."""
    kept = {"control bit": SEED, "seed": ONE, "nothing": ~ZERO}[forced]
    first, second = own_of(rng, 0, SECRETS[1], rng.integers(0, 2**64, (2, 1), dtype=np.uint64))
    second["root"][0] &= kept
    if forced == "seed":
        second["root"][1] = ZERO
    assert bool(suspicious(Dcf(KEYS, 32).derive((first, second), None)["correction"])) == (forced != "nothing")


def test_an_item_is_taken_once() -> None:
    item = Dcf(5, 32)
    dealer = LocalDealer(Layout([item, item]), CpuBackend().fill)
    dealer.prepare(2)
    for party in dealer.parties:
        reserved = party.reserve(2)
        material = reserved.part(0, 2)
        first, second = (material.take(item.times(2)) for _ in range(2))
        for name in ("mask", "root", "correction"):
            assert not np.isin(first[name], second[name]).any(), name
        with pytest.raises(MaskReuseError):
            material.take(item.times(2))
        with pytest.raises(MaskReuseError):
            reserved.part(1, 2)


def test_no_root_comes_twice() -> None:
    item = Dcf(300, 32)
    dealer = LocalDealer(Layout([item, item]), CpuBackend().fill)
    dealer.prepare(3)
    seen: list[NDArray[np.uint64]] = []
    for party in dealer.parties:
        material = party.reserve(3).part(0, 3)
        seen += [material.take(item.times(3))["root"][1] for _ in range(2)]
    assert np.unique(np.concatenate(seen)).size == 2 * 2 * 3 * 300


def test_a_mask_used_twice_reveals_the_difference_of_two_inputs(rng: np.random.Generator) -> None:
    """What the guard above prevents: anybody who sees both openings subtracts them."""
    r, y, z = rng.integers(0, 2**32, (3, 1000), dtype=np.uint32)
    np.testing.assert_array_equal((y + r) - (z + r), y - z)
    fresh = rng.integers(0, 2**32, 1000, dtype=np.uint32)
    assert related(y + r, z + fresh) == ""


def test_a_root_used_twice_reveals_bits_of_the_secrets(rng: np.random.Generator) -> None:
    """Keys for r and r' from the same roots: the first control corrections differ by the first bits of r and r'."""
    roots: list[Own] = [{"root": rng.integers(0, 2**64, (2, 64), dtype=np.uint64)} for _ in range(2)]
    secrets = rng.integers(0, 2**32, (2, 64), dtype=np.uint32)
    none = np.zeros(64, np.uint32)
    words = []
    for r in secrets:
        own: tuple[Own, Own] = {**roots[0], "mask": r}, {**roots[1], "mask": none}
        words.append(Dcf(64, 32).derive(own, None)["correction"])
    shown = (words[0][0] ^ words[1][0]) >> ONE & ONE
    np.testing.assert_array_equal(shown, (secrets[0] ^ secrets[1]) >> np.uint32(30) & np.uint32(1))
