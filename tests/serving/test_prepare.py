"""Preprocessing over connections: a dealer or oblivious transfer fills two stores, two parties use them up."""

from __future__ import annotations

import re
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import pytest

from sottovoce.engine.backend.cpu import CpuBackend
from sottovoce.engine.cost import demand
from sottovoce.engine.errors import (
    ConfigError,
    HandshakeError,
    PreprocessingError,
    TransportError,
)
from sottovoce.engine.local import LocalCluster
from sottovoce.engine.preprocessing.dealer import weight_masks
from sottovoce.engine.protocols.table import find
from sottovoce.engine.session import run_plain
from sottovoce.engine.transport.connection import Connection
from sottovoce.engine.transport.mesh import connect_role
from sottovoce.engine.transport.tls import Identity
from sottovoce.serving import standing
from sottovoce.serving.client import RequestRefused
from sottovoce.serving.ledger import SegmentCost, cost_of, ledger_path, read, record
from sottovoce.serving.owner import DeploymentRefused, weights_tag
from sottovoce.serving.party import PartyServer
from sottovoce.serving.prepare import prepare
from sottovoce.serving.standing import PREPARE, Order, Plan, Standing, join_standings
from sottovoce.serving.store import StoreAt, WrongKeyError, look_into
from tests.serving.deployment import some_input, tiny_model
from tests.serving.offline import Pair, both, client_of, dealing, deploy_to, make_pair, opened, serving

PROTOCOLS = ["beaver2", "beaver2-fss"]
LAYOUT = bytes(range(32))


@pytest.fixture(scope="module", autouse=True)
def _loaded_kernels() -> None:
    """Loading machine code, or compiling it, is not to be waited for with a deadline."""
    compiled = tiny_model()
    for protocol in PROTOCOLS:
        with LocalCluster(compiled.program, compiled.weights, protocol) as cluster:
            cluster.run(some_input(compiled, 2))


def replace_stores(pair: Pair, stores: tuple[StoreAt, StoreAt]) -> Pair:
    """The same machines with other stores."""
    return replace(pair, stores=stores)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_from_the_dealer_to_the_answer_over_tls(protocol: str, tmp_path: Path) -> None:
    compiled, pair = tiny_model(), make_pair(tmp_path, protocol=protocol, tls=True)
    layout = demand(compiled.program, find(protocol))
    with dealing(pair) as dealer:
        made = pair.prepare(compiled.program, 3)
        assert dealer.says("dealer", "dealt 3 clips of tiny")
    assert (made[0].end, made[1].end) == (3, 3)
    dealt = (8 * layout.common, 8 * (layout.common + layout.derived))
    for rank in (0, 1):
        # The standing comes before, in at most 4 KB.
        assert 0 <= made[rank].bytes_sent - 3 * dealt[rank] < 4 << 10
    with serving(pair) as log:
        deploy_to(pair, compiled)
        with client_of(pair) as client:
            x = some_input(compiled, 2)
            expected = run_plain(compiled.program, compiled.weights, x, "scores")
            logits, cost = client.run(x, "scores")
            assert np.abs(logits - expected).max() <= 2 * max(compiled.report.logit_errors)
            assert cost.encrypted and len(cost.bytes_sent) == 2
            known = [cost_of(read(at.folder), range(2)) for at in pair.stores]
            assert cost.offline_ms == max(found[0] for found in known if found) / 1e6 > 0
            assert all(abs(got - 2 * want) < 4 << 10 for got, want in zip(cost.offline_bytes, dealt, strict=True))
            labels, _ = client.run(x[:1])
            np.testing.assert_array_equal(labels, logits[:1].argmax(axis=1))
    assert not log.errors


def test_material_is_added_to_what_is_left_and_the_same_weights_go_on_with_it(tmp_path: Path) -> None:
    compiled, pair = tiny_model(), make_pair(tmp_path, tls=True)
    x = some_input(compiled, 2)
    with dealing(pair):
        pair.prepare(compiled.program, 3)
        for _ in range(2):  # the second time after a restart of everybody: the tag of the weights is the same
            with serving(pair) as log:
                deploy_to(pair, compiled)
                with client_of(pair) as client:
                    assert (
                        client.run(x)[0].tolist() == run_plain(compiled.program, compiled.weights, x, "label").tolist()
                    )
            assert not log.errors
            made = pair.prepare(compiled.program, 2)
            assert made[0].left == made[1].left == 3
    assert (made[0].start, made[0].end) == (5, 7)


def test_transfers_need_no_dealer(tmp_path: Path) -> None:
    compiled, pair = tiny_model(), make_pair(tmp_path)
    made = pair.prepare(compiled.program, 1, "ot")
    assert made[0].source == "ot" and all(m.bytes_sent > 0 and m.stored_bytes > 0 for m in made)
    x = some_input(compiled, 1)
    with serving(pair):
        deploy_to(pair, compiled)
        with client_of(pair) as client:
            logits, cost = client.run(x, "scores")
    expected = run_plain(compiled.program, compiled.weights, x, "scores")
    assert np.abs(logits - expected).max() <= 2 * max(compiled.report.logit_errors)
    assert all(0 <= m.bytes_sent - sent < 4 << 10 for m, sent in zip(made, cost.offline_bytes, strict=True))


# ---- too little, other weights, other stores ----------------------------------------------------------------------


def test_too_little_is_told_to_the_client_and_nothing_is_used(tmp_path: Path) -> None:
    compiled, pair = tiny_model(), make_pair(tmp_path)
    with dealing(pair):
        pair.prepare(compiled.program, 2)
    with serving(pair) as log:
        deploy_to(pair, compiled)
        with client_of(pair) as client, pytest.raises(RequestRefused) as refused:
            client.run(some_input(compiled, 5))
        said = str(refused.value)
        for text in ("needs 5 prepared clips, 2 are left", "`sottovoce prepare RANK --clips 3 ...`", "deploy again"):
            assert text in said
        assert said.count("P0: ") == 1 and "P1" not in said
        for rank in (0, 1):  # the operators need not ask Alice
            assert log.says(f"P{rank}", "client alice: request not run: the request needs 5 prepared clips, 2 are left")
            assert log.of(f"P{rank}").count("request not run") == 1
        with client_of(pair) as client:  # both parties are up, and have all that they had
            client.run(some_input(compiled, 2))
    assert not log.errors
    for rank in (0, 1):
        with opened(pair, compiled, rank) as store:
            assert (store.position, store.end) == (2, 2)


def test_without_a_store_the_command_is_named(tmp_path: Path) -> None:
    pair = make_pair(tmp_path)
    with pytest.raises(ConfigError, match=r"needs a store .*`sottovoce prepare"):
        PartyServer(0, pair.cluster, None, insecure_loopback=True)
    compiled = tiny_model()
    with serving(pair) as log, pytest.raises(TransportError, match="expected a store, got none: `sottovoce prepare`"):
        deploy_to(pair, compiled)
    assert not log.errors


def test_masks_of_two_models_would_reveal_their_difference_so_other_weights_are_refused(tmp_path: Path) -> None:
    compiled, pair = tiny_model(), make_pair(tmp_path, tls=True)
    other = replace(compiled, weights={name: value + np.uint64(1) for name, value in compiled.weights.items()})
    with dealing(pair):
        pair.prepare(compiled.program, 2)
    seeds = []
    for rank in (0, 1):
        with opened(pair, compiled, rank) as store:
            seeds.append(store.mask_seed)
    # The attack: what is opened for two models under the same masks.
    layout, fill = demand(compiled.program, find("beaver2")), CpuBackend().fill
    masks = weight_masks(layout, (seeds[0], seeds[1]), fill)
    for name, mask in masks.items():
        first, second = (model.weights[f"{name}.weight"] - mask for model in (compiled, other))
        np.testing.assert_array_equal(
            first - second, compiled.weights[f"{name}.weight"] - other.weights[f"{name}.weight"]
        )
    with serving(pair) as log:
        deploy_to(pair, compiled)
    with serving(pair) as log:
        with pytest.raises(TransportError, match="would reveal their difference"):
            deploy_to(pair, other)
        assert all(log.says(f"P{rank}", "deployment failed") for rank in (0, 1))
        deploy_to(pair, compiled)  # the parties are still there
        with client_of(pair) as client:
            client.run(some_input(compiled, 1))
    assert not log.errors


def test_the_tag_names_weights_and_owner() -> None:
    compiled, root = tiny_model(0), bytes(range(32))
    tag = weights_tag(compiled, root)
    assert tag == weights_tag(tiny_model(0), root) and len(tag) == 32
    assert len({tag, weights_tag(tiny_model(1), root), weights_tag(compiled, root[::-1])}) == 3
    assert weights_tag(compiled, b"") != weights_tag(compiled, b"")  # without a certificate: never the same


def test_a_store_of_another_model_or_party_is_refused_and_the_parties_stay(tmp_path: Path) -> None:
    compiled, pair = tiny_model(), make_pair(tmp_path)
    renamed = replace(compiled, program=msgspec.structs.replace(compiled.program, name="other"))
    with dealing(pair):
        pair.prepare(compiled.program, 2)
    with serving(pair) as log:
        with pytest.raises(DeploymentRefused) as refused:
            deploy_to(pair, renamed)
        said = str(refused.value)
        was, now = (f"{m.program.name} (program {m.program.digest.hex()[:8]})" for m in (compiled, renamed))
        assert said.startswith("P0 refuses the model and waits for another deployment: ") and "is gone" not in said
        assert f"is for {was}, not for {now}" in said and "sottovoce prepare RANK" in said
        assert not re.search("[0-9a-f]{9}", said) and said.endswith("...`")  # nothing was cut off
        assert log.says("P0", "deployment failed") and f"is for {was}" in log.of("P0")
        deploy_to(pair, compiled)
    with serving(pair, pair.stores[::-1]) as log, pytest.raises(TransportError, match="expected a store for party"):
        deploy_to(pair, compiled)
    assert not log.errors


def test_stores_that_were_not_filled_together_are_refused(tmp_path: Path) -> None:
    compiled, pair = tiny_model(), make_pair(tmp_path)
    (tmp_path / "b").mkdir()
    other = replace_stores(pair, make_pair(tmp_path / "b").stores)
    with dealing(pair):
        for each in (pair, other):
            each.prepare(compiled.program, 2)
        mixed = replace_stores(pair, (pair.stores[0], other.stores[1]))
        with pytest.raises(PreprocessingError, match="prepared together with that of party"):
            mixed.prepare(compiled.program, 1)
    with serving(mixed) as log:
        with pytest.raises(TransportError, match="prepared together with that of party"):
            deploy_to(mixed, compiled)
        assert all(log.says(f"P{rank}", "deployment failed") for rank in (0, 1))
    assert not log.errors


def test_a_store_that_is_in_use_is_refused(tmp_path: Path) -> None:
    compiled, pair = tiny_model(), make_pair(tmp_path)
    with dealing(pair):
        pair.prepare(compiled.program, 2)
    with serving(pair) as log:
        busy = pytest.raises(TransportError, match=r"P0 refuses the model.*process \d+ has open: stop that party first")
        with opened(pair, compiled, 0), busy:
            deploy_to(pair, compiled)
        # Party 1 found nothing wrong, and did not go on without the other: both are ready for the next.
        deploy_to(pair, compiled)
        with client_of(pair) as client:
            client.run(some_input(compiled, 1))
    assert not log.errors


def test_the_other_party_is_told_why_a_model_was_refused(tmp_path: Path) -> None:
    compiled, pair = tiny_model(), make_pair(tmp_path)
    with dealing(pair):
        pair.prepare(compiled.program, 1)
    lost = replace_stores(pair, (pair.stores[0], StoreAt(tmp_path / "nothing", bytes(32))))
    with serving(lost) as log:
        with pytest.raises(DeploymentRefused, match=r"P1 refuses the model .*expected a store, got none"):
            deploy_to(lost, compiled)
        assert log.says("P0", "P1 refuses the model") and log.says("P1", "expected a store, got none")
    assert not log.errors


def test_a_party_looks_into_its_store_before_there_is_a_model(tmp_path: Path) -> None:
    compiled, pair = tiny_model(), make_pair(tmp_path)
    row, at = find("beaver2"), pair.stores[0]
    with dealing(pair):
        pair.prepare(compiled.program, 2)
    digest = compiled.program.digest.hex()[:8]
    assert look_into(at, 0, row) == f"store 'p0' for tiny (program {digest}), clips prepared: 2"
    ledger_path(at.folder).unlink()  # then its name is not known
    assert look_into(at, 0, row) == f"store 'p0' for a model (program {digest}), clips prepared: 2"
    with pytest.raises(WrongKeyError, match="the key that it was made with"):
        look_into(StoreAt(at.folder, pair.stores[1].key), 0, row)
    for rank, name, text in (
        (1, "beaver2", "for party 1, got one for 0"),
        (0, "beaver2-fss", "protocol 'beaver2-fss'"),
    ):
        with pytest.raises(PreprocessingError, match=text) as refused:
            look_into(StoreAt(at.folder, bytes(32)), rank, find(name))
        assert not isinstance(refused.value, WrongKeyError)  # what is wrong is the store, not the key
    with opened(pair, compiled, 0), pytest.raises(PreprocessingError, match="stop that party first"):
        look_into(at, 0, row)
    with pytest.raises(PreprocessingError, match="got none: `sottovoce prepare` makes one"):
        look_into(StoreAt(tmp_path / "nothing", at.key), 0, row)
    assert not (tmp_path / "nothing").exists()
    (at.folder / "witness").write_bytes(b"x")
    with pytest.raises(PreprocessingError, match="witness is damaged"):
        look_into(at, 0, row)


# ---- preparing ----------------------------------------------------------------------------------------------------


def test_a_dealer_that_dies_half_way_leaves_whole_segments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled, pair = tiny_model(), make_pair(tmp_path)
    monkeypatch.setattr(standing, "SEGMENT_CLIPS", 2)
    row = find("beaver2")

    def one(rank: int, dealer_stop: threading.Event) -> object:
        end = (lambda done: dealer_stop.set()) if rank == 1 else lambda done: None
        return prepare(
            compiled.program, row, rank, 400, partial(pair.source, rank, compiled.program), pair.stores[rank], kept=end
        )

    with dealing(pair) as log:
        results = both(lambda rank: one(rank, log.stop))
    assert all(isinstance(result, TransportError) and "shutting down" in str(result) for result in results), results
    ends = []
    for rank in (0, 1):
        with opened(pair, compiled, rank) as store:
            ends.append(store.end)
            assert store.end % 2 == 0 and store.position == 0
    assert min(ends) > 0 and max(ends) < 400 and abs(ends[0] - ends[1]) <= 2
    with dealing(pair):  # the next one goes on from what both have
        made = pair.prepare(compiled.program, 3)
    assert made[0].start == made[1].start == min(ends)
    with serving(pair) as log:
        deploy_to(pair, compiled)
        with client_of(pair) as client:
            x = some_input(compiled, min(ends) + 3)
            labels = client.run(x)[0]
    np.testing.assert_array_equal(labels, run_plain(compiled.program, compiled.weights, x, "label"))
    assert not log.errors


def test_what_only_one_party_has_is_made_again(tmp_path: Path) -> None:
    compiled, pair = tiny_model(), make_pair(tmp_path)
    with dealing(pair):
        pair.prepare(compiled.program, 1)
        with (
            opened(pair, compiled, 0) as store,
            store.add(1, 2, bytes(range(32)), source="dealer", derived_words=0, common_words=0),
        ):
            pass  # party 1 was killed before it had the same segment
        made = pair.prepare(compiled.program, 2)
    assert [(m.start, m.end) for m in made] == [(1, 3), (1, 3)]
    x = some_input(compiled, 3)
    with serving(pair):
        deploy_to(pair, compiled)
        with client_of(pair) as client:
            labels = client.run(x)[0]
    np.testing.assert_array_equal(labels, run_plain(compiled.program, compiled.weights, x, "label"))


def test_a_party_that_dies_half_way_ends_that_pair_only(tmp_path: Path) -> None:
    compiled, pair = tiny_model(), make_pair(tmp_path)
    row = find("beaver2")

    class Gone(Exception):
        pass

    def die(done: int) -> None:
        raise Gone

    def one(rank: int) -> object:
        more = {"progress": die} if rank == 1 else {}
        connect = partial(pair.source, rank, compiled.program)
        return prepare(compiled.program, row, rank, 300, connect, pair.stores[rank], **more)

    with dealing(pair) as log:
        first, second = both(one)
        assert isinstance(second, Gone)
        assert isinstance(first, TransportError) and "party 1 stopped: Gone" in str(first)
        assert log.says("dealer", "gave up 300 clips of tiny")
        made = pair.prepare(compiled.program, 2)
    assert [m.end for m in made] == [2, 2] or made[0].start == made[1].start


def test_partners_that_ask_for_different_things_are_told(tmp_path: Path) -> None:
    compiled, pair = tiny_model(), make_pair(tmp_path)
    renamed = msgspec.structs.replace(compiled.program, name="other")
    row = find("beaver2")

    def clips(rank: int) -> object:
        connect = partial(pair.source, rank, compiled.program)
        return prepare(compiled.program, row, rank, 2 + rank, connect, pair.stores[rank])

    def programs(rank: int) -> object:
        program = (compiled.program, renamed)[rank]
        return prepare(program, row, rank, 2, partial(pair.source, rank, program), pair.stores[rank])

    with dealing(pair, deadline_s=1.0):
        for rank, result in enumerate(both(clips)):
            assert isinstance(result, PreprocessingError)
            assert f"to prepare {2 + rank} clips too, got {3 - rank}" in str(result)
        results = both(programs)
    assert "P1 did not ask for tiny under beaver2" in str(results[0])
    assert any("it asks for" in str(result) for result in results)
    assert not (tmp_path / "p0").exists() and not (tmp_path / "p1").exists()


def test_who_may_ask_a_dealer_and_for_what(tmp_path: Path) -> None:
    compiled, pair = tiny_model(), make_pair(tmp_path, tls=True)
    assert pair.cluster.dealer is not None
    asked = Standing(1, bytes(16), LAYOUT)
    too_big = msgspec.structs.replace(compiled.program, input_shape=(1, 1 << 23))
    plans = (
        Plan(compiled.program.to_json(), "rep3", asked),
        Plan(b"{}", "beaver2", asked),
        Plan(too_big.to_json(), "beaver2", asked),
        Plan(compiled.program.to_json(), "beaver2", asked),
    )
    with dealing(pair) as log:
        for role, detail in ((Identity("client", "alice"), PREPARE), (Identity.party(0), b"other")):
            refused = pytest.raises(TransportError, match="to parties only")
            with connect_role(pair.cluster.dealer, party=None, tls=pair.tls(role), detail=detail) as link, refused:
                link.recv_message(100)
        for plan in plans:
            party = pair.tls(Identity.party(0))
            with connect_role(pair.cluster.dealer, party=None, tls=party, detail=PREPARE) as connection:
                connection.send_message(plan)
                with pytest.raises(
                    TransportError, match=r"needs no preprocessing|program|in_shape|the same version of"
                ):
                    connection.recv_message(100)
        # A party does not take another one for the dealer, and a dealer's certificate opens nothing.
        with pytest.raises(HandshakeError, match="certificate"):
            connect_role(pair.cluster.dealer, party=0, tls=pair.tls(Identity("client", "alice")), deadline_s=3)
        with pytest.raises((HandshakeError, TransportError)):
            connect_role(pair.cluster.dealer, party=None, tls=pair.tls(Identity.dealer()), deadline_s=1)
        pair.prepare(compiled.program, 1)
        assert log.says("dealer", "dealt 1 clips")


def test_orders_that_differ_are_refused(tmp_path: Path) -> None:
    compiled, pair = tiny_model(), make_pair(tmp_path)
    assert pair.cluster.dealer is not None
    with dealing(pair) as log:
        with pytest.raises(HandshakeError, match="which never connects"):
            connect_role(pair.cluster.dealer, party=None, tls=None, role=Identity.dealer(), insecure_loopback=True)
        links = [
            connect_role(
                pair.cluster.dealer,
                party=None,
                tls=None,
                role=Identity.party(rank),
                detail=PREPARE,
                insecure_loopback=True,
            )
            for rank in (0, 1)
        ]
        for rank, link in enumerate(links):
            layout = demand(compiled.program, find("beaver2")).digest
            link.send_message(Plan(compiled.program.to_json(), "beaver2", Standing(4, bytes([rank]) * 16, layout)))
        for rank, link in enumerate(links):
            assert link.recv_struct(Standing, 4096).nonce == bytes([1 - rank]) * 16
            link.send_message(Order(rank, 2, bytes([5]) * 32, bytes([6]) * 32))
        for link in links:
            with pytest.raises(TransportError, match="the same order of both parties") as refused:
                link.recv_message(100)
            link.close()
            assert "0505" not in str(refused.value) and "\\x05" not in str(refused.value)
    assert "0505" not in log.of("dealer") and "\\x05" not in log.of("dealer")


def test_no_seed_is_shown_or_said(tmp_path: Path) -> None:
    compiled, pair = tiny_model(), make_pair(tmp_path)
    sent: list[Order] = []
    real = Connection.send_message

    def spy(self: Connection, message: object, **more: object) -> None:
        if isinstance(message, Order):
            sent.append(message)
        real(self, message, **more)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch, dealing(pair) as log:
        patch.setattr(Connection, "send_message", spy)
        pair.prepare(compiled.program, 2)
    assert len(sent) == 2
    shown = log.of("dealer") + "".join(repr(order) for order in sent) + repr(pair.stores)
    for order in sent:
        for secret in (order.seed, order.mask_seed):
            assert secret.hex() not in shown and repr(secret)[2:-1] not in shown
    assert sent[0].seed != sent[1].seed and sent[0].mask_seed != sent[1].mask_seed


def test_standings_decide_who_may_go_on() -> None:
    new = [Standing(3, bytes([rank]) * 16, LAYOUT) for rank in (0, 1)]
    pair = join_standings(0, *new)
    assert pair == join_standings(1, *new[::-1]) and len(pair) == 16
    assert pair != join_standings(0, new[0], Standing(3, bytes([7]) * 16, LAYOUT))
    filled = Standing(3, bytes([1]) * 16, LAYOUT, pair, 0, 5)
    assert join_standings(0, Standing(3, bytes(16), LAYOUT, pair, 2, 5), filled) == pair
    # A store that never held a clip was left by a break-off: the other party takes its pair over.
    assert join_standings(0, new[0], Standing(3, bytes([1]) * 16, LAYOUT, pair)) == pair
    for mine in (new[0], Standing(3, bytes(16), LAYOUT, bytes(16), 0, 5), Standing(4, bytes(16), LAYOUT, pair, 0, 5)):
        with pytest.raises(PreprocessingError):
            join_standings(0, mine, filled)
    with pytest.raises(PreprocessingError, match="nonce"):
        join_standings(0, new[0], new[0])
    with pytest.raises(PreprocessingError, match="run the same version of sottovoce at both parties"):
        join_standings(0, new[0], Standing(3, bytes([1]) * 16, LAYOUT[::-1]))


def test_costs_are_shared_out_by_clips(tmp_path: Path) -> None:
    store = tmp_path / "p0"
    assert read(store) == [] and cost_of([], range(1)) is None
    for start, clips, elapsed in ((0, 4, 400), (4, 2, 100), (4, 4, 800)):  # the second was broken off and made again
        record(store, SegmentCost(start, clips, elapsed, 10 * elapsed))
    costs = read(store)
    assert cost_of(costs, range(8)) == (1200, 12000)
    assert cost_of(costs, range(3, 6)) == (500, 5000)
    assert cost_of(costs, range(7, 9)) is None
