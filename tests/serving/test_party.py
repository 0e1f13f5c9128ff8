"""Owner, parties and clients over real sockets: the right answers, and clear ends when somebody is wrong or gone."""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from sottovoce.engine.cost import predict_cost
from sottovoce.engine.errors import (
    DeadlineError,
    HandshakeError,
    PeerClosedError,
    SottovoceError,
    TransportError,
)
from sottovoce.engine.protocols.table import find
from sottovoce.engine.session import join_output, run_plain
from sottovoce.engine.transport.certificates import create_certificates, role_folder
from sottovoce.engine.transport.mesh import connect_role
from sottovoce.engine.transport.tls import Identity, TlsContexts, load_tls
from sottovoce.models.compiler.compile import Compiled
from sottovoce.serving import owner as owner_module
from sottovoce.serving.client import RemoteCluster, RequestRefused
from sottovoce.serving.desk import MAX_PER_CLIENT
from sottovoce.serving.messages import (
    CLASSIFY,
    DEPLOY,
    MAX_CONTROL,
    MAX_MESSAGE,
    Answer,
    Deploy,
    Offer,
    Received,
    Request,
)
from sottovoce.serving.owner import deploy
from tests.serving.deployment import DEADLINE_S, Deployment, deployment, some_input, tiny_model


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of certificates for all roles."""
    folder = tmp_path_factory.mktemp("pki") / "certs"
    create_certificates(folder, clients=["alice", "carol"], owners=["bob"])
    return folder


def tls_of(folder: Path, role: Identity) -> TlsContexts:
    """One role's contexts."""
    return load_tls(folder / role_folder(role))


@pytest.fixture
def served() -> Iterator[Deployment]:
    """A deployment with the tiny model on it, over plain loopback."""
    with deployment() as running:
        deploy(tiny_model(), running.cluster, None, insecure_loopback=True, deadline_s=DEADLINE_S)
        yield running


def client_of(running: Deployment, deadline_s: float = 3 * DEADLINE_S) -> RemoteCluster:
    """A client over plain loopback."""
    return RemoteCluster(running.cluster, None, insecure_loopback=True, deadline_s=deadline_s)


@pytest.mark.parametrize("lanes", [1, 2])
def test_answers_equal_plain_over_tls(certificates: Path, lanes: int) -> None:
    compiled = tiny_model()
    parties = {rank: tls_of(certificates, Identity.party(rank)) for rank in range(3)}
    with deployment(parties, lanes=lanes) as running:
        events: list[str] = []
        deploy(compiled, running.cluster, tls_of(certificates, Identity("owner", "bob")), on_event=events.append)
        with RemoteCluster(running.cluster, tls_of(certificates, Identity("client", "alice"))) as client:
            assert client.encrypted
            assert client.program == compiled.program
            for batch in (1, 5):
                x = some_input(compiled, batch)
                expected = run_plain(compiled.program, compiled.weights, x, "scores")
                logits, cost = client.run(x, "scores")
                labels, _ = client.run(x)
                assert np.abs(logits - expected).max() <= 2 * max(compiled.report.logit_errors)
                np.testing.assert_array_equal(labels, logits.argmax(axis=1))
                assert cost.encrypted
                steps = predict_cost(compiled.program, find("rep3"), batch, "scores")
                assert cost.rounds == sum(s.rounds for s in steps)
                assert cost.bytes_sent == tuple(sum(s.bytes_sent[rank] for s in steps) for rank in range(3))
        assert events[-1] == "3 parties are ready"
    assert not running.errors


def test_clients_at_the_same_time_get_their_own_answers(served: Deployment) -> None:
    compiled = tiny_model()
    answers: dict[int, bool] = {}

    def ask(seed: int) -> None:
        with client_of(served) as client:
            for _ in range(3):
                x = some_input(compiled, 1 + seed, seed)
                logits, _ = client.run(x, "scores")
                expected = run_plain(compiled.program, compiled.weights, x, "scores")
                answers[seed] = bool(np.abs(logits - expected).max() < 0.01) and answers.get(seed, True)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == dict.fromkeys(range(4), True)


def test_insecure_is_marked(served: Deployment) -> None:
    with client_of(served) as client:
        assert not client.encrypted
        _, cost = client.run(some_input(tiny_model(), 1))
        assert not cost.encrypted
    assert all("INSECURE" in log[0] for log in served.logs.values())


def test_a_party_that_is_down_is_named_by_owner_and_peers() -> None:
    with (
        deployment(ranks=(0, 1), deadline_s=2.0) as running,
        pytest.raises(DeadlineError, match=r"owner bob: connect to P2"),
    ):
        deploy(tiny_model(), running.cluster, None, insecure_loopback=True, deadline_s=1.5)


def send_another_program_to_p2(monkeypatch: pytest.MonkeyPatch, compiled: Compiled, *, hide: bool) -> None:
    """An owner that does not send all parties the same program; hide: and does not notice what P2 confirms."""
    renamed = msgspec.structs.replace(compiled.program, labels=("x", "y", "w"))
    real = owner_module.connect_parties

    def connect(*args, **rest):  # type: ignore[no-untyped-def]
        connections = real(*args, **rest)
        send, receive = connections[2].send_message, connections[2].recv_struct

        def send_other(message, **more):  # type: ignore[no-untyped-def]
            if isinstance(message, Deploy):
                message = msgspec.structs.replace(message, program=renamed.to_json())
            send(message, **more)

        def confirm(kind, limit):  # type: ignore[no-untyped-def]
            found = receive(kind, limit)
            return Received(compiled.program.digest) if hide and kind is Received else found

        connections[2].send_message, connections[2].recv_struct = send_other, confirm
        return connections

    monkeypatch.setattr(owner_module, "connect_parties", connect)


def test_an_owner_that_finds_another_program_at_a_party_stops_and_may_try_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compiled = tiny_model()
    with deployment() as running:
        with monkeypatch.context() as patch:
            send_another_program_to_p2(patch, compiled, hide=False)
            with pytest.raises(HandshakeError, match="P2: deploy: it confirms another program"):
                deploy(compiled, running.cluster, None, insecure_loopback=True, deadline_s=DEADLINE_S)
        deploy(compiled, running.cluster, None, insecure_loopback=True, deadline_s=DEADLINE_S)
        with client_of(running) as client:
            client.run(some_input(compiled, 1))
    assert not running.errors


def test_parties_with_different_programs_refuse_to_compute(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = tiny_model()
    send_another_program_to_p2(monkeypatch, compiled, hide=True)
    with deployment(deadline_s=2.0) as running:
        with pytest.raises(TransportError):
            deploy(compiled, running.cluster, None, insecure_loopback=True, deadline_s=4.0)
        running.join()
    assert any(isinstance(e, HandshakeError) and "program" in str(e) for e in running.errors.values())


def test_a_share_that_is_missing_at_one_party_is_an_error_and_the_next_request_works(served: Deployment) -> None:
    compiled = tiny_model()
    with client_of(served) as client:
        x = some_input(compiled, 2)
        slots = client.row.split(x, client._backend.fill)
        request = Request(secrets.token_bytes(16), 2, "label")
        for rank in (0, 1):
            client._connections[rank].send_message(request)
            client._connections[rank].send_arrays(slots[rank])
        for rank in (0, 1):
            answer = client._connections[rank].recv_struct(Answer, MAX_MESSAGE)
            assert "P2: the client did not send this party its share" in answer.error
        labels, _ = client.run(x)
        assert labels.shape == (2,)


def test_requests_that_differ_between_parties_are_refused(served: Deployment) -> None:
    compiled = tiny_model()
    with client_of(served) as client:
        request = Request(secrets.token_bytes(16), 2, "label")
        for rank in range(3):
            batch = 3 if rank == 1 else 2
            slots = client.row.split(some_input(compiled, batch), client._backend.fill)
            client._connections[rank].send_message(msgspec.structs.replace(request, batch=batch))
            client._connections[rank].send_arrays(slots[rank])
        answers = [client._connections[rank].recv_struct(Answer, MAX_MESSAGE) for rank in range(3)]
        assert "P1: the client asked this party for another batch" in answers[0].error
        assert all(a.error for a in answers)
        client.run(some_input(compiled, 1))


def test_what_is_not_offered_is_refused_and_the_others_are_served(served: Deployment) -> None:
    with client_of(served) as client:
        connection = client._connections[0]
        connection.send_message(Request(secrets.token_bytes(16), 60_000, "label"))
        connection.send_message(b"x" * 100)
        with pytest.raises(SottovoceError):
            connection.recv_message(MAX_CONTROL)
    with client_of(served) as client:
        client.run(some_input(tiny_model(), 1))


def test_a_second_model_is_refused(served: Deployment) -> None:
    with pytest.raises(TransportError, match="serves a model already"):
        deploy(tiny_model(), served.cluster, None, insecure_loopback=True, deadline_s=DEADLINE_S)


def test_roles_are_what_their_certificates_say(certificates: Path) -> None:
    compiled = tiny_model()
    parties = {rank: tls_of(certificates, Identity.party(rank)) for rank in range(3)}
    alice, bob = tls_of(certificates, Identity("client", "alice")), tls_of(certificates, Identity("owner", "bob"))
    with deployment(parties) as running:
        with pytest.raises(TransportError, match="client may not do that"):
            deploy(compiled, running.cluster, alice, deadline_s=DEADLINE_S)
        deploy(compiled, running.cluster, bob, deadline_s=DEADLINE_S)
        with pytest.raises(TransportError, match="owner may not do that"):
            RemoteCluster(running.cluster, bob, deadline_s=DEADLINE_S)
        swapped = replace(running.cluster, addresses=tuple(reversed(running.cluster.addresses)))
        with pytest.raises(HandshakeError, match=r"expected party [02].*got party [02]"):
            RemoteCluster(swapped, alice, deadline_s=DEADLINE_S)


def test_a_client_that_came_before_the_model_is_served() -> None:
    compiled = tiny_model()
    with deployment() as running:
        found: list[int] = []

        def early() -> None:
            with client_of(running) as client:
                found.append(len(client.run(some_input(compiled, 4))[0]))

        thread = threading.Thread(target=early)
        thread.start()
        deploy(compiled, running.cluster, None, insecure_loopback=True, deadline_s=DEADLINE_S)
        thread.join()
    assert found == [4]


def test_a_party_that_stops_ends_the_others_and_tells_the_client() -> None:
    compiled = tiny_model()
    with deployment(max_requests=1) as running:
        deploy(compiled, running.cluster, None, insecure_loopback=True, deadline_s=DEADLINE_S)
        with client_of(running) as client:
            client.run(some_input(compiled, 1))
            running.join()
            with pytest.raises((RequestRefused, PeerClosedError), match=r"shutting down|closed|gone|went away"):
                client.run(some_input(compiled, 1))


def test_garbage_offers_are_refused(served: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    offers = iter(range(10))

    def other_session(self: RemoteCluster, connection: object) -> Offer:
        offer = connection.recv_struct(Offer, MAX_MESSAGE)  # type: ignore[attr-defined]
        return msgspec.structs.replace(offer, session=bytes([next(offers)]) * 16)

    monkeypatch.setattr(RemoteCluster, "_offer", other_session)
    with pytest.raises(HandshakeError, match="another program or session than P0"):
        client_of(served)


def test_a_connection_that_says_nothing_does_not_hold_a_party(served: Deployment) -> None:
    silent = connect_role(
        served.cluster.addresses[0],
        party=0,
        tls=None,
        role=Identity("client", "mute"),
        detail=CLASSIFY,
        insecure_loopback=True,
    )
    stranger = connect_role(
        served.cluster.addresses[0],
        party=0,
        tls=None,
        role=Identity("client", "eve"),
        detail=b"something else",
        insecure_loopback=True,
    )
    with pytest.raises(PeerClosedError, match="may not do that"):
        stranger.recv_message(MAX_CONTROL)
    stranger.close()
    with client_of(served) as client:
        client.run(some_input(tiny_model(), 1))
    silent.close()


def named_client(running: Deployment, name: str) -> RemoteCluster:
    """A client of that name over plain loopback."""
    return RemoteCluster(running.cluster, None, client=name, insecure_loopback=True, deadline_s=3 * DEADLINE_S)


def test_shares_of_two_clients_with_one_request_id_are_never_mixed(served: Deployment) -> None:
    """The attack: Mallory learns Alice's request id from one party and is first at another with shares of her own."""
    compiled = tiny_model()
    x, z = some_input(compiled, 2, seed=3), some_input(compiled, 2, seed=4)
    with named_client(served, "alice") as alice, named_client(served, "mallory") as mallory:
        request = Request(secrets.token_bytes(16), 2, "scores")
        theirs = mallory.row.split(z, mallory._backend.fill)
        mallory._connections[2].send_message(request)
        mallory._connections[2].send_arrays(theirs[2])
        slots = alice.row.split(x, alice._backend.fill)
        answers = alice._gather(lambda rank: alice._ask(rank, request, slots[rank]))
        logits = join_output(alice.row, alice.program, [part for _, part in answers])
        expected = run_plain(compiled.program, compiled.weights, x, "scores")
        assert np.abs(logits - expected).max() <= 2 * max(compiled.report.logit_errors)
        alone = mallory._connections[2].recv_struct(Answer, MAX_MESSAGE)
        assert "did not send this party its share" in alone.error


def test_requests_that_only_one_party_holds_delay_nobody_and_end(served: Deployment) -> None:
    compiled = tiny_model()
    x = some_input(compiled, 1)
    with named_client(served, "alice") as alice:
        lonely = [(rank, named_client(served, f"m{rank}{n}")) for rank in (0, 1) for n in range(3)]
        for rank, client in lonely:
            slots = client.row.split(x, client._backend.fill)
            client._connections[rank].send_message(Request(secrets.token_bytes(16), 1, "label"))
            client._connections[rank].send_arrays(slots[rank])
        began = time.monotonic()
        alice.run(x)
        waited = time.monotonic() - began
        assert waited < DEADLINE_S, f"an honest client waited {waited:.1f} s behind requests that cannot run"
        for rank, client in lonely:
            with client:
                assert "did not send this party its share" in (
                    client._connections[rank].recv_struct(Answer, MAX_MESSAGE).error
                )


def test_clients_that_leave_give_their_places_back(served: Deployment) -> None:
    compiled = tiny_model()
    x = some_input(compiled, 1)
    for _ in range(MAX_PER_CLIENT):
        with named_client(served, "hasty") as client:
            slots = client.row.split(x, client._backend.fill)
            client._connections[1].send_message(Request(secrets.token_bytes(16), 1, "label"))
            client._connections[1].send_arrays(slots[1])
    end = time.monotonic() + 5 * DEADLINE_S
    while True:  # a party looks twice a second whether a waiting client is still there
        try:
            with named_client(served, "hasty") as client:
                client.run(x)
            break
        except TransportError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


def test_one_client_cannot_take_every_place(served: Deployment) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(MAX_PER_CLIENT):
            stack.enter_context(named_client(served, "greedy"))
        with pytest.raises(TransportError, match=f"{MAX_PER_CLIENT} of one client"):
            named_client(served, "greedy")
        with named_client(served, "alice") as alice:
            alice.run(some_input(tiny_model(), 1))


def test_a_deployment_that_fails_leaves_the_parties_as_they_were() -> None:
    with deployment() as running:
        for detail in (b"", b"not a deploy message"):
            connection = connect_role(
                running.cluster.addresses[0],
                party=0,
                tls=None,
                role=Identity("owner", "bob"),
                detail=DEPLOY,
                insecure_loopback=True,
            )
            if detail:
                connection.send_message(detail)
                assert "expected a Deploy" in connection.recv_struct(Received, MAX_CONTROL).refusal
                with pytest.raises(TransportError):
                    connection.recv_message(MAX_CONTROL)
            connection.close()
        deploy(tiny_model(), running.cluster, None, insecure_loopback=True, deadline_s=DEADLINE_S)
        with client_of(running) as client:
            client.run(some_input(tiny_model(), 1))
    assert not running.errors
