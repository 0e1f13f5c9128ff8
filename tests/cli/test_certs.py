"""`sottovoce certs`."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from tests.cli.conftest import RunCommand

from sottovoce.cli.exits import Exit
from sottovoce.engine.transport.tls import Identity, load_tls
from sottovoce.serving.cluster import load_cluster


def test_each_role_gets_its_own(command: RunCommand, tmp_path: Path) -> None:
    folder = tmp_path / "new"
    roles_wanted = ("--client", "ann", "--client", "abe", "--owner", "boss")
    hosts = ("--host", "0=10.0.0.1", "--host", "1=p1.example.org", "--host", "2=::1")
    ran = command("certs", folder, *roles_wanted, *hosts)
    assert ran.status == Exit.OK
    roles = {"party0", "party1", "party2", "client-ann", "client-abe", "owner-boss"}
    assert {path.name for path in folder.iterdir()} == roles | {"authority"}
    for role in roles:
        assert str(folder / role) in ran.out
    assert load_tls(folder / "party1").identity == Identity.party(1)
    assert load_tls(folder / "owner-boss").identity == Identity("owner", "boss")
    assert "party 1 (p1.example.org)" in ran.out and "offline" in ran.out
    assert "Save these lines as cluster.toml" in ran.out and "--host" not in ran.out
    sample = tomllib.loads(ran.out[ran.out.index("  protocol =") :])
    assert sample["parties"] == ["10.0.0.1:7100", "p1.example.org:7100", "[::1]:7100"]


def test_the_json_object(command: RunCommand, tmp_path: Path) -> None:
    value = command("certs", tmp_path / "new", "--cluster-file", tmp_path / "cluster.toml", "--json").json
    folders = ("party0", "party1", "party2", "client-alice", "owner-bob", "authority")
    assert value["folders"] == {name: str(tmp_path / "new" / name) for name in folders}
    assert value["cluster"] == (tmp_path / "cluster.toml").read_text()
    assert value["cluster_file"] == str(tmp_path / "cluster.toml")


def test_without_hosts_the_cluster_is_this_machine(command: RunCommand, tmp_path: Path) -> None:
    file = tmp_path / "cluster.toml"
    ran = command("certs", tmp_path / "new", "--cluster-file", file)
    assert ran.status == Exit.OK and str(file) in ran.out and "--host RANK=HOST" in ran.out
    assert load_cluster(file).addresses == tuple(("127.0.0.1", port) for port in (7100, 7101, 7102))
    again = command("certs", tmp_path / "other", "--cluster-file", file)
    assert again.status == Exit.USAGE and "--cluster-file: " in again.err and "nothing is overwritten" in again.err
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--protocol", "no"], "--protocol: expected rep3, beaver2"),
        (["--protocol", "plain"], "--protocol: plain has no parties"),
        (["--host", "dealer=d.example.org"], "--host: dealer: rep3"),
        (["--protocol", "beaver2", "--host", "0=a.example.org", "--host", "1=b.example.org"], "dealer=HOST"),
        (["--days", "0"], "--days: expected 1 to 3650, got 0"),
        (["--host", "p1.example.org"], "--host: expected RANK=HOST"),
        (["--host", "7=p1.example.org"], "--host: expected one for each"),
        (["--host", "0=p0.example.org"], "--host: expected one for each"),
        (["--client", "Not A Name"], "not an identity"),
        (["--client", "alice", "--client", "alice"], "--client: 'alice' is given twice"),
        (["--owner", "bob", "--owner", "bob"], "--owner: 'bob' is given twice"),
        (["--cluster-file", "no/such/folder/cluster.toml"], "--cluster-file: no folder"),
    ],
)
def test_a_bad_option_leaves_nothing_behind(options: list[str], text: str, command: RunCommand, tmp_path: Path) -> None:
    ran = command("certs", tmp_path / "new", *options)
    assert (ran.status, ran.out) == (Exit.USAGE, "")
    assert text in ran.err
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named(command: RunCommand, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    ran = command("certs", tmp_path / "file" / "new")
    assert ran.status == Exit.USAGE
    assert ran.err == f"sottovoce: error: certs: File exists: {tmp_path / 'file'}\n"


def test_two_parties_and_a_dealer(command: RunCommand, tmp_path: Path) -> None:
    file = tmp_path / "cluster.toml"
    hosts = [word for host in ("0=10.0.0.1", "1=10.0.0.2", "dealer=d.example.org") for word in ("--host", host)]
    ran = command("certs", tmp_path / "new", "--protocol", "beaver2-fss", "--cluster-file", file, *hosts)
    assert ran.status == Exit.OK and "to the dealer (d.example.org)" in ran.out
    assert {path.name for path in (tmp_path / "new").iterdir()} == {
        *("party0", "party1", "client-alice", "owner-bob", "dealer", "authority")
    }
    assert load_tls(tmp_path / "new" / "dealer").identity == Identity.dealer()
    cluster = load_cluster(file)
    assert (cluster.protocol, len(cluster.addresses), cluster.dealer) == ("beaver2-fss", 2, ("d.example.org", 7150))
    alone = command("certs", tmp_path / "alone", "--protocol", "beaver2", "--no-dealer", "--json").json
    assert "dealer" not in alone["cluster"] and "dealer" not in alone["folders"]


def test_nothing_is_overwritten(command: RunCommand, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("x")
    ran = command("certs", tmp_path)
    assert ran.status == Exit.USAGE and "not empty" in ran.err
