"""Oblivious transfer: what is sent says nothing, what must not repeat is refused, bad points are refused."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import rbcl
from numpy.typing import NDArray

from sottovoce.engine.backend.cpu import CpuBackend
from sottovoce.engine.errors import MaskReuseError, PreprocessingError
from sottovoce.engine.preprocessing.expand import mask_words, words_of
from sottovoce.engine.preprocessing.items import Item, Layout
from sottovoce.engine.preprocessing.kinds import Mul, Product
from sottovoce.engine.preprocessing.ot import base
from sottovoce.engine.preprocessing.ot.base import BaseReceiver, BaseSender, Label
from sottovoce.engine.preprocessing.ot.extension import Chooser
from sottovoce.engine.preprocessing.ot.hashing import TweakedHash
from sottovoce.engine.preprocessing.ot.link import Link
from sottovoce.engine.tensors import U64
from sottovoce.engine.transport.base import Transport
from sottovoce.engine.transport.memory import memory_mesh
from tests.engine.preprocessing.ot_parties import FILL, Secrets, conv, dense, generate, recorded, relu
from tests.security.statistics import Z_LIMIT, non_uniform, related, repeated, two_sample

ITEMS: list[Item] = [Product(conv(4, 8, 20, 5, padding=(2, 2))), Product(dense(24, 8)), Mul(64), *relu(640)]
"""Multiples of 64 products and elements: what is packed is padded with zeros to whole words."""
OPENING = 3
"""Frames that open a session: a nonce, the base OTs' points, the corrections of their trees. Then comes a digest."""
LABEL = Label(b"session", 0)
BAD_POINTS = {
    "identity": bytes(32),
    "not canonical": bytes(
        [237, 211, 245, 92, 26, 99, 18, 88, 214, 156, 247, 162, 222, 249, 222, 20] + [0] * 15 + [16]
    ),
    "above the field": b"\xff" * 32,
    "negative": (1).to_bytes(32, "little"),
    "no point": (2).to_bytes(32, "little"),
}


def transcripts(items: Sequence[Item], brought: Secrets) -> tuple[list[bytes], list[bytes]]:
    """All frames that P_0 and P_1 send."""
    lanes = recorded()
    generate(items, brought, 0, 1, lanes)
    return lanes[0].sent, lanes[1].sent


# ---- base OTs -------------------------------------------------------------------------------------------------------


def test_base_keys_agree_and_only_the_chosen_one() -> None:
    choices = np.array([0, 1, 1, 0, 1], np.uint8)
    receiver, sender = BaseReceiver(LABEL, choices), BaseSender(LABEL)
    both_keys = sender.keys(receiver.message())
    keys = receiver.keys(sender.message())
    every = np.arange(choices.size)
    np.testing.assert_array_equal(keys, both_keys[every, choices])
    assert len({key.tobytes() for key in both_keys.reshape(-1, 16)}) == 2 * choices.size


@pytest.mark.parametrize("other", [Label(b"another", 0), Label(b"session", 1)])
def test_base_keys_belong_to_a_session_and_a_direction(other: Label) -> None:
    choices = np.zeros(2, np.uint8)
    receiver, sender = BaseReceiver(LABEL, choices), BaseSender(other)
    both_keys = sender.keys(receiver.message())
    assert not (receiver.keys(sender.message())[:, None] == both_keys).all(axis=2).any()


def test_base_message_does_not_depend_on_the_choice() -> None:
    samples = [BaseReceiver(LABEL, np.full(256, choice, np.uint8)).message() for choice in (0, 1)]
    for side in range(2):
        assert two_sample(samples[0][:, side].reshape(-1), samples[1][:, side].reshape(-1)) < Z_LIMIT
    assert not repeated(point.tobytes() for sample in samples for point in sample.reshape(-1, 32))


def test_base_receiver_draws_the_other_point_without_its_logarithm(monkeypatch: pytest.MonkeyPatch) -> None:
    """With everything that it draws fixed, the choice only moves which of the two points is the drawn one."""
    scalar, drawn = rbcl.crypto_core_ristretto255_scalar_random(), rbcl.crypto_core_ristretto255_random()
    monkeypatch.setattr(base.rbcl, "crypto_core_ristretto255_scalar_random", lambda: scalar)
    monkeypatch.setattr(base.rbcl, "crypto_core_ristretto255_random", lambda: drawn)
    for choice in (0, 1):
        sent = BaseReceiver(LABEL, np.array([choice], np.uint8)).message()[0]
        assert sent[1 - choice].tobytes() == drawn
        hashed = base._oracle(LABEL, 0, choice, drawn)
        point = rbcl.crypto_core_ristretto255_add(sent[choice].tobytes(), hashed)
        assert point == rbcl.crypto_scalarmult_ristretto255_base(scalar)


@pytest.mark.parametrize("point", BAD_POINTS.values(), ids=BAD_POINTS)
def test_bad_points_are_refused(point: bytes) -> None:
    receiver, sender = BaseReceiver(LABEL, np.zeros(2, np.uint8)), BaseSender(LABEL)
    message = receiver.message()
    with pytest.raises(PreprocessingError, match="expected the sender's point to be"):
        receiver.keys(np.frombuffer(point, np.uint8))
    message[1, 0] = np.frombuffer(point, np.uint8)
    with pytest.raises(PreprocessingError, match="expected point 0 of transfer 1 to be"):
        sender.keys(message)


# ---- sessions and tweaks --------------------------------------------------------------------------------------------


class Echo(Transport):
    """A peer that sends back what it gets."""

    def __init__(self, lane: Transport) -> None:
        self.rank, self.parties, self.counters = lane.rank, lane.parties, lane.counters
        self.deadline_s, self.encrypted = lane.deadline_s, lane.encrypted
        self._held: list[bytes] = []

    def send(self, to: int, tag: int, parts: Sequence[NDArray[Any]]) -> None:
        self._held.append(b"".join(part.tobytes() for part in parts))

    def recv(self, frm: int, tag: int, parts: Sequence[NDArray[Any]]) -> None:
        held = self._held.pop(0)
        for part in parts:
            part.reshape(-1).view(np.uint8)[:] = np.frombuffer(held[: part.nbytes], np.uint8)
            held = held[part.nbytes :]

    def recv_bytes(self, frm: int, tag: int, limit: int) -> bytes:
        return self._held.pop(0)

    def close(self, reason: str = "") -> None:
        pass


def test_a_reflected_session_is_refused() -> None:
    with pytest.raises(PreprocessingError, match="a repeated session is refused"):
        Link(Echo(memory_mesh(2)[0]))


def test_a_tweak_comes_once(rng: np.random.Generator) -> None:
    rows = rng.integers(0, 2**64, (4, 2), dtype=np.uint64)
    hashed = TweakedHash(b"session", 0)
    (first,) = hashed(10, rows)
    for again in (10, 13, 0):
        with pytest.raises(MaskReuseError, match=f"expected tweaks from 14 on, got {again}"):
            hashed(again, rows)
    (second,) = hashed(14, rows)
    (other,) = TweakedHash(b"session", 1)(10, rows)
    assert not {r.tobytes() for r in first} & ({r.tobytes() for r in second} | {r.tobytes() for r in other})


# ---- what is sent ---------------------------------------------------------------------------------------------------


def test_choices_are_hidden_by_a_pad_that_never_repeats(rng: np.random.Generator) -> None:
    """With the same leaves two messages differ by their choices and nothing else; a second message has a fresh pad."""
    leaves = rng.integers(0, 2**64, (16, 32, 2), dtype=np.uint64)
    choices = [np.zeros(64, np.uint64), rng.integers(0, 2**64, 64, dtype=np.uint64)]
    sent = []
    for chosen in choices:
        end = Chooser(leaves, TweakedHash(b"session", 0))
        sent.append([end.choose(chosen)[0] for _ in range(2)])
    np.testing.assert_array_equal(sent[0][0] ^ sent[1][0], np.broadcast_to(choices[1], (32, 64)))
    for message in (*sent[0], *sent[1]):
        assert not non_uniform(message)
    assert not related(sent[0][0], sent[0][1]) and not related(sent[0][0], sent[1][1])


@pytest.mark.parametrize("word", [0, 0x5A5A5A5A5A5A5A5A])
def test_all_that_is_sent_is_uniform_whatever_the_secrets(word: int, monkeypatch: pytest.MonkeyPatch) -> None:
    source = "sottovoce.engine.preprocessing.ot.source"
    monkeypatch.setattr(
        f"{source}.words_of", lambda part, seed, clips, words, fill: np.full((len(clips), words), word, np.uint64)
    )
    monkeypatch.setattr(f"{source}.mask_words", lambda seed, step, fill: np.full(step.weight.shape, word, np.uint64))
    sent = transcripts(ITEMS, Secrets.fresh())
    for frames in sent:
        assert not repeated(frame for frame in frames if len(frame) >= 16)
        for number, frame in enumerate(frames[OPENING + 1 :]):
            why = non_uniform(frame)
            assert not why, f"frame {number}, {len(frame)} bytes: {why}"
    for mine, other in zip(sent[0][OPENING + 1 :], sent[1][OPENING + 1 :], strict=False):
        if len(mine) == len(other):
            assert not related(mine, other)


def test_two_runs_on_the_same_secrets_have_nothing_in_common() -> None:
    brought = Secrets.fresh()
    first, second = transcripts(ITEMS, brought), transcripts(ITEMS, brought)
    for before, after in zip(first, second, strict=True):
        for number, (a, b) in enumerate(zip(before, after, strict=True)):
            if number != OPENING and number != 1:
                assert not related(a, b), number


def test_shares_are_uniform_on_their_own() -> None:
    for derived in generate(ITEMS, Secrets.fresh(), 0, 2):
        offset = 0
        for item in ITEMS:
            part = derived[:, offset : offset + item.words("derived")]
            offset += item.words("derived")
            assert not non_uniform(np.ascontiguousarray(part)), item
        assert not related(np.ascontiguousarray(derived[0]), np.ascontiguousarray(derived[1]))


def test_what_a_party_keeps_is_never_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seeds, own words, weight masks, delta, leaves and pads of both: no piece of them is in any frame."""
    drawn: list[bytes] = []
    draw = secrets.token_bytes

    def token_bytes(count: int) -> bytes:
        drawn.append(draw(count))
        return drawn[-1]

    monkeypatch.setattr(secrets, "token_bytes", token_bytes)
    brought, layout = Secrets.fresh(), Layout(ITEMS)
    kept: list[bytes] = [*brought.seeds, *brought.mask_seeds]
    for seed, mask_seed in zip(brought.seeds, brought.mask_seeds, strict=True):
        kept += pieces(words_of("own", seed, range(1), layout.own, FILL))
        kept += [p for i in ITEMS if isinstance(i, Product) for p in pieces(mask_words(mask_seed, i.step, FILL))]
    lanes = recorded()
    original = Chooser.choose

    def choose(self: Chooser, choices: U64) -> tuple[U64, U64]:
        message, pads = original(self, choices)
        kept.extend(pieces(self._leaves))
        kept.extend(pieces(pads[:256]))
        return message, pads

    monkeypatch.setattr(Chooser, "choose", choose)
    generate(ITEMS, brought, 0, 1, lanes)
    deltas = [value for value in drawn if len(value) == 16]
    assert len(deltas) == 2
    kept += [delta[:8] for delta in deltas] + [delta[8:] for delta in deltas]
    sent = {frame[at : at + 8] for lane in lanes for frame in lane.sent for at in range(0, len(frame) - 7, 4)}
    assert len(kept) > 1000
    assert not sent & set(kept)


def pieces(words: NDArray[Any]) -> list[bytes]:
    """Words of 8 bytes each."""
    return [word.tobytes() for word in np.ascontiguousarray(words).reshape(-1).view(np.uint64)]


def test_no_two_trees_of_a_direction_have_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """The counter of a tree's streams: one attempt to guess a leaf must not serve for two trees."""
    used: dict[tuple[int, bool], list[int]] = {}

    class Watching(CpuBackend):
        def __init__(self) -> None:
            super().__init__()
            original, party = self.kernels.leaf_sums, threading.get_ident()

            def leaf_sums(leaves: U64, holes: NDArray[np.int64], operation: np.uint64, *rest: Any) -> None:
                numbers = used.setdefault((party, bool((holes < 0).all())), [])
                numbers += [int(operation) + i for i in range(holes.size)]
                original(leaves, holes, operation, *rest)

            self.kernels.leaf_sums = leaf_sums

    monkeypatch.setattr("sottovoce.engine.preprocessing.ot.ring.CpuBackend", Watching)
    monkeypatch.setattr("sottovoce.engine.preprocessing.ot.ring.CHUNK_ELEMENTS", 20)
    generate([*ITEMS[:3], Mul(5)], Secrets.fresh(), 0, 1)
    assert len(used) == 4
    for numbers in used.values():
        assert len(set(numbers)) == len(numbers) > 64 * 64
