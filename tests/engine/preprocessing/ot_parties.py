"""Two parties in threads, items with their reference, and a transport that writes down what it sends."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from sottovoce.engine.backend.cpu import CpuBackend
from sottovoce.engine.preprocessing.expand import mask_words, words_of
from sottovoce.engine.preprocessing.items import Item, Layout, Unit
from sottovoce.engine.preprocessing.kinds import Ands, Leaves, Merge, Product, Select, Wrap
from sottovoce.engine.preprocessing.ot.source import OtSource
from sottovoce.engine.program import Linear, TensorSpec
from sottovoce.engine.tensors import U64
from sottovoce.engine.transport.base import Transport
from sottovoce.engine.transport.memory import memory_mesh

T = TypeVar("T")
FILL = CpuBackend().fill


def both(function: Callable[[Transport], T], lanes: Sequence[Transport] | None = None) -> tuple[T, T]:
    """function(transport) at both parties at once; the first party's error, or else the second's."""
    transports = lanes or memory_mesh(2)

    def guarded(transport: Transport) -> T:
        with transport:
            return function(transport)

    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(guarded, transport) for transport in transports]
        return running[0].result(), running[1].result()


@dataclass(frozen=True)
class Secrets:
    """What the two parties bring."""

    seeds: tuple[bytes, bytes]
    mask_seeds: tuple[bytes, bytes]

    @classmethod
    def fresh(cls) -> Secrets:
        a, b, c, d = (secrets.token_bytes(32) for _ in range(4))
        return cls((a, b), (c, d))


def generate(
    items: Sequence[Item], brought: Secrets, start: int, stop: int, lanes: Sequence[Transport] | None = None, **how: int
) -> tuple[U64, U64]:
    """Both parties' derived words."""

    def party(transport: Transport) -> U64:
        source = OtSource(transport, Layout(items), FILL, **how)
        rank = transport.rank
        return source.generate(brought.seeds[rank], brought.mask_seeds[rank], start, stop)

    return both(party, lanes)


def check(items: Sequence[Item], brought: Secrets, start: int, stop: int, derived: tuple[U64, U64]) -> None:
    """The shares join to what the items' functionality says."""
    layout, clips = Layout(items), range(start, stop)
    own = [layout.split("own", words_of("own", seed, clips, layout.own, FILL)) for seed in brought.seeds]
    shares = [layout.split("derived", words) for words in derived]
    for item, own_0, own_1, share_0, share_1 in zip(items, *own, *shares, strict=True):
        mask = None
        if isinstance(item, Product):
            mask_0, mask_1 = (mask_words(seed, item.step, FILL) for seed in brought.mask_seeds)
            mask = mask_0 + mask_1
        expected = item.times(len(clips)).derive((own_0, own_1), mask)
        for field in item.fields:
            if field.part == "derived":
                a, b = share_0[field.name], share_1[field.name]
                got = a ^ b if field.unit in (Unit.BITS, Unit.FLAGS) else a + b
                np.testing.assert_array_equal(got, expected[field.name], f"{item}: {field.name}")


def conv(
    c_in: int, c_out: int, time: int, taps: int, *, name: str = "conv", stride: int = 1,
    padding: tuple[int, int] = (0, 0), dilation: int = 1, groups: int = 1,
) -> Linear:  # fmt: skip
    weight = TensorSpec(f"{name}.weight", (c_out, c_in // groups, taps), 16)
    time_out = (time + sum(padding) - dilation * (taps - 1) - 1) // stride + 1
    return Linear(
        name, "conv1d", (c_in, time), (c_out, time_out), 16, weight, TensorSpec(f"{name}.bias", (c_out, 1), 32),
        stride=stride, padding=padding, dilation=dilation, groups=groups,
    )  # fmt: skip


def dense(inputs: int, outputs: int, *, name: str = "dense") -> Linear:
    weight, bias = TensorSpec(f"{name}.weight", (outputs, inputs), 16), TensorSpec(f"{name}.bias", (outputs,), 32)
    return Linear(name, "dense", (inputs,), (outputs,), 16, weight, bias)


def sign(n: int, bits: int) -> list[Item]:
    """The items of n signs of so many bits."""
    items: list[Item] = [Leaves(n, bits - 1)]
    blocks = bits // 2
    while blocks > 1:
        items.append(Merge(n, blocks))
        blocks = -(-blocks // 4)
    return items


def relu(n: int) -> list[Item]:
    """The items of a truncation and a ReLU of n values."""
    return [Wrap(n), *sign(n, 32), Select(n)]


def tiny() -> list[Item]:
    """The demand of the network `tiny`, comparisons of 32 and 48 bits."""
    first, last = conv(1, 64, 40, 5, padding=(2, 2)), dense(2560, 8)
    return [Product(first), *relu(2560), Product(last), *sign(28, 48), Ands(8, 7)]


def paper() -> list[Item]:
    """The demand of the network `paper`, comparisons of 32 and 48 bits."""
    first = conv(1, 128, 40, 5, name="conv1", padding=(2, 2))
    second = conv(128, 128, 10, 5, name="conv2", padding=(2, 2))
    middle = [Product(second), *relu(1280), Product(dense(1280, 8))]
    return [Product(first), *relu(5120), *middle, *sign(28, 48), Ands(8, 7)]


class Recording(Transport):
    """A lane that writes down every frame that it sends."""

    def __init__(self, lane: Transport) -> None:
        self._lane = lane
        self.rank, self.parties, self.counters = lane.rank, lane.parties, lane.counters
        self.deadline_s, self.encrypted = lane.deadline_s, lane.encrypted
        self.sent: list[bytes] = []

    def send(self, to: int, tag: int, parts: Sequence[NDArray[Any]]) -> None:
        self.sent.append(b"".join(part.tobytes() for part in parts))
        self._lane.send(to, tag, parts)

    def recv(self, frm: int, tag: int, parts: Sequence[NDArray[Any]]) -> None:
        self._lane.recv(frm, tag, parts)

    def recv_bytes(self, frm: int, tag: int, limit: int) -> bytes:
        return self._lane.recv_bytes(frm, tag, limit)

    def close(self, reason: str = "") -> None:
        self._lane.close(reason)


def recorded() -> list[Recording]:
    """Both ends of such a lane."""
    return [Recording(lane) for lane in memory_mesh(2)]
