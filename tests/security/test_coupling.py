"""For any two secrets there are unknown keystream words that give a party the very same view: see coupling.py."""

from __future__ import annotations

import numpy as np
import pytest

from sottovoce.engine.protocols.rep3.roles import Tag
from sottovoce.engine.protocols.rep3.schedule import blocks
from sottovoce.kernels.cpu.bits import leaf_rows
from tests.conformance.operations import OPERATIONS, Operation
from tests.security.coupling import Experiment, couple, mask_map
from tests.security.secrets_of import secrets_of
from tests.security.views import PARTIES, Received, fixed_keys, share_arrays, slots_of

SHAPE = (1, 4, 16)
ELEMENTS = 5
BIT_VECTORS = {Tag.TRUNC_OPEN, Tag.TRUNC_RETURN, Tag.LEAVES, Tag.PAIRS, Tag.LEVEL, Tag.AND}
MASKED = [name for name in OPERATIONS if name not in ("add", "sub", "open")]


def fixed_slots(
    operation: Operation, corrupt: int, kind: str, shape: tuple[int, ...] = SHAPE
) -> list[list[np.ndarray]]:
    """Inputs of one kind under the corrupt party's fixed random slots."""
    rng = np.random.default_rng(3)
    out = []
    for value in secrets_of(operation, shape, kind):
        own, nxt = rng.integers(0, 2**64, (2, *shape), dtype=np.uint64)
        out.append(list(slots_of(value, corrupt, own, nxt)))
    return out


@pytest.mark.parametrize("corrupt", range(PARTIES))
@pytest.mark.parametrize("name", MASKED)
def test_two_secrets_have_the_same_views(name: str, corrupt: int) -> None:
    operation = OPERATIONS[name]
    rotation = (2 * corrupt + MASKED.index(name)) % PARTIES
    experiment = Experiment(operation, corrupt, rotation, fixed_keys(corrupt))
    inputs = {kind: fixed_slots(operation, corrupt, kind) for kind in ("random", "zero", "smallest")}
    masks = mask_map(experiment, inputs["random"])
    for a, b in (("random", "zero"), ("zero", "smallest")):
        first, second, _ = couple(experiment, inputs[a], inputs[b], masks)
        assert first.views[corrupt] == second.views[corrupt]
        assert first.sent[corrupt] == second.sent[corrupt]
        for x, y in zip(*(share_arrays(run.outputs[corrupt]) for run in (first, second)), strict=True):
            np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("name", ["and", "bit_inject", "trunc 16", "trunc_relu 32 pooled 16"])
def test_padding_bits_do_not_depend_on_the_secret(name: str) -> None:
    """Vectors of bits are padded to whole words; under one key the padding is the same whatever the secret."""
    operation, shape = OPERATIONS[name], (1, 1, ELEMENTS)
    compared = 0
    for corrupt in range(PARTIES):
        experiment = Experiment(operation, corrupt, 0, fixed_keys(corrupt))
        runs = [experiment.run(fixed_slots(operation, corrupt, kind, shape)) for kind in ("random", "smallest", "zero")]
        for messages in zip(*(run.views[corrupt] for run in runs), strict=True):
            for start, stop in bit_words(messages[0]):
                words = {bytes(np.frombuffer(m.payload[start:stop], "<u8") >> np.uint64(ELEMENTS)) for m in messages}
                assert len(words) == 1
                compared += 1
    assert compared >= 2


def bit_words(message: Received) -> list[tuple[int, int]]:
    """Where a message of ELEMENTS elements holds bit vectors: what rides along in front of them is left out."""
    size = len(message.payload)
    if message.tag not in BIT_VECTORS or (message.tag == Tag.TRUNC_RETURN and size == 8 * ELEMENTS):
        return []
    front = {Tag.LEAVES: 8 * ELEMENTS, Tag.PAIRS: 4 * ELEMENTS}.get(Tag(message.tag), 0)
    expected = {Tag.LEAVES: leaf_rows(32), Tag.PAIRS: 2 * blocks(32) - 1}.get(Tag(message.tag))
    return [(front if expected is not None and size == front + 8 * expected else 0, size)]
