"""Every operation of every protocol: the right result, and exactly the declared bytes, frames and rounds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sottovoce.engine.functions.linear import linear
from sottovoce.engine.functions.maximum import argmax_one_hot, max_pool, max_pool_comparisons
from sottovoce.engine.program import Linear, MaxPool, Pool, TensorSpec
from sottovoce.engine.protocols.base import Schedule, pooled
from sottovoce.engine.protocols.plain.protocol import Plain, PlainAShare
from sottovoce.engine.protocols.table import PROTOCOLS, AnyProtocol, ProtocolRow
from sottovoce.engine.protocols.tally import ShapeShare, Tally, Totals
from sottovoce.engine.tensors import size
from sottovoce.engine.transport.base import HEADER_BYTES
from tests.conformance.harness import Outcome, join, run, share
from tests.conformance.operations import CONV_CASES, OPERATIONS, conv_step, extremes

SHAPES = [(1, 4), (3, 5, 8), (2, 3, 64), (1, 200)]


def tally(row: ProtocolRow, operation: Callable[[AnyProtocol], Any], rotation: int = 0) -> Totals:
    """What an operation on shapes is declared to cost and to need."""
    totals = Totals(row.parties, rotation)
    operation(Tally(row.schedules, totals, row.demands))
    return totals


def assert_cost(outcome: Outcome, totals: Totals) -> None:
    """Measured at the transport = declared, and so are the items of preprocessing."""
    assert outcome.items == totals.items
    assert [sum(c.bytes_sent.values()) for c in outcome.counters] == totals.bytes_sent
    assert [sum(c.frames_sent.values()) for c in outcome.counters] == totals.frames_sent
    assert max(c.clock for c in outcome.counters) == totals.rounds


def assert_declared(row: ProtocolRow, outcome: Outcome, declared: Schedule, rotation: int) -> None:
    """Measured = declared, message by message: bytes and frames from each party to each other, and the rounds."""
    totals = Totals(row.parties, rotation, items=outcome.items)
    totals.add(declared)
    assert_cost(outcome, totals)
    links: Counter[tuple[int, int]] = Counter()
    frames: Counter[tuple[int, int]] = Counter()
    for message in declared:
        link = ((message.source + rotation) % row.parties, (message.target + rotation) % row.parties)
        links[link] += message.payload + HEADER_BYTES
        frames[link] += 1
    for rank, counters in enumerate(outcome.counters):
        assert {peer: n for peer, n in counters.bytes_sent.items() if n} == {
            t: n for (s, t), n in links.items() if s == rank
        }
        assert {peer: n for peer, n in counters.frames_sent.items() if n} == {
            t: n for (s, t), n in frames.items() if s == rank
        }


@pytest.fixture(params=PROTOCOLS.values(), ids=lambda row: row.name)
def row(request: pytest.FixtureRequest) -> ProtocolRow:
    """Every protocol of the table."""
    return request.param


def rotations() -> list[object]:
    """Every protocol of the table, with every rotation of roles."""
    return [pytest.param(r, n, id=f"{r.name}-{n}") for r in PROTOCOLS.values() for n in range(r.parties)]


@pytest.mark.parametrize(("row", "rotation"), rotations())
@pytest.mark.parametrize("name", OPERATIONS)
def test_result_and_cost(row: ProtocolRow, name: str, rotation: int, rng: np.random.Generator) -> None:
    operation = OPERATIONS[name]
    for shape in SHAPES[: 2 if rotation else None]:
        values = operation.values(rng, shape)
        shares = [share(row, v) for v in values]
        outcome = run(row, lambda p, rank, s=shares: operation.apply(p, [x[rank] for x in s]), rotation)
        error = join(row, outcome) - operation.expected(*values)
        assert error.min() >= 0, f"{name} {shape}: too small by {-error.min()}"
        assert error.max() <= operation.slack, f"{name} {shape}: too large by {error.max()}"
        assert_declared(row, outcome, operation.declared(row.schedules, shape), rotation)
        shapes = [ShapeShare(shape) for _ in values]
        totals = tally(row, lambda p, x=shapes: operation.apply(p, x))
        assert outcome.items == totals.items
        assert max(c.clock for c in outcome.counters) == totals.rounds


def lies(declared: Schedule, parties: int) -> Iterator[tuple[str, Schedule]]:
    """Schedules that differ from the declared one in one message, or in the number of rounds."""
    for index, message in enumerate(declared):
        others = (*declared[:index], *declared[index + 1 :])
        # A role that has no part in it; of two, there is none, and it would be a message to oneself.
        third = next((r for r in range(parties) if r not in (message.source, message.target)), None)
        to, source = (message.source, message.target) if third is None else (third, third)
        yield f"without message {index}", others
        yield f"message {index} twice", (*declared, message)
        for more in (-1, 1):
            yield f"message {index}: {more:+} byte", (*others, replace(message, payload=message.payload + more))
        yield f"message {index} to another", (*others, replace(message, target=to))
        yield f"message {index} from another", (*others, replace(message, source=source))
    if max((message.round for message in declared), default=1) > 1:
        yield "all in one round", [replace(message, round=1) for message in declared]


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_lying_declaration_is_caught(row: ProtocolRow, name: str, rng: np.random.Generator) -> None:
    """The check above, with the truth changed in one message at a time."""
    operation, shape = OPERATIONS[name], (2, 4)
    shares = [share(row, v) for v in operation.values(rng, shape)]
    outcome = run(row, lambda p, rank: operation.apply(p, [x[rank] for x in shares]))
    declared = tuple(operation.declared(row.schedules, shape))
    assert_declared(row, outcome, declared, 0)
    unnoticed = [what for what, lie in lies(declared, row.parties) if _fits(row, outcome, lie)]
    assert not unnoticed


def _fits(row: ProtocolRow, outcome: Outcome, declared: Schedule) -> bool:
    try:
        assert_declared(row, outcome, declared, 0)
    except AssertionError:
        return False
    return True


@pytest.mark.parametrize(("row", "rotation"), rotations())
def test_open_to_chosen_parties_only(row: ProtocolRow, rotation: int, rng: np.random.Generator) -> None:
    x = extremes(rng, (3, 5), 64)
    shares = share(row, x)
    for chosen in ((), (0,), (row.parties - 1,), (0, 1), range(row.parties)):
        outcome = run(row, lambda p, rank, to=chosen: p.open(shares[rank], to), rotation)
        for rank, found in enumerate(outcome.shares):
            if rank in chosen:
                np.testing.assert_array_equal(found.view(np.int64), x)
            else:
                assert found is None
                assert sum(outcome.counters[rank].bytes_received.values()) == 0
        assert_cost(outcome, tally(row, lambda p, to=chosen: p.open(ShapeShare(x.shape), to), rotation))


@pytest.mark.parametrize("case", CONV_CASES, ids=str)
def test_conv1d_equals_plain(row: ProtocolRow, case: tuple[int, ...], rng: np.random.Generator) -> None:
    step = conv_step(case)
    _assert_linear(row, step, case[0], rng)


@pytest.mark.parametrize(("batch", "inputs", "outputs"), [(1, 1, 1), (3, 17, 8), (5, 64, 33)])
def test_dense_equals_plain(row: ProtocolRow, batch: int, inputs: int, outputs: int, rng: np.random.Generator) -> None:
    weight, bias = TensorSpec("w", (outputs, inputs), 0), TensorSpec("b", (outputs,), 0)
    step = Linear("dense", "dense", (inputs,), (outputs,), 0, weight, bias)
    _assert_linear(row, step, batch, rng)


def _assert_linear(row: ProtocolRow, step: Linear, batch: int, rng: np.random.Generator) -> None:
    tensors = {t.name: rng.integers(-(2**63), 2**63 - 1, t.shape, dtype=np.int64) for t in (step.weight, step.bias)}
    x = rng.integers(-(2**63), 2**63 - 1, (batch, *step.in_shape), dtype=np.int64)
    shared = {name: share(row, value) for name, value in tensors.items()}
    shared_x = share(row, x)

    def at_party(protocol, rank):
        weights = protocol.load(step, {name: s[rank] for name, s in shared.items()})
        return linear(protocol, shared_x[rank], weights, step)

    outcome = run(row, at_party)
    plain = Plain()
    loaded = plain.load(step, {name: PlainAShare(v.view(np.uint64), 0) for name, v in tensors.items()})
    expected = linear(plain, PlainAShare(x.view(np.uint64), 0), loaded, step).values
    np.testing.assert_array_equal(join(row, outcome), expected.view(np.int64))
    totals = Totals(row.parties)
    totals.add(row.schedules.load(size(step.weight.shape)))
    linear(Tally(row.schedules, totals, row.demands), ShapeShare(x.shape), None, step)
    assert_cost(outcome, totals)


POOLS = [Pool(2, 2), Pool(8, 8), Pool(3, 1, (1, 1)), Pool(5, 2, (2, 2)), Pool(7, 3, (0, 4)), Pool(1, 1), Pool(2, 3)]
POOLS += [Pool(4, 2, (3, 0)), Pool(5, 1, (4, 4)), Pool(9, 2, (8, 8)), Pool(6, 3, (0, 5)), Pool(16, 1, (15, 15))]


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("bits", [32, 48])
def test_max_pool(row: ProtocolRow, pool: Pool, bits: int, rng: np.random.Generator) -> None:
    x = extremes(rng, (2, 3, 16), bits - 1)
    shape = pooled(x.shape, pool)
    step = MaxPool("max", x.shape[1:], shape[1:], 0, pool, bits)
    shares = share(row, x)
    outcome = run(row, lambda p, rank: max_pool(p, shares[rank], step))
    low = np.pad(x, ((0, 0), (0, 0), pool.padding), constant_values=np.iinfo(np.int64).min)
    windows = np.lib.stride_tricks.sliding_window_view(low, pool.kernel, axis=-1)[..., :: pool.stride, :]
    np.testing.assert_array_equal(join(row, outcome), windows.max(axis=-1))
    plain = max_pool(Plain(), PlainAShare(x.view(np.uint64), 0), step)
    np.testing.assert_array_equal(plain.values.view(np.int64), windows.max(axis=-1))
    assert_cost(outcome, tally(row, lambda p: max_pool(p, ShapeShare(x.shape), step)))


@pytest.mark.parametrize("pool", POOLS)
def test_max_pool_compares_what_it_says_and_within_windows_only(pool: Pool) -> None:
    """Element t is t: a comparison beyond a window, for which no range is proven, has too large a difference."""
    compared: list[int] = []

    class Counting(Plain):
        def relu(self, x, compare_bits, pool, frac_bits):
            compared.append(x.values.size)
            assert np.abs(x.values.view(np.int64)).max(initial=0) < step.pool.kernel
            return super().relu(x, compare_bits, pool, frac_bits)

    x = np.arange(16, dtype=np.uint64).reshape(1, 1, 16)
    step = MaxPool("max", (1, 16), (1, pool.out_time(16)), 0, pool, 32)
    max_pool(Counting(), PlainAShare(x, 0), step)
    assert sum(compared) == max_pool_comparisons(pool, 16) <= pool.out_time(16) * (pool.kernel - 1)
    assert len(compared) == (pool.kernel - 1).bit_length()


def test_overlapping_windows_share_comparisons() -> None:
    assert [max_pool_comparisons(Pool(5, 2, (2, 2)), time) for time in (162, 81)] == [82 + 81 * 2, 42 + 41 * 2]


@pytest.mark.parametrize("classes", [2, 3, 8, 11, 40])
@pytest.mark.parametrize("batch", [1, 5, 70])
def test_argmax(row: ProtocolRow, classes: int, batch: int, rng: np.random.Generator) -> None:
    x = extremes(rng, (batch, classes), 63)
    x[0] = 7
    x[-1, -2:] = x[-1].max()
    shares = share(row, x)
    outcome = run(row, lambda p, rank: argmax_one_hot(p, shares[rank], 64))
    expected = np.eye(classes, dtype=np.int64)[x.argmax(axis=1)].T
    np.testing.assert_array_equal(join(row, outcome), expected)
    plain = argmax_one_hot(Plain(), PlainAShare(x.view(np.uint64), 0), 64)
    np.testing.assert_array_equal(plain.bits, expected)
    assert_cost(outcome, tally(row, lambda p: argmax_one_hot(p, ShapeShare(x.shape), 64)))
