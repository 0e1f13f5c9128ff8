"""Certificates, identities and what the TLS layer refuses."""

from __future__ import annotations

import shutil
import socket
import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from sottovoce.engine.errors import ConfigError, HandshakeError
from sottovoce.engine.transport.certificates import create_certificates, role_folder
from sottovoce.engine.transport.conformance import CHECKS
from sottovoce.engine.transport.connection import Connection, dial
from sottovoce.engine.transport.listener import Listener
from sottovoce.engine.transport.mesh import connect_role
from sottovoce.engine.transport.tls import (
    Identity,
    TlsContexts,
    certificate_identity,
    check_loopback,
    is_loopback,
    load_tls,
    parse_address,
)
from tests.transport.meshes import LOOPBACK, contexts, hello, in_threads, try_mesh

# ---- certificates -------------------------------------------------------------------------------------------------


def test_each_folder_holds_what_its_role_needs(tmp_path: Path) -> None:
    made = create_certificates(
        tmp_path / "c", parties=3, clients=["alice"], owners=["bob"], hosts={1: ["mpc.example", "192.0.2.7"]}, days=9
    )
    names = ["party0", "party1", "party2", "client-alice", "owner-bob", "authority"]
    assert made == [tmp_path / "c" / name for name in names]
    for folder in made[:-1]:
        assert sorted(path.name for path in folder.iterdir()) == ["ca.pem", "cert.pem", "key.pem"]
        assert stat.S_IMODE((folder / "key.pem").stat().st_mode) == 0o600
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert role_folder(load_tls(folder).identity) == folder.name
    authority = made[-1]
    assert stat.S_IMODE((authority / "ca-key.pem").stat().st_mode) == 0o600
    assert "pose as any party" in (authority / "README.txt").read_text()
    secrets = {path.read_bytes() for path in (tmp_path / "c").rglob("*key.pem")}
    assert len(secrets) == 6
    certificate = x509.load_pem_x509_certificate((made[1] / "cert.pem").read_bytes())
    names_in = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names_in.get_values_for_type(x509.DNSName) == ["mpc.example"]
    assert [str(ip) for ip in names_in.get_values_for_type(x509.IPAddress)] == ["192.0.2.7"]
    assert certificate.not_valid_after_utc - certificate.not_valid_before_utc == timedelta(days=9)


def test_a_dealer_listens_and_never_connects(tmp_path: Path) -> None:
    create_certificates(tmp_path / "c", parties=2, dealer=["d.example"])
    folder = tmp_path / "c" / "dealer"
    tls = load_tls(folder)
    assert tls.identity == Identity.dealer() and str(tls.identity) == "the dealer"
    certificate = x509.load_pem_x509_certificate((folder / "cert.pem").read_bytes())
    usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usages) == [ExtendedKeyUsageOID.SERVER_AUTH]
    roots = {load_tls(tmp_path / "c" / name).root for name in ("dealer", "party0", "party1")}
    assert len(roots) == 3 and all(len(root) == 32 for root in roots)
    assert tls.root == load_tls(folder).root and tls.root.hex() not in repr(tls) and repr(tls.root) not in repr(tls)
    with pytest.raises(ConfigError):
        Identity("dealer", "1")


def test_nothing_is_overwritten_and_nothing_half_done(tmp_path: Path) -> None:
    create_certificates(tmp_path / "c", parties=2)
    before = (tmp_path / "c" / "party0" / "key.pem").read_bytes()
    with pytest.raises(ConfigError, match="not empty"):
        create_certificates(tmp_path / "c", parties=2)
    assert (tmp_path / "c" / "party0" / "key.pem").read_bytes() == before
    with pytest.raises(ConfigError, match="host name"):
        create_certificates(tmp_path / "d", parties=2, hosts={0: ["no\u00e9"]})
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


@pytest.mark.parametrize(
    "options",
    [
        {"parties": 1},
        {"parties": 99},
        {"days": 0},
        {"clients": ["a", "a"]},
        {"clients": ["Ann Other"]},
        {"owners": ["../bob"]},
        {"hosts": {3: ["x"]}},
    ],
)
def test_bad_requests_are_refused(tmp_path: Path, options: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        create_certificates(tmp_path / "c", **options)  # type: ignore[arg-type]
    assert not (tmp_path / "c").exists()


def test_a_key_that_others_can_read_is_refused(certificates: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(certificates / "party0", tmp_path / "party0"))
    (folder / "key.pem").chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        load_tls(folder)
    (folder / "key.pem").unlink()
    with pytest.raises(ConfigError, match=r"key\.pem"):
        load_tls(folder)


def test_a_key_of_another_certificate_is_refused(certificates: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(certificates / "party0", tmp_path / "mixed"))
    shutil.copy(certificates / "party1" / "key.pem", folder / "key.pem")
    with pytest.raises(ConfigError, match="cannot be used"):
        load_tls(folder)


def _certificate(names: list[x509.GeneralName]) -> x509.Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([])
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, begin, begin + timedelta(days=1))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, hashes.SHA256())


@pytest.mark.parametrize(
    "uris",
    [
        [],
        ["urn:sottovoce:party:0", "urn:sottovoce:party:1"],
        ["urn:sottovoce:party:00"],
        ["urn:sottovoce:party:16"],
        ["urn:sottovoce:party:-1"],
        ["urn:sottovoce:party:1 "],
        ["urn:sottovoce:party:"],
        ["urn:sottovoce:admin:eve"],
        ["urn:sottovoce:client:alice:0"],
        ["urn:sottovoce:client:Alice"],
        ["urn:other:party:0"],
        ["xurn:sottovoce:party:0"],
    ],
)
def test_an_identity_is_parsed_strictly(uris: list[str]) -> None:
    with pytest.raises(HandshakeError):
        certificate_identity(_certificate([x509.UniformResourceIdentifier(uri) for uri in uris]))


def test_a_good_identity_is_read() -> None:
    names: list[x509.GeneralName] = [x509.DNSName("h"), x509.UniformResourceIdentifier("urn:sottovoce:party:2")]
    assert certificate_identity(_certificate(names)) == Identity.party(2)
    assert Identity("client", "alice").rank is None


# ---- who may connect ----------------------------------------------------------------------------------------------


def attempt(server: TlsContexts, client: TlsContexts, *, party: int = 0) -> tuple[object, list[str]]:
    """A client-side connection (closed) or error, and what the listener of party 0 turned away."""
    with Listener(LOOPBACK, rank=0, parties=3, tls=server, handshake_s=2) as listener:
        result = in_threads(
            lambda: dial(listener.address, party=party, role=client.identity, tls=client, deadline_s=2.0)
        )[0]
        if isinstance(result, Connection):
            result.close()
    return result, listener.refusals  # read after the listener's threads have ended


def load(folder: Path, name: str) -> TlsContexts:
    return load_tls(folder / name)


def test_every_role_is_known_by_its_certificate(certificates: Path) -> None:
    server = load(certificates, "party0")
    for name in ("party1", "client-alice", "owner-bob"):
        result, _ = attempt(server, load(certificates, name))
        assert isinstance(result, Connection), result
        assert result.encrypted


def test_the_wrong_party_at_an_address_is_refused(certificates: Path) -> None:
    result, _ = attempt(load(certificates, "party0"), load(certificates, "party1"), party=2)
    assert isinstance(result, HandshakeError)
    assert "expected party 2, got party 0" in str(result)


@pytest.mark.parametrize(("certificate", "got"), [("party2", "party 2"), ("client-alice", "client alice")])
def test_a_valid_certificate_of_another_is_refused(certificates: Path, certificate: str, got: str) -> None:
    """Claiming rank 1 with party 2's or a client's certificate: refused, and both sides say why."""
    real = load(certificates, certificate)
    liar = TlsContexts(Identity.party(1), real.server, real.client)
    result, refusals = attempt(load(certificates, "party0"), liar)
    assert isinstance(result, HandshakeError)
    assert f"expected party 1, got {got}" in str(result)
    assert any(f"expected party 1, got {got}" in text for text in refusals)


def test_a_client_cannot_pose_as_a_listening_party(certificates: Path) -> None:
    alice = load(certificates, "client-alice")
    result, _ = attempt(TlsContexts(Identity.party(0), alice.server, alice.client), load(certificates, "party1"))
    assert isinstance(result, HandshakeError)
    assert "certificate" in str(result)


def test_a_certificate_of_another_authority_is_refused(certificates: Path, tmp_path: Path) -> None:
    create_certificates(tmp_path / "other", parties=3)
    ours, theirs = load(certificates, "party0"), load(tmp_path / "other", "party1")
    result, refusals = attempt(ours, theirs)
    assert isinstance(result, HandshakeError)
    assert "certificate" in str(result)
    # A client that would trust anybody is refused by the listener all the same.
    theirs.client.load_verify_locations(certificates / "party0" / "ca.pem")
    result, refusals = attempt(ours, theirs)
    assert isinstance(result, HandshakeError)
    assert "refused by the peer" in str(result)
    assert any("certificate" in text for text in refusals)


def test_an_expired_certificate_is_refused(tmp_path: Path) -> None:
    past = datetime.now(UTC) - timedelta(days=10)
    create_certificates(tmp_path / "old", parties=3, days=5, now=past)
    old = tmp_path / "old"
    result, _ = attempt(load(old, "party0"), load(old, "party1"))
    assert isinstance(result, HandshakeError)
    assert "expired" in str(result)


def test_no_certificate_is_refused(certificates: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(certificates / "party0" / "ca.pem")
    party1 = load(certificates, "party1")
    result, refusals = attempt(load(certificates, "party0"), TlsContexts(Identity.party(1), party1.server, context))
    assert isinstance(result, HandshakeError)
    assert any("PEER_DID_NOT_RETURN_A_CERTIFICATE" in text for text in refusals)


@pytest.mark.parametrize("side", ["client", "server"])
def test_tls_1_2_is_refused(certificates: Path, side: str) -> None:
    old = load(certificates, "party1" if side == "client" else "party0")
    context = getattr(old, side)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    server = old if side == "server" else load(certificates, "party0")
    client = old if side == "client" else load(certificates, "party1")
    result, _ = attempt(server, client)
    assert isinstance(result, HandshakeError)
    assert "TLS 1.3 handshake refused" in str(result)


def test_the_wire_is_tls_1_3(certificates: Path) -> None:
    tls = contexts(certificates, 2)
    made = try_mesh(tls, [hello(rank, 2) for rank in range(2)])
    lanes = [result[0] for result in made if not isinstance(result, BaseException)]
    try:
        versions = [next(iter(lane.transport._links.values())).socket.version() for lane in lanes]  # type: ignore[attr-defined]
        assert versions == ["TLSv1.3", "TLSv1.3"]
        assert all(lane.transport.encrypted for lane in lanes)
    finally:
        for lane in lanes:
            lane.transport.close()


def test_messages_of_the_tls_layer_itself_do_not_disturb_a_lane(certificates: Path) -> None:
    """Session tickets, as the server sends them after the handshake, make a TLS socket readable without data."""
    tls = contexts(certificates, 3)
    for context in tls:
        assert context is not None
        context.server.options &= ~ssl.OP_NO_TICKET
        context.server.num_tickets = 8
    made = try_mesh(tls, [hello(rank, 3) for rank in range(3)])
    lanes = [result[0].transport for result in made if not isinstance(result, BaseException)]
    try:
        for name in ("simultaneous", "order", "deadline"):
            CHECKS[name](lanes)
    finally:
        for lane in lanes:
            lane.close()


# ---- plain TCP stays on loopback ----------------------------------------------------------------------------------


def test_loopback_is_told_from_the_rest() -> None:
    assert all(is_loopback(host) for host in ("127.0.0.1", "127.255.0.3", "::1", "::ffff:127.0.0.1"))
    assert not any(is_loopback(host) for host in ("0.0.0.0", "::", "10.0.0.1", "192.0.2.1", "128.0.0.1", "example"))
    check_loopback("localhost", "connect to")


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::"])
def test_insecure_off_loopback_is_refused_on_both_sides(host: str) -> None:
    with pytest.raises(ConfigError, match="loopback"):
        Listener((host, 0), rank=0, parties=2, tls=None, insecure_loopback=True)
    with pytest.raises(ConfigError, match="loopback"):
        dial((host, 9), party=0, role=Identity.party(1), tls=None, insecure_loopback=True, deadline_s=1)


def test_insecure_must_be_asked_for(certificates: Path) -> None:
    with pytest.raises(ConfigError, match="certificates are needed"):
        Listener(LOOPBACK, rank=0, parties=2, tls=None)
    with pytest.raises(ConfigError, match="certificates are needed"):
        dial(LOOPBACK, party=0, role=Identity.party(1), tls=None)
    with pytest.raises(ConfigError, match="role must be given"):
        connect_role(LOOPBACK, party=0, tls=None, insecure_loopback=True)


def test_an_accepted_peer_from_elsewhere_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Should a plain connection ever arrive from outside (a forwarded port), its address is checked too."""
    monkeypatch.setattr("sottovoce.engine.transport.listener.is_loopback", lambda host: False)
    with (
        Listener(LOOPBACK, rank=0, parties=2, tls=None, insecure_loopback=True) as listener,
        socket.create_connection(listener.address, timeout=2) as sock,
    ):
        assert sock.recv(1) == b""
    assert any("outside loopback" in text for text in listener.refusals)


def test_ipv6_loopback() -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6 on this machine")
    try:
        listener = Listener(("::1", 0), rank=0, parties=2, tls=None, insecure_loopback=True)
    except ConfigError:
        pytest.skip("no IPv6 loopback on this machine")
    with (
        listener,
        dial(listener.address, party=0, role=Identity.party(1), tls=None, insecure_loopback=True, deadline_s=2) as made,
    ):
        assert listener.address[0] == "::1"
        assert not made.encrypted


@pytest.mark.parametrize("text", ["", "host", "host:", ":1", "host:-1", "host:65536", "host:1x", "host:١"])
def test_bad_addresses(text: str) -> None:
    with pytest.raises(ConfigError, match="host:port"):
        parse_address(text)


def test_good_addresses() -> None:
    assert parse_address("mpc.example:7000") == ("mpc.example", 7000)
    assert parse_address("[::1]:1") == ("::1", 1)
