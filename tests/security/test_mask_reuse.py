"""No word of a key masks two messages: a recorder over whole inferences, and what reuse would reveal."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sottovoce.engine.backend.cpu import CpuBackend
from sottovoce.engine.errors import MaskReuseError, TransportError
from sottovoce.engine.local import LocalCluster
from sottovoce.engine.prg import KeyStream
from sottovoce.engine.protocols.beaver2 import share as beaver2_share
from sottovoce.engine.protocols.rep3 import share as rep3_share
from sottovoce.engine.protocols.table import PROTOCOLS, ProtocolRow
from sottovoce.engine.session import run_plain
from sottovoce.engine.transport.certificates import create_certificates
from sottovoce.models.compiler.compile import Compiled
from tests.conformance.operations import OPERATIONS
from tests.security.broken import RepeatingStream
from tests.security.small import small_batch, small_model
from tests.security.views import PARTIES, Draw, ScriptedStream, fixed_keys, run_operation, slots_of
from tests.transport.meshes import contexts, hello, try_mesh

LANES = 2
CLIPS = 7
REQUESTS = 3


@pytest.fixture(scope="module")
def model() -> Compiled:
    return small_model()


@pytest.fixture
def one_clip_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every clip is a chunk of its own: all rotations, on all lanes."""
    monkeypatch.setattr(CpuBackend, "chunk_elements", 1)


class Recorder:
    """Every draw of every party: (party, label) -> [(operation, words), …]."""

    def __init__(self) -> None:
        self.draws: dict[tuple[int, str], list[tuple[int, int]]] = defaultdict(list)
        self._lock = threading.Lock()

    def watch(self, cluster: LocalCluster) -> None:
        for rank, lane, stream in all_streams(cluster):
            assert stream.observer is None and stream.position == 0

            def observe(label: str, operation: int, words: int, rank: int = rank) -> None:
                with self._lock:
                    self.draws[rank, label].append((operation, words))

            stream.observer = observe
            assert f"lane {lane}" in stream.label


def all_streams(cluster: LocalCluster) -> Iterator[tuple[int, int, KeyStream]]:
    """(rank, lane, stream) of a cluster."""
    for rank, lanes in enumerate(cluster.parties):
        for lane, party in enumerate(lanes):
            for pair in party.streams.values():
                yield rank, lane, pair.masks
                yield rank, lane, pair.dealing


def problems(draws: dict[tuple[int, str], list[tuple[int, int]]]) -> list[str]:
    """Positions drawn twice by one party, or not by exactly two parties with the same count of words."""
    found = []
    holders: Counter[tuple[str, int, int]] = Counter()
    for (rank, label), seen in draws.items():
        if len({operation for operation, _ in seen}) < len(seen):
            found.append(f"P{rank} drew an operation of {label} twice")
        holders.update((label, operation, words) for operation, words in seen)
    return found + [f"{position} has {n} holders" for position, n in holders.items() if n != 2]


@pytest.mark.usefixtures("one_clip_chunks")
@pytest.mark.parametrize(("protocol", "streams"), [("rep3", PARTIES * 2), ("beaver2", 1), ("beaver2-fss", 1)])
def test_every_position_is_used_once(model: Compiled, protocol: str, streams: int) -> None:
    """streams: that a lane draws from. Two parties only re-share the output from theirs."""
    recorder = Recorder()
    with LocalCluster(model.program, model.weights, protocol, lanes=LANES) as cluster:
        recorder.watch(cluster)
        for number in range(REQUESTS):
            batch = small_batch(model, CLIPS, number)
            labels, stats = cluster.run(batch)
            np.testing.assert_array_equal(labels, run_plain(model.program, model.weights, batch, "label"))
            assert all(s.rounds for s in stats)
    assert problems(recorder.draws) == []
    labels = {label for _, label in recorder.draws}
    assert len(labels) == LANES * streams  # every slot, lane and purpose was used
    assert all([operation for operation, _ in seen] == list(range(len(seen))) for seen in recorder.draws.values())


@pytest.mark.usefixtures("one_clip_chunks")
def test_the_recorder_notices_reuse(model: Compiled) -> None:
    """Streams that start anew with every request, as if a session's streams were made per request."""
    recorder = Recorder()
    with LocalCluster(model.program, model.weights, lanes=1) as cluster:
        recorder.watch(cluster)
        for number in range(2):
            cluster.run(small_batch(model, 1, number))
            for _, _, stream in all_streams(cluster):
                stream._next = 0
    assert any("twice" in p for p in problems(recorder.draws))
    assert problems({(0, "s"): [(0, 4)], (1, "s"): [(0, 4)]}) == []
    assert problems({(0, "s"): [(0, 4)], (1, "s"): [(0, 5)]})  # the holders are out of step
    assert problems({(r, "s"): [(0, 4)] for r in range(3)})  # a third party holds the key


@pytest.mark.parametrize("row", PROTOCOLS.values(), ids=lambda row: row.name)
def test_every_stream_has_a_key_of_its_own(model: Compiled, row: ProtocolRow) -> None:
    """Slots, purposes, lanes and sessions: no two streams share a sub-key, but for the two holders of one."""
    keys: Counter[bytes] = Counter()
    for _ in range(2):  # the second session is a restart: fresh keys
        with LocalCluster(model.program, model.weights, row.name, lanes=LANES) as cluster:
            keys.update(stream._key for _, _, stream in all_streams(cluster))
    slots = {slot for rank in range(row.parties) for slot in row.keys(rank)}
    assert len(keys) == 2 * LANES * len(slots) * 2
    assert set(keys.values()) == {2}
    assert len({key[:16] for key in keys}) == len(keys)  # AES-128 takes the first half


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_a_restart_agrees_on_new_keys(tls: bool, tmp_path: Path) -> None:
    """Even if an owner hands out the same session id again: each lane of each pair and session has its own key."""
    folder = tmp_path / "certificates" if tls else None
    if folder is not None:
        create_certificates(folder, parties=PARTIES)
    keys: Counter[bytes] = Counter()
    for _ in range(2):
        made = try_mesh(
            contexts(folder, PARTIES), [hello(rank, PARTIES) for rank in range(PARTIES)], lanes=LANES, deadline_s=20.0
        )
        for lanes in made:
            assert not isinstance(lanes, BaseException), lanes
            keys.update(key for lane in lanes for key in lane.pair_keys.values())
            for lane in lanes:
                lane.transport.close()
    assert len(keys) == 2 * LANES * PARTIES
    assert set(keys.values()) == {2}


@pytest.mark.parametrize(
    ("protocol", "share", "seeds", "holders"),
    [("rep3", rep3_share, 2, 3), ("beaver2", beaver2_share, 1, 2), ("beaver2-fss", beaver2_share, 1, 2)],
)
def test_input_seeds_are_fresh_and_expanded_once_by_each_holder(
    model: Compiled, protocol: str, share: Any, seeds: int, holders: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """seeds: for a tensor. holders: of a seed. `rep3`: of slot 0 P2 and P0, of slot 1 P0 and P1; two parties: P0."""
    made: list[bytes] = []
    expanded: Counter[bytes] = Counter()
    token, expand = share.secrets.token_bytes, share.expand_seed

    def counted_token(size: int) -> bytes:
        made.append(token(size))
        return made[-1]

    def counted_expand(seed, elements, fill):
        expanded[seed] += 1
        return expand(seed, elements, fill)

    monkeypatch.setattr(share.secrets, "token_bytes", counted_token)
    monkeypatch.setattr(share, "expand_seed", counted_expand)
    batch = small_batch(model, 2)
    with LocalCluster(model.program, model.weights, protocol, pair_keys=fixed_keys(0)) as cluster:
        for _ in range(2):
            cluster.run(batch)  # the same input twice: other shares
    tensors = len(model.program.tensors) + 2
    assert len(set(made)) == len(made)
    assert set(expanded) <= set(made) and len(expanded) == seeds * tensors
    assert set(expanded.values()) == {holders}  # the owner is one of them


@pytest.mark.usefixtures("one_clip_chunks")
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_after_a_failure_no_stream_is_used_again(
    model: Compiled, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One party fails in the middle: its streams are behind the others', so the session must end, not go on."""
    recorder = Recorder()
    with LocalCluster(model.program, model.weights, protocol, deadline_s=5.0) as cluster:
        recorder.watch(cluster)
        chunk, calls = cluster.sessions[1]._chunk, count()

        def fail_in_the_middle(*args: Any) -> Any:
            if next(calls) == 1:
                raise RuntimeError("out of memory")
            return chunk(*args)

        monkeypatch.setattr(cluster.sessions[1], "_chunk", fail_in_the_middle)
        with pytest.raises((RuntimeError, TransportError)):
            cluster.run(small_batch(model, 3))
        before = {key: list(seen) for key, seen in recorder.draws.items()}
        assert before
        with pytest.raises(TransportError):
            cluster.run(small_batch(model, 3))
    drawn = recorder.draws
    assert all(len({op for op, _ in seen}) == len(seen) for seen in drawn.values())
    assert all(seen[: len(before[key])] == before[key] for key, seen in drawn.items() if key in before)


def message_of(value: int, make_stream: type[KeyStream]) -> np.ndarray:
    """What P0 receives when x y is computed; it knows x_0 = 0, x_1 = 1, y_0 = y_1 = 0, not y_2 = value."""
    operation = OPERATIONS["mul"]
    shape = (1, 1, 8)
    one, secret = np.ones(shape, np.int64), np.full(shape, value, np.int64)
    inputs = [slots_of(one, 0, 0, 1), slots_of(secret, 0, 0, 0)]
    run = run_operation(operation, inputs, 0, fixed_keys(9), None, make_stream=make_stream)
    return np.frombuffer(run.payloads(0)[0], "<u8")


def test_reuse_reveals_the_difference_of_two_secrets() -> None:
    """The attack. Two products under one mask: their messages differ by the secrets' difference."""
    a, b = 123_456_789, -42
    first, second = (message_of(v, RepeatingStream) for v in (a, b))
    np.testing.assert_array_equal((first - second).view(np.int64), np.full(8, a - b))


class RewindingStream(ScriptedStream):
    """A party that asks for operation 0 again, through the real class."""

    __slots__ = ()

    def draw(self, *words: int):
        super().draw_at(0, *words)
        return super().draw_at(0, *words)


def test_reuse_raises() -> None:
    """The defence: the real stream refuses, and the error names the stream, not the words."""
    with pytest.raises(MaskReuseError, match=r"expected an operation id of at least 1, got 0"):
        message_of(1, RewindingStream)


def test_without_reuse_the_difference_is_uniform() -> None:
    """The same attack on two products of one session, whose masks differ, yields nothing."""
    shape = (1, 8, 64)
    operation = OPERATIONS["mul"]
    twice = type(operation)(
        "mul twice", operation.values, lambda p, x: [p.reshare(p.mul(x[0], y)) for y in x[1:]][-1], None, None
    )  # fmt: skip
    inputs = [slots_of(np.full(shape, v, np.int64), 0, 0, nxt) for v, nxt in ((1, 1), (5, 0), (6, 0))]
    run = run_operation(twice, inputs, 0, fixed_keys(9))
    first, second = (np.frombuffer(p, "<u8") for p in run.payloads(0))
    draws: dict[Draw, np.ndarray] = run.draws[1]
    assert {d[2] for d in draws} == {0, 1}
    assert len(np.unique(first - second)) == first.size
