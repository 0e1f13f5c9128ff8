"""What a client receives: three parts that are uniform but for their sum, the label or the scores."""

from __future__ import annotations

import numpy as np
import pytest

from sottovoce.engine.functions.maximum import argmax_one_hot
from sottovoce.engine.protocols.rep3.share import export, join, join_bits
from tests.conformance.operations import OPERATIONS, Operation
from tests.security.coupling import Experiment, couple, mask_map
from tests.security.statistics import non_uniform, related
from tests.security.views import PARTIES, fixed_keys, run_operation, slots_of

BATCH = 512


def argmax(compare_bits: int) -> Operation:
    """The last step of a classification, as an operation."""
    return Operation("argmax", None, lambda p, x: argmax_one_hot(p, x[0], compare_bits), None, None)


def logits(classes: int, winner: int, margin: int, batch: int = BATCH) -> np.ndarray:
    """The same row of logits for every clip: one class wins, the others lie `margin` below."""
    rows = np.full((batch, classes), -margin, np.int64)
    rows[:, winner] = 0
    return rows


@pytest.mark.parametrize("classes", [2, 3, 4, 8])
def test_a_label_is_all_that_the_parts_tell(classes: int) -> None:
    seen = []
    for number, margin in enumerate((1, 1000, (1 << 30) - 1)):
        inputs = [slots_of(logits(classes, 1, margin), 0, 0, 1)]
        run = run_operation(argmax(32), inputs, number % PARTIES, fixed_keys(number))
        parts = [export(share) for share in run.outputs]
        bits = np.unpackbits(join_bits(parts), bitorder="little").reshape(classes, BATCH)
        np.testing.assert_array_equal(bits, np.repeat(np.eye(classes, dtype=np.uint8)[:, 1:2], BATCH, axis=1))
        if classes == 2:  # one comparison, shared once: the second class's bit is the first's, turned round
            parts = [p[: p.size // 2] for p in parts]
        # Two are uniform and independent; the third is fixed by them and the label.
        assert not any(non_uniform(part) for part in parts)
        assert not related(parts[0], parts[1])
        seen += [p.tobytes() for p in parts]
    assert len(set(seen)) == len(seen)


def test_scores_are_all_that_the_parts_tell() -> None:
    """Logits are opened from a fresh re-sharing, not from the product's own parts."""
    shape = (1, 8, 64)
    operation = OPERATIONS["mul"]
    inputs = [slots_of(np.full(shape, v, np.int64), 1, 0, 1) for v in (3, -5)]
    run = run_operation(operation, inputs, 0, fixed_keys(4))
    parts = [export(share) for share in run.outputs]
    np.testing.assert_array_equal(join(parts).view(np.int64), np.full(shape, -15))
    assert not any(non_uniform(part) for part in parts)
    assert not related(parts[0], parts[1])


@pytest.mark.parametrize("corrupt", range(PARTIES))
def test_two_sets_of_logits_give_a_party_the_same_view_of_argmax(corrupt: int) -> None:
    """Exactly, as for single operations: signs of all pairs, their rearrangement, and the tree of ANDs."""
    rng = np.random.default_rng(0)
    experiment = Experiment(argmax(5), corrupt, corrupt, fixed_keys(corrupt))
    own, nxt = rng.integers(0, 2**64, (2, 64, 4), dtype=np.uint64)
    first, second = ([slots_of(logits(4, winner, 7, 64), corrupt, own, nxt)] for winner in (0, 3))
    left, right, _ = couple(experiment, first, second, mask_map(experiment, first))
    assert left.views[corrupt] == right.views[corrupt]
    assert left.outputs[corrupt].own.tobytes() == right.outputs[corrupt].own.tobytes()
