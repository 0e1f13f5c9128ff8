"""With fixed keys and seeds, messages and results are bit-identical on every transport, with either cipher."""

from __future__ import annotations

import secrets
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import pytest

from sottovoce.engine.backend.cpu import CpuBackend
from sottovoce.engine.local import LocalCluster
from sottovoce.engine.protocols.table import PROTOCOLS
from sottovoce.engine.transport.base import Transport
from sottovoce.engine.transport.certificates import create_certificates
from sottovoce.engine.transport.memory import memory_mesh
from tests.security.small import counted_tokens, small_batch, small_model
from tests.security.views import PARTIES, Received, RecordingTransport, fixed_keys
from tests.transport.meshes import tcp_mesh

CLIPS = 4


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fixed keys") / "certificates"
    create_certificates(folder, parties=PARTIES)
    return folder


def record(
    mesh: AbstractContextManager[list[Transport]],
    cipher: str,
    monkeypatch: pytest.MonkeyPatch,
    seed: int = 0,
    protocol: str = "rep3",
) -> tuple[list[list[Received]], np.ndarray]:
    """What every party sent, and the labels."""
    with monkeypatch.context() as patch, mesh as transports:
        patch.setattr(secrets, "token_bytes", counted_tokens(seed))
        patch.setattr(CpuBackend, "chunk_elements", 128)  # several chunks: all rotations
        model = small_model()
        recording = [RecordingTransport(t) for t in transports]
        keys = fixed_keys(seed)
        with LocalCluster(
            model.program, model.weights, protocol, meshes=[recording], pair_keys=keys, cipher=cipher
        ) as cluster:
            labels, _ = cluster.run(small_batch(model, CLIPS))
        return [t.sent for t in recording], labels


@pytest.mark.parametrize(("protocol", "cipher"), [*((name, "aes128ctr") for name in PROTOCOLS), ("rep3", "chacha20")])
def test_messages_are_the_same_on_every_transport(
    protocol: str, cipher: str, certificates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parties = PROTOCOLS[protocol].parties

    def memory() -> AbstractContextManager[list[Transport]]:
        return nullcontext(memory_mesh(parties))

    expected, labels = record(memory(), cipher, monkeypatch, protocol=protocol)
    assert all(len(sent) > 20 for sent in expected)
    for mesh in (memory(), tcp_mesh(None, parties, wait_s=20.0), tcp_mesh(certificates, parties, wait_s=20.0)):
        sent, again = record(mesh, cipher, monkeypatch, protocol=protocol)
        assert sent == expected
        np.testing.assert_array_equal(again, labels)
    # Other keys and seeds: the same labels, and not one message the same.
    other, again = record(memory(), cipher, monkeypatch, 1, protocol)
    np.testing.assert_array_equal(again, labels)
    assert not {m.payload for sent in other for m in sent} & {m.payload for sent in expected for m in sent}


def test_ciphers_give_other_messages_and_the_same_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [record(nullcontext(memory_mesh(PARTIES)), c, monkeypatch) for c in ("aes128ctr", "chacha20")]
    np.testing.assert_array_equal(runs[0][1], runs[1][1])
    assert not {m.payload for s in runs[0][0] for m in s} & {m.payload for s in runs[1][0] for m in s}
