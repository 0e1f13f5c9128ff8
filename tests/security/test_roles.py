"""Every role in a process of its own user: nobody holds, logs, stores or sends what it must not.

Bob's weights and Alice's recording are made for the test. While the deployment is held in the middle of the weights'
transfer, in the middle of an inference, and after the answer, the memory of every process is searched for weights and
features in every form that they take on the way, and for the keys, seeds and masks of preprocessing; then logs, stores
and recorded traffic.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import pytest

from sottovoce.engine.protocols.table import ProtocolRow, find
from sottovoce.serving.cluster import Cluster, free_addresses
from tests.security.needles import Search, needles
from tests.security.proxy import Proxy
from tests.security.roles import CLIENT, DEALER, OWNER, PARTIES, PATIENCE_S, Deployment, Secrets, deployed, material

DEPLOYING_BYTES = 200_000
"""Of P1's traffic (P0 gets seeds only): in the middle of the weights' transfer."""
COMPUTING_BYTES = 40_000
"""Of P0's traffic: in the middle of an inference, which takes more than three times that."""


@pytest.fixture(scope="module")
def deployment() -> Iterator[Deployment]:
    with deployed() as made:
        yield made


@contextmanager
def proxies(ports: Sequence[int]) -> Iterator[list[Proxy]]:
    made = [Proxy(port) for port in ports]
    try:
        yield made
    finally:
        for proxy in made:
            proxy.close()


@dataclass(slots=True)
class Stage:
    """One protocol on the deployment's users. lines: a proxy before each party, and before the dealer."""

    d: Deployment
    row: ProtocolRow
    tls: bool
    ports: list[int]
    lines: list[Proxy]
    secrets: Secrets
    search: Search

    @property
    def parties(self) -> tuple[str, ...]:
        return PARTIES[: self.row.parties]

    @property
    def roles(self) -> tuple[str, ...]:
        """Those that live to the end."""
        return (*self.parties, OWNER, CLIENT, *([DEALER] if self.row.preprocessing else []))

    def named(self, name: str) -> str:
        """A process of this stage."""
        return f"{self.row.name}-{'tls' if self.tls else 'plain'}-{name}"

    def start(self, name: str, role: str, argv: Sequence[str], listening: int | None = None) -> None:
        """Everybody reaches a server through its proxy; a server listens at its own port."""
        seen = [self.ports[i] if i == listening else proxy.port for i, proxy in enumerate(self.lines)]
        addresses = tuple(("127.0.0.1", port) for port in seen)
        dealer = addresses[self.row.parties] if self.row.preprocessing else None
        path = self.d.folder / f"{self.named(name)}.toml"
        path.write_text(Cluster(addresses[: self.row.parties], self.row.name, dealer=dealer).to_toml())
        certs = ["--certs", str(self.d.folder / role / "certs")]
        connect = ["--cluster", str(path), "--deadline", "100", *(certs if self.tls else ["--insecure-loopback"])]
        self.d.start(self.named(name), role, [*argv, *connect])

    def wait(self, name: str, text: str) -> str:
        return self.d.wait(self.named(name), text)

    def pid(self, name: str) -> int:
        return self.d.pids[self.named(name)]

    def found_in(self, name: str) -> set[str]:
        """Names of the secrets in a process's memory now."""
        return self.search.in_process(self.pid(name))

    def prepare(self) -> list[list[str]]:
        """A dealer and both parties' `prepare`, in a folder where everybody may write. Each party's store options."""
        stores = self.d.folder / self.named("stores")
        stores.mkdir()
        stores.chmod(0o1777)
        program = self.d.folder / f"{self.row.name}.json"
        program.write_bytes(self.secrets.compiled.program.to_json())
        self.start(DEALER, DEALER, ["dealer", "--progress", "none"], self.row.parties)
        self.wait(DEALER, "listens at")
        options = []
        for rank, role in enumerate(self.parties):
            store, key = stores / f"p{rank}", stores / f"p{rank}.key"
            options.append(["--store", str(store), "--store-key", str(key)])
            self.start(
                f"prepare{rank}", role, ["prepare", str(rank), "--clips", "1", "--json", "--progress", "none",
                                         "--program", str(program), *options[-1]], rank
            )  # fmt: skip
        for rank, role in enumerate(self.parties):
            self.wait(f"prepare{rank}", "status 0")
            self.d.private[role] = [self.d.folder / role, *stores.glob(f"p{rank}*")]
        self.secrets = replace(
            self.secrets, wanted=self.secrets.wanted | material(self.secrets.compiled, self.row, stores)
        )
        self.search = Search(self.secrets.wanted)
        for path in stores.rglob("*"):  # nothing of it stands there in the clear
            assert path.suffix == ".key" or path.is_dir() or self.search.in_bytes(path.read_bytes()) == set(), path
        assert len(list(stores.rglob("*.seg"))) == self.row.parties
        for rank, role in enumerate(self.parties):  # which have let go of some of it
            assert self.found_in(f"prepare{rank}") & self.secrets.kept_from(role) == set(), role
        return options


@pytest.mark.root
@pytest.mark.slow
@pytest.mark.timeout(150, func_only=True)
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("protocol", ["rep3", "beaver2"])
def test_nobody_holds_what_it_must_not(deployment: Deployment, protocol: str, tls: bool) -> None:
    d, row = deployment, find(protocol)
    ports = [port for _, port in free_addresses(row.parties + row.preprocessing)]
    with proxies(ports) as lines:
        s = Stage(d, row, tls, ports, lines, d.secrets, Search(d.secrets.wanted))
        stores = s.prepare() if row.preprocessing else [[] for _ in s.parties]
        servers = [role for role in s.roles if role not in (OWNER, CLIENT)]
        for rank, role in enumerate(s.parties):
            s.start(role, role, ["party", str(rank), "--progress", "none", *stores[rank]], rank)
        for role in s.parties:
            s.wait(role, "listens at")

        lines[1].hold_after(DEPLOYING_BYTES)
        s.start(OWNER, OWNER, ["deploy", "--weights", str(d.folder / OWNER / "weights.npz")])
        s.wait(OWNER, "sends each")
        assert lines[1].held.wait(PATIENCE_S), s.wait(OWNER, "")
        weights = s.secrets.named("weights")
        assert weights <= s.found_in(OWNER) | uninteresting(weights)  # else the search finds nothing
        for role in servers:
            assert s.found_in(role) & s.secrets.kept_from(role) == set(), role
        if not tls:  # a share on its way to P1 is in P1's memory, and never in P0's, who holds the other slots
            words = bytes(max(lines[1].recorded, key=len)[DEPLOYING_BYTES // 2 :][:24])
            share = Search({"share": words})
            assert share.in_process(s.pid("party1")) == {"share"}
            assert share.in_process(s.pid("party0")) == set()
        lines[1].release()
        s.wait(OWNER, "status 0")

        lines[0].hold_after(COMPUTING_BYTES)
        s.start(
            CLIENT, CLIENT, ["classify", str(d.folder / CLIENT / "clip.wav"), "--json", "--progress", "none"]
        )  # fmt: skip
        s.wait(CLIENT, "\n")
        assert lines[0].held.wait(PATIENCE_S), s.wait(CLIENT, "")
        os.kill(s.pid(s.parties[-1]), signal.SIGSTOP)  # as it stands
        inside = {role: s.found_in(role) for role in s.roles}
        assert {n.partition(" as ")[2] for n in inside[CLIENT] if n.startswith("features[")} >= {"float64", "uint64"}
        assert any(n.startswith("features: samples") for n in inside[CLIENT])
        if row.preprocessing:
            for role in s.parties:
                assert {n.split(" ")[0] for n in inside[role]} == {"key", "seeds", "opened"}, role
        for role in s.roles:
            assert inside[role] & s.secrets.kept_from(role) == set(), role
        os.kill(s.pid(s.parties[-1]), signal.SIGCONT)
        lines[0].release()
        answer = s.wait(CLIENT, "status")
        assert "status 0" in answer and f'"{d.secrets.label}"' in answer

        for role in s.roles:
            assert s.found_in(role) & s.secrets.kept_from(role) == set(), role
            d.check_access(s.named(role), role)
            log = d.log(s.named(role)).read_bytes()
            assert s.search.in_bytes(log) == set(), role
            assert role == CLIENT or d.secrets.label.encode() not in log, role
        traffic = [[bytes(record) for record in line.recorded] for line in lines]
        assert sum(len(record) for records in traffic for record in records) > 1_000_000  # shares, messages
        assert any(b"conv1" in record for record in traffic[0]) != tls  # the program is readable without TLS only
        for records in traffic[: row.parties]:
            for record in records:
                assert s.search.in_bytes(record) == set()
        for records in traffic[row.parties :]:  # the dealer's: seeds go there, which TLS must hide
            found = set().union(*map(s.search.in_bytes, records))
            assert found == (set() if tls else {f"seeds of {p}: {n}" for p in s.parties for n in ("masks", "segment")})
        for role in servers:
            os.kill(s.pid(role), signal.SIGTERM)


def uninteresting(names: set[str]) -> set[str]:
    """Forms that the owner need not hold at the moment of the search."""
    return {name for name in names if "transposed" in name or "float64" in name}


def test_the_search_finds_a_needle_anywhere() -> None:
    values = np.random.default_rng(1).normal(size=8).astype(np.float32)
    wanted = needles("a", values) | needles("b", values.astype(np.float64))
    search = Search(wanted)
    for shift in range(9):
        for name, needle in wanted.items():
            assert search.in_bytes(bytes(1000 + shift) + needle + bytes(7)) == {name}
            assert search.in_bytes(bytes(1000 + shift) + needle[:-1]) == set()
    assert search.in_bytes(b"") == set()
    held = bytearray(wanted["a[0] as float32"])
    assert "a[0] as float32" in search.in_process(os.getpid())
    assert held
