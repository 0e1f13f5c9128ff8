"""THE table of protocol operations: what to run, on which values, what must come out, what was declared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sottovoce.engine.program import Linear, Pool, TensorSpec
from sottovoce.engine.protocols.base import Declared, Message, Schedule, pooled
from sottovoce.engine.protocols.table import AnyProtocol
from sottovoce.engine.tensors import size

I64 = NDArray[np.int64]
POOL = Pool(kernel=4, stride=4)


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation on shared tensors.

    values: secret inputs for a shape. apply: the operation at one party on its shares. expected: the result; with
    `slack` the result may be larger by 0 … slack. declared: the schedule that the protocol states for the shape.
    """

    name: str
    values: Callable[[np.random.Generator, tuple[int, ...]], Sequence[I64]]
    apply: Callable[[AnyProtocol, Sequence[Any]], Any]
    expected: Callable[..., I64]
    declared: Callable[[Declared, tuple[int, ...]], Schedule]
    slack: int = 0


def extremes(rng: np.random.Generator, shape: tuple[int, ...], bits: int) -> I64:
    """Values with |v| < 2^(bits - 1) (and - 2^(bits - 1) left out): random ones, and 0, ±1, ±2^k, the limits."""
    limit = (1 << (bits - 1)) - 1
    values = rng.integers(-limit, limit, shape, dtype=np.int64, endpoint=True).reshape(-1)
    special = [0, 1, -1, limit, -limit, *(s * (1 << k) for k in range(bits - 2) for s in (1, -1))]
    places = rng.permutation(values.size)[: min(values.size, len(special))]
    values[places] = rng.permutation(np.array(special, np.int64))[: places.size]
    return values.reshape(shape)


def _relu(v: I64, pool: Pool | None) -> I64:
    positive = np.maximum(v, 0)
    if pool is None:
        return positive
    windows = np.lib.stride_tricks.sliding_window_view(positive, pool.kernel, axis=-1)[..., :: pool.stride, :]
    return windows.sum(axis=-1)


def _truncate(protocol: AnyProtocol, x: Any, one: Any, bits: int) -> Any:
    return protocol.trunc(protocol.mul(x, one), bits)


def _ones(shape: tuple[int, ...]) -> I64:
    return np.ones(shape, np.int64)


def _full(rng: np.random.Generator, shape: tuple[int, ...]) -> I64:
    return rng.integers(-(2**63), 2**63 - 1, shape, dtype=np.int64, endpoint=True)


def _bits(protocol: AnyProtocol, x: Any) -> Any:
    return protocol.msb(x, 64)


def _table() -> list[Operation]:
    rows = [
        Operation(
            "add",
            lambda r, s: (_full(r, s), _full(r, s)),
            lambda p, x: p.add(*x),
            lambda a, b: a + b,
            lambda d, s: [],
        ),
        Operation(
            "sub",
            lambda r, s: (_full(r, s), _full(r, s)),
            lambda p, x: p.sub(*x),
            lambda a, b: a - b,
            lambda d, s: [],
        ),
        *(
            Operation(
                f"mul_public {c}",
                lambda r, s: (_full(r, s),),
                lambda p, x, c=c: p.mul_public(x[0], c, 0),
                lambda a, c=c: a * np.int64(c),
                lambda d, s: [],
            )
            for c in (0, 3, -5, 2**63 - 1, -(2**63))
        ),
        Operation(
            "mul",
            lambda r, s: (_full(r, s), _full(r, s)),
            lambda p, x: p.reshare(p.mul(*x)),
            lambda a, b: a * b,
            lambda d, s: _chain(d.mul(size(s)), d.reshare(size(s))),
        ),
        Operation(
            "open",
            lambda r, s: (_full(r, s),),
            lambda p, x: p.open(x[0]),
            lambda a: a,
            lambda d, s: d.open(size(s)),
        ),
        Operation(
            "bit_inject",
            lambda r, s: (_full(r, s), extremes(r, s, 32)),
            lambda p, x: p.bit_inject(p.msb(x[1], 32), x[0]),
            lambda a, b: a * (b < 0),
            lambda d, s: [*d.sign(size(s), 32), *_later(d.bit_inject(size(s), size(s)), d.sign(size(s), 32))],
        ),
        Operation(
            "and",
            lambda r, s: (extremes(r, s, 64), extremes(r, s, 64)),
            lambda p, x: p.and_(_bits(p, x[0]), _bits(p, x[1])),
            lambda a, b: ((a < 0) & (b < 0)).astype(np.int64),
            lambda d, s: _chain(d.sign(size(s), 64), d.sign(size(s), 64), d.and_(size(s))),
        ),
    ]
    for bits in (1, 7, 16, 30, 32):
        rows.append(
            Operation(
                f"trunc {bits}",
                lambda r, s: (extremes(r, s, 63), _ones(s)),
                lambda p, x, f=bits: _truncate(p, x[0], x[1], f),
                lambda a, b, f=bits: a >> f,
                lambda d, s: _chain(d.mul(size(s)), d.trunc(size(s))),
                slack=1,
            )
        )
    for bits in (1, 30):
        rows.append(
            Operation(
                f"trunc {bits} of a share",
                lambda r, s: (extremes(r, s, 63),),
                lambda p, x, f=bits: p.trunc(p.as_product(x[0]), f),
                lambda a, f=bits: a >> f,
                lambda d, s: d.trunc(size(s)),
                slack=1,
            )
        )
    for m in (2, 5, 6, 16, 31, 32, 33, 48, 64):
        rows.append(
            Operation(
                f"msb {m}",
                lambda r, s, m=m: (extremes(r, s, m),),
                lambda p, x, m=m: p.msb(x[0], m),
                lambda a: (a < 0).astype(np.int64),
                lambda d, s, m=m: d.sign(size(s), m),
            )
        )
    for m, pool in ((32, None), (32, POOL), (48, None), (64, POOL)):
        name = f"{m}{' pooled' if pool else ''}"
        rows.append(
            Operation(
                f"relu {name}",
                lambda r, s, m=m: (extremes(r, s, min(m, 60)),),
                lambda p, x, m=m, q=pool: p.relu(x[0], m, q, 0),
                lambda a, q=pool: _relu(a, q),
                lambda d, s, m=m, q=pool: d.relu(size(s), m, size(pooled(s, q))),
            )
        )
        for f in (5, 16, 31):
            rows.append(
                Operation(
                    f"trunc_relu {name} {f}",
                    lambda r, s, m=m, f=f: (extremes(r, s, min(m + f - 1, 62)), _ones(s)),
                    lambda p, x, m=m, f=f, q=pool: p.trunc_relu(p.mul(*x), f, m, q, 0),
                    lambda a, b, f=f, q=pool: _relu(a >> f, q),
                    lambda d, s, m=m, q=pool: _chain(d.mul(size(s)), d.trunc_relu(size(s), m, size(pooled(s, q)))),
                    slack=1 if pool is None else pool.kernel,
                )
            )
    return rows


def _later(schedule: Schedule, before: Schedule) -> Schedule:
    last = max((m.round for m in before), default=0)
    return [Message(last + m.round, m.source, m.target, m.payload) for m in schedule]


def _chain(*schedules: Schedule) -> Schedule:
    out: list[Any] = []
    for schedule in schedules:
        out += _later(schedule, out)
    return out


OPERATIONS = {operation.name: operation for operation in _table()}

CONV_CASES = [
    # batch, c_in, time, c_out, kernel, stride, padding, dilation, groups
    (1, 1, 40, 8, 5, 1, (2, 2), 1, 1),
    (3, 4, 17, 6, 3, 2, (0, 1), 1, 2),
    (2, 3, 20, 5, 4, 1, (3, 0), 2, 1),
    (1, 6, 9, 6, 2, 3, (0, 0), 1, 6),
]


def conv_step(case: tuple[Any, ...], trunc_bits: int = 0) -> Linear:
    """A Linear step for one case."""
    _, c_in, time, c_out, kernel, stride, padding, dilation, groups = case
    t_out = (time + sum(padding) - dilation * (kernel - 1) - 1) // stride + 1
    return Linear(
        name="conv",
        kind="conv1d",
        in_shape=(c_in, time),
        out_shape=(c_out, t_out),
        out_frac_bits=0,
        weight=TensorSpec("w", (c_out, c_in // groups, kernel), 0),
        bias=TensorSpec("b", (c_out, t_out), 0),
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        trunc_bits=trunc_bits,
    )
