"""`deploy`, `classify --cluster` and `party` against running parties, and against what can be wrong with them."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.cli.conftest import Deployment, RunCommand, running_parties

from sottovoce.cli.exits import Exit
from sottovoce.serving.cluster import Cluster, free_addresses


@pytest.fixture
def encrypted(tmp_path: Path) -> Iterator[Deployment]:
    with running_parties(tmp_path, encrypted=True) as deployment:
        yield deployment


@pytest.fixture
def insecure(tmp_path: Path) -> Iterator[Deployment]:
    with running_parties(tmp_path, encrypted=False) as deployment:
        yield deployment


@pytest.fixture
def nobody(tmp_path: Path) -> Path:
    """A cluster file of parties that are not there."""
    path = tmp_path / "nobody.toml"
    path.write_text(Cluster(free_addresses(3)).to_toml())
    return path


def test_deploy_then_classify(command: RunCommand, encrypted: Deployment, clip: Path, tmp_path: Path) -> None:
    deployed = command("deploy", *encrypted.owner)
    assert deployed.status == Exit.OK
    assert "deployed  paper under rep3" in deployed.out and "differ by more than" in deployed.out
    assert max(map(len, deployed.out.splitlines())) < 80
    assert all(f"P{rank} holds its shares of 98,056 secret numbers\n" in deployed.err for rank in range(3))
    assert "INSECURE" not in deployed.out
    ran = command("classify", clip, tmp_path / "missing.wav", "--json", *encrypted.client)
    assert ran.status == Exit.SOME_FAILED
    value = ran.json
    assert value["where"] == "cluster" and value["encrypted"] is True and value["insecure"] is False
    assert value["program"] in deployed.out
    assert value["results"][0] == command("classify", clip, "--json").json["results"][0]
    assert value["results"][1]["error"]["type"] == "AudioError"
    assert value["cost"]["input_bytes"] > 0 and value["cost"]["sharing_ms"] > 0
    shown = command("classify", clip, *encrypted.client).out
    for word in ("mutual TLS 1.3", "sharing", "opening", "input shares"):
        assert word in shown
    assert "inside this process" not in shown
    # Labels only, unless the owner allows more.
    refused = command("classify", clip, "--scores", *encrypted.client)
    assert (refused.status, refused.out) == (Exit.USAGE, "")
    assert "labels only (owner: sottovoce deploy --scores)" in refused.err


def test_plain_tcp_and_calibration_are_marked(
    command: RunCommand, insecure: Deployment, clip: Path, tmp_path: Path
) -> None:
    features = tmp_path / "features.npy"
    np.save(features, np.random.default_rng(1).uniform(-50, 50, (16, 40)))
    deployed = command("deploy", "--scores", "--calibrated", features, *insecure.owner)
    assert deployed.status == Exit.OK
    assert "INSECURE" in deployed.out and "CALIBRATED" in deployed.out
    ran = command("classify", clip, "--top-k", 2, *insecure.client)
    assert ran.status == Exit.OK
    assert "INSECURE" in ran.out and "CALIBRATED" in ran.out and "TLS" not in ran.out
    value = command("classify", clip, "--json", *insecure.client).json
    assert value["encrypted"] is False and value["insecure"] is True and value["calibrated"] is True


def test_a_peer_that_is_down_is_status_3(command: RunCommand, nobody: Path, clip: Path) -> None:
    options = ("--cluster", nobody, "--insecure-loopback", "--deadline", 0.5)
    for name in (("classify", clip), ("deploy",)):
        ran = command(*name, *options)
        assert (ran.status, ran.out) == (Exit.TRANSPORT, "")
        assert "P0" in ran.err and "not possible in 0.5 s" in ran.err
    value = command("classify", clip, "--json", *options)
    assert value.status == Exit.TRANSPORT and value.json["error"]["type"] == "DeadlineError"


def test_the_wrong_certificates_are_status_2(command: RunCommand, encrypted: Deployment, clip: Path) -> None:
    common = ("--cluster", encrypted.cluster, "--certs")
    cases = (
        (("classify", clip, *common, encrypted.certs / "owner-bob"), "the certificate of a client, got that of owner"),
        (("deploy", *common, encrypted.certs / "client-alice"), "the certificate of an owner, got that of client"),
        (("party", 0, *common, encrypted.certs / "party1"), "the certificate of party 0, got that of party 1"),
        (("party", 3, *common, encrypted.certs / "party1"), "RANK: expected 0, 1 or 2, got 3"),
        (("classify", clip, *common, encrypted.certs / "nobody"), "expected ca.pem"),
        (("classify", clip, "--cluster", encrypted.cluster), "expected this client's certificate folder"),
        (("party", 0, *common, encrypted.certs / "party0", "--insecure-loopback"), "give one of them"),
    )  # fmt: skip
    for arguments, text in cases:
        ran = command(*arguments)
        assert (ran.status, ran.out) == (Exit.USAGE, ""), ran.err
        assert text in ran.err


def test_another_deployment_s_certificates_are_status_3(
    command: RunCommand, encrypted: Deployment, clip: Path, tmp_path: Path
) -> None:
    assert command("certs", tmp_path / "other").status == Exit.OK
    for arguments in (("classify", clip), ("deploy",)):
        folder = tmp_path / "other" / ("client-alice" if arguments[0] == "classify" else "owner-bob")
        ran = command(*arguments, "--cluster", encrypted.cluster, "--certs", folder, "--deadline", 5)
        assert (ran.status, ran.out) == (Exit.TRANSPORT, "")
        assert "certificate" in ran.err


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"junk", "expected an npy or npz file of numbers"),
        (np.array([{"a": 1}], dtype=object), "expected an npy or npz file of numbers"),
        (np.array(["a"]), "real numbers"),
    ],
)
def test_calibration_features_are_checked(
    content: object, text: str, command: RunCommand, nobody: Path, tmp_path: Path
) -> None:
    path = tmp_path / "features.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.save(path, np.asarray(content))
    ran = command("deploy", "--calibrated", path, "--cluster", nobody, "--insecure-loopback")
    assert ran.status == Exit.USAGE and text in ran.err


def test_a_port_in_use_is_status_2(command: RunCommand, insecure: Deployment) -> None:
    ran = command("party", 0, "--cluster", insecure.cluster, "--insecure-loopback")
    assert ran.status == Exit.USAGE
    assert "Address already in use" in ran.err


def test_ctrl_c_ends_a_wait_for_peers_at_once(nobody: Path, clip: Path) -> None:
    options = ["--cluster", str(nobody), "--insecure-loopback", "--deadline", "600", "--progress", "lines"]
    with subprocess.Popen(
        [sys.executable, "-m", "sottovoce", "classify", str(clip), *options], stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        try:
            assert process.stderr.readline() == "connects with 3 parties\n"
            time.sleep(1.5)  # into the wait, or nearly: an interrupt is right at any moment
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == Exit.INTERRUPTED
            assert process.stderr.read() == "sottovoce: interrupted\n"
        finally:
            process.kill()


def test_a_party_ends_at_ctrl_c(nobody: Path) -> None:
    arguments = ["party", "0", "--cluster", str(nobody), "--insecure-loopback"]
    with subprocess.Popen(
        [sys.executable, "-m", "sottovoce", *arguments],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        try:
            lines = []
            for line in process.stderr:
                lines.append(line)
                if "listens at" in line:
                    break
            assert any("INSECURE" in line for line in lines)
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == Exit.OK
            assert "P0 has stopped" in process.stderr.read()
        finally:
            process.kill()
