"""`beaver2`: each message is masked word by word with fresh words of its sender, so the receiver sees noise.

Exactly (coupling, see two.py) and by statistics; and the same checks on variants that are broken on purpose.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sottovoce.engine.functions.maximum import argmax_one_hot
from sottovoce.engine.preprocessing.items import Fields, Item
from sottovoce.engine.program import Linear
from sottovoce.engine.protocols.beaver2 import protocol as beaver2
from sottovoce.engine.protocols.beaver2.protocol import Beaver2, Tag
from sottovoce.engine.protocols.beaver2.share import export
from sottovoce.engine.protocols.table import PROTOCOLS, ProtocolRow
from tests.conformance.harness import join
from tests.conformance.operations import CONV_CASES, OPERATIONS, Operation, conv_step
from tests.security.coupling import NoCouplingError
from tests.security.secrets_of import secrets_of
from tests.security.statistics import non_uniform, related
from tests.security.test_views import findings
from tests.security.two import PARTIES, Experiment, FixedDealer, halves_of, ideal_sign, run_two

ROWS = [row for row in PROTOCOLS.values() if row.parties == PARTIES]
SHAPE = (1, 4, 16)
LARGE = (4, 4, 64)
"""1024 elements: a vector of bits is 128 bytes."""
MASKED = ["mul", "bit_inject", "and", "trunc 16", "trunc 32", *(f"msb {m}" for m in (2, 5, 16, 32, 33, 64))]
MASKED += ["relu 32", "relu 48", "relu 64 pooled", "trunc_relu 32 31", "trunc_relu 32 pooled 16", "trunc_relu 48 5"]


@pytest.fixture(params=ROWS, ids=lambda row: row.name)
def row(request: pytest.FixtureRequest) -> ProtocolRow:
    """The two-party protocols."""
    return request.param


@pytest.fixture
def _ideal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beaver2, "sign_share", ideal_sign)


def inputs_of(operation: Operation, corrupt: int, kind: str, shape: tuple[int, ...] = SHAPE) -> list[Any]:
    """Inputs of one kind, under the corrupt party's fixed random parts."""
    rng = np.random.default_rng(3)
    return [
        halves_of(value, corrupt, rng.integers(0, 2**64, shape, dtype=np.uint64))
        for value in secrets_of(operation, shape, kind)
    ]


def assert_coupled(experiment: Experiment, first: Any, second: Any) -> None:
    """The corrupt party's messages, what it sends and what it computes are the same."""
    left, right, script = experiment.couple(first, second)
    corrupt = experiment.corrupt
    assert left.received[corrupt] == right.received[corrupt]
    assert left.sent[corrupt] == right.sent[corrupt]
    assert any((script[k] != left.own[1 - corrupt][k]).any() for k in script)
    np.testing.assert_array_equal(*(export_of(run.outputs[corrupt]) for run in (left, right)))


def export_of(share: Any) -> np.ndarray:
    return share if isinstance(share, np.ndarray) else export(share)


@pytest.mark.usefixtures("_ideal")
@pytest.mark.parametrize("corrupt", range(PARTIES))
@pytest.mark.parametrize("name", MASKED)
def test_two_secrets_have_the_same_views(row: ProtocolRow, name: str, corrupt: int) -> None:
    operation = OPERATIONS[name]
    experiment = Experiment(row, operation.apply, corrupt)
    inputs = {kind: inputs_of(operation, corrupt, kind) for kind in ("random", "smallest")}
    assert_coupled(experiment, inputs["random"], inputs["smallest"])
    outcome, _ = experiment.run(inputs["smallest"])
    values = secrets_of(operation, SHAPE, "smallest")
    error = join(row, _Shares(outcome.outputs)) - operation.expected(*values)  # the test's material is right, too
    assert error.min() >= 0 and error.max() <= operation.slack


@pytest.mark.usefixtures("_ideal")
@pytest.mark.parametrize("name", ["and", "bit_inject", "trunc 16", "trunc_relu 32 16"])
def test_padding_tells_nothing(row: ProtocolRow, name: str) -> None:
    """Vectors of bits are padded to whole words; the padding is coupled with the rest."""
    operation = OPERATIONS[name]
    for corrupt in range(PARTIES):
        inputs = [inputs_of(operation, corrupt, kind, (1, 1, 5)) for kind in ("random", "smallest")]
        assert_coupled(Experiment(row, operation.apply, corrupt), *inputs)


class _Shares:
    def __init__(self, shares: list[Any]) -> None:
        self.shares = shares


@pytest.mark.parametrize("corrupt", range(PARTIES))
@pytest.mark.parametrize("secret", ["input", "weights"])
def test_a_layers_inputs_and_weights(row: ProtocolRow, corrupt: int, secret: str) -> None:
    """Loading opens W - B, the product X - A: neither tells an input or a weight."""
    step = conv_step(CONV_CASES[1])
    rng = np.random.default_rng(4)
    shapes = ((2, *step.in_shape), step.weight.shape, step.bias.shape)
    own = [rng.integers(0, 2**64, shape, dtype=np.uint64) for shape in shapes]
    values = [rng.integers(-(2**63), 2**63 - 1, shape) for shape in shapes]
    others = [v + (1 << 33) if (i == 0) == (secret == "input") else v for i, v in enumerate(values)]
    first, second = ([halves_of(v, corrupt, o) for v, o in zip(vs, own, strict=True)] for vs in (values, others))
    assert_coupled(Experiment(row, layer(step), corrupt), first, second)


def layer(step: Linear) -> Callable[[Any, Sequence[Any]], Any]:
    """Loading and one product."""
    return lambda p, x: p.linear(x[0], p.load(step, {step.weight.name: x[1], step.bias.name: x[2]}), step)


@pytest.mark.usefixtures("_ideal")
@pytest.mark.parametrize("corrupt", range(PARTIES))
def test_logits(row: ProtocolRow, corrupt: int) -> None:
    rng = np.random.default_rng(0)
    own = rng.integers(0, 2**64, (64, 4), dtype=np.uint64)
    logits = np.full((2, 64, 4), -7)
    logits[0, :, 0] = logits[1, :, 3] = 0
    first, second = ([halves_of(v, corrupt, own)] for v in logits)
    assert_coupled(Experiment(row, lambda p, x: argmax_one_hot(p, x[0], 5), corrupt), first, second)


@pytest.mark.parametrize("corrupt", range(PARTIES))
def test_an_opening_is_the_output_less_the_own_part(row: ProtocolRow, corrupt: int) -> None:
    value = np.arange(-5, 7)
    shares = [halves_of(value, corrupt, 77)]
    run = run_two(row, lambda p, x: p.open(x[0]), shares, FixedDealer(1, corrupt))
    (message,) = run.received[corrupt]
    np.testing.assert_array_equal(np.frombuffer(message.payload, "<u8"), value.view(np.uint64) - shares[0][corrupt])


# ---- statistics --------------------------------------------------------------------------------------------------


def noise(row: ProtocolRow, operation: Operation, corrupt: int, make: Any = None) -> list[str]:
    """What speaks against uniform views: constant secrets, the corrupt party's parts are 0, its words are known."""
    runs = []
    for seed, kind in enumerate(("zero", "minus one", "largest")):
        shares = [halves_of(v, corrupt, 0) for v in secrets_of(operation, LARGE, kind)]
        runs.append(run_two(row, operation.apply, shares, FixedDealer(seed, corrupt), make).as_run())
    return findings(operation, runs, corrupt)


STATISTICS = ["mul", "trunc 16", "msb 32", "bit_inject", "and", "trunc_relu 32 16", "relu 64 pooled", "open"]


@pytest.mark.parametrize("corrupt", range(PARTIES))
@pytest.mark.parametrize("name", STATISTICS)
def test_views_are_uniform(row: ProtocolRow, name: str, corrupt: int) -> None:
    """Also against the words that the receiver has: its own, its part of what is derived, the FSS keys."""
    assert noise(row, OPERATIONS[name], corrupt) == []


# ---- broken on purpose -------------------------------------------------------------------------------------------


def without_mask(tag: Tag, part: int, field: str, sign: int) -> type[Beaver2]:
    """A party that forgets a mask: one part of one kind of frame goes out bare."""

    class Broken(Beaver2):
        def _take(self, item: Item) -> Fields:
            self.last = super()._take(item)
            return self.last

        def _exchange(self, tag_: Tag, *parts: Any) -> Any:
            if tag_ != tag:
                return super()._exchange(tag_, *parts)
            bare, mask = parts[part].copy(), self.last[field]
            bare = bare ^ mask if sign == 0 else bare + mask
            return super()._exchange(tag_, *parts[:part], bare, *parts[part + 1 :])

    return Broken


def one_row_for_two(tag: Tag) -> type[Beaver2]:
    """Two rows of bits under one mask."""

    class Broken(Beaver2):
        def _take(self, item: Item) -> Fields:
            self.last = super()._take(item)
            return self.last

        def _exchange(self, tag_: Tag, *parts: Any) -> Any:
            if tag_ == tag:
                parts[-1][1] ^= self.last["mask"][1] ^ self.last["mask"][0]
            return super()._exchange(tag_, *parts)

    return Broken


class Saving(Beaver2):
    """A party that takes each kind of item once and uses it again."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.saved: dict[Item, Fields] = {}

    def _take(self, item: Item) -> Fields:
        if item not in self.saved:
            self.saved[item] = super()._take(item)
        return self.saved[item]


TWO_PRODUCTS = replace(OPERATIONS["mul"], apply=lambda p, x: p.add(p.mul(x[0], x[1]), p.mul(x[1], x[1])))

BROKEN: dict[str, tuple[Operation, type[Beaver2]]] = {
    "a factor without a mask": (OPERATIONS["mul"], without_mask(Tag.FACTORS, 0, "a", 1)),
    "the other factor without a mask": (OPERATIONS["mul"], without_mask(Tag.FACTORS, 1, "b", 1)),
    "a top bit without a mask": (OPERATIONS["trunc 16"], without_mask(Tag.WRAP, 0, "bit", 0)),
    "a summand's bits without a mask": (OPERATIONS["msb 32"], without_mask(Tag.SIGN, 0, "mask", 0)),
    "two of a summand's bits under one mask": (OPERATIONS["msb 32"], one_row_for_two(Tag.SIGN)),
    "carries without a mask": (OPERATIONS["msb 32"], without_mask(Tag.MERGE, 0, "mask", 0)),
    "two carries under one mask": (OPERATIONS["msb 32"], one_row_for_two(Tag.MERGE)),
    "an AND's inputs without a mask": (OPERATIONS["and"], without_mask(Tag.AND, 0, "mask", 0)),
    "a selected number without a mask": (OPERATIONS["bit_inject"], without_mask(Tag.SELECT, 0, "value", 1)),
    "a selecting bit without a mask": (OPERATIONS["bit_inject"], without_mask(Tag.SELECT, 1, "bit", 0)),
    "a triple used twice": (TWO_PRODUCTS, Saving),
    "an item of bits used twice": (OPERATIONS["and"], Saving),
}


@pytest.mark.parametrize("name", BROKEN)
def test_coupling_notices(name: str) -> None:
    operation, make = BROKEN[name]
    for corrupt in range(PARTIES):
        inputs = [inputs_of(operation, corrupt, kind) for kind in ("random", "smallest")]
        with pytest.raises(NoCouplingError):
            Experiment(PROTOCOLS["beaver2"], operation.apply, corrupt, make=make).couple(*inputs)


@pytest.mark.parametrize("name", ["a factor without a mask", "a triple used twice", "an item of bits used twice"])
def test_statistics_notice(name: str) -> None:
    operation, make = BROKEN[name]
    assert any(noise(PROTOCOLS["beaver2"], operation, corrupt, make) for corrupt in range(PARTIES))


# ---- what a client gets ------------------------------------------------------------------------------------------


def parts_for_client(row: ProtocolRow, operate: Any, value: np.ndarray, seed: int) -> list[np.ndarray]:
    """Both parts of an output, the client's own sharing of the input being all zeros at P_0."""
    run = run_two(row, operate, [halves_of(value, 0, 0)], FixedDealer(seed, 0))
    return [export_of(share).reshape(-1).copy() for share in run.outputs]


@pytest.mark.parametrize("classes", [2, 3, 4, 8, 11])
def test_a_label_is_all_that_the_parts_tell(row: ProtocolRow, classes: int) -> None:
    seen = []
    for seed, margin in enumerate((1, (1 << 30) - 1)):
        logits = np.full((512, classes), -margin)
        logits[:, 1] = 0
        parts = parts_for_client(row, lambda p, x: argmax_one_hot(p, x[0], 32), logits, seed)
        bits = np.unpackbits(parts[0] ^ parts[1], bitorder="little").reshape(classes, 512)
        np.testing.assert_array_equal(bits, np.repeat(np.eye(classes, dtype=np.uint8)[:, 1:2], 512, axis=1))
        if classes == 2:  # one comparison, shared once: the second class's bit is the first's, turned round
            parts = [p[: p.size // 2] for p in parts]
        assert not any(non_uniform(part) for part in parts)
        seen += parts
    assert not related(seen[0], seen[2]) and not related(seen[1], seen[3])


@pytest.mark.parametrize("name", ["mul", "trunc 16", "trunc_relu 32 16", "relu 48", "bit_inject"])
def test_scores_are_all_that_the_parts_tell(row: ProtocolRow, name: str) -> None:
    """Whatever a program ends with, P_0's part is uniform and unrelated to what the client shared."""
    operation = OPERATIONS[name]
    seen = []
    for seed, kind in enumerate(("zero", "largest")):
        shares = [halves_of(v, 0, 0) for v in secrets_of(operation, LARGE, kind)]
        run = run_two(row, operation.apply, shares, FixedDealer(seed, 0))
        parts = [export_of(s).reshape(-1) for s in run.outputs]
        assert not any(non_uniform(part) for part in parts)
        assert not any(related(parts[0], pair[1].reshape(-1)) for pair in shares)
        seen += parts
    assert not related(seen[0], seen[2])
