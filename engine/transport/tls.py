"""Mutual TLS 1.3, identities bound to certificates, and the rule that plain TCP never leaves loopback.

An identity is a URI in the certificate's subject alternative name, signed by the deployment's own authority:
`urn:sottovoce:party:0`, `urn:sottovoce:client:alice`, `urn:sottovoce:owner:bob`. Host names prove nothing here: a
party is who its certificate says, wherever it runs. A deployment has at most one dealer,
`urn:sottovoce:dealer:0`.
"""

from __future__ import annotations

import ipaddress
import re
import select
import socket
import ssl
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from sottovoce.engine.errors import ConfigError, DeadlineError, HandshakeError
from sottovoce.engine.transport.frame import clean_reason
from sottovoce.engine.transport.link import linger

Address = tuple[str, int]
Kind = Literal["party", "client", "owner", "dealer"]

URN_PREFIX: Final = "urn:sottovoce:"
MAX_PARTIES: Final = 16
CA_FILE: Final = "ca.pem"
CERT_FILE: Final = "cert.pem"
KEY_FILE: Final = "key.pem"
ROOT_BYTES: Final = 32
_LINGER_MS: Final = 100
_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,30}[a-z0-9])?")
_RANK: Final = re.compile(r"0|[1-9][0-9]?")
_ONLY: Final = "0"


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a certificate speaks for: kind and, for a party, its rank, for clients and owners a name."""

    kind: Kind
    id: str

    def __post_init__(self) -> None:
        if self.kind == "party":
            valid = _RANK.fullmatch(self.id) is not None and int(self.id) < MAX_PARTIES
        elif self.kind == "dealer":
            valid = self.id == _ONLY
        else:
            valid = self.kind in ("client", "owner") and _NAME.fullmatch(self.id) is not None
        if not valid:
            raise ConfigError(f"not an identity: {clean_reason(str(self.kind))} {clean_reason(self.id[:40])!r}")

    @classmethod
    def party(cls, rank: int) -> Identity:
        """The computing party of that rank."""
        return cls("party", str(rank))

    @classmethod
    def dealer(cls) -> Identity:
        """The deployment's dealer."""
        return cls("dealer", _ONLY)

    @classmethod
    def listening(cls, rank: int | None) -> Identity:
        """Who can be connected to: the party of that rank, or the dealer for None."""
        return cls.dealer() if rank is None else cls.party(rank)

    @property
    def rank(self) -> int | None:
        """The rank of a party, None for others."""
        return int(self.id) if self.kind == "party" else None

    @property
    def urn(self) -> str:
        """As it stands in the certificate."""
        return f"{URN_PREFIX}{self.kind}:{self.id}"

    def __str__(self) -> str:
        return "the dealer" if self.kind == "dealer" else f"{self.kind} {self.id}"


@dataclass(frozen=True, slots=True)
class TlsContexts:
    """What a role needs to speak TLS in both directions. The contexts hold the private key: never logged.

    root: 32 bytes derived from the private key, from which its holder may derive keys for itself; empty without it.
    """

    identity: Identity
    server: ssl.SSLContext = field(repr=False)
    client: ssl.SSLContext = field(repr=False)
    root: bytes = field(default=b"", repr=False)


def load_tls(folder: Path) -> TlsContexts:
    """Read one role's folder (ca.pem, cert.pem, key.pem, see certificates.py). Raises ConfigError."""
    paths = [folder / name for name in (CA_FILE, CERT_FILE, KEY_FILE)]
    for path in paths:
        if not path.is_file():
            raise ConfigError(f"certificate folder {folder}: expected {path.name}, it is not there")
    if paths[2].stat().st_mode & 0o077:
        raise ConfigError(f"{paths[2]}: a private key must be readable by its owner only (chmod 600)")
    try:
        identity = certificate_identity(x509.load_pem_x509_certificate(paths[1].read_bytes()))
        contexts = [_context(protocol, *paths) for protocol in (ssl.PROTOCOL_TLS_SERVER, ssl.PROTOCOL_TLS_CLIENT)]
        root = _root(paths[2])
    except (OSError, ValueError, TypeError, HandshakeError) as error:  # ssl.SSLError is an OSError
        raise ConfigError(f"certificate folder {folder}: cannot be used: {type(error).__name__}: {error}") from None
    return TlsContexts(identity, contexts[0], contexts[1], root)


def _root(path: Path) -> bytes:
    """HKDF-SHA256 of the private key."""
    key = serialization.load_pem_private_key(path.read_bytes(), None)
    der = key.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return HKDF(algorithm=hashes.SHA256(), length=ROOT_BYTES, salt=None, info=b"sottovoce/root").derive(der)


def _context(protocol: int, ca: Path, cert: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.check_hostname = False  # the identity is the URI, checked in peer_identity
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.maximum_version = ssl.TLSVersion.TLSv1_3
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_TICKET
    if protocol == ssl.PROTOCOL_TLS_SERVER:
        context.num_tickets = 0  # no resumption: every connection proves its certificate
    context.load_verify_locations(cafile=ca)
    context.load_cert_chain(cert, key)
    return context


def certificate_identity(certificate: x509.Certificate) -> Identity:
    """The identity in a certificate, which must hold exactly one. Raises HandshakeError."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        raise HandshakeError("the certificate names no identity: no subject alternative name") from None
    urns = names.get_values_for_type(x509.UniformResourceIdentifier)
    if len(urns) != 1 or not urns[0].startswith(URN_PREFIX):
        raise HandshakeError(f"the certificate must hold one URI {URN_PREFIX}…, it holds {len(urns)} URIs")
    kind, _, name = urns[0].removeprefix(URN_PREFIX).partition(":")
    try:
        return Identity(cast(Kind, kind), name)
    except ConfigError as error:
        raise HandshakeError(f"the certificate's identity: {error}") from None


def peer_identity(sock: ssl.SSLSocket) -> Identity:
    """The peer's identity from its verified certificate. Raises HandshakeError."""
    der = sock.getpeercert(binary_form=True) if sock.context.verify_mode == ssl.CERT_REQUIRED else None
    if not der:
        raise HandshakeError("expected a verified certificate of the peer, got none")
    return certificate_identity(x509.load_der_x509_certificate(der))


def check_identity(where: str, expected: Identity, got: Identity) -> None:
    """Raises HandshakeError if a valid certificate belongs to somebody else."""
    if expected != got:
        raise HandshakeError(f"{where}: certificate: expected {expected}, got {got}")


def wrap_tls(sock: socket.socket, tls: TlsContexts, *, server: bool, deadline_s: float, where: str) -> ssl.SSLSocket:
    """Complete the TLS handshake within deadline_s in all; the socket is non-blocking afterwards.

    Raises HandshakeError if the peer's or our certificate or version is refused, DeadlineError, ConnectionError.
    """
    end = time.monotonic() + deadline_s
    sock.setblocking(False)
    context = tls.server if server else tls.client
    wrapped = context.wrap_socket(sock, server_side=server, do_handshake_on_connect=False)
    try:
        while True:
            poll = select.poll()
            try:
                wrapped.do_handshake()
                return wrapped
            except ssl.SSLWantReadError:
                poll.register(wrapped.fileno(), select.POLLIN)
            except ssl.SSLWantWriteError:
                poll.register(wrapped.fileno(), select.POLLOUT)
            left = end - time.monotonic()
            if left <= 0:
                raise DeadlineError(f"{where}: TLS handshake: not complete after {deadline_s:.1f} s")
            poll.poll(left * 1000)
    except BaseException as error:
        linger(wrapped, _LINGER_MS if isinstance(error, ssl.SSLError) else 0)  # the alert must reach the peer
        if isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
            raise ConnectionError(f"{where}: the peer closed during the TLS handshake") from None
        if isinstance(error, ssl.SSLError):
            raise HandshakeError(f"{where}: TLS 1.3 handshake refused: {_tls_reason(error)}") from None
        raise


def _tls_reason(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the peer's certificate: {clean_reason(error.verify_message)}"
    return clean_reason(error.reason or str(error))


def parse_address(text: str) -> Address:
    """Read "host:port" or "[::1]:port". Raises ConfigError."""
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isascii() or not port.isdigit() or not 0 <= int(port) <= 65535:
        raise ConfigError(f"address: expected host:port, got {text!r}")
    return host, int(port)


def is_loopback(host: str) -> bool:
    """Whether a numeric address is 127.0.0.0/8 or ::1 (also written as an IPv4-mapped address)."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def check_loopback(host: str, operation: str) -> None:
    """Raises ConfigError unless `host` is, or resolves only to, loopback: plain TCP is for tests on one machine."""
    if is_loopback(host):
        return
    try:
        found = {str(info[4][0]) for info in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except OSError:
        found = set()
    if not found or not all(is_loopback(address) for address in found):
        raise ConfigError(f"{operation} {host}: --insecure-loopback is for 127.0.0.0/8 and ::1 only; use certificates")
