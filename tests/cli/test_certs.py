"""`sottovoce certs`."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from tests.cli.conftest import RunCommand

from sottovoce.cli.exits import Exit
from sottovoce.engine.transport.tls import Identity, load_tls


def test_each_role_gets_its_own(command: RunCommand, tmp_path: Path) -> None:
    folder = tmp_path / "new"
    roles_wanted = ("--client", "ann", "--client", "abe", "--owner", "boss")
    ran = command("certs", folder, *roles_wanted, "--host", "1=p1.example.org", "--host", "2=::1")
    assert ran.status == Exit.OK
    roles = {"party0", "party1", "party2", "client-ann", "client-abe", "owner-boss"}
    assert {path.name for path in folder.iterdir()} == roles | {"authority"}
    for role in roles:
        assert str(folder / role) in ran.out
    assert load_tls(folder / "party1").identity == Identity.party(1)
    assert load_tls(folder / "owner-boss").identity == Identity("owner", "boss")
    assert "party 1 (p1.example.org)" in ran.out and "offline" in ran.out
    sample = tomllib.loads(ran.out[ran.out.index("  protocol =") :])
    assert sample["parties"] == ["HOST0:7100", "p1.example.org:7100", "[::1]:7100"]


@pytest.mark.parametrize(
    "options",
    [
        ["--parties", "1"],
        ["--days", "0"],
        ["--host", "p1.example.org"],
        ["--host", "7=p1.example.org"],
        ["--client", "Not A Name"],
        ["--owner", "bob", "--owner", "bob"],
    ],
)
def test_a_bad_option_leaves_nothing_behind(options: list[str], command: RunCommand, tmp_path: Path) -> None:
    ran = command("certs", tmp_path / "new", *options)
    assert (ran.status, ran.out) == (Exit.USAGE, "")
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(command: RunCommand, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("x")
    ran = command("certs", tmp_path)
    assert ran.status == Exit.USAGE and "not empty" in ran.err
