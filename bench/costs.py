"""The cost table of a protocol, in Markdown, from its declared schedules: `python -m sottovoce.bench.costs rep3`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from fractions import Fraction
from types import ModuleType

from sottovoce.engine.protocols.base import Schedule
from sottovoce.engine.protocols.table import find

ELEMENTS = 64 * 1024

Row = tuple[str, Callable[[ModuleType], Schedule]]

ROWS: Sequence[Row] = (
    ("product, dot product, matmul, conv1d (per output)", lambda d: d.reshare(ELEMENTS)),
    ("truncation", lambda d: d.trunc(ELEMENTS)),
    ("AND (per bit)", lambda d: d.and_(ELEMENTS)),
    ("sign, m = 32", lambda d: d.sign(ELEMENTS, 32)),
    ("sign, m = 48", lambda d: d.sign(ELEMENTS, 48)),
    ("sign, m = 64", lambda d: d.sign(ELEMENTS, 64)),
    ("selection b x", lambda d: d.bit_inject(ELEMENTS, ELEMENTS)),
    ("ReLU, m = 32", lambda d: d.relu(ELEMENTS, 32, ELEMENTS)),
    ("truncation + ReLU, m = 32", lambda d: d.trunc_relu(ELEMENTS, 32, ELEMENTS)),
    ("truncation + ReLU + sum over 4, m = 32", lambda d: d.trunc_relu(ELEMENTS, 32, ELEMENTS // 4)),
    ("truncation + ReLU, m = 48", lambda d: d.trunc_relu(ELEMENTS, 48, ELEMENTS)),
    ("opening to all parties", lambda d: d.open(ELEMENTS)),
)


def cost_table(protocol: str) -> str:
    """Payload bits per element, all parties together, and rounds; frame headers (32 bytes a message) not included."""
    declared = find(protocol).schedules
    lines = ["| operation | bits per element, all parties | bytes | rounds |", "|---|---|---|---|"]
    for name, schedule in ROWS:
        messages = schedule(declared)
        bits = Fraction(8 * sum(m.payload for m in messages), ELEMENTS)
        text = f"{float(bits):g}"
        lines.append(f"| {name} | {text} | {float(bits) / 8:g} | {max(m.round for m in messages)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(cost_table(sys.argv[1] if len(sys.argv) > 1 else "rep3") + "\n")
