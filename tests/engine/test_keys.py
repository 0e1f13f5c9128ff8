"""From pairwise keys to streams: who holds what, and that nothing is shared by accident."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from sottovoce.engine.backend.cpu import CpuBackend
from sottovoce.engine.keys import fresh_pair_keys, keys_of, streams_of
from sottovoce.engine.prg import KEY_BYTES, PairStreams
from sottovoce.engine.protocols.table import PROTOCOLS, ProtocolRow

LANES = 3
BACKEND = CpuBackend()


@pytest.fixture(params=PROTOCOLS.values(), ids=lambda row: row.name)
def row(request: pytest.FixtureRequest) -> ProtocolRow:
    return request.param


def slots(row: ProtocolRow) -> set[int]:
    """All slots, rep3: 3, beaver2: 1."""
    return {slot for rank in range(row.parties) for slot in row.keys(rank)}


def all_streams(row: ProtocolRow, cipher: str = "aes128ctr") -> dict[tuple[int, int, int], PairStreams]:
    """(rank, lane, slot) -> streams, all lanes under the same pairwise keys."""
    keys = fresh_pair_keys(row.parties)
    ciphers = dict.fromkeys(range(row.parties), cipher)
    return {
        (rank, lane, slot): pair
        for rank, lane in product(range(row.parties), range(LANES))
        for slot, pair in streams_of(row, rank, keys_of(rank, keys), ciphers, lane, BACKEND).items()
    }


def test_fresh_keys_differ_and_are_whole() -> None:
    keys = [key for _ in range(50) for key in fresh_pair_keys(3).values()]
    assert len(set(keys)) == len(keys) == 150
    assert {len(key) for key in keys} == {KEY_BYTES}
    ones = np.unpackbits(np.frombuffer(b"".join(keys), np.uint8)).mean()
    assert abs(ones - 0.5) < 0.025  # 38,400 bits: ten standard deviations


def test_keys_of_a_party() -> None:
    keys = {(0, 1): b"a", (0, 2): b"b", (1, 2): b"c"}
    assert keys_of(0, keys) == {1: b"a", 2: b"b"}
    assert keys_of(1, keys) == {0: b"a", 2: b"c"}
    assert keys_of(2, keys) == {0: b"b", 1: b"c"}


def test_each_slot_has_its_two_holders(row: ProtocolRow) -> None:
    """rep3: the key of slot i is known to P_(i-1) and P_i, and to nobody else. beaver2: that of slot 0 to both."""
    streams = all_streams(row)
    for lane, slot in product(range(LANES), slots(row)):
        holders = [rank for rank in range(row.parties) if (rank, lane, slot) in streams]
        assert sorted(holders) == sorted({slot, (slot - 1) % row.parties})
        for purpose in ("masks", "dealing"):
            one, other = (getattr(streams[rank, lane, slot], purpose).draw(40)[0] for rank in holders)
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("cipher", ["aes128ctr", "chacha20"])
def test_no_two_streams_share_words(row: ProtocolRow, cipher: str) -> None:
    """Slots, lanes and purposes: 64-bit words, none twice but at the two holders of one stream."""
    streams = all_streams(row, cipher)
    drawn = np.concatenate([s.draw(500)[0] for pair in streams.values() for s in (pair.masks, pair.dealing)])
    words, counts = np.unique(drawn, return_counts=True)
    assert set(counts) == {2}
    assert words.size == LANES * len(slots(row)) * 2 * 500


def test_labels_name_protocol_slot_lane_and_purpose(row: ProtocolRow) -> None:
    labels = [s.label for pair in all_streams(row).values() for s in (pair.masks, pair.dealing)]
    assert len(set(labels)) == len(labels) // 2 == LANES * len(slots(row)) * 2
    assert all(label.startswith(f"{row.name}/") for label in labels)
