"""Five roles in five processes of five users: nobody holds, logs or sends what it must not.

Bob's weights and Alice's recording are made for the test. While the deployment is held in the middle of the weights'
transfer, in the middle of an inference, and after the answer, the memory of every process is searched for weights and
features in every form that they take on the way; then logs and recorded traffic.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import wave
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from sottovoce.engine.session import run_plain
from sottovoce.engine.transport.certificates import create_certificates
from sottovoce.models.compiler.compile import compile_graph
from sottovoce.models.encode import encode_input
from sottovoce.models.speech.audio import load_audio
from sottovoce.models.speech.features import mfcc40_mean
from sottovoce.models.zoo import build, paper
from sottovoce.serving.cluster import Cluster, free_addresses
from tests.security.needles import Search, memory, needles
from tests.security.proxy import Proxy

PARTIES = ("party0", "party1", "party2")
ROLES = (*PARTIES, "owner-bob", "client-alice")
FIRST_UID = 61_000
PATIENCE_S = 40.0
DEPLOYING_BYTES = 200_000
"""Of P1's traffic (P0 gets seeds only): in the middle of the weights' transfer."""
COMPUTING_BYTES = 40_000
"""Of P0's traffic: in the middle of an inference, which takes more than three times that."""


@dataclass(frozen=True, slots=True)
class Secrets:
    """What is looked for: names begin with "weights" or "features"."""

    wanted: dict[str, bytes]
    label: str

    def only(self, owner: str) -> set[str]:
        """Names of one owner's secrets."""
        return {name for name in self.wanted if name.startswith(owner)}


def make_secrets(folder: Path) -> Secrets:
    """Bob's weights and Alice's clip, and everything that can be recognised of them."""
    rng = np.random.default_rng(11)
    weights = {n: (w * rng.uniform(0.9, 1.1, w.shape)).astype(np.float32) for n, w in paper.load_weights().items()}
    np.savez(folder / "owner-bob" / "weights.npz", **weights)
    time_s = np.arange(22_050) / 22_050
    sound = sum(rng.uniform(0.05, 0.1) * np.sin(2 * np.pi * f * time_s) for f in rng.uniform(100, 4000, 8))
    pcm = ((sound + rng.normal(0, 0.01, sound.size)) * 2**15 / 1.2).astype("<i2")
    clip = folder / "client-alice" / "clip.wav"
    with wave.open(str(clip), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(22_050)
        file.writeframes(pcm.tobytes())
    compiled = compile_graph(build("paper", weights))
    features = mfcc40_mean(load_audio(clip))
    encoded = encode_input(compiled.program, features[None])
    wanted: dict[str, bytes] = {}
    for name, w in weights.items():
        for values in (w, w.astype(np.float64)):
            wanted |= needles(f"weights {name}", values)
    for name, u in compiled.weights.items():
        wanted |= needles(f"weights {name}", u) | needles(f"weights {name} transposed", u.T)
    for values in (features, features.astype(np.float32), encoded):
        wanted |= needles("features", values)
    samples = pcm[10_000:11_000]
    wanted |= needles("features: samples", samples, 8)
    wanted |= needles("features: samples", (samples / np.float32(2**15)).astype(np.float32), 4)
    index = int(run_plain(compiled.program, compiled.weights, encoded, "label")[0])
    return Secrets(wanted, compiled.program.labels[index])


@dataclass(slots=True)
class Deployment:
    """Folders of the roles, one user each, and the processes."""

    folder: Path
    secrets: Secrets
    search: Search
    zygote: subprocess.Popen[str]
    pids: dict[str, int]

    def files_of(self, role: str) -> list[str]:
        """The role's private files."""
        names = {"owner-bob": "weights.npz", "client-alice": "clip.wav"}
        own = [self.folder / role / names[role]] if role in names else []
        return [str(p) for p in (*own, self.folder / role / "certs" / "key.pem")]

    def start(self, name: str, role: str, argv: Sequence[str]) -> None:
        """Fork a role; its log is NAME.log."""
        foreign = [path for other in ROLES if other != role for path in self.files_of(other)]
        spec = {"uid": FIRST_UID + ROLES.index(role), "log": str(self.log(name)), "argv": list(argv),
                "own": self.files_of(role), "foreign": foreign}  # fmt: skip
        assert self.zygote.stdin and self.zygote.stdout
        print(json.dumps(spec), file=self.zygote.stdin, flush=True)
        self.pids[name] = int(self.zygote.stdout.readline())

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def wait(self, name: str, text: str) -> str:
        """Until a role's log holds the text; the whole log."""
        end = time.monotonic() + PATIENCE_S
        while text not in (log := self.log(name).read_text() if self.log(name).exists() else ""):
            assert time.monotonic() < end and "\nstatus" not in log, f"{name} did not say {text!r}: {log}"
            time.sleep(0.02)
        return log

    def check_access(self, name: str, role: str) -> None:
        """The role opened all of its own files and none of the others'."""
        access = json.loads(self.wait(name, "\n").splitlines()[0])
        assert access == {"uid": FIRST_UID + ROLES.index(role), "own": self.files_of(role), "foreign": []}

    def found_in(self, name: str) -> set[str]:
        """Names of the secrets in a process's memory now."""
        return self.search.in_process(self.pids[name])


@pytest.fixture(scope="module")
def deployment() -> Iterator[Deployment]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    folder = Path(tempfile.mkdtemp(prefix="sottovoce-roles-"))
    zygote: subprocess.Popen[str] | None = None
    try:
        create_certificates(folder / "made", clients=["alice"], owners=["bob"])
        try:
            os.chown(folder, FIRST_UID, FIRST_UID)
            os.chown(folder, 0, 0)
        except OSError as error:
            pytest.skip(f"needs users besides root: {error}")
        for uid, role in enumerate(ROLES, FIRST_UID):
            (folder / role).mkdir()
            shutil.move(folder / "made" / role, folder / role / "certs")
            for place in (folder / role, *(folder / role).rglob("*")):
                os.chown(place, uid, uid)
        environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": "", "COLUMNS": "200"}
        zygote = subprocess.Popen(
            [sys.executable, "-W", "ignore", str(Path(__file__).parent / "zygote.py")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip
        secrets = make_secrets(folder)
        for role in ROLES:
            (folder / role).chmod(0o700)
        for path in ("owner-bob/weights.npz", "client-alice/clip.wav"):
            uid = FIRST_UID + ROLES.index(path.partition("/")[0])
            os.chown(folder / path, uid, uid)
            (folder / path).chmod(0o600)
        folder.chmod(0o755)
        assert zygote.stdout and zygote.stdout.readline() == "ready\n"
        try:
            assert next(memory(zygote.pid))
        except PermissionError as error:
            pytest.skip(f"needs to read other processes' memory: {error}")
        yield Deployment(folder, secrets, Search(secrets.wanted), zygote, {})
    finally:
        if zygote is not None and zygote.stdin and zygote.stdout:
            zygote.stdin.close()
            zygote.wait(60)
            zygote.stdout.close()
        shutil.rmtree(folder)


@contextmanager
def proxies(ports: Sequence[int]) -> Iterator[list[Proxy]]:
    made = [Proxy(port) for port in ports]
    try:
        yield made
    finally:
        for proxy in made:
            proxy.close()


@pytest.mark.root
@pytest.mark.slow
@pytest.mark.timeout(150)
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_nobody_holds_what_it_must_not(deployment: Deployment, tls: bool) -> None:
    d, prefix = deployment, "tls-" if tls else "plain-"
    ports = [port for _, port in free_addresses(3)]
    names = {role: prefix + role for role in ROLES}
    weights, features = d.secrets.only("weights"), d.secrets.only("features")

    def connect(role: str, listening: int | None = None) -> list[str]:
        """Everybody reaches a party through its proxy; a party listens at its own port."""
        seen = [ports[i] if i == listening else proxy.port for i, proxy in enumerate(lines)]
        path = d.folder / f"{names[role]}.toml"
        path.write_text(Cluster(tuple(("127.0.0.1", port) for port in seen)).to_toml())
        certs = ["--certs", str(d.folder / role / "certs")]
        return ["--cluster", str(path), "--deadline", "100", *(certs if tls else ["--insecure-loopback"])]

    with proxies(ports) as lines:
        for rank, role in enumerate(PARTIES):
            d.start(names[role], role, ["party", str(rank), "--progress", "none", *connect(role, rank)])
        for role in PARTIES:
            d.wait(names[role], "listens at")
        weights_file = str(d.folder / "owner-bob" / "weights.npz")
        lines[1].hold_after(DEPLOYING_BYTES)
        d.start(names["owner-bob"], "owner-bob", ["deploy", "--weights", weights_file, *connect("owner-bob")])
        d.wait(names["owner-bob"], "sends each")
        assert lines[1].held.wait(PATIENCE_S), d.log(names["owner-bob"]).read_text()
        assert weights <= d.found_in(names["owner-bob"]) | uninteresting(weights)  # else the search finds nothing
        for role in PARTIES:
            assert d.found_in(names[role]) == set(), role
        if not tls:  # a share on its way to P1 is in P1's memory, and never in P0's, who holds the other two slots
            words = bytes(max(lines[1].recorded, key=len)[DEPLOYING_BYTES // 2 :][:24])
            share = Search({"share": words})
            assert share.in_process(d.pids[names["party1"]]) == {"share"}
            assert share.in_process(d.pids[names["party0"]]) == set()
        lines[1].release()
        d.wait(names["owner-bob"], "status 0")

        clip = str(d.folder / "client-alice" / "clip.wav")
        lines[0].hold_after(COMPUTING_BYTES)
        d.start(
            names["client-alice"], "client-alice",
            ["classify", clip, "--json", "--progress", "none", *connect("client-alice")],
        )  # fmt: skip
        d.wait(names["client-alice"], "\n")
        assert lines[0].held.wait(PATIENCE_S), d.log(names["client-alice"]).read_text()
        os.kill(d.pids[names["party2"]], signal.SIGSTOP)  # as it stands
        inside = d.found_in(names["client-alice"])
        assert {n.partition(" as ")[2] for n in inside if n.startswith("features[")} >= {"float64", "uint64"}
        assert any(n.startswith("features: samples") for n in inside)
        for role in (*PARTIES, "owner-bob"):
            assert d.found_in(names[role]) & (features if role == "owner-bob" else weights | features) == set(), role
        os.kill(d.pids[names["party2"]], signal.SIGCONT)
        lines[0].release()
        answer = d.wait(names["client-alice"], "status")
        assert "status 0" in answer and f'"{d.secrets.label}"' in answer

        assert d.found_in(names["client-alice"]) & weights == set()
        for role in (*PARTIES, "owner-bob"):
            assert d.found_in(names[role]) & (features if role == "owner-bob" else weights | features) == set(), role
        for role in ROLES:
            d.check_access(names[role], role)
            log = d.log(names[role]).read_bytes()
            assert d.search.in_bytes(log) == set(), role
            assert role == "client-alice" or d.secrets.label.encode() not in log, role
        traffic = [bytes(record) for line in lines for record in line.recorded]
        assert sum(map(len, traffic)) > 1_000_000  # weights' and features' shares, messages
        assert any(b"conv1" in record for record in traffic) != tls  # the program is readable without TLS only
        for record in traffic:
            assert d.search.in_bytes(record) == set()
        for role in PARTIES:
            os.kill(d.pids[names[role]], signal.SIGTERM)


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
