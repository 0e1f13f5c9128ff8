"""The roles of a deployment as processes of one user each, and the secrets that are looked for in them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import wave
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from sottovoce.engine.backend.cpu import CpuBackend
from sottovoce.engine.cost import demand
from sottovoce.engine.preprocessing.expand import mask_words, words_of
from sottovoce.engine.preprocessing.store import Store
from sottovoce.engine.preprocessing.vault import StoreIdentity
from sottovoce.engine.program import Linear
from sottovoce.engine.protocols.table import ProtocolRow
from sottovoce.engine.session import run_plain
from sottovoce.engine.transport.certificates import create_certificates
from sottovoce.models.compiler.compile import Compiled, compile_graph
from sottovoce.models.encode import encode_input
from sottovoce.models.speech.audio import load_audio
from sottovoce.models.speech.features import mfcc40_mean
from sottovoce.models.zoo import build, paper
from tests.security.needles import memory, needles

OWNER, CLIENT, DEALER = "owner-bob", "client-alice", "dealer"
PARTIES = ("party0", "party1", "party2")
ROLES = (*PARTIES, OWNER, CLIENT, DEALER)
FIRST_UID = 61_000
PATIENCE_S = 40.0
MAY_HOLD = {OWNER: ("weights",), CLIENT: ("features",), DEALER: ("seeds", "masks")}
MAY_HOLD |= {party: (f"key of {party}", f"seeds of {party}", "opened") for party in PARTIES}
"""Beginnings of the names of those secrets that a role may know. Of a mask each party knows its share alone."""


@dataclass(frozen=True, slots=True)
class Secrets:
    """What is looked for, by name, and what the client alone may learn."""

    compiled: Compiled
    wanted: dict[str, bytes]
    label: str

    def named(self, *beginnings: str) -> set[str]:
        """Names of some of them."""
        return {name for name in self.wanted if name.startswith(beginnings)}

    def kept_from(self, role: str) -> set[str]:
        """Names of those that a role must not hold."""
        return set(self.wanted) - self.named(*MAY_HOLD[role])


def make_secrets(folder: Path) -> Secrets:
    """Bob's weights and Alice's clip, and everything that can be recognised of them."""
    rng = np.random.default_rng(11)
    weights = {n: (w * rng.uniform(0.9, 1.1, w.shape)).astype(np.float32) for n, w in paper.load_weights().items()}
    np.savez(folder / OWNER / "weights.npz", **weights)
    time_s = np.arange(22_050) / 22_050
    sound = sum(rng.uniform(0.05, 0.1) * np.sin(2 * np.pi * f * time_s) for f in rng.uniform(100, 4000, 8))
    pcm = ((sound + rng.normal(0, 0.01, sound.size)) * 2**15 / 1.2).astype("<i2")
    clip = folder / CLIENT / "clip.wav"
    with wave.open(str(clip), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(22_050)
        file.writeframes(pcm.tobytes())
    compiled = compile_graph(build("paper", weights), outputs=("label",))
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
    return Secrets(compiled, wanted, compiled.program.labels[index])


def material(compiled: Compiled, row: ProtocolRow, stores: Path) -> dict[str, bytes]:
    """What `prepare` left in the stores STORES/p0, STORES/p1 and their keys, and what follows from it."""
    program, layout, fill = compiled.program, demand(compiled.program, row), CpuBackend().fill
    steps = [step for step in program.steps if isinstance(step, Linear)]
    wanted: dict[str, bytes] = {}
    masks = {step.weight.name: np.zeros(step.weight.shape, np.uint64) for step in steps}
    for rank, party in enumerate(PARTIES[: row.parties]):
        key = wanted[f"key of {party}"] = (stores / f"p{rank}.key").read_bytes()
        identity = StoreIdentity(program.digest, row.name, rank, layout.digest)
        with tempfile.TemporaryDirectory() as name:
            copy = shutil.copytree(stores / f"p{rank}", Path(name, "store"))
            with Store.open(copy, key=key, identity=identity) as store:
                mask_seed, (segment,) = store.mask_seed, store.segments
        wanted |= {f"seeds of {party}: masks": mask_seed, f"seeds of {party}: segment": segment.seed}
        words = words_of("own", segment.seed, range(1), layout.own, fill)
        wanted |= needles(f"seeds of {party}: own words", words)
        for step in steps:
            share = mask_words(mask_seed, step, fill)
            wanted |= needles(f"seeds of {party}: mask of {step.name}", share)
            masks[step.weight.name] += share
    for name, mask in masks.items():
        wanted |= needles(f"masks of {name}", mask) | needles(f"opened {name}", compiled.weights[name] - mask)
    return wanted


@dataclass(slots=True)
class Deployment:
    """Folders of the roles, one user each, and the processes. private: what no other role may open."""

    folder: Path
    secrets: Secrets
    zygote: subprocess.Popen[str]
    pids: dict[str, int] = field(default_factory=dict)
    private: dict[str, list[Path]] = field(default_factory=dict)
    own: dict[str, list[str]] = field(default_factory=dict)

    def files_of(self, role: str) -> list[str]:
        """The role's private files and folders, now."""
        places = self.private[role]
        return sorted(str(path) for place in places for path in (place, *place.rglob("*")))

    def start(self, name: str, role: str, argv: Sequence[str]) -> None:
        """Fork a role; its log is NAME.log."""
        foreign = [path for other in ROLES if other != role for path in self.files_of(other)]
        self.own[name] = self.files_of(role)
        spec = {"uid": FIRST_UID + ROLES.index(role), "log": str(self.log(name)), "argv": list(argv),
                "own": self.own[name], "foreign": foreign}  # fmt: skip
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
        assert access == {"uid": FIRST_UID + ROLES.index(role), "own": self.own[name], "foreign": []}


@contextmanager
def deployed() -> Iterator[Deployment]:
    """Folders, certificates and users of all roles of all protocols. Skips where there can be no users."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    folder = Path(tempfile.mkdtemp(prefix="sottovoce-roles-"))
    zygote: subprocess.Popen[str] | None = None
    try:
        create_certificates(folder / "made", clients=["alice"], owners=["bob"], dealer=())
        try:
            os.chown(folder, FIRST_UID, FIRST_UID)
            os.chown(folder, 0, 0)
        except OSError as error:
            pytest.skip(f"needs users besides root: {error}")
        environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": "", "COLUMNS": "200"}
        zygote = subprocess.Popen(
            [sys.executable, "-W", "ignore", str(Path(__file__).parent / "zygote.py")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip
        for role in ROLES:
            (folder / role).mkdir()
            shutil.move(folder / "made" / role, folder / role / "certs")
        secrets = make_secrets(folder)
        for uid, role in enumerate(ROLES, FIRST_UID):
            for place in (folder / role, *(folder / role).rglob("*")):
                os.chown(place, uid, uid)
            (folder / role).chmod(0o700)
        folder.chmod(0o755)
        assert zygote.stdout and zygote.stdout.readline() == "ready\n"
        try:
            assert next(memory(zygote.pid))
        except PermissionError as error:
            pytest.skip(f"needs to read other processes' memory: {error}")
        yield Deployment(folder, secrets, zygote, private={role: [folder / role] for role in ROLES})
    finally:
        if zygote is not None and zygote.stdin and zygote.stdout:
            zygote.stdin.close()
            zygote.wait(60)
            zygote.stdout.close()
        shutil.rmtree(folder)
