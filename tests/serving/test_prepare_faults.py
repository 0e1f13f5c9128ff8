"""Preparing and deploying when a party, an owner or a peer does what it should not, or fails on its own."""

from __future__ import annotations

import threading
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import pytest
from rich.pretty import pretty_repr

from sottovoce.engine.cost import demand
from sottovoce.engine.errors import PreprocessingError, TransportError
from sottovoce.engine.local import LocalCluster
from sottovoce.engine.preprocessing.store import Store
from sottovoce.engine.protocols.table import find
from sottovoce.engine.structs import unpack
from sottovoce.engine.transport.connection import Connection
from sottovoce.engine.transport.mesh import connect_role
from sottovoce.engine.transport.tls import Identity
from sottovoce.serving import owner
from sottovoce.serving.dealer import DealerServer, _Seat
from sottovoce.serving.deployment import claim_of
from sottovoce.serving.messages import Deploy
from sottovoce.serving.prepare import Source, prepare
from sottovoce.serving.standing import PREPARE, Order, Plan, Standing
from tests.serving.deployment import some_input, tiny_model
from tests.serving.offline import Pair, both, client_of, dealing, deploy_to, make_pair, opened, serving

SECRET = bytes(range(0xA0, 0xC0))


@pytest.fixture(scope="module", autouse=True)
def _loaded_kernels() -> None:
    """Loading machine code, or compiling it, is not to be waited for with a deadline."""
    compiled = tiny_model()
    with LocalCluster(compiled.program, compiled.weights, "beaver2") as cluster:
        cluster.run(some_input(compiled, 2))


# ---- deploying ----------------------------------------------------------------------------------------------------


def test_the_tag_of_another_owner_opens_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A party tells Bob's tag to Eve: her weights under his masks would show it W = E - E' + W'."""
    bob, pair = tiny_model(), make_pair(tmp_path, tls=True)
    eve = replace(bob, weights={name: np.zeros_like(value) for name, value in bob.weights.items()})
    known = owner.weights_tag(bob, SECRET)
    monkeypatch.setattr(owner, "weights_tag", lambda compiled, root: known)
    with dealing(pair):
        pair.prepare(bob.program, 2)
    with serving(pair) as log:
        deploy_to(pair, bob)
    with serving(pair) as log:
        with pytest.raises(TransportError, match="would reveal their difference") as refused:
            deploy_to(pair, eve, "eve")
        assert all(log.says(f"P{rank}", "owner eve: deployment failed") for rank in (0, 1))
        assert str(tmp_path) not in str(refused.value)  # where a store lies is its party's own business
        deploy_to(pair, bob)
    assert not log.errors
    with opened(pair, bob, 0) as store:
        assert store.claimed == claim_of(Identity("owner", "bob"), known) != known


def test_what_is_claimed_depends_on_the_owner_and_on_the_tag() -> None:
    bob, eve = Identity("owner", "bob"), Identity("owner", "eve")
    claims = {claim_of(who, tag) for who in (bob, eve) for tag in (SECRET, SECRET[::-1])}
    assert len(claims) == 4 and {len(claim) for claim in claims} == {32}
    assert claim_of(bob, b"") == b""  # nothing to bind


@pytest.mark.parametrize("length", [1, 31])
def test_a_tag_of_another_length_is_no_tag(length: int) -> None:
    sent = msgspec.msgpack.encode(Deploy(bytes(16), "beaver2", 1, b"", SECRET))
    assert unpack(sent, Deploy).weights == SECRET
    short = sent.replace(b"\xc4\x20" + SECRET, bytes((0xC4, length)) + SECRET[:length])
    with pytest.raises(msgspec.ValidationError, match="none or 32 bytes"):
        unpack(short, Deploy)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_store_that_cannot_be_claimed_ends_nobody(rank: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled, pair = tiny_model(), make_pair(tmp_path, tls=True)
    with dealing(pair):
        pair.prepare(compiled.program, 2)
    claim, failures = Store.claim, ["disk full"]

    def fail_once(self: Store, tag: bytes) -> None:
        if self.identity.rank == rank and failures:
            raise PreprocessingError(f"party {rank}: store: {failures.pop()}")
        claim(self, tag)

    monkeypatch.setattr(Store, "claim", fail_once)
    with serving(pair) as log:
        with pytest.raises(TransportError) as refused:
            deploy_to(pair, compiled)
        assert "disk full" in str(refused.value)
        assert all(log.says(f"P{each}", "deployment failed") for each in (0, 1))
        deploy_to(pair, compiled)  # both are still there
        with client_of(pair) as client:
            client.run(some_input(compiled, 2))
    assert not log.errors


def test_stores_of_different_pairs_end_nobody(tmp_path: Path) -> None:
    compiled, pair = tiny_model(), make_pair(tmp_path)
    (tmp_path / "b").mkdir()
    other = replace(pair, stores=make_pair(tmp_path / "b").stores)
    with dealing(pair):
        for each in (pair, other):
            each.prepare(compiled.program, 1)
    with serving(pair, (pair.stores[0], other.stores[1])) as log:
        for _ in range(3):
            with pytest.raises(TransportError, match="prepared together with that of party"):
                deploy_to(pair, compiled)
    assert not log.errors
    with opened(pair, compiled, 0) as store:
        assert store.claimed is None and store.position == 0  # nothing was bound or used
    with serving(pair):
        deploy_to(pair, compiled)


def test_secrets_in_messages_are_not_shown() -> None:
    messages = (Deploy(bytes(16), "beaver2", 1, b"", SECRET), Order(0, 3, SECRET, SECRET[::-1]))
    for message in messages:
        for shown in (repr(message), str(message), pretty_repr(message)):
            assert type(message).__name__ in shown
            for secret in (SECRET, SECRET[::-1]):
                assert secret.hex() not in shown and repr(secret)[2:-1] not in shown


# ---- preparing ----------------------------------------------------------------------------------------------------


def test_a_store_that_cannot_be_used_disturbs_nobody_else(tmp_path: Path) -> None:
    compiled, pair = tiny_model(), make_pair(tmp_path)
    with dealing(pair):
        pair.prepare(compiled.program, 1)

    def connect() -> Source:
        raise AssertionError("nobody is asked for anything")

    other_key = replace(pair.stores[0], key=SECRET)
    with pytest.raises(PreprocessingError):
        prepare(compiled.program, find("beaver2"), 0, 1, connect, other_key)


def test_who_is_interrupted_tells_the_other_party(tmp_path: Path) -> None:
    compiled, pair = tiny_model(), make_pair(tmp_path)

    def one(rank: int) -> object:
        with pair.source(rank, compiled.program) as source:
            source.exchange(Standing(1, bytes([rank]) * 16, demand(compiled.program, find("beaver2")).digest))
            if rank == 0:
                raise KeyboardInterrupt
            return list(source.segment(demand(compiled.program, find("beaver2")), 0, 1, SECRET, SECRET, print))

    with dealing(pair):
        first, second = both(one)
    assert isinstance(first, KeyboardInterrupt)
    assert isinstance(second, TransportError) and "party 0 stopped: it was interrupted" in str(second)


def test_a_store_whose_making_was_stopped_is_made_again(tmp_path: Path) -> None:
    compiled, pair = tiny_model(), make_pair(tmp_path)
    pair.stores[1].folder.mkdir(mode=0o700)
    (pair.stores[1].folder / "index.sqlite").touch(mode=0o600)
    with dealing(pair):
        made = pair.prepare(compiled.program, 1)
    assert [m.end for m in made] == [1, 1]


def test_another_version_is_named_as_such(tmp_path: Path) -> None:
    compiled, pair = tiny_model(), make_pair(tmp_path)
    digest = demand(compiled.program, find("beaver2")).digest
    assert pair.cluster.dealer is not None
    plan = Plan(compiled.program.to_json(), "beaver2", Standing(1, bytes(16), SECRET))
    with dealing(pair) as log:
        with connect_to(pair, 0) as connection:
            connection.send_message(plan)
            with pytest.raises(TransportError, match="the same version of sottovoce") as refused:
                connection.recv_message(100)
        assert digest.hex()[:8] in str(refused.value) and SECRET.hex()[:8] in str(refused.value)
        assert log.says("dealer", "the same version of sottovoce")


def test_transfers_for_two_versions_or_programs_are_named_as_such(tmp_path: Path) -> None:
    compiled, pair = tiny_model(), make_pair(tmp_path)
    renamed = msgspec.structs.replace(compiled.program, name="other")

    def programs(rank: int) -> object:
        program = (compiled.program, renamed)[rank]
        return prepare(program, find("beaver2"), rank, 1, partial(pair.source, rank, program, "ot"), pair.stores[rank])

    assert all("program: expected" in str(result) for result in both(programs))


def test_a_dealer_that_is_told_to_stop_waits_for_nobody_who_is_silent(tmp_path: Path) -> None:
    """`dealing` checks that it ends within half of the deadline."""
    compiled, pair = tiny_model(), make_pair(tmp_path)
    layout = demand(compiled.program, find("beaver2")).digest
    with ExitStack() as stack:
        with dealing(pair, deadline_s=60.0):
            links = [stack.enter_context(closing(connect_to(pair, rank))) for rank in (0, 1, 0, 0)]
            # Two that never order, one without a partner, one that says nothing (and may not have been taken yet).
            for rank, link in enumerate(links[:3]):
                name = "beaver2" if rank < 2 else "beaver2-fss"
                asked = demand(compiled.program, find(name)).digest if rank == 2 else layout
                link.send_message(Plan(compiled.program.to_json(), name, Standing(4, bytes([rank]) * 16, asked)))
            for link in links[:2]:
                link.recv_struct(Standing, 4096)
        for link in links:
            with pytest.raises(TransportError, match="the dealer is shutting down"):
                link.recv_message(100)


def test_one_thread_at_a_time_uses_a_seats_connection(tmp_path: Path) -> None:
    """While a seat is looked at nobody can take it as a partner, and one that was taken is not looked at."""
    pair = make_pair(tmp_path)
    assert pair.cluster.dealer is not None
    server = DealerServer(pair.cluster.dealer, None, insecure_loopback=True)
    free: list[bool] = []

    class Looked:
        def check_open(self, where: str) -> None:
            """Could another thread pair the seat up meanwhile?"""

            def body() -> None:
                free.append(server._changed.acquire(blocking=False))

            thread = threading.Thread(target=body)
            thread.start()
            thread.join()

    compiled, row = tiny_model(), find("beaver2")
    layout = demand(compiled.program, row)
    plan = Plan(compiled.program.to_json(), "beaver2", Standing(1, bytes(16), layout.digest))
    server._waiting.append(_Seat(Looked(), 0, plan, compiled.program, row, layout, b""))  # type: ignore[arg-type]
    server._look_after_seats()
    assert free == [False]


def connect_to(pair: Pair, rank: int) -> Connection:
    """To the dealer, as a party."""
    assert pair.cluster.dealer is not None
    role = Identity.party(rank)
    return connect_role(
        pair.cluster.dealer, party=None, tls=None, role=role, detail=PREPARE, insecure_loopback=True, deadline_s=10
    )
