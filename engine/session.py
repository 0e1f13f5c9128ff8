"""Run a compiled program on shares at one party, and the client's two ends: share the input, join the output."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from sottovoce.engine.backend.cpu import CpuBackend
from sottovoce.engine.errors import DeviceMemoryError, ProtocolError
from sottovoce.engine.functions.activation import activation
from sottovoce.engine.functions.linear import linear
from sottovoce.engine.functions.maximum import argmax_one_hot, max_pool
from sottovoce.engine.party import Party
from sottovoce.engine.preprocessing.agreement import agree
from sottovoce.engine.preprocessing.base import Preprocessing, Reserved
from sottovoce.engine.prg import Fill
from sottovoce.engine.profile import Span
from sottovoce.engine.program import Linear, MaxPool, OutputKind, Program, Relu, Reshape, SumPool, Transpose
from sottovoce.engine.protocols.base import AShare, BShare, Protocol
from sottovoce.engine.protocols.plain.protocol import Plain, PlainAShare
from sottovoce.engine.protocols.table import ProtocolRow

A = TypeVar("A", bound=AShare)
B = TypeVar("B", bound=BShare)
W = TypeVar("W")
Z = TypeVar("Z")

SpanMaker = Callable[[str], AbstractContextManager[None]]


def _no_span(name: str) -> AbstractContextManager[None]:
    return nullcontext()


def execute(
    protocol: Protocol[A, B, W, Z],
    program: Program,
    weights: Mapping[str, W],
    x: A,
    output: OutputKind,
    span: SpanMaker = _no_span,
) -> A | B:
    """All steps of a program on a shared batch x: (batch, *input_shape), then the output that was asked for.

    "scores": the logits (batch, classes). "label": the one-hot bits of the argmax (classes, batch).
    """
    for step in program.steps:
        with span(step.name):
            match step:
                case Linear():
                    x = linear(protocol, x, weights[step.name], step)
                case Relu():
                    x = activation(protocol, x, step)
                case SumPool():
                    x = protocol.sum_pool(x, step.pool, step.out_frac_bits)
                case MaxPool():
                    x = max_pool(protocol, x, step)
                case Reshape():
                    shape = step.out_shape
                    x = x.map(lambda v, s=shape: v.reshape(v.shape[0], *s), step.out_frac_bits)  # type: ignore[misc]
                case Transpose():
                    x = x.map(lambda v: v.swapaxes(1, 2))
    if output == "scores":
        with span(program.steps[-1].name):
            return protocol.refresh(x)
    with span("argmax"):
        return protocol.refresh(argmax_one_hot(protocol, x, program.compare_bits))


def linear_steps(program: Program) -> list[Linear]:
    """The steps that have weights."""
    return [s for s in program.steps if isinstance(s, Linear)]


def clips_at_once(program: Program, elements: int) -> int:
    """How many clips a chunk has at most, whose largest layer is to have at most so many elements: one, at least."""
    return max(1, elements // program.width)


def chunks(program: Program, batch: int, elements: int | None = None) -> list[slice]:
    """How every party cuts a batch: a public rule, so all cut alike.

    elements: of a chunk's largest layer, at most; None: what CPUs want.
    """
    clips = clips_at_once(program, elements or CpuBackend.chunk_elements)
    count = -(-batch // clips)
    edges = [batch * i // count for i in range(count + 1)]
    return [slice(a, b) for a, b in pairwise(edges)]


@dataclass(frozen=True, slots=True)
class RunStats:
    """What one request cost at one party: by layer, summed over chunks; measured at its transport.

    wait_ns: mean over the lanes that had work, which wait at the same time; the spans' own waits add up over lanes.
    """

    elapsed_ns: int
    wait_ns: int
    bytes_sent: int
    frames_sent: int
    rounds: int
    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Output:
    """One party's part of an answer: packed one-hot bits (label) or logits (scores). Never shown."""

    kind: OutputKind
    batch: int
    data: NDArray[Any] = field(repr=False)


class Session:
    """One program at one computing party, with its weight shares loaded, on one or more lanes.

    Where the protocol needs preprocessing the parties talk to each other while this is made: all must make it at once.
    weights: the tag of the weights, which the source's masks then belong to. chunk_elements: what all parties have
    agreed on, see `chunks`.
    """

    def __init__(
        self,
        row: ProtocolRow,
        lanes: Sequence[Party],
        program: Program,
        tensors: Mapping[str, AShare],
        weights: bytes | None = None,
        chunk_elements: int | None = None,
    ) -> None:
        self.row = row
        self.chunk_elements = chunk_elements or CpuBackend.chunk_elements
        self.lanes = tuple(lanes)
        self.program = program
        self.preprocessing = self.lanes[0].preprocessing
        if self.preprocessing is not None:
            agree(self.lanes[0].transport, self.preprocessing)
            if weights is not None:
                self.preprocessing.claim(weights)  # before W - B is opened
        loader = row.make(self.lanes[0], 0)
        self._weights = {step.name: loader.load(step, tensors) for step in linear_steps(program)}

    def run(self, x: AShare, output: OutputKind) -> tuple[Output, RunStats]:
        """Evaluate a shared batch; every party must call this with the same batch size and output kind."""
        if output not in self.program.outputs:
            raise ProtocolError(f"program {self.program.name!r}: output {output!r} is not among {self.program.outputs}")
        batch = x.shape[0]
        cuts = chunks(self.program, batch, self.chunk_elements)
        reserved = None if self.preprocessing is None else self._reserve(self.preprocessing, batch)
        results: list[NDArray[Any] | None] = [None] * len(cuts)
        failures: list[BaseException] = []
        first_span = [len(lane.profile.spans) for lane in self.lanes]
        for lane in self.lanes:
            lane.transport.counters.clock = 0  # rounds are counted from here: all parties start together
        start = time.perf_counter_ns()

        def work(number: int) -> None:
            lane = self.lanes[number]
            try:
                for index in range(number, len(cuts), len(self.lanes)):
                    cut = cuts[index]
                    party = lane if reserved is None else replace(lane, material=reserved.part(cut.start, cut.stop))
                    results[index] = self._chunk(party, x, cut, index, output)
            except BaseException as error:
                failures.append(error)
                for other in self.lanes:
                    other.transport.close(f"party {lane.rank}: lane {number} failed: {type(error).__name__}")

        busy = min(len(self.lanes), len(cuts))
        threads = [threading.Thread(target=work, args=(n,), name=f"lane {n}") for n in range(1, busy)]
        for thread in threads:
            thread.start()
        work(0)
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]
        spans = tuple(s for n, lane in enumerate(self.lanes) for s in lane.profile.spans[first_span[n] :])
        stats = RunStats(
            elapsed_ns=time.perf_counter_ns() - start,
            wait_ns=sum(s.wait_ns for s in spans) // busy,
            bytes_sent=sum(s.bytes_sent for s in spans),
            frames_sent=sum(s.frames_sent for s in spans),
            rounds=max(lane.transport.counters.clock for lane in self.lanes),
            spans=spans,
        )
        for lane in self.lanes:
            lane.profile.spans.clear()
        parts = [r for r in results if r is not None]
        clips = [cut.stop - cut.start for cut in cuts]
        data = np.concatenate(parts) if output == "scores" else _joined_bits(parts, len(self.program.labels), clips)
        return Output(output, batch, data), stats

    def _reserve(self, preprocessing: Preprocessing, clips: int) -> Reserved:
        """The batch's material. Too little is found by all parties alike, who go on.

        After any other failure they no longer count alike, so that the lanes end.
        """
        enough = preprocessing.end - preprocessing.position >= clips
        try:
            return preprocessing.reserve(clips)
        except BaseException as error:
            if enough:
                for lane in self.lanes:
                    lane.transport.close(f"party {lane.rank}: preprocessing failed: {type(error).__name__}")
            raise

    def _chunk(self, lane: Party, x: AShare, cut: slice, index: int, output: OutputKind) -> NDArray[Any]:
        protocol, backend = self.row.make(lane, index % self.row.parties), lane.backend

        @contextmanager
        def span(layer: str) -> Iterator[None]:
            with lane.profile.span(layer, lane.transport.counters):
                yield
                lane.transport.flush()  # what a layer sends is counted as its own

        try:
            with backend.active():
                part = x.map(lambda v: backend.upload(v[cut]))
                result = self.row.export(execute(protocol, self.program, self._weights, part, output, span))
            return backend.download(result)
        except MemoryError as error:
            clips = f"a chunk of {cut.stop - cut.start} clips of {self.program.name}"
            raise DeviceMemoryError(
                f"party {lane.rank}: {clips} ({self.program.width:,} elements each in its widest layer): {error}"
            ) from None


def _joined_bits(parts: Sequence[NDArray[np.uint8]], classes: int, clips: Sequence[int]) -> NDArray[np.uint8]:
    """The chunks' packed bits (classes, clips of the chunk) as those of (classes, batch): an answer tells no cuts."""
    if len(parts) == 1:
        return parts[0]
    rows = [
        np.unpackbits(part, count=classes * n, bitorder="little").reshape(classes, n)
        for part, n in zip(parts, clips, strict=True)
    ]
    return np.packbits(np.concatenate(rows, axis=1), bitorder="little")


def share_input(row: ProtocolRow, encoded: NDArray[np.uint64], fill: Fill) -> Sequence[Sequence[NDArray[np.uint8]]]:
    """A client's encoded batch (batch, *input_shape) as slots for each party."""
    return row.split(encoded, fill)


def output_bytes(program: Program, batch: int, output: OutputKind) -> int:
    """Length of one party's part of an answer."""
    classes = len(program.labels)
    if output == "scores":
        return 8 * classes * batch
    return -(-classes * batch // 8)


def join_output(row: ProtocolRow, program: Program, outputs: Sequence[Output]) -> NDArray[Any]:
    """The answer from all parties' parts: label indices (batch,) int64, or logits (batch, classes) float64."""
    first = outputs[0]
    if any((o.kind, o.batch, o.data.shape) != (first.kind, first.batch, first.data.shape) for o in outputs):
        raise ProtocolError("output: the parties' parts differ in kind, batch or shape")
    classes = len(program.labels)
    if first.kind == "scores":
        logits = row.join([o.data for o in outputs]).reshape(first.batch, classes)
        scores: NDArray[Any] = logits.view(np.int64) / float(1 << program.frac_bits)
        return scores
    packed = row.join_bits([o.data for o in outputs])
    one_hot = np.unpackbits(packed, count=classes * first.batch, bitorder="little").reshape(classes, first.batch).T
    if not (one_hot.sum(axis=1) == 1).all():
        raise ProtocolError("output: expected exactly one label per clip; the parties' parts do not fit together")
    labels: NDArray[Any] = one_hot.argmax(axis=1)
    return labels


def run_plain(
    program: Program, weights: Mapping[str, NDArray[np.uint64]], encoded: NDArray[np.uint64], output: OutputKind
) -> NDArray[Any]:
    """The same program in the clear, fixed point: the oracle."""
    protocol = Plain()
    frac = {t.name: t.frac_bits for t in program.tensors}
    tensors = {name: PlainAShare(value, frac[name]) for name, value in weights.items()}
    loaded = {step.name: protocol.load(step, tensors) for step in linear_steps(program)}
    result = execute(protocol, program, loaded, PlainAShare(encoded, program.input_frac_bits), output)
    if isinstance(result, PlainAShare):
        scores: NDArray[Any] = result.values.view(np.int64) / float(1 << program.frac_bits)
        return scores
    labels: NDArray[Any] = result.bits.argmax(axis=0)
    return labels
