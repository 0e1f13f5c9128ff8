"""Preprocessing by oblivious transfer: every part against its functionality, then whole models."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from tests.engine.preprocessing.ot_parties import (
    FILL,
    Secrets,
    both,
    check,
    conv,
    dense,
    generate,
    paper,
    relu,
    sign,
    tiny,
)
from tests.transport.meshes import tcp_mesh

from sottovoce.engine.backend.cpu import CpuBackend
from sottovoce.engine.errors import PreprocessingError, ProtocolError
from sottovoce.engine.preprocessing.fss import Dcf
from sottovoce.engine.preprocessing.items import Item, Layout
from sottovoce.engine.preprocessing.kinds import Ands, Leaves, Merge, Mul, Product, Select, Wrap
from sottovoce.engine.preprocessing.ot import ring
from sottovoce.engine.preprocessing.ot.bits import subsets
from sottovoce.engine.preprocessing.ot.growth import schedule
from sottovoce.engine.preprocessing.ot.hashing import FixedKey
from sottovoce.engine.preprocessing.ot.link import Link
from sottovoce.engine.preprocessing.ot.plan import LayerPlan
from sottovoce.engine.preprocessing.ot.source import OtSource
from sottovoce.engine.preprocessing.ot.trees import correction_words, grow, puncture
from sottovoce.engine.tensors import U64
from sottovoce.engine.transport.base import HEADER_BYTES, Transport
from sottovoce.engine.transport.memory import memory_mesh
from sottovoce.kernels.cpu.beaver_bits import merge_monomials

LAYERS = {
    "same": conv(3, 4, 7, 3, padding=(1, 1)),
    "stride": conv(4, 6, 9, 3, stride=2, padding=(1, 0), groups=2),
    "dilated": conv(2, 3, 8, 2, padding=(3, 3), dilation=3),
    "skipping": conv(2, 5, 9, 1, stride=3),
    "depthwise": conv(3, 3, 5, 2, groups=3),
    "padded past its end": conv(1, 2, 2, 3, stride=2, padding=(4, 4)),
    "dense": dense(7, 3),
}


def random_words(rng: np.random.Generator, *shape: int) -> U64:
    return rng.integers(0, 2**64, shape, dtype=np.uint64)


# ---- parts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_all_leaves_but_the_chosen_one(rng: np.random.Generator, depth: int) -> None:
    trees, keys = 9, (FixedKey(bytes(16)), FixedKey(bytes(range(16))))
    pads = random_words(rng, 2, trees, depth, 2)
    choices = rng.integers(0, 1 << depth, trees)
    bits = (choices[:, None] >> np.arange(depth)[::-1] & 1).astype(np.uint8)
    leaves, corrections = grow(keys, pads)
    assert leaves.shape == (1 << depth, trees, 2) and corrections.shape == (trees, correction_words(depth))
    assert len(np.unique(leaves.reshape(-1, 2), axis=0)) == trees << depth
    known = pads[bits, np.arange(trees)[:, None], np.arange(depth)]
    found, holes = puncture(keys, bits, known, corrections)
    np.testing.assert_array_equal((1 << depth) - 1 - holes, choices)
    every = np.arange(trees)
    assert not found[holes, every].any()
    expected = leaves.copy()
    expected[holes, every] = 0
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("field_bits", [1, 4, 8])
def test_the_chooser_has_the_chosen_pad(rng: np.random.Generator, field_bits: int) -> None:
    widths = ((3, 600), (0, 5))
    choices = [[random_words(rng, width) for width in widths[rank]] for rank in range(2)]

    def party(transport: Transport) -> list[tuple[U64, U64]]:
        link = Link(transport, field_bits)
        before = transport.counters.bytes_sent[1 - link.rank]
        found = [link.transfers(own, n) for own, n in zip(choices[link.rank], widths[1 - link.rank], strict=True)]
        sent = transport.counters.bytes_sent[1 - link.rank] - before
        payload = sum(widths[link.rank]) * 8 * 128 // field_bits
        assert sent == payload + HEADER_BYTES * np.count_nonzero(widths[link.rank])
        return found

    results = both(party)
    for rank in range(2):
        for own, (mine, _), (_, pair) in zip(choices[rank], results[rank], results[1 - rank], strict=True):
            bits = np.unpackbits(own.view(np.uint8), bitorder="little")
            every = np.arange(bits.size)
            np.testing.assert_array_equal(mine, pair[bits, every])
            assert (mine != pair[1 - bits, every]).any(axis=1).all()
    # No pad twice, over both directions and both calls.
    pads = np.concatenate([pair.reshape(-1, 2) for result in results for _, pair in result])
    assert len(np.unique(pads, axis=0)) == len(pads)


@pytest.mark.parametrize("side", ring.SIDES)
@pytest.mark.parametrize("name", LAYERS)
def test_plan_is_the_layer(rng: np.random.Generator, name: str, side: ring.Side) -> None:
    step, clips = LAYERS[name], 3
    layer = LayerPlan(step, clips, side)
    plan = layer.plan()
    a, b = random_words(rng, clips, *step.in_shape), random_words(rng, *step.weight.shape)
    x, y = layer.arrange(a, b)
    digits = plan.digits_of(x)
    assert digits.size == plan.elements
    result = np.zeros((clips, *step.linear_shape), np.uint64).reshape(-1)
    products = 0
    for first in range(0, plan.elements, 5):
        last = min(plan.elements, first + 5)
        offsets, y_at, out_at = plan.rows(first, last)
        assert (np.diff(offsets) > 0).all()
        factor = np.repeat(digits[first:last], np.diff(offsets) // plan.run)
        for value, start, to in zip(factor, y_at, out_at, strict=True):
            result[to : to + plan.run] += value * y[start : start + plan.run]
            products += plan.run
    assert products == plan.products
    expected = np.empty((clips, *step.linear_shape), np.uint64)
    backend = CpuBackend()
    backend.linear(step, a, backend.pack_linear(step, b), expected, False)
    np.testing.assert_array_equal(layer.restore(result), expected.reshape(clips, -1))


def test_ring_products_and_their_bytes(rng: np.random.Generator) -> None:
    step, clips = LAYERS["stride"], 2
    a = [random_words(rng, clips, *step.in_shape) for _ in range(2)]
    b = [random_words(rng, *step.weight.shape) for _ in range(2)]
    ways = [(LayerPlan(step, clips, side), width) for side in ring.SIDES for width in (1, 3, 6, 8)]

    def party(transport: Transport) -> list[U64]:
        link, shares = Link(transport), []
        for layer, width in ways:
            plan = layer.plan()
            before = transport.counters.bytes_sent[1 - link.rank]
            x, y = layer.arrange(a[link.rank], b[link.rank])
            out = np.zeros(clips * step.linear_shape[0] * step.linear_shape[1], np.uint64)
            ring.add_products(link, plan, width, x, y, out)
            sent = transport.counters.bytes_sent[1 - link.rank] - before - 2 * HEADER_BYTES
            exact = plan.elements * ring.element_bits(width, 32) + plan.products * ring.product_bits(width)
            assert exact <= 8 * sent < exact + 64 * -(-64 // width)
            shares.append(layer.restore(out))
        return shares

    expected, backend = np.empty((2, clips, *step.linear_shape), np.uint64), CpuBackend()
    for i in range(2):
        backend.linear(step, a[i], backend.pack_linear(step, b[1 - i]), expected[i], False)
    for share_0, share_1 in zip(*both(party), strict=True):
        np.testing.assert_array_equal(share_0 + share_1, expected.sum(axis=0).reshape(clips, -1))


def test_chunks_do_not_change_the_result(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ring, "CHUNK_ELEMENTS", 7)
    monkeypatch.setattr("sottovoce.engine.preprocessing.ot.source.TRANSFERS_AT_ONCE", 900)
    items = [Product(LAYERS["same"]), Merge(300, 8), Select(200), Leaves(70, 5)]
    brought = Secrets.fresh()
    check(items, brought, 4, 7, generate(items, brought, 4, 7, width=5, field_bits=2))


def test_more_clips_take_digits_from_the_weights() -> None:
    few, many = (ring.cheapest(dense(100, 8), clips, 6, 32) for clips in (2, 32))
    assert (few.layer.side, many.layer.side) == ("inputs", "weights")
    assert many.bits < 16 * few.bits


@pytest.mark.parametrize(
    ("sets", "bits"),
    [*((merge_monomials(k), None) for k in (2, 3, 4, 7, 16)), *((subsets(n), n - 1) for n in (2, 5, 8))],
)
def test_schedule_makes_each_product_once(sets: Sequence[tuple[int, ...]], bits: int | None) -> None:
    plan = schedule(sets)
    known = {frozenset({row}) for chosen in sets for row in chosen}
    payloads: set[tuple[int, int]] = set()
    made = {}
    for stage in plan.stages:
        assert all(growth.rest in known for growth in stage), "needs a product of the same stage"
        for growth in stage:
            made[growth.to] = growth.whole
            payloads.add((growth.multiplier, growth.payload))
        known |= {growth.whole for growth in stage}
    assert made == {row: frozenset(chosen) for row, chosen in enumerate(sets)}
    assert payloads == {(row, i) for row, count in plan.payloads.items() for i in range(count)}
    assert len(payloads) == len(sets) and max(plan.payloads.values()) <= 128
    if bits is not None:
        assert len(plan.payloads) == bits


def test_merge_takes_three_transfers_for_four_blocks() -> None:
    assert len(schedule(merge_monomials(16)).payloads) == 12


def test_schedule_refuses_sets_with_gaps() -> None:
    with pytest.raises(ProtocolError, match=r"expected \[0, 1\] among the sets, for \[0, 1, 2\]"):
        schedule([(0, 1, 2), (1, 2), (0, 2)])


# ---- whole items and models -----------------------------------------------------------------------------------------


ITEMS: list[Item] = [
    *(Wrap(n) for n in (1, 64, 70)),
    *(Select(n) for n in (1, 64, 70)),
    *(Leaves(70, bits) for bits in (1, 2, 5, 31)),
    *(Merge(70, blocks) for blocks in (2, 3, 5, 16)),
    *(Ands(70, inputs) for inputs in (2, 3, 8)),
    Mul(5),
    *(Product(step) for step in LAYERS.values()),
]


@pytest.mark.parametrize("clips", [1, 3])
def test_shares_join_to_the_functionality(clips: int) -> None:
    brought = Secrets.fresh()
    check(ITEMS, brought, 11, 11 + clips, generate(ITEMS, brought, 11, 11 + clips))


def test_an_item_for_which_one_party_has_no_choice() -> None:
    brought = Secrets.fresh()
    check([Wrap(3)], brought, 0, 1, generate([Wrap(3)], brought, 0, 1))


def test_model_tiny_over_sockets() -> None:
    items, brought = tiny(), Secrets.fresh()
    with tcp_mesh(None, 2, deadline_s=30.0) as lanes:
        check(items, brought, 0, 1, generate(items, brought, 0, 1, lanes))


@pytest.mark.slow
def test_model_paper() -> None:
    items, brought = paper(), Secrets.fresh()
    check(items, brought, 0, 1, generate(items, brought, 0, 1))


def test_one_source_makes_many_batches() -> None:
    items, brought = [*relu(70), Product(dense(5, 4)), *sign(3, 8)], Secrets.fresh()
    layout, told = Layout(items), []

    def party(transport: Transport) -> list[U64]:
        source = OtSource(transport, layout, FILL)
        found = []
        for start, stop in ((0, 2), (2, 3), (2, 3)):
            seeds = brought.seeds[transport.rank], brought.mask_seeds[transport.rank]
            found.append(source.generate(*seeds, start, stop, told.append if transport.rank == 0 else None))
        return found

    first, second = both(party)
    for (start, stop), pair in zip(((0, 2), (2, 3), (2, 3)), zip(first, second, strict=True), strict=True):
        check(items, brought, start, stop, pair)
    assert not np.array_equal(first[1], first[2]), "the same clip again is shared afresh"
    assert told[-1] == 1.0 and 2.0 in told and told[0] > 0


# ---- refusals -------------------------------------------------------------------------------------------------------


def test_keys_of_function_secret_sharing_are_refused() -> None:
    with pytest.raises(PreprocessingError, match="Dcf: keys of function secret sharing need the dealer"):
        OtSource(memory_mesh(2)[0], Layout([Wrap(1), Dcf(4, 32)]), FILL)


@pytest.mark.parametrize("what", ["clips", "items"])
def test_parties_that_make_different_things_are_told(what: str) -> None:
    def party(transport: Transport) -> U64:
        other = transport.rank == 1
        items: list[Item] = [Wrap(5 + (other and what == "items"))]
        source = OtSource(transport, Layout(items), FILL)
        return source.generate(bytes(32), bytes(32), 0, 1 + (other and what == "clips"))

    with pytest.raises(PreprocessingError, match="expected the other party to make the same items"):
        both(party)


def test_no_clips_are_refused() -> None:
    with pytest.raises(PreprocessingError, match="expected clips, got 3 to 3"):
        generate([Wrap(1)], Secrets.fresh(), 3, 3)


@pytest.mark.parametrize(("how", "message"), [({"width": 9}, "digits of 1 to 8 bits"), ({"field_bits": 3}, "a field")])
def test_parameters_outside_their_range_are_refused(how: dict[str, int], message: str) -> None:
    with pytest.raises(ProtocolError, match=message):
        OtSource(memory_mesh(2)[0], Layout([Wrap(1)]), FILL, **how)


def test_three_parties_are_refused() -> None:
    with pytest.raises(ProtocolError, match="expected a lane of 2 parties, got 3"):
        Link(memory_mesh(3)[0])


def test_nothing_secret_is_shown() -> None:
    def party(transport: Transport) -> str:
        source = OtSource(transport, Layout([Wrap(70)]), FILL)
        source.generate(bytes(32), bytes(32), 0, 1)
        assert source._link is not None
        return " ".join(map(repr, (source, source._link, source._link._chooser, source._link._sender)))

    for text in both(party):
        assert "array" not in text and "b'" not in text, text
