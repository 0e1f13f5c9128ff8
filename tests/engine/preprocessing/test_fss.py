"""Signs by function secret sharing: every point of small domains, the edges of large ones, any number at a time."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from sottovoce.engine.backend.cpu import CpuBackend
from sottovoce.engine.errors import ProtocolError
from sottovoce.engine.preprocessing.fss import Dcf, dcf_key_bytes, sign_share
from sottovoce.engine.preprocessing.items import Fields, Part, stored, views
from sottovoce.engine.tensors import U64, unpack_bits, words

ONES = (np.uint64(2**64 - 1), np.uint64(0))
BACKEND = CpuBackend()
SMALL = range(2, 10)
LARGE = (10, 16, 17, 31, 32, 33, 48, 63, 64)
SIZES = (1, 63, 64, 65, 255, 256, 257, 1000)


def random_words(rng: np.random.Generator, *shape: int) -> U64:
    return rng.integers(0, 2**64, shape, dtype=np.uint64)


def own_fields(rng: np.random.Generator, item: Dcf, r: U64) -> tuple[Fields, Fields]:
    """Masks that add up to r, with any higher bits, and roots."""
    first = random_words(rng, item.n)
    width = np.uint32 if item.bits <= 32 else np.uint64
    masks = (first.astype(width), (r - first).astype(width))
    mine, other = ({"mask": mask, "root": random_words(rng, 2, item.n)} for mask in masks)
    return mine, other


def keys(rng: np.random.Generator, item: Dcf, own: tuple[Fields, Fields]) -> tuple[Fields, Fields]:
    """What the parties hold."""
    joined = item.derive(own, None)
    top = random_words(rng, words(item.n))
    tops = (top, top ^ joined["top"])
    mine, other = ({**own[p], "top": tops[p], "correction": joined["correction"]} for p in range(2))
    return mine, other


def signs(item: Dcf, held: tuple[Fields, Fields], opened: NDArray[np.unsignedinteger]) -> NDArray[np.uint8]:
    shares = [sign_share(BACKEND, item, held[p], opened, ONES[p]) for p in range(2)]
    return unpack_bits(shares[0] ^ shares[1], (item.n,))


def check(rng: np.random.Generator, bits: int, c: U64, r: U64) -> None:
    item = Dcf(r.size, bits)
    width = np.uint32 if bits <= 32 else np.uint64
    got = signs(item, keys(rng, item, own_fields(rng, item, r)), c.astype(width))
    np.testing.assert_array_equal(got, (c - r) >> np.uint64(bits - 1) & np.uint64(1))


@pytest.mark.parametrize("bits", SMALL)
def test_every_point_and_every_secret(rng: np.random.Generator, bits: int) -> None:
    every = np.arange(1 << bits, dtype=np.uint64)
    c, r = (a.reshape(-1) for a in np.meshgrid(every, every))
    check(rng, bits, c, r)


@pytest.mark.parametrize("bits", LARGE)
def test_edges_of_large_domains(rng: np.random.Generator, bits: int) -> None:
    """c and r that differ by little, at, below and above every power of two, and random ones."""
    edges = {(1 << k) + d for k in range(bits + 1) for d in (-1, 0, 1)}
    at = np.array([e % (1 << bits) for e in sorted(edges)], np.uint64)
    near = [at + np.uint64(d % 2**64) for d in (-128, -127, -1, 0, 1, 127, 128)]
    c = np.concatenate([*near, random_words(rng, 700)])
    r = np.concatenate([*([at] * len(near)), random_words(rng, 700)])
    check(rng, bits, c, r)
    check(rng, bits, *(a.reshape(-1) for a in np.meshgrid(at, at)))


@pytest.mark.parametrize("n", SIZES)
def test_any_number_at_a_time(rng: np.random.Generator, n: int) -> None:
    check(rng, 32, random_words(rng, n), random_words(rng, n))


@pytest.mark.parametrize("bits", [8, 32, 48])
def test_signs_of_small_numbers(rng: np.random.Generator, bits: int) -> None:
    """What it is for: y = 0 and -1 lie next to each other."""
    y = np.array([0, -1, 1, -(1 << bits - 1), (1 << bits - 1) - 1], np.int64).repeat(40)
    r = random_words(rng, y.size)
    item = Dcf(y.size, bits)
    got = signs(item, keys(rng, item, own_fields(rng, item, r)), y.view(np.uint64) + r)
    np.testing.assert_array_equal(got, y < 0)


def flips(bits: int) -> list[tuple[int, int]]:
    """(row, bits of it) of the correction words; what no point reads is left out."""
    rows = Dcf(1, bits).fields[-1].rows
    found = [(row, 1 << bit) for row in range(rows - 2) for bit in ((0, 1, 2, 63) if row % 2 == 0 else (0, 63))]
    found += [(row, 2**64 - 1) for row in range(rows - 2, rows if bits > 7 else rows - 1)]
    return [f for f in found if f != (rows - 4, 1)]  # no control bit comes after the last level


@pytest.mark.parametrize("bits", [2, 9, 10, 14])
def test_every_correction_word_matters(rng: np.random.Generator, bits: int) -> None:
    """What is flipped in a word of all keys spoils signs on a secret's path, or one step beside it."""
    beside = np.array([0, *(1 << k for k in range(bits - 1))], np.uint64)
    r = random_words(rng, 64).repeat(beside.size)
    c = r ^ np.tile(beside, 64)
    item = Dcf(r.size, bits)
    held = keys(rng, item, own_fields(rng, item, r))
    for row, mask in flips(bits):
        spoilt = held[0]["correction"].copy()
        spoilt[row] ^= np.uint64(mask)
        got = signs(item, ({**held[0], "correction": spoilt}, {**held[1], "correction": spoilt}), c)
        assert (got != (c - r) >> np.uint64(bits - 1) & np.uint64(1)).any(), f"row {row}, bits {mask:#x}"


@pytest.mark.parametrize(("bits", "n"), [(32, 65), (32, 64), (2, 7), (8, 70), (9, 3), (33, 65)])
def test_clips_are_put_together(rng: np.random.Generator, bits: int, n: int) -> None:
    """Words of three clips, as stored, are the keys of the batch in the clips' order."""
    clip, clips = Dcf(n, bits), 3
    batch = clip.times(clips)
    parts: tuple[Part, ...] = ("own", "derived", "common")
    flat: list[dict[Part, list[U64]]] = [{part: [] for part in parts} for _ in range(2)]
    r = random_words(rng, clips, n)
    for row in r:
        for party, held in enumerate(keys(rng, clip, own_fields(rng, clip, row))):
            for part in parts:
                flat[party][part].append(stored(clip, part, held))
    joined = []
    for mine in flat:
        fields: dict[str, NDArray[np.unsignedinteger]] = {}
        for part in parts:
            fields |= views(clip, part, np.concatenate(mine[part]))
        joined.append(fields)
    c = random_words(rng, clips * n)
    got = signs(batch, (joined[0], joined[1]), c)
    np.testing.assert_array_equal(got, (c - r.reshape(-1)) >> np.uint64(bits - 1) & np.uint64(1))


def test_size_of_a_key() -> None:
    for bits in (2, 8, 9, 32, 48, 64):
        item = Dcf(64, bits)
        assert item.words("common") * 8 == 64 * dcf_key_bytes(bits)
        assert item.words("derived") == 1
    assert dcf_key_bytes(32) == 24 * 16 + 16
    assert dcf_key_bytes(8) == 16


@pytest.mark.parametrize("bits", [0, 1, 65])
def test_refuses_other_widths(bits: int) -> None:
    with pytest.raises(ProtocolError, match="2 to 64 bits"):
        Dcf(4, bits)


def test_refuses_keys_of_another_width(rng: np.random.Generator) -> None:
    item = Dcf(4, 32)
    held = keys(rng, item, own_fields(rng, item, random_words(rng, 4)))
    with pytest.raises(ValueError, match=r"must be \(36, 4\), got \(50, 4\)"):
        signs(Dcf(4, 25), held, random_words(rng, 4))
