"""Protocols with an offline phase: what is declared is what is taken, clip by clip, batch by batch, to the last bit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sottovoce.engine.backend.cpu import CpuBackend
from sottovoce.engine.cost import demand, predict_cost
from sottovoce.engine.errors import PreprocessingError, ProtocolError
from sottovoce.engine.local import LocalCluster
from sottovoce.engine.party import Party
from sottovoce.engine.preprocessing.fss import Dcf
from sottovoce.engine.preprocessing.items import Field, Item, Layout, Unit, pack_rows, stored, views
from sottovoce.engine.preprocessing.kinds import MAX_AND_INPUTS, Ands, Leaves, Merge, Mul, Select, Wrap
from sottovoce.engine.preprocessing.local import LocalDealer
from sottovoce.engine.program import OutputKind, Program
from sottovoce.engine.protocols.table import PROTOCOLS, ProtocolRow
from sottovoce.engine.protocols.tally import ShapeShare
from sottovoce.engine.session import chunks, run_plain
from sottovoce.models.encode import encode_input
from sottovoce.models.zoo import list_models
from tests.conformance.harness import join, run, share
from tests.conformance.operations import OPERATIONS
from tests.conformance.taken import watch
from tests.conformance.test_operations import tally
from tests.equality import random_model
from tests.security.small import small_batch, small_model

DEEP = {"medium", "frames"}
CLIPS = 3
ODD = 70
"""Elements of a clip: no multiple of 64."""


@pytest.fixture(params=[r for r in PROTOCOLS.values() if r.preprocessing], ids=lambda row: row.name)
def row(request: pytest.FixtureRequest) -> ProtocolRow:
    """Every protocol with an offline phase."""
    return request.param


# ---- single operations -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n in OPERATIONS if not n.startswith(("add", "sub", "open", "mul_public"))])
def test_joined_batches(row: ProtocolRow, name: str, rng: np.random.Generator) -> None:
    """Material made clip by clip serves a batch whose elements do not fall on words."""
    operation = OPERATIONS[name]
    values = operation.values(rng, (CLIPS, ODD))
    items = tally(row, lambda p: operation.apply(p, [ShapeShare((1, ODD))] * len(values))).items
    dealer = LocalDealer(Layout(items), CpuBackend().fill)
    dealer.prepare(CLIPS + 1)
    for party in dealer.parties:
        party.reserve(1)  # not from the first clip on

    def supply(party: Party) -> Party:
        return replace(party, material=dealer.parties[party.rank].reserve(CLIPS).part(0, CLIPS))

    shares = [share(row, v) for v in values]
    outcome = run(row, lambda p, rank: operation.apply(p, [x[rank] for x in shares]), supply=supply)
    error = join(row, outcome) - operation.expected(*values)
    assert error.min() >= 0 and error.max() <= operation.slack


def test_truncation_by_all_numbers_of_bits(row: ProtocolRow, rng: np.random.Generator) -> None:
    limit = (1 << 62) - 1
    x = np.concatenate([[0, 1, -1, limit, -limit], rng.integers(-limit, limit, 60)])
    shares = share(row, x)
    for bits in range(1, 33):
        outcome = run(row, lambda p, rank, f=bits: p.trunc(p.as_product(shares[rank]), f))
        error = join(row, outcome) - (x >> bits)
        assert set(np.unique(error)) <= {0, 1}, bits


def test_rounding_is_right_on_average(row: ProtocolRow) -> None:
    """One more with probability (z mod 2^f + 1) / 2^f, by the low bits of a random part; 1,024 sharings of each z."""
    x = np.repeat(np.arange(-4, 4), 1024)
    shares = share(row, x)
    error = join(row, run(row, lambda p, rank: p.trunc(p.as_product(shares[rank]), 2))) - (x >> 2)
    expected = 1024 * (np.arange(-4, 4) % 4 + 1) / 4
    assert np.abs(error.reshape(8, 1024).sum(axis=1) - expected).max() < 100  # 7 standard deviations


def test_all_comparison_widths_at_their_limits(row: ProtocolRow, rng: np.random.Generator) -> None:
    """|x| < 2^(m-1): both limits, 0 and 1, under many sharings."""
    for m in range(2, 65):
        limit = (1 << (m - 1)) - 1
        x = np.tile(np.array([0, 1, -1, limit, -limit], np.int64), 13)
        shares = share(row, x)
        outcome = run(row, lambda p, rank, m=m, s=shares: p.msb(s[rank], m))
        np.testing.assert_array_equal(join(row, outcome), x < 0, err_msg=f"m = {m}")


@pytest.mark.parametrize("inputs", range(2, MAX_AND_INPUTS + 1))
def test_and_of_many(row: ProtocolRow, inputs: int, rng: np.random.Generator) -> None:
    """Every row of the truth table, and as often as it takes to pass a word's end; one round, whatever the number."""
    table = (np.arange(1 << inputs) >> np.arange(inputs)[:, None]) & 1
    bits = np.concatenate([table, rng.integers(0, 2, (inputs, ODD))], axis=1)
    shares = [share(row, -b) for b in bits]

    def operation(protocol: Any, x: list[Any]) -> Any:
        return protocol.and_(*(protocol.msb(v, 2) for v in x))

    outcome = run(row, lambda p, rank: operation(p, [s[rank] for s in shares]))
    np.testing.assert_array_equal(join(row, outcome), bits.all(axis=0))
    declared = tally(row, lambda p: operation(p, [ShapeShare(bits.shape[1:])] * inputs))
    assert outcome.items == declared.items
    assert max(c.clock for c in outcome.counters) == declared.rounds == inputs + 1
    assert [sum(c.bytes_sent.values()) for c in outcome.counters] == declared.bytes_sent


@pytest.mark.parametrize("count", [1, MAX_AND_INPUTS + 1])
def test_and_of_too_few_or_too_many(row: ProtocolRow, count: int) -> None:
    shares = share(row, np.zeros(4, np.int64))
    with pytest.raises(ProtocolError, match=f"expected 2 to {MAX_AND_INPUTS} inputs"):
        run(row, lambda p, rank: p.and_(*[p.msb(shares[rank], 2)] * count))


def test_without_material(row: ProtocolRow) -> None:
    shares = share(row, np.zeros(4, np.int64))
    with pytest.raises(ProtocolError, match="expected preprocessed material, got none"):
        run(row, lambda p, rank: p.trunc(shares[rank], 3), supply=lambda party: party)


# ---- whole programs ----------------------------------------------------------------------------------------------


def assert_taken(cluster: LocalCluster, act: Callable[[], Any], batch: int, output: OutputKind) -> Any:
    """Run it; every party took the declared items for each chunk, and reserved the batch once."""
    taken = [watch(s) for s in cluster.sessions]
    result = act()
    clip = demand(cluster.program, cluster.row, output).items
    for party in taken:
        assert party.reserved == [batch]
        assert party.chunks == {
            (cut.start, cut.stop): [item.times(cut.stop - cut.start) for item in clip]
            for cut in chunks(cluster.program, batch)
        }
    return result


@pytest.mark.timeout(300)
@pytest.mark.parametrize("output", ["label", "scores"])
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if n in DEEP else []) for n in list_models()]
)
def test_programs(row: ProtocolRow, name: str, output: OutputKind, rng: np.random.Generator) -> None:
    """Items, bytes, frames and rounds as declared; the plain result under the margin rule."""
    graph, compiled = random_model(name, 0)
    program, low_high = compiled.program, graph.box()
    x = encode_input(program, rng.uniform(*low_high, (2, *graph.input_shape)))
    with LocalCluster(program, compiled.weights, row.name) as cluster:
        found, stats = assert_taken(cluster, lambda: cluster.run(x, output), len(x), output)
    assert_predicted(program, row, stats, len(x), output)
    scores = run_plain(program, compiled.weights, x, "scores")
    if output == "scores":
        assert np.all(np.abs(found - scores) <= 2 * np.array(compiled.report.logit_errors))
    else:
        top = np.sort(scores, axis=1)
        clear = top[:, -1] - top[:, -2] > compiled.report.margin_bound
        np.testing.assert_array_equal(found[clear], scores.argmax(axis=1)[clear])


def assert_predicted(program: Program, row: ProtocolRow, stats: Any, batch: int, output: OutputKind) -> None:
    """Measured = predicted."""
    steps = predict_cost(program, row, batch, output)
    assert [s.bytes_sent for s in stats] == [sum(b) for b in zip(*(s.bytes_sent for s in steps), strict=True)]
    assert [s.frames_sent for s in stats] == [sum(f) for f in zip(*(s.frames_sent for s in steps), strict=True)]
    assert max(s.rounds for s in stats) == sum(s.rounds for s in steps)


def test_chunks_on_lanes(row: ProtocolRow, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several requests of several chunks on two lanes: each clip's material once, and plain's labels."""
    model = small_model()
    monkeypatch.setattr(CpuBackend, "chunk_elements", 2 * model.program.width)
    with LocalCluster(model.program, model.weights, row.name, lanes=2) as cluster:
        for clips in (5, 1, 4):
            x = small_batch(model, clips, seed=clips)
            labels, _ = assert_taken(cluster, lambda x=x: cluster.run(x), clips, "label")
            np.testing.assert_array_equal(labels, run_plain(model.program, model.weights, x, "label"))
            for s, source in zip(cluster.sessions, cluster.dealer.parties, strict=True):
                s.preprocessing = source  # not watched any more
        assert [s.preprocessing.position for s in cluster.sessions] == [10, 10]
        assert not cluster.dealer._made  # nothing is kept that both have had


def test_too_few_clips_consume_nothing(row: ProtocolRow) -> None:
    model = small_model()
    dealer = LocalDealer(demand(model.program, row), CpuBackend().fill)
    dealer.prepare(2)
    for party in dealer.parties:
        with pytest.raises(PreprocessingError, match="3 clips, 2 are left"):
            party.reserve(3)
        assert party.position == 0
        party.reserve(2).part(0, 2)


def test_rows_without_an_offline_phase_need_nothing() -> None:
    program = small_model().program
    for row in PROTOCOLS.values():
        assert bool(demand(program, row).items) == row.preprocessing


# ---- layout ------------------------------------------------------------------------------------------------------

KINDS: list[Item] = [
    Mul(ODD),
    Wrap(ODD),
    Wrap(7),
    Leaves(ODD, 5),
    Merge(ODD, 6),
    Ands(ODD, 3),
    Select(ODD),
    Dcf(ODD, 31),
    Dcf(ODD + 1, 48),
]


def content(field: Field, rng: np.random.Generator) -> np.ndarray:
    """One clip's values of a field, shaped as `views` gives them."""
    if field.unit is Unit.HALVES:
        return rng.integers(0, 2**32, field.count, dtype=np.uint32)
    if field.unit is Unit.FLAGS:
        return pack_rows(rng.integers(0, 2, (1, field.count), dtype=np.uint8))[0]
    shape = (field.rows, field.unit.words(field.count))
    words = rng.integers(0, 2**64, shape, dtype=np.uint64)
    return words[0] if field.rows == 1 and field.unit is Unit.WORDS else words


def elements(field: Field, value: np.ndarray, count: int) -> np.ndarray:
    """By element, last axis; words of bits without elements of their own stay words."""
    return np.unpackbits(value.view(np.uint8), bitorder="little")[:count] if field.unit is Unit.FLAGS else value


@pytest.mark.parametrize("clips", [1, 2, 5])
@pytest.mark.parametrize("item", KINDS, ids=str)
def test_what_is_stored_by_clip_is_read_by_batch(item: Item, clips: int, rng: np.random.Generator) -> None:
    batch = item.times(clips)
    for part in ("own", "derived", "common"):
        made = [{f.name: content(f, rng) for f in item.fields if f.part == part} for _ in range(clips)]
        flat = np.concatenate([stored(item, part, values) for values in made])
        assert flat.shape == (clips, item.words(part))
        np.testing.assert_array_equal(stored(item, part, views(item, part, flat, cut=False), clips), flat)
        found = views(item, part, flat)
        assert found.keys() == made[0].keys()
        for field, whole in zip(item.fields, batch.fields, strict=True):
            if field.part != part:
                continue
            joined = np.concatenate([elements(field, m[field.name], field.count) for m in made], axis=-1)
            value = elements(whole, found[field.name], whole.count)
            assert found[field.name].dtype == (np.uint32 if field.unit is Unit.HALVES else np.uint64)
            if field.unit is Unit.BITS:  # no element's in particular, but both parties' rows are cut alike
                assert value.shape == (field.rows, whole.unit.words(whole.count))
                joined = joined[:, : value.shape[1]]
            np.testing.assert_array_equal(value, joined, err_msg=field.name)


@pytest.mark.parametrize("clips", [1, 3])
@pytest.mark.parametrize("item", KINDS, ids=str)
def test_dealt_shares_add_up_to_the_functionality(item: Item, clips: int) -> None:
    """What both parties find in their batch is what `derive` says of the batch's joined own fields."""
    dealer = LocalDealer(Layout([item]), CpuBackend().fill)
    dealer.prepare(clips)
    batch = item.times(clips)
    left, right = (party.reserve(clips).part(0, clips).take(batch) for party in dealer.parties)
    expected = batch.derive((left, right), None)
    for field in batch.fields:
        if field.part == "own":
            assert (left[field.name] != right[field.name]).any()
        elif field.part == "common":
            np.testing.assert_array_equal(left[field.name], right[field.name])
            np.testing.assert_array_equal(left[field.name], expected[field.name])
        else:
            bits = field.unit in (Unit.BITS, Unit.FLAGS)
            joined = left[field.name] ^ right[field.name] if bits else left[field.name] + right[field.name]
            count = field.count
            np.testing.assert_array_equal(
                elements(field, joined, count), elements(field, expected[field.name], count), err_msg=field.name
            )
