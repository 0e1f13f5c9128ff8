"""What reuse of correlated randomness would reveal, computed; and that each way to reuse it is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sottovoce.engine.backend.cpu import CpuBackend
from sottovoce.engine.cost import demand
from sottovoce.engine.errors import MaskReuseError, PreprocessingError, ProtocolError
from sottovoce.engine.local import LocalCluster, run_parties
from sottovoce.engine.party import Party
from sottovoce.engine.preprocessing import local
from sottovoce.engine.preprocessing.agreement import agree
from sottovoce.engine.preprocessing.fss import Dcf
from sottovoce.engine.preprocessing.items import Item, Layout
from sottovoce.engine.preprocessing.kinds import Ands, Mul, Product, Wrap
from sottovoce.engine.preprocessing.local import LocalDealer
from sottovoce.engine.protocols.beaver2.protocol import Tag
from sottovoce.engine.protocols.table import PROTOCOLS, ProtocolRow
from sottovoce.engine.session import run_plain
from sottovoce.engine.transport.memory import memory_mesh
from tests.conformance.harness import run, share
from tests.conformance.operations import CONV_CASES, conv_step
from tests.security.small import counted_tokens, small_batch, small_model
from tests.security.two import FixedDealer, halves_of, run_two
from tests.security.views import RecordingTransport

ROWS = {row.name: row for row in PROTOCOLS.values() if row.preprocessing}
FILL = CpuBackend().fill


@pytest.fixture(params=ROWS.values(), ids=lambda row: row.name)
def row(request: pytest.FixtureRequest) -> ProtocolRow:
    """Every protocol with an offline phase."""
    return request.param


def dealer_of(*items: Item, clips: int = 1) -> LocalDealer:
    dealer = LocalDealer(Layout(items), FILL)
    dealer.prepare(clips)
    return dealer


# ---- attacks: what a party would learn ----------------------------------------------------------------------------


def sent_by_0(row: ProtocolRow, operate: Any, values: list[np.ndarray], dealer: FixedDealer) -> list[bytes]:
    """What P_1 receives; of every secret it holds the part 5."""
    result = run_two(row, operate, [halves_of(v, 1, 5) for v in values], dealer)
    return [m.payload for m in result.received[1] if m.tag != Tag.OPEN]


ATTACKED: dict[str, tuple[str, Callable[..., Any], str]] = {
    "a triple": ("beaver2", lambda p, x: p.mul(x[0], x[0]), "<u8"),
    "an FSS key": ("beaver2-fss", lambda p, x: p.msb(x[0], 32), "<u4"),
    "an FSS key of 64 bits": ("beaver2-fss", lambda p, x: p.msb(x[0], 64), "<u8"),
}


@pytest.mark.parametrize("name", ATTACKED)
def test_an_item_used_twice_reveals_the_difference_of_two_secrets(name: str) -> None:
    protocol, operate, word = ATTACKED[name]
    secrets = np.array([123_456_789, -4]), np.array([42, 77_777])
    messages = [sent_by_0(ROWS[protocol], operate, [v], FixedDealer(1, 1))[0] for v in secrets]
    first, second = (np.frombuffer(m, word)[:2] for m in messages)
    signed = np.int32 if word == "<u4" else np.int64
    np.testing.assert_array_equal((first - second).view(signed), secrets[0] - secrets[1])


def test_weight_masks_used_for_two_models_reveal_their_difference(row: ProtocolRow) -> None:
    step = conv_step(CONV_CASES[1])
    rng = np.random.default_rng(0)
    weights = [rng.integers(-1000, 1000, step.weight.shape) for _ in range(2)]
    bias = np.zeros(step.bias.shape, np.int64)

    def load(p: Any, x: Any) -> Any:
        return p.load(step, {step.weight.name: x[0], step.bias.name: x[1]}) and x[1]

    found = [sent_by_0(row, load, [w, bias], FixedDealer(1, 1))[0] for w in weights]
    first, second = (np.frombuffer(m, "<u8").view(np.int64).reshape(step.weight.shape) for m in found)
    np.testing.assert_array_equal(first - second, weights[0] - weights[1])


def test_the_same_model_twice_reveals_nothing(row: ProtocolRow) -> None:
    """A restart opens the same W - B from other shares of W: what P_1 sees differs by what it holds anyway."""
    step = conv_step(CONV_CASES[1])
    w, bias = np.full(step.weight.shape, 99), np.zeros(step.bias.shape, np.int64)
    opened = []
    for own in (5, 1 << 60):
        shares = [halves_of(w, 1, own), halves_of(bias, 1, 0)]
        load = lambda p, x: p.load(step, {step.weight.name: x[0], step.bias.name: x[1]}) and x[1]  # noqa: E731
        (message,) = run_two(row, load, shares, FixedDealer(1, 1)).received[1]
        opened.append(np.frombuffer(message.payload, "<u8"))
    assert set((opened[1] - opened[0]).tolist()) == {(5 - (1 << 60)) % 2**64}


# ---- refusals ----------------------------------------------------------------------------------------------------


def test_other_weights_under_the_same_masks_are_refused() -> None:
    for party in dealer_of(Mul(4)).parties:
        party.claim(b"Bob's model")
        party.claim(b"Bob's model")  # a restart
        with pytest.raises(PreprocessingError, match="were used for another model"):
            party.claim(b"Bob's next model")
        party.claim(b"Bob's model")


@pytest.mark.parametrize("item", [Mul(4), Wrap(70), Ands(9, 3), Dcf(5, 32)], ids=str)
def test_an_item_is_taken_once(item: Item) -> None:
    dealer = dealer_of(item, clips=2)
    for party in dealer.parties:
        batch = party.reserve(2)
        material = batch.part(0, 2)
        material.take(item.times(2))
        with pytest.raises(MaskReuseError, match="got one more"):
            material.take(item.times(2))


def test_items_come_in_order_and_whole() -> None:
    (party, _) = dealer_of(Mul(4), Wrap(70), clips=2).parties
    material = party.reserve(1).part(0, 1)
    for wrong in (Wrap(70), Mul(3), Mul(8)):
        with pytest.raises(ProtocolError, match="expected item 0"):
            material.take(wrong)
    material.take(Mul(4))
    with pytest.raises(ProtocolError, match="expected item 1"):
        material.take(Mul(4))


@pytest.mark.parametrize("again", [(0, 2), (0, 1), (1, 2), (1, 3), (2, 4), (-1, 0), (3, 5)])
def test_a_clip_is_handed_out_once(again: tuple[int, int]) -> None:
    """Also not the clips beside a batch, which belong to another request."""
    dealer = dealer_of(Mul(4), clips=8)
    for party in dealer.parties:
        party.reserve(2)
        batch = party.reserve(4)
        batch.part(0, 2)
        batch.part(3, 4)
        with pytest.raises(MaskReuseError, match="taken before"):
            batch.part(*again)
        batch.part(2, 3)
        assert party.position == 6


def test_positions_move_forward_only() -> None:
    (party, _) = dealer_of(Mul(4), clips=5).parties
    party.reserve(2)
    party.agree(0, 5)
    assert party.position == 2
    party.agree(4, 5)
    assert party.position == 4
    with pytest.raises(PreprocessingError, match="2 clips, 1 are left"):
        party.reserve(2)
    first = party.reserve(1).part(0, 1).take(Mul(4))["a"]
    assert first.size == 4


def test_all_words_of_all_clips_differ() -> None:
    """Parties, clips, parts and weight masks: no word comes twice (64-bit words: by chance 1e-13)."""
    step = conv_step(CONV_CASES[0])
    dealer = dealer_of(Product(step), Mul(50), clips=4)
    words = [party.mask(step).reshape(-1) for party in dealer.parties]
    for party in dealer.parties:
        for _ in range(2):
            material = party.reserve(2).part(0, 2)
            for item in dealer.layout.items:
                words += material.take(item.times(2)).values()
    every = np.concatenate(words)
    assert np.unique(every).size == every.size > 2000


def test_protocols_take_a_new_item_for_each_operation(row: ProtocolRow) -> None:
    """The material counts: two operations on one clip's demand of one are refused, whatever the operation."""
    x = share(row, np.arange(-3, 4))
    for operate in (
        lambda p, v: p.mul(v, v),
        lambda p, v: p.trunc(v, 3),
        lambda p, v: p.relu(v, 32, None, 0),
        lambda p, v: p.bit_inject(p.msb(v, 16), v),
    ):
        single = run(row, lambda p, rank, f=operate: f(p, x[rank])).items
        dealer = dealer_of(*single)

        def supply(party: Party, dealer: LocalDealer = dealer) -> Party:
            return replace(party, material=dealer.parties[party.rank].reserve(1).part(0, 1))

        with pytest.raises(MaskReuseError, match="got one more"):
            run(row, lambda p, rank, f=operate: [f(p, x[rank]), f(p, x[rank])], supply=supply)


# ---- two parties with other material --------------------------------------------------------------------------------


def agree_all(*sources: Any) -> None:
    mesh = memory_mesh(2, deadline_s=10.0)
    run_parties([lambda r=rank: agree(mesh[r], sources[r]) for rank in range(2)], lambda: None)


def test_parties_with_material_of_different_pairs_are_refused() -> None:
    ours, others = dealer_of(Mul(4)), dealer_of(Mul(4))
    agree_all(*ours.parties)
    mesh = memory_mesh(2, deadline_s=10.0)
    refused = []

    def party(rank: int, source: Any) -> None:
        with pytest.raises(PreprocessingError, match="one of another pair") as caught:
            agree(mesh[rank], source)
        refused.append(str(caught.value))

    run_parties([lambda: party(0, ours.parties[0]), lambda: party(1, others.parties[1])], lambda: None)
    assert len(refused) == 2
    assert all(f"party {rank}:" in text for rank, text in enumerate(sorted(refused)))


def test_after_a_crash_both_go_on_where_the_later_one_is() -> None:
    dealer = dealer_of(Mul(4), clips=5)
    dealer.parties[0].reserve(3)
    agree_all(*dealer.parties)
    assert [p.position for p in dealer.parties] == [3, 3]
    left, right = (p.reserve(1).part(0, 1).take(Mul(4)) for p in dealer.parties)
    product = (left["a"] + right["a"]) * (left["b"] + right["b"])
    np.testing.assert_array_equal(left["c"] + right["c"], product)


# ---- the dealer --------------------------------------------------------------------------------------------------


def test_the_dealers_view_does_not_depend_on_inputs_or_weights(
    row: ProtocolRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked for clips before there are inputs; what it answers depends on seeds and the program alone."""
    model = small_model()
    other = {name: w + np.uint64(1 << 20) for name, w in model.weights.items()}
    asked: list[list[Any]] = []

    def recording(layout: Layout, masks: Any, seeds: Any, clips: range, fill: Any) -> Any:
        answer = deal(layout, masks, seeds, clips, fill)
        asked[-1].append((layout.items, {n: m.tobytes() for n, m in masks.items()}, seeds, clips,
                          [part.tobytes() for part in answer]))  # fmt: skip
        return answer

    deal = local.deal
    monkeypatch.setattr(local, "deal", recording)
    for weights, seed in ((model.weights, 0), (other, 1)):
        asked.append([])
        with monkeypatch.context() as patch:
            patch.setattr(local.secrets, "token_bytes", counted_tokens())
            cluster = LocalCluster(model.program, weights, row.name)
            cluster.dealer.prepare(3)  # before there is an input
        calls = len(asked[-1])
        with cluster:
            x = small_batch(model, 3, seed)
            monkeypatch.setattr(cluster, "_prepare", lambda clips: 0)
            labels, _ = cluster.run(x)
            np.testing.assert_array_equal(labels, run_plain(model.program, weights, x, "label"))
        assert len(asked[-1]) == calls > 0  # nor was it asked again
    assert asked[0] == asked[1]


def test_the_dealer_takes_no_part_in_the_online_phase(row: ProtocolRow) -> None:
    """Messages go between the two parties; the demand is a function of the program alone."""
    model = small_model()
    mesh = [RecordingTransport(t) for t in memory_mesh(2)]
    with LocalCluster(model.program, model.weights, row.name, meshes=[mesh]) as cluster:
        cluster.run(small_batch(model, 2))
        assert cluster.dealer.layout.items == demand(model.program, row).items
    assert {m.source for t in mesh for m in t.sent} == {0, 1}
    assert [t.parties for t in mesh] == [2, 2]
