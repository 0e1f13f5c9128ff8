"""Material out of two parties' stores: it fits together, and comes once."""

from __future__ import annotations

import secrets
import threading
import tracemalloc
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.engine.preprocessing.stores import IDENTITY, KEY, PAIR

from sottovoce.engine.backend.cpu import CpuBackend
from sottovoce.engine.errors import MaskReuseError, PreprocessingError, ProtocolError
from sottovoce.engine.preprocessing.dealer import deal, weight_masks
from sottovoce.engine.preprocessing.items import Layout
from sottovoce.engine.preprocessing.kinds import Mul, Product
from sottovoce.engine.preprocessing.segment import SegmentFile
from sottovoce.engine.preprocessing.store import Store
from sottovoce.engine.preprocessing.supply import StorePreprocessing
from sottovoce.engine.program import Linear, TensorSpec

FILL = CpuBackend().fill
DENSE = Linear("fc", "dense", (4,), (3,), 8, TensorSpec("w", (3, 4), 4), TensorSpec("b", (3,), 8))
LAYOUT = Layout([Product(DENSE), Mul(5)])

Pair = tuple[StorePreprocessing, StorePreprocessing]


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    """Both parties' preprocessing: eight clips, dealt in two segments."""
    with ExitStack() as stack:
        stores = [
            Store.create(tmp_path / str(rank), key=KEY, identity=replace(IDENTITY, rank=rank), pair=PAIR)
            for rank in range(2)
        ]
        for store in stores:
            stack.callback(store.close)
        deal_into(stores, 3)
        deal_into(stores, 5)
        yield tuple(StorePreprocessing(store, LAYOUT, FILL) for store in stores)


def deal_into(stores: list[Store], clips: int) -> None:
    """A segment for each party; P_0's derived words come from its seed."""
    start = stores[0].end
    seeds = (secrets.token_bytes(32), secrets.token_bytes(32))
    masks = weight_masks(LAYOUT, (stores[0].mask_seed, stores[1].mask_seed), FILL)
    derived_1, _ = deal(LAYOUT, masks, seeds, range(start, start + clips), FILL)
    for store, seed, words in zip(stores, seeds, (0, LAYOUT.derived), strict=True):
        with store.add(start, clips, seed, source="dealer", derived_words=words, common_words=0) as writer:
            if words:
                writer.write(derived_1, None)


def joined(pair: Pair, name: str, taken: list) -> np.ndarray:
    return taken[0][name] + taken[1][name]


def test_the_parties_material_fits_together(pair: Pair) -> None:
    batches = [party.reserve(4) for party in pair]
    masks = pair[0].mask(DENSE) + pair[1].mask(DENSE)
    for start, stop in ((0, 1), (1, 4)):  # the second part crosses segments
        parts = [batch.part(start, stop) for batch in batches]
        product = [part.take(Product(DENSE, stop - start)) for part in parts]
        a = joined(pair, "a", product).reshape(-1, 4)
        np.testing.assert_array_equal(joined(pair, "c", product).reshape(-1, 3), a @ masks.T)
        mul = [part.take(Mul(5 * (stop - start))) for part in parts]
        np.testing.assert_array_equal(joined(pair, "c", mul), joined(pair, "a", mul) * joined(pair, "b", mul))
        assert len(np.unique(joined(pair, "a", mul))) == 5 * (stop - start)


def test_no_part_comes_twice(pair: Pair) -> None:
    batch = pair[1].reserve(4)
    batch.part(1, 3)
    for start, stop in ((1, 3), (0, 2), (2, 4), (0, 4)):
        with pytest.raises(MaskReuseError, match=f"got {start} to {stop - 1} of the batch"):
            batch.part(start, stop)
    for start, stop in ((3, 5), (-1, 1), (0, 0), (3, 3), (3, 2), (4, 5)):
        with pytest.raises(ProtocolError, match=f"at least one of the batch's 4 clips, got those from {start} up"):
            batch.part(start, stop)
    batch.part(0, 1)
    batch.part(3, 4)


def test_batches_never_overlap(pair: Pair) -> None:
    values = []
    for clips in (1, 3, 4):
        material = pair[0].reserve(clips).part(0, clips)
        material.take(Product(DENSE, clips))
        values.append(material.take(Mul(5 * clips))["a"])
    assert len(np.unique(np.concatenate(values))) == 40
    with pytest.raises(PreprocessingError, match="needs 1 clips, 0 are left: run `sottovoce prepare --clips 1`"):
        pair[0].reserve(1)


def test_agree(pair: Pair) -> None:
    one, other = pair
    one.reserve(2)
    other.agree(2, 6)
    assert (other.position, other.end) == (2, 6)
    with pytest.raises(PreprocessingError, match="needs 5 clips, 4 are left"):
        other.reserve(5)
    other.reserve(4)
    with pytest.raises(PreprocessingError, match="0 are left"):
        other.reserve(1)
    other.agree(1, 8)
    assert (other.position, other.end) == (6, 8)
    other.agree(20, 20)
    assert (other.position, other.end) == (8, 8)
    with pytest.raises(PreprocessingError, match="0 are left"):
        other.reserve(1)


def test_masks_are_stable_the_partys_own_and_bound_to_one_model(pair: Pair) -> None:
    one, other = pair
    np.testing.assert_array_equal(one.mask(DENSE), one.mask(DENSE))
    assert one.mask(DENSE).shape == (3, 4)
    assert not (one.mask(DENSE) == other.mask(DENSE)).any()
    one.claim(b"a")
    with pytest.raises(PreprocessingError, match="got others"):
        one.claim(b"b")
    other.claim(b"b")
    assert one.pair == other.pair == PAIR


def test_records_of_another_demand(tmp_path: Path) -> None:
    with Store.create(tmp_path / "s", key=KEY, identity=IDENTITY, pair=PAIR) as store:
        with store.add(0, 1, bytes(32), source="ot", derived_words=LAYOUT.derived + 1, common_words=0) as writer:
            writer.write(np.zeros((1, LAYOUT.derived + 1), np.uint64), None)
        batch = StorePreprocessing(store, LAYOUT, FILL).reserve(1)
        with pytest.raises(PreprocessingError, match=f"expected {LAYOUT.derived} derived .* got {LAYOUT.derived + 1}"):
            batch.part(0, 1)


def test_a_big_batch_takes_the_memory_of_a_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records are decrypted part by part, in threads as lanes do; when all are read the files may go."""
    layout, clips, step = Layout([Mul(5000)]), 96, 4
    read: list[range] = []
    real = SegmentFile.read

    def noted(file: SegmentFile, clips: range) -> tuple[np.ndarray, np.ndarray]:
        read.append(clips)
        return real(file, clips)

    monkeypatch.setattr(SegmentFile, "read", noted)
    with Store.create(tmp_path / "s", key=KEY, identity=IDENTITY, pair=PAIR) as store:
        for start in range(0, clips, 48):
            with store.add(start, 48, bytes(32), source="ot", derived_words=layout.derived, common_words=0) as writer:
                for _ in range(48):
                    writer.write(np.ones((1, layout.derived), np.uint64), None)
        tracemalloc.start()
        try:
            batch = StorePreprocessing(store, layout, FILL).reserve(clips)
            assert not read
            parts = [range(start, start + step) for start in range(0, clips, step)]

            def lane(number: int) -> None:
                for part in parts[number::2]:
                    assert (batch.part(part.start, part.stop).take(Mul(5000 * step))["c"] == 1).all()

            threads = [threading.Thread(target=lane, args=(number,)) for number in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert sorted(read, key=lambda part: part.start) == parts
        whole = 8 * clips * (layout.own + layout.derived)
        assert peak < whole / 3
        store.claim(b"tag")
        assert not store.segments
