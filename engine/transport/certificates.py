"""Makes a deployment's certificates: its own authority and one folder for each role, holding only what it needs.

Layout:
    FOLDER/party0/       ca.pem cert.pem key.pem      to the machine of party 0, and to nobody else
    FOLDER/client-alice/ ca.pem cert.pem key.pem
    FOLDER/owner-bob/    ca.pem cert.pem key.pem
    FOLDER/dealer/       ca.pem cert.pem key.pem      where preprocessing comes from a dealer
    FOLDER/authority/    ca.pem ca-key.pem README.txt keep offline, or delete the key
"""

from __future__ import annotations

import ipaddress
import os
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sottovoce.engine.errors import ConfigError
from sottovoce.engine.transport.tls import CA_FILE, CERT_FILE, KEY_FILE, MAX_PARTIES, Identity

AUTHORITY_FOLDER = "authority"
_NOTE = """ca-key.pem signs certificates for this deployment. Whoever holds it can pose as any party, client, owner or
dealer.
No running role needs it: move it offline, or delete it when no more certificates are to be made.
Each of the other folders goes to its own role's machine, and only there: key.pem is that role's secret.
"""


def create_certificates(
    folder: Path,
    parties: int = 3,
    clients: Sequence[str] = (),
    owners: Sequence[str] = (),
    hosts: Mapping[int, Sequence[str]] | None = None,
    days: int = 365,
    *,
    dealer: Sequence[str] | None = None,
    now: datetime | None = None,
) -> list[Path]:
    """Make an authority and one certificate a role (EC P-256); returns the roles' folders and the authority's.

    folder: made here; it must not exist yet, or be empty. hosts: names and addresses of each party, by rank, written
    into its certificate for other tools; sottovoce itself trusts the rank, not the host. dealer: the same of the
    dealer; None: there is none. now: when the validity begins, default five minutes ago (clocks differ). Raises
    ConfigError; then nothing is left behind.
    """
    roles = [Identity.party(rank) for rank in range(parties)]
    roles += [Identity("client", name) for name in clients] + [Identity("owner", name) for name in owners]
    roles += [] if dealer is None else [Identity.dealer()]
    if not 2 <= parties <= MAX_PARTIES or not 1 <= days <= 3650 or len(set(roles)) != len(roles):
        raise ConfigError(f"certificates: expected 2 to {MAX_PARTIES} parties, 1 to 3650 days and no name twice")
    if hosts and not set(hosts) <= set(range(parties)):
        raise ConfigError(f"certificates: hosts given for {sorted(hosts)}, expected ranks below {parties}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"certificates: {folder} is not empty; nothing is overwritten")
    begin = now or datetime.now(UTC) - timedelta(minutes=5)
    end = begin + timedelta(days=days)
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Built beside its final place and renamed: there is never half a set of certificates.
    with tempfile.TemporaryDirectory(prefix=".certificates-", dir=folder.parent) as name:
        work = Path(name) / "out"
        work.mkdir(mode=0o700)
        key, ca = _authority(work / AUTHORITY_FOLDER, begin, end)
        for role in roles:
            places: Sequence[str] = dealer or () if role.kind == "dealer" else ()
            if role.rank is not None:
                places = (hosts or {}).get(role.rank, ())
            _role(work / role_folder(role), role, places, ca, key, begin, end)
        os.replace(work, folder)
    return [*(folder / role_folder(role) for role in roles), folder / AUTHORITY_FOLDER]


def role_folder(role: Identity) -> str:
    """The subfolder's name: party0, client-alice, owner-bob, dealer."""
    if role.kind == "dealer":
        return role.kind
    return f"party{role.id}" if role.kind == "party" else f"{role.kind}-{role.id}"


def _authority(folder: Path, begin: datetime, end: datetime) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("sottovoce deployment authority")
    ca = (
        _builder(name, name, key.public_key(), begin, end)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(authority=True), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    folder.mkdir(mode=0o700)
    _write(folder / CA_FILE, ca.public_bytes(serialization.Encoding.PEM), 0o644)
    _write(folder / "ca-key.pem", _private_pem(key), 0o600)
    _write(folder / "README.txt", _NOTE.encode(), 0o644)
    return key, ca


def _role(
    folder: Path,
    role: Identity,
    places: Sequence[str],
    ca: x509.Certificate,
    ca_key: ec.EllipticCurvePrivateKey,
    begin: datetime,
    end: datetime,
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(role.urn), *(_host(place) for place in places)]
    # Who only connects cannot pose as a server even if its identity went unchecked; a dealer only listens.
    usages = [] if role.kind == "dealer" else [ExtendedKeyUsageOID.CLIENT_AUTH]
    if role.kind in ("party", "dealer"):
        usages.append(ExtendedKeyUsageOID.SERVER_AUTH)
    certificate = (
        _builder(_name(f"sottovoce {role}"), ca.subject, key.public_key(), begin, end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    folder.mkdir(mode=0o700)
    _write(folder / CA_FILE, ca.public_bytes(serialization.Encoding.PEM), 0o644)
    _write(folder / CERT_FILE, certificate.public_bytes(serialization.Encoding.PEM), 0o644)
    _write(folder / KEY_FILE, _private_pem(key), 0o600)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, begin: datetime, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder(subject_name=subject, issuer_name=issuer, public_key=key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _host(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        pass
    try:
        return x509.DNSName(text)
    except ValueError:
        raise ConfigError(f"certificates: not a host name or an address: {text!r}") from None


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(path: Path, data: bytes, mode: int) -> None:
    """Create a file that must not exist, with its mode from the first moment (never readable by others in between)."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
