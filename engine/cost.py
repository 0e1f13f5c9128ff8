"""What a program will cost, from the declared schedules, before anything runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

from sottovoce.engine.preprocessing.items import Layout
from sottovoce.engine.program import OutputKind, Program
from sottovoce.engine.protocols.table import AnyProtocol, ProtocolRow
from sottovoce.engine.protocols.tally import ShapeShare, Tally, Totals
from sottovoce.engine.session import SpanMaker, chunks, execute, linear_steps


@dataclass(frozen=True, slots=True)
class StepCost:
    """Declared cost of one step: rounds that it adds, bytes and frames that each party sends, headers included."""

    name: str
    rounds: int
    bytes_sent: tuple[int, ...]
    frames_sent: tuple[int, ...]


def predict_cost(program: Program, row: ProtocolRow, batch: int, output: OutputKind = "label") -> list[StepCost]:
    """The cost of every step for a batch on one lane; a step that is run for several chunks is added up.

    Input sharing and the opening to the client are not in it. Sums over steps equal what the transports measure, where
    a CPU is among the parties: GPUs alone may agree on larger chunks, which send the same in fewer frames and rounds.
    """
    totals = Totals(row.parties)
    costs: dict[str, StepCost] = {}

    @contextmanager
    def step(name: str) -> Iterator[None]:
        rounds, sent, frames = totals.rounds, list(totals.bytes_sent), list(totals.frames_sent)
        yield
        old = costs.get(name, StepCost(name, 0, (0,) * row.parties, (0,) * row.parties))
        costs[name] = StepCost(
            name,
            old.rounds + totals.rounds - rounds,
            _grown(old.bytes_sent, sent, totals.bytes_sent),
            _grown(old.frames_sent, frames, totals.frames_sent),
        )

    for index, cut in enumerate(chunks(program, batch)):
        totals.rotation = index % row.parties
        _run(program, row, totals, cut.stop - cut.start, output, step)
    return list(costs.values())


def demand(program: Program, row: ProtocolRow, output: OutputKind | None = None) -> Layout:
    """The correlated randomness of one clip; none for a protocol without preprocessing.

    output: None stands for what needs more: a label, whose items begin with those of the scores.
    """
    totals = Totals(row.parties)
    _run(program, row, totals, 1, output or "label", lambda name: nullcontext())
    return Layout(totals.items)


def _run(program: Program, row: ProtocolRow, totals: Totals, batch: int, output: OutputKind, step: SpanMaker) -> None:
    tally: AnyProtocol = Tally(row.schedules, totals, row.demands)
    x = ShapeShare((batch, *program.input_shape), program.input_frac_bits)
    execute(tally, program, {s.name: None for s in linear_steps(program)}, x, output, step)


def _grown(old: tuple[int, ...], before: list[int], after: list[int]) -> tuple[int, ...]:
    return tuple(o + b - a for o, a, b in zip(old, before, after, strict=True))
