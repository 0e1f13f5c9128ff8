"""The compiled program: what the computing parties know about a model.

Everything here is **public** to Alice, Bob and all parties: shapes, scales, comparison widths, the declared input
box, the label names. No weight and no quantity derived from one is in it. `models.compiler` makes programs;
`engine.session` runs them. A program travels as canonical JSON and is named by the SHA-256 of those bytes, which
every handshake compares.

A tensor's *scale* is its number of fraction bits: the integer v stands for the real number v / 2**frac_bits.
"""

from __future__ import annotations

import hashlib
import math
import re
from typing import Literal

import msgspec

from sottovoce.engine.errors import ModelError
from sottovoce.engine.fixed import MAX_FRAC_BITS
from sottovoce.engine.structs import parse_json

FORMAT = 1
MAX_JSON_BYTES = 1 << 20
MAX_ELEMENTS = 1 << 26
MAX_WIDTH = 1 << 24
MAX_WORK = 1 << 40
MAX_STEPS = 256
MAX_LABELS = 1024
MAX_WINDOW = 1 << 16
MAX_NAME = 64
MAX_FEATURES_NAME = 256
MAX_INPUT_FRAC_BITS = 40
MAX_TRUNC_BITS = 32
MAX_SLOPE_BITS = 30
COMPARE_BITS = (32, 48, 64)

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.\-]{0,63}")

Shape = tuple[int, ...]


class TensorSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A secret parameter tensor: its name, its shape, its fraction bits."""

    name: str
    shape: Shape
    frac_bits: int


class Pool(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A window over time: `out[t] = reduce(in[t*stride - left : t*stride - left + kernel])`.

    Positions outside the input are left out of the reduction (a sum takes them as 0).
    """

    kernel: int
    stride: int
    padding: tuple[int, int] = (0, 0)

    def out_time(self, time: int) -> int:
        """Number of windows over an input of `time` positions."""
        return (time + sum(self.padding) - self.kernel) // self.stride + 1


class Linear(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="linear"):
    """conv1d or dense, with everything that the compiler fused behind it, in this order:

    product + bias, truncation by `trunc_bits` (0: none), ReLU if `relu`, sum over `sum_pool` windows if given.

    conv1d: weight (c_out, c_in / groups, kernel), in_shape (c_in, time), bias (c_out, 1) or
            (c_out, time_out).
    dense:  weight (out, in), in_shape (in,), bias (out,).
    The bias has the product's fraction bits. `compare_bits` is m: the truncated value v has |v| < 2**(m-1).
    """

    name: str
    kind: Literal["conv1d", "dense"]
    in_shape: Shape
    out_shape: Shape
    out_frac_bits: int
    weight: TensorSpec
    bias: TensorSpec
    stride: int = 1
    padding: tuple[int, int] = (0, 0)
    dilation: int = 1
    groups: int = 1
    trunc_bits: int = 0
    relu: bool = False
    compare_bits: int = 64
    sum_pool: Pool | None = None

    @property
    def linear_shape(self) -> Shape:
        """Shape of the product, before pooling, per clip."""
        if self.kind == "dense":
            return (self.weight.shape[0],)
        span = self.dilation * (self.weight.shape[2] - 1) + 1
        time = (self.in_shape[1] + sum(self.padding) - span) // self.stride + 1
        return (self.weight.shape[0], time)

    @property
    def multiplications(self) -> int:
        """Ring multiplications for one clip; positions in the padding are counted though never computed."""
        return math.prod(self.linear_shape) * math.prod(self.weight.shape[1:])


class Relu(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="relu"):
    """ReLU of a shared tensor, |v| < 2**(compare_bits - 1), then the optional window sums.

    A leaky ReLU has a slope below zero: `slope / 2**slope_bits`, public and exact. Its result has slope_bits more
    fraction bits, of which a truncation after the window sums drops `trunc_bits` (0: none).
    """

    name: str
    in_shape: Shape
    out_shape: Shape
    out_frac_bits: int
    compare_bits: int = 64
    sum_pool: Pool | None = None
    slope: int = 0
    slope_bits: int = 0
    trunc_bits: int = 0


class SumPool(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="sumpool"):
    """Window sums over time, local (an average is a sum with more fraction bits)."""

    name: str
    in_shape: Shape
    out_shape: Shape
    out_frac_bits: int
    pool: Pool


class MaxPool(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="maxpool"):
    """Window maxima over time; any difference of two inputs is below 2**(compare_bits - 1) in absolute value."""

    name: str
    in_shape: Shape
    out_shape: Shape
    out_frac_bits: int
    pool: Pool
    compare_bits: int = 64


class Reshape(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="reshape"):
    """Flatten or reshape, row-major; local."""

    name: str
    in_shape: Shape
    out_shape: Shape
    out_frac_bits: int


class Transpose(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="transpose"):
    """(channels, time) to (time, channels); local."""

    name: str
    in_shape: Shape
    out_shape: Shape
    out_frac_bits: int


Step = Linear | Relu | SumPool | MaxPool | Reshape | Transpose

OutputKind = Literal["label", "scores"]


class Program(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One model, compiled. `steps` end in the logits; `compare_bits` is m for the argmax over them.

    outputs: what Bob lets a client open. "label": the one-hot label only. "scores": the logits.
    input_low, input_high: the declared box, one number for all features or one per feature (row-major).
    calibrated: True when the ranges rest on sample data instead of a proof; shown in every result.
    """

    name: str
    input_shape: Shape
    input_frac_bits: int
    input_low: tuple[float, ...]
    input_high: tuple[float, ...]
    labels: tuple[str, ...]
    steps: tuple[Step, ...]
    compare_bits: int = 64
    outputs: tuple[OutputKind, ...] = ("label",)
    features: str = ""
    calibrated: bool = False
    format: int = FORMAT

    @property
    def tensors(self) -> tuple[TensorSpec, ...]:
        """All secret parameter tensors, in the order in which the owner sends them."""
        return tuple(t for s in self.steps if isinstance(s, Linear) for t in (s.weight, s.bias))

    @property
    def parameters(self) -> int:
        """Number of secret parameters."""
        return sum(math.prod(t.shape) for t in self.tensors)

    @property
    def multiplications(self) -> int:
        """Ring multiplications for one clip."""
        return sum(s.multiplications for s in self.steps if isinstance(s, Linear))

    @property
    def width(self) -> int:
        """Elements of the largest array that a party makes for one clip; the argmax compares all pairs of labels."""
        return max(len(self.labels) ** 2, *(_step_width(step) for step in self.steps))

    @property
    def frac_bits(self) -> int:
        """Fraction bits of the logits."""
        return self.steps[-1].out_frac_bits

    def to_json(self) -> bytes:
        """Canonical bytes: the same program always gives the same bytes."""
        return msgspec.json.encode(self, order="deterministic")

    @property
    def digest(self) -> bytes:
        """SHA-256 of the canonical bytes."""
        return hashlib.sha256(self.to_json()).digest()


def from_json(data: bytes) -> Program:
    """Parse and check a program that may come from a hostile peer. Raises ModelError."""
    if len(data) > MAX_JSON_BYTES:
        raise ModelError(f"program: expected at most {MAX_JSON_BYTES} bytes, got {len(data)}")
    try:
        program = parse_json(data, Program)
    except (msgspec.MsgspecError, UnicodeError, RecursionError, OverflowError) as error:
        raise ModelError(f"program: not a valid program: {ascii(str(error))[:200]}") from None
    check(program)
    return program


def check(program: Program) -> None:
    """Refuse a program that a party could not run safely. Raises ModelError that names the step, expected and got.

    It covers what a hostile peer can vary: sizes, windows, shapes that do not chain, scales that do not add up, names.
    It cannot cover the range promise (|z| < 2^62), which rests on the secret weights and is their owner's to keep.
    """
    _check_header(program)
    shape, frac_bits = program.input_shape, program.input_frac_bits
    names: set[str] = set()
    elements, work = math.prod(shape), 0
    for position, step in enumerate(program.steps):
        _check_name(f"step {position}", step.name, names)
        where = f"step {step.name!r}"
        _check_equal(where, "in_shape", shape, step.in_shape)
        _check_shape(where, "out_shape", step.out_shape)
        if isinstance(step, Linear):
            step_work = _check_linear(where, step, frac_bits, names)
        elif isinstance(step, Reshape):
            _check_equal(where, "number of elements", math.prod(step.in_shape), math.prod(step.out_shape))
            _check_equal(where, "out_frac_bits", frac_bits, step.out_frac_bits)
            step_work = 0
        elif isinstance(step, Transpose):
            _check_range(where, "dimensions of in_shape", len(step.in_shape), 2, 2)
            _check_equal(where, "out_shape", step.in_shape[::-1], step.out_shape)
            _check_equal(where, "out_frac_bits", frac_bits, step.out_frac_bits)
            step_work = 0
        else:
            step_work = _check_window_step(where, step, frac_bits)
        elements += math.prod(step.out_shape)
        work += step_work
        shape, frac_bits = step.out_shape, step.out_frac_bits
    _check_equal("last step", "out_shape (one logit per label)", (len(program.labels),), shape)
    _check_range("program", "activations of one clip", elements, 1, MAX_ELEMENTS)
    _check_range("program", "elements of the largest array for one clip", program.width, 1, MAX_WIDTH)
    _check_range("program", "parameters", program.parameters, 0, MAX_ELEMENTS)
    _check_range("program", "multiplications and window elements of one clip", work, 0, MAX_WORK)


def _step_width(step: Step) -> int:
    inside = math.prod(step.in_shape)
    if isinstance(step, Linear):
        return max(inside, math.prod(step.linear_shape))
    return max(inside, math.prod(step.out_shape) * (step.pool.kernel if isinstance(step, MaxPool) else 1))


def _check_header(program: Program) -> None:
    _check_equal("program", "format", FORMAT, program.format)
    _check_name("program", program.name, set())
    if len(program.input_shape) != 2:
        raise ModelError(f"program: input_shape: expected (channels, time), got {_show(program.input_shape)}")
    _check_shape("program", "input_shape", program.input_shape)
    _check_range("program", "input_frac_bits", program.input_frac_bits, 0, MAX_INPUT_FRAC_BITS)
    _check_box(program)
    _check_range("program", "number of labels", len(program.labels), 2, MAX_LABELS)
    for label in program.labels:
        _check_text("program", "label", label, MAX_NAME)
    if len(set(program.labels)) != len(program.labels):
        raise ModelError("program: labels: expected different labels, got one twice")
    if program.features:
        _check_text("program", "features", program.features, MAX_FEATURES_NAME)
    if not program.outputs or len(set(program.outputs)) != len(program.outputs):
        raise ModelError(f"program: outputs: expected one or two different kinds, got {_show(program.outputs)}")
    _check_choice("program", "compare_bits", program.compare_bits)
    _check_range("program", "number of steps", len(program.steps), 1, MAX_STEPS)


def _check_box(program: Program) -> None:
    count = math.prod(program.input_shape)
    for field, values in (("input_low", program.input_low), ("input_high", program.input_high)):
        if len(values) not in (1, count):
            raise ModelError(f"program: {field}: expected 1 or {count} numbers, got {len(values)}")
        limit = 2.0 ** (62 - program.input_frac_bits)
        if not all(math.isfinite(v) and abs(v) < limit for v in values):
            raise ModelError(f"program: {field}: expected finite numbers below {limit:g}, got one that is not")
    low, high = program.input_low, program.input_high
    pairs = zip(low * len(high) if len(low) == 1 else low, high * len(low) if len(high) == 1 else high, strict=True)
    if any(a > b for a, b in pairs):
        raise ModelError("program: input box: expected low <= high for every feature, got one that is not")


def _check_linear(where: str, step: Linear, in_frac_bits: int, names: set[str]) -> int:
    """Checks one Linear step; returns its multiplications per clip."""
    for tensor in (step.weight, step.bias):
        _check_name(f"{where}: tensor", tensor.name, names)
        _check_shape(where, f"shape of {tensor.name!r}", tensor.shape)
        _check_range(where, f"fraction bits of {tensor.name!r}", tensor.frac_bits, 0, MAX_FRAC_BITS)
    _check_choice(where, "compare_bits", step.compare_bits)
    _check_range(where, "trunc_bits", step.trunc_bits, 0, MAX_TRUNC_BITS)
    if step.kind == "dense":
        _check_dense(where, step)
    else:
        _check_conv(where, step)
    _check_equal(where, "fraction bits of the bias", in_frac_bits + step.weight.frac_bits, step.bias.frac_bits)
    _check_pooled(
        where,
        step.sum_pool,
        step.linear_shape,
        step.out_shape,
        step.bias.frac_bits - step.trunc_bits,
        step.out_frac_bits,
    )
    return step.multiplications


def _check_dense(where: str, step: Linear) -> None:
    if len(step.in_shape) != 1 or len(step.weight.shape) != 2:
        got = f"{_show(step.in_shape)} and {_show(step.weight.shape)}"
        raise ModelError(f"{where}: expected in_shape (in,) and weight (out, in), got {got}")
    _check_equal(where, "columns of the weight", step.in_shape[0], step.weight.shape[1])
    _check_equal(where, "shape of the bias", (step.weight.shape[0],), step.bias.shape)
    geometry = (step.stride, step.padding, step.dilation, step.groups)
    _check_equal(where, "stride, padding, dilation, groups of dense", (1, (0, 0), 1, 1), geometry)


def _check_conv(where: str, step: Linear) -> None:
    if len(step.in_shape) != 2 or len(step.weight.shape) != 3:
        got = f"{_show(step.in_shape)} and {_show(step.weight.shape)}"
        raise ModelError(
            f"{where}: expected in_shape (c_in, time) and weight (c_out, c_in / groups, kernel), got {got}"
        )
    channels, time = step.in_shape
    c_out, c_group, kernel = step.weight.shape
    _check_range(where, "stride", step.stride, 1, MAX_WINDOW)
    _check_range(where, "dilation", step.dilation, 1, MAX_WINDOW)
    _check_range(where, "groups", step.groups, 1, channels)
    if channels % step.groups or c_out % step.groups:
        got = f"{channels} and {c_out} channels"
        raise ModelError(f"{where}: groups: expected a divisor {step.groups} of both channel counts, got {got}")
    _check_equal(where, "input channels of the weight", channels // step.groups, c_group)
    span = step.dilation * (kernel - 1) + 1
    _check_window(where, span, step.padding, time)
    time_out = step.linear_shape[1]
    if step.bias.shape not in ((c_out, 1), (c_out, time_out)):
        expected = f"({c_out}, 1) or ({c_out}, {time_out})"
        raise ModelError(f"{where}: shape of the bias: expected {expected}, got {_show(step.bias.shape)}")


def _check_window_step(where: str, step: Relu | SumPool | MaxPool, frac_bits: int) -> int:
    """Checks a step without parameters; returns the number of elements that its windows read."""
    if not isinstance(step, SumPool):
        _check_choice(where, "compare_bits", step.compare_bits)
    if isinstance(step, MaxPool):
        out = _check_pool(where, step.pool, step.in_shape)
        _check_equal(where, "out_shape", out, step.out_shape)
        _check_equal(where, "out_frac_bits", frac_bits, step.out_frac_bits)
        pool: Pool | None = step.pool
    else:
        pool = step.sum_pool if isinstance(step, Relu) else step.pool
        if isinstance(step, Relu):
            _check_range(where, "slope_bits", step.slope_bits, 0, MAX_SLOPE_BITS)
            _check_range(where, "slope", step.slope, -(1 << MAX_SLOPE_BITS), 1 << MAX_SLOPE_BITS)
            _check_range(where, "trunc_bits", step.trunc_bits, 0, MAX_TRUNC_BITS)
            frac_bits += step.slope_bits - step.trunc_bits
        _check_pooled(where, pool, step.in_shape, step.out_shape, frac_bits, step.out_frac_bits)
    return math.prod(step.out_shape) * (pool.kernel if pool else 1)


def _check_pooled(
    where: str, pool: Pool | None, in_shape: Shape, out_shape: Shape, frac_bits: int, out_frac_bits: int
) -> None:
    """Shapes and scales around an optional window sum; a mean over 2^k positions is a sum with k more fraction bits."""
    expected, allowed = in_shape, {frac_bits}
    if pool is not None:
        expected = _check_pool(where, pool, in_shape)
        if pool.kernel & (pool.kernel - 1) == 0:
            allowed.add(frac_bits + pool.kernel.bit_length() - 1)
    _check_equal(where, "out_shape", expected, out_shape)
    if out_frac_bits not in allowed:
        want = " or ".join(str(bits) for bits in sorted(allowed))
        raise ModelError(f"{where}: out_frac_bits: expected {want}, got {_show(out_frac_bits)}")
    _check_range(where, "out_frac_bits", out_frac_bits, 0, MAX_FRAC_BITS)


def _check_pool(where: str, pool: Pool, in_shape: Shape) -> Shape:
    if len(in_shape) != 2:
        raise ModelError(f"{where}: expected (channels, time) before a window over time, got {_show(in_shape)}")
    _check_range(where, "pool kernel", pool.kernel, 1, MAX_WINDOW)
    _check_range(where, "pool stride", pool.stride, 1, MAX_WINDOW)
    _check_window(where, pool.kernel, pool.padding, in_shape[1])
    return (in_shape[0], pool.out_time(in_shape[1]))


def _check_window(where: str, span: int, padding: tuple[int, int], time: int) -> None:
    """Every window touches the input: padding below the span, and at least one window."""
    _check_range(where, "window span", span, 1, MAX_WINDOW)
    for side in padding:
        _check_range(where, "padding", side, 0, span - 1)
    _check_range(where, "window span (against padded time)", span, 1, time + sum(padding))


def _check_shape(where: str, field: str, shape: Shape) -> None:
    _check_range(where, f"dimensions of {field}", len(shape), 1, 3)
    for size in shape:
        _check_range(where, field, size, 1, MAX_ELEMENTS)
    _check_range(where, f"elements of {field}", math.prod(shape), 1, MAX_ELEMENTS)


def _check_name(where: str, name: str, seen: set[str]) -> None:
    if not _NAME.fullmatch(name):
        raise ModelError(
            f"{where}: name: expected 1 to {MAX_NAME} of A-Z a-z 0-9 _ . - (first: a letter), got {_show(name)}"
        )
    if name in seen:
        raise ModelError(f"{where}: name: expected a new one, got {name!r} again")
    seen.add(name)


def _check_text(where: str, field: str, text: str, longest: int) -> None:
    if not 1 <= len(text) <= longest or not text.isprintable() or text != text.strip():
        raise ModelError(f"{where}: {field}: expected 1 to {longest} printable characters, got {_show(text)}")


def _check_choice(where: str, field: str, value: int) -> None:
    if value not in COMPARE_BITS:
        raise ModelError(f"{where}: {field}: expected one of {COMPARE_BITS}, got {_show(value)}")


def _check_range(where: str, field: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ModelError(f"{where}: {field}: expected {low} to {high}, got {_show(value)}")


def _check_equal(where: str, field: str, expected: object, got: object) -> None:
    if expected != got:
        raise ModelError(f"{where}: {field}: expected {_show(expected)}, got {_show(got)}")


def _show(value: object) -> str:
    """A hostile value for a message: short, ASCII; numbers too long to print do not break it."""
    try:
        text = ascii(value)
    except ValueError:
        text = "a number of thousands of digits"
    return text if len(text) <= 80 else text[:77] + "..."
