"""A simulator for each operation: a party's view from its own shares and keys, and for an opening its output.

It never sees a secret. Every received word but those of an opening is masked by a word of the key that the receiver
lacks (test_coupling.py shows which), so the simulator draws them at random, of the declared lengths. In an opening the
one message is the third slot, output - own - next. Nothing else constrains an output share: its third slot is what the
output leaves.
"""

from __future__ import annotations

import numpy as np
import pytest

from sottovoce.engine.protocols.rep3 import schedule
from tests.conformance.operations import OPERATIONS, Operation
from tests.security.secrets_of import secrets_of
from tests.security.statistics import Z_LIMIT, as_bytes, two_sample
from tests.security.views import (
    PARTIES,
    Received,
    Slots,
    declared_to,
    fixed_keys,
    replay,
    run_operation,
    share_arrays,
    shares_at,
    slots_of,
)

SHAPE = (2, 4, 64)
OWN, NEXT = 0, 1


def simulate(
    operation: Operation,
    own_shares: list[tuple[np.ndarray, np.ndarray]],
    rank: int,
    rotation: int,
    output: np.ndarray | None,
    rng: np.random.Generator,
) -> dict[int, list[bytes]]:
    """Messages by sender, from public declarations, the party's own shares, and the output of an opening."""
    role = (rank - rotation) % PARTIES
    messages: dict[int, list[bytes]] = {(rank + n) % PARTIES: [] for n in (1, 2)}
    for message in declared_to(operation.declared(schedule, own_shares[0][0].shape), role):
        if output is None:
            payload = rng.bytes(message.payload)
        else:
            own, nxt = own_shares[0]
            payload = (output - own - nxt).tobytes()
        messages[(message.source + rotation) % PARTIES].append(payload)
    return messages


def by_sender(view: list[Received]) -> dict[int, list[bytes]]:
    """Payloads by sender, in order."""
    return {source: [m.payload for m in view if m.source == source] for source in {m.source for m in view}}


def inputs_of(operation: Operation, rank: int, kind: str) -> list[Slots]:
    return [slots_of(v, rank, OWN, NEXT) for v in secrets_of(operation, SHAPE, kind)]


@pytest.mark.parametrize("rank", range(PARTIES))
@pytest.mark.parametrize("name", OPERATIONS)
def test_simulated_view(name: str, rank: int) -> None:
    operation = OPERATIONS[name]
    rotation = (2 * rank + list(OPERATIONS).index(name)) % PARTIES
    keys, rng = fixed_keys(40 + rank), np.random.default_rng(rank)
    for kind in ("largest", "minus one"):
        inputs = inputs_of(operation, rank, kind)
        real = run_operation(operation, inputs, rotation, keys)
        output = real.outputs[rank] if name == "open" else None
        mine = [(s.own, s.nxt) for s in shares_at(rank, inputs)]
        messages = simulate(operation, mine, rank, rotation, output, rng)

        # The party's real code accepts the simulated messages: same lengths as declared and as received for real.
        share, transport, drawn = replay(operation, inputs, rank, rotation, keys, messages)
        assert not any(transport.left.values())
        assert [(m.source, m.tag, len(m.payload)) for m in transport.received] == [
            (m.source, m.tag, len(m.payload)) for m in real.views[rank]
        ]
        assert [(m.source, m.tag, len(m.payload)) for m in transport.sent] == [
            (m.source, m.tag, len(m.payload)) for m in real.sent[rank]
        ]
        assert drawn.keys() == real.draws[rank].keys()
        assert all((drawn[d] == real.draws[rank][d]).all() for d in drawn)

        if name == "open":
            assert by_sender(real.views[rank]) == {s: m for s, m in messages.items() if m}
            np.testing.assert_array_equal(share, output)
            continue
        # Joint distribution: real and simulated messages, and what the party computes from them.
        for x, y in zip(real.views[rank], transport.received, strict=True):
            a, b = (np.frombuffer(m.payload, np.uint8) for m in (x, y))
            assert two_sample(a, b) < Z_LIMIT
        ours, simulated = share_arrays(real.outputs[rank]), share_arrays(share)
        assert [a.shape for a in ours] == [a.shape for a in simulated]
        if not real.views[rank]:
            continue  # a local operation, or a party that is only told what it knows: nothing random enters
        for n, (a, b) in enumerate(zip(ours, simulated, strict=True)):
            assert two_sample(as_bytes(a), as_bytes(b)) < Z_LIMIT, f"output slot {n}"


def test_the_test_notices_another_distribution() -> None:
    """Words with one bit stuck, and words that repeat, are told from uniform ones at these sample sizes."""
    rng = np.random.default_rng(0)
    uniform = rng.integers(0, 2**64, 512, dtype=np.uint64)
    stuck = rng.integers(0, 2**64, 512, dtype=np.uint64) & np.uint64(0x7F7F7F7F7F7F7F7F)
    assert two_sample(as_bytes(uniform), as_bytes(stuck)) > Z_LIMIT
    assert two_sample(as_bytes(uniform), as_bytes(np.full(512, uniform[0]))) > Z_LIMIT
