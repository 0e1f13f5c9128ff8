"""No secret in a repr, a message of an error, or what a failing party tells the others."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sottovoce.engine import fixed
from sottovoce.engine.backend.cpu import CpuBackend
from sottovoce.engine.errors import SottovoceError
from sottovoce.engine.local import LocalCluster
from sottovoce.engine.party import Party
from sottovoce.engine.preprocessing.items import Layout
from sottovoce.engine.preprocessing.kinds import Mul
from sottovoce.engine.preprocessing.local import LiveDealer, LocalDealer
from sottovoce.engine.preprocessing.material import BatchMaterial
from sottovoce.engine.prg import KeyStream, PairStreams
from sottovoce.engine.protocols.beaver2 import share as beaver2_share
from sottovoce.engine.protocols.beaver2.protocol import Beaver2
from sottovoce.engine.protocols.beaver2.share import Beaver2AShare, Beaver2BShare, Beaver2Weights
from sottovoce.engine.protocols.plain.protocol import PlainAShare, PlainBShare, PlainWeights
from sottovoce.engine.protocols.rep3 import share as rep3_share
from sottovoce.engine.protocols.rep3.protocol import Rep3
from sottovoce.engine.protocols.rep3.share import Rep3AShare, Rep3BShare, Rep3Product, Rep3Weights
from sottovoce.engine.protocols.rep3.trunc import Left, Right
from sottovoce.engine.protocols.table import PROTOCOLS
from sottovoce.engine.session import Output
from sottovoce.engine.structs import convert
from sottovoce.engine.transport.certificates import create_certificates
from sottovoce.engine.transport.handshake import PairKey
from sottovoce.engine.transport.memory import memory_mesh
from sottovoce.engine.transport.mesh import MeshLane
from sottovoce.engine.transport.tls import load_tls
from sottovoce.models.compiler.compile import compile_graph
from sottovoce.models.encode import encode_input
from sottovoce.models.speech.audio import check_samples
from sottovoce.models.speech.extract import FeatureBatch
from sottovoce.models.zoo import build
from sottovoce.serving.messages import Request
from sottovoce.serving.party import Pending
from tests.security.small import small_batch, small_model

MARK = 7_654_321_987_654_321
"""A number that stands for every secret: its digits, its hexadecimal form and its bytes are looked for."""
WORDS = np.full(4, MARK, np.uint64)
KEY = MARK.to_bytes(8, "little") * 4


def forms(number: int = MARK) -> list[str]:
    """How a number or its bytes may appear in a text."""
    raw = number.to_bytes(8, "little", signed=number < 0)
    return [str(number), f"{number:x}", raw.hex(), raw[::-1].hex(), repr(raw)[2:-1], str(list(raw))[1:-1]]


def shown(text: str, number: int = MARK) -> bool:
    """Whether the number is in the text, also with separators or rounded as a float."""
    plain = re.sub(r"[_,\s]", "", text)
    return any(form in text or re.sub(r"[_,\s]", "", form) in plain for form in forms(number)) or (
        f"{float(number):.6e}"[:6] in text
    )


def objects() -> Iterator[Any]:
    """One of each kind of object that holds a secret."""
    a, b = Rep3AShare(WORDS, WORDS, 16), Rep3BShare(WORDS, WORDS, (256,))
    streams = PairStreams(KeyStream(KEY, "aes128ctr", CpuBackend(), "s"), KeyStream(KEY, "chacha20", CpuBackend(), "s"))
    party = Party(0, 3, memory_mesh(3)[0], {0: streams})
    yield from (a, b, Rep3Product(WORDS, 3), Rep3Weights(WORDS, WORDS, WORDS))
    yield from (PlainAShare(WORDS, 4), PlainBShare(WORDS), PlainWeights(WORDS, WORDS))
    yield from (Left(WORDS, WORDS, WORDS, WORDS, WORDS, WORDS), Right(WORDS, WORDS, WORDS, WORDS))
    yield from (streams, streams.masks, party, Rep3(party), Output("label", 4, WORDS), PairKey("chacha20", 1, KEY))
    yield from (Beaver2AShare(WORDS, 16), Beaver2BShare(WORDS, (256,)), Beaver2Weights(WORDS, WORDS))
    yield from offline()
    yield MeshLane(0, party.transport, 1, {1: "chacha20"}, {1: KEY})
    yield Pending(
        "client alice", Request(bytes(16), 1, "label"), [WORDS.view(np.uint8)], output=Output("label", 4, WORDS)
    )
    yield FeatureBatch(np.full((1, 40), float(MARK)), (0,), ("a.wav",), ())


def offline() -> Iterator[Any]:
    """Preprocessing: the dealer, what the parties see of it, and material on its way to a protocol."""
    fill, layout = CpuBackend().fill, Layout([Mul(1)])
    dealer, live = LocalDealer(layout, fill), LiveDealer(fill)
    dealer.seeds = dealer.mask_seeds = live.mask_seeds = (KEY, KEY)
    dealer.prepare(2)
    dealer._made[0] = (WORDS[:1], WORDS[:0]), False
    material = BatchMaterial(layout, WORDS[None, :2], WORDS[None, :1], WORDS[None, :0])
    party = Party(0, 2, memory_mesh(2)[0], {}, preprocessing=dealer.parties[0], material=material)
    batch = dealer.parties[1].reserve(2)
    yield from (dealer, dealer.parties[0], batch, batch.part(0, 1), live, live.parties[0], live.materials[0])
    yield from (material, party, Beaver2(party), layout)


@pytest.mark.parametrize("value", list(objects()), ids=lambda v: type(v).__name__)
def test_repr_holds_no_secret(value: Any) -> None:
    for text in (repr(value), str(value), f"{value}", repr([value]), repr({"x": value})):
        assert not shown(text), text[:80]
        assert len(text) < 1000


def test_the_search_notices_a_secret() -> None:
    for text in (repr(WORDS), repr(KEY), KEY.hex(), f"{MARK:,}", f"{MARK / 1:.8e}", str(list(KEY)), f"{WORDS[:1]}"):
        assert shown(text), text

    @dataclasses.dataclass
    class Careless:
        words: Any

    assert shown(repr(Careless(WORDS)))
    assert not shown(repr(Rep3AShare(WORDS, WORDS, 16)))


def test_sub_keys_are_not_shown() -> None:
    """Nor is what a stream derives from its key."""
    s = KeyStream(KEY, "aes128ctr", CpuBackend(), "s")
    assert s._key.hex() not in repr(s) and repr(s._key)[2:10] not in repr(s)


def test_models_and_clusters_show_no_weights() -> None:
    compiled = small_model()
    graph = build("paper")
    with LocalCluster(compiled.program, compiled.weights) as cluster:
        texts = [repr(v) for v in (compiled, compiled.report, compiled.program, graph, graph.nodes, cluster,
                                   cluster.sessions[0], cluster.parties)]  # fmt: skip
    numbers = {int(v) for w in compiled.weights.values() for v in w.reshape(-1).view(np.int64) if abs(int(v)) > 9999}
    assert len(numbers) > 50
    for text in texts:
        assert "array(" not in text and "0x" not in re.sub(r"at 0x[0-9a-f]+", "", text)
        assert not any(str(number) in text for number in numbers)
        for node in graph.nodes:
            if hasattr(node, "weight"):
                assert f"{float(node.weight.flat[0]):.4f}" not in text


def test_tls_contexts_show_no_key(tmp_path: Path) -> None:
    create_certificates(tmp_path / "made")
    folder = tmp_path / "made" / "party0"
    pem = (folder / "key.pem").read_text().splitlines()
    text = repr(load_tls(folder))
    assert len(pem) > 3 and not any(line in text for line in pem[1:-1])
    assert "party" in text


def _bad_feature(value: float) -> None:
    program = compile_graph(build("paper")).program
    rows = np.zeros((2, 40))
    rows[1, 3] = value
    encode_input(program, rows)


def _bad_program_run() -> None:
    compiled = small_model()
    with LocalCluster(compiled.program, compiled.weights) as cluster:
        cluster.run(np.full((1, 1, 3), MARK, np.uint64))


def _bad_share() -> None:
    slots = [np.frombuffer(KEY, np.uint8), np.full(5, 7, np.uint8)]
    rep3_share.receive(1, slots, (4,), 0, CpuBackend().fill)


def _bad_operands() -> None:
    pair = PairStreams.of(KEY, "aes128ctr", CpuBackend(), "s")
    protocol = Rep3(Party(0, 3, memory_mesh(3)[0], {0: pair, 1: pair}))
    protocol.add(Rep3AShare(WORDS, WORDS, 1), Rep3AShare(WORDS[:2], WORDS[:2], 1))


def _material() -> BatchMaterial:
    return BatchMaterial(Layout([Mul(1)]), WORDS[None, :2], WORDS[None, :1], WORDS[None, :0])


def _other_model() -> None:
    party = next(o for o in offline() if isinstance(o, LocalDealer)).parties[0]
    party.claim(KEY)
    party.claim(KEY[:-1] + b"x")


def _reuse() -> None:
    stream = KeyStream(KEY, "aes128ctr", CpuBackend(), "s")
    stream.draw(1)
    stream.draw_at(0, 1)


ERRORS: dict[str, Callable[[], Any]] = {
    "a feature outside the box": lambda: _bad_feature(float(MARK)),
    "a feature far below": lambda: _bad_feature(-float(MARK)),
    "a number too large": lambda: fixed.encode([float(MARK)], 30),
    "samples that are too loud or not finite": lambda: check_samples(np.array([float(MARK), np.inf] * 4000), 22_050),
    "a share of the wrong length": _bad_share,
    "operands that do not fit": _bad_operands,
    "a share of two of the wrong length": lambda: beaver2_share.receive(
        1, [np.full(5, 7, np.uint8)], (4,), 0, CpuBackend().fill
    ),
    "operands of two parties that do not fit": lambda: Beaver2(Party(0, 2, memory_mesh(2)[0], {})).add(
        Beaver2AShare(WORDS, 1), Beaver2AShare(WORDS[:2], 1)
    ),
    "another item than the next": lambda: _material().take(Mul(2)),
    "an item asked for twice": lambda: [m.take(Mul(1)) for m in [_material()] * 2],
    "weight masks of another model": _other_model,
    "a mask asked for twice": _reuse,
    "a cipher that is a key": lambda: KeyStream(KEY, "none", CpuBackend(), "s"),
    "a message that is another": lambda: convert({"request": MARK}, Request),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_hold_no_secret(name: str) -> None:
    with pytest.raises((SottovoceError, ValueError)) as caught:
        ERRORS[name]()
    error: BaseException | None = caught.value
    while error is not None:
        assert not shown(str(error)) and not shown(repr(error))
        error = error.__cause__


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_party_that_fails_tells_only_the_kind_of_its_error(protocol: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unexpected error may quote anything; the other parties hear its type."""
    heard: list[str] = []
    compiled = small_model()
    with LocalCluster(compiled.program, compiled.weights, protocol, deadline_s=5.0) as cluster:
        transport = cluster.parties[1][0].transport
        close = transport.close
        monkeypatch.setattr(transport, "close", lambda reason="": (heard.append(reason), close(reason))[1])

        def fail(*args: Any, **options: Any) -> None:
            raise RuntimeError(f"unexpected value {MARK}")

        monkeypatch.setattr(cluster.sessions[1], "_chunk", fail)
        with pytest.raises(Exception) as caught:  # noqa: PT011  # whichever party is first
            cluster.run(small_batch(compiled, 1))
    assert heard and "RuntimeError" in heard[0]
    assert not any(shown(reason) for reason in heard)
    assert isinstance(caught.value, RuntimeError) or not shown(str(caught.value))
