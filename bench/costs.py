"""The cost table of a protocol, in Markdown, from its declarations: `python -m sottovoce.bench.costs rep3`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from sottovoce.engine.preprocessing.items import Item
from sottovoce.engine.program import Linear, TensorSpec
from sottovoce.engine.protocols.base import Declared, Demands, Schedule
from sottovoce.engine.protocols.table import find

ELEMENTS = 64 * 1024
LAYER = Linear(
    name="layer",
    kind="dense",
    in_shape=(ELEMENTS,),
    out_shape=(ELEMENTS,),
    out_frac_bits=0,
    weight=TensorSpec("weight", (ELEMENTS, ELEMENTS), 0),
    bias=TensorSpec("bias", (ELEMENTS,), 0),
)


def _nothing(demands: Demands) -> Sequence[Item]:
    return ()


@dataclass(frozen=True, slots=True)
class Operation:
    """A line of the table, for ELEMENTS elements: what it sends online, and which correlated randomness it uses."""

    name: str
    sends: Callable[[Declared], Schedule]
    uses: Callable[[Demands], Sequence[Item]] = _nothing


OPERATIONS: Sequence[Operation] = (
    Operation("conv1d, dense layer (per input)", lambda d: d.linear(ELEMENTS)),
    Operation(
        "conv1d, dense layer (per output)",
        lambda d: d.reshare(ELEMENTS),
        lambda d: d.linear(LAYER, 1),
    ),
    Operation(
        "elementwise product",
        lambda d: [*d.mul(ELEMENTS), *d.reshare(ELEMENTS)],
        lambda d: d.mul(ELEMENTS),
    ),
    Operation("truncation", lambda d: d.trunc(ELEMENTS), lambda d: d.trunc(ELEMENTS)),
    Operation("AND (per bit)", lambda d: d.and_(ELEMENTS), lambda d: d.and_(ELEMENTS, 2)),
    Operation("sign, m = 32", lambda d: d.sign(ELEMENTS, 32), lambda d: d.sign(ELEMENTS, 32)),
    Operation("sign, m = 48", lambda d: d.sign(ELEMENTS, 48), lambda d: d.sign(ELEMENTS, 48)),
    Operation("sign, m = 64", lambda d: d.sign(ELEMENTS, 64), lambda d: d.sign(ELEMENTS, 64)),
    Operation("selection b x", lambda d: d.bit_inject(ELEMENTS, ELEMENTS), lambda d: d.bit_inject(ELEMENTS)),
    Operation("ReLU, m = 32", lambda d: d.relu(ELEMENTS, 32, ELEMENTS), lambda d: d.relu(ELEMENTS, 32)),
    Operation(
        "truncation + ReLU, m = 32",
        lambda d: d.trunc_relu(ELEMENTS, 32, ELEMENTS),
        lambda d: d.trunc_relu(ELEMENTS, 32),
    ),
    Operation(
        "truncation + ReLU + sum over 4, m = 32",
        lambda d: d.trunc_relu(ELEMENTS, 32, ELEMENTS // 4),
        lambda d: d.trunc_relu(ELEMENTS, 32),
    ),
    Operation(
        "truncation + ReLU, m = 48",
        lambda d: d.trunc_relu(ELEMENTS, 48, ELEMENTS),
        lambda d: d.trunc_relu(ELEMENTS, 48),
    ),
)


def cost_table(protocol: str) -> str:
    """Payload bits per element, all parties together, and rounds; frame headers (32 bytes a message) not included.

    With preprocessing also the bytes per element that a dealer sends to P_1 and to P_0. An operation that neither sends
    nor uses anything has no line.
    """
    row = find(protocol)
    everybody = Operation("opening to all parties", lambda d: d.open(ELEMENTS, range(row.parties)))
    columns = ["operation", "bits per element, all parties", "bytes", "rounds"]
    columns += ["offline bytes, P_1 / P_0"] if row.preprocessing else []
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for operation in (*OPERATIONS, everybody):
        messages = operation.sends(row.schedules)
        items = [] if row.demands is None else operation.uses(row.demands)
        if messages or items:
            cells = (operation.name, *_online(messages), *([_offline(items)] if row.preprocessing else []))
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _online(messages: Schedule) -> tuple[str, ...]:
    bits = Fraction(8 * sum(m.payload for m in messages), ELEMENTS)
    return f"{float(bits):g}", f"{float(bits) / 8:g}", str(max((m.round for m in messages), default=0))


def _offline(items: Sequence[Item]) -> str:
    """P_0 expands its derived words from a seed; common words go to both."""
    common = 8 * sum(item.words("common") for item in items) / ELEMENTS
    derived = 8 * sum(item.words("derived") for item in items) / ELEMENTS
    return f"{derived + common:g} / {common:g}"


if __name__ == "__main__":
    sys.stdout.write(cost_table(sys.argv[1] if len(sys.argv) > 1 else "rep3") + "\n")
