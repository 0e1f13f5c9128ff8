"""From a model with real weights to a public program, secret ring tensors and a proof that nothing overflows.

The proof (`models.ranges`) covers every input in the declared box: before each truncation |z| < 2^62, before each
comparison |v| < 2^(m-1). A model that cannot be proven is refused with the layer's name and the bits it would need;
only `calibrate=` replaces proven ranges by observed ones, and then the program says so.

Scales cost nothing on shares, so they are chosen for accuracy: the narrowest comparison (m = 32, then 48, then 64) that
leaves each activation at least 16 fraction bits, then the activations' and weights' fraction bits that make the error
bound of a difference of two logits smallest. The public program depends on the weights only through these scales and m.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sottovoce.engine import fixed
from sottovoce.engine import program as ir
from sottovoce.engine.errors import ModelError, RangeProofError
from sottovoce.models import ranges
from sottovoce.models.fit import MAX_ACTIVATION_BITS, MIN_ACTIVATION_BITS, Fit, bias_of, fit_linear
from sottovoce.models.graph import Conv1d, Dense, Graph, MaxPool, Relu, Reshape, SumPool, output_shape
from sottovoce.models.ranges import Bounds
from sottovoce.models.rewrites import rewrite
from sottovoce.models.stages import Stage, fuse, observe

_Builder = Callable[[Mapping[int, int]], "Compiled"]

CompareBits = Literal["auto", 32, 48, 64]

PLAIN_INPUT_FRAC_BITS = 16
FINE_INPUT_FRAC_BITS = 20
TUNE_BITS = 3
TUNE_WORK = 50_000_000  # multiplications per clip up to which scales are searched rather than chosen greedily


@dataclass(frozen=True, slots=True)
class LayerReport:
    """What was proven about one step. The ranges come from secret weights: for the model's owner only."""

    name: str
    out_frac_bits: int
    weight_frac_bits: int | None
    compare_bits: int | None
    product_bits: int | None = field(repr=False)  # |z| < 2**product_bits, the promise is 62
    low: float = field(repr=False)
    high: float = field(repr=False)
    error: float = field(repr=False)


@dataclass(frozen=True, slots=True)
class Report:
    """The compiler's findings, for the model's owner.

    logit_errors: per logit, the largest |fixed-point - real|. margin_bound: the same for the difference of any two
    logits; a clip whose two largest real logits are further apart gets the same label.
    calibrated: the bounds hold only for inputs whose layers stay within the calibrated ranges.
    """

    rewrites: tuple[str, ...]
    layers: tuple[LayerReport, ...] = field(repr=False)
    logit_errors: tuple[float, ...] = field(repr=False)
    margin_bound: float
    model_parameters: int
    calibrated: bool


@dataclass(frozen=True, slots=True)
class Compiled:
    """program: public. weights: the owner's ring tensors by name. report: the owner's."""

    program: ir.Program
    weights: Mapping[str, NDArray[np.uint64]] = field(repr=False)
    report: Report = field(repr=False)


@dataclass(frozen=True, slots=True)
class Settings:
    """compare_bits: candidates for m, ascending. caps: activation bits allowed per stage. observed: calibrated |z|."""

    input_frac_bits: int
    compare_bits: tuple[int, ...]
    outputs: tuple[ir.OutputKind, ...]
    caps: Mapping[int, int]
    observed: Mapping[int, float]


def compile_graph(
    graph: Graph,
    *,
    input_frac_bits: int | Literal["auto"] = "auto",
    compare_bits: CompareBits = "auto",
    outputs: tuple[ir.OutputKind, ...] = ("label",),
    calibrate: ArrayLike | None = None,
    headroom: float = 2.0,
) -> Compiled:
    """Compile `graph`.

    input_frac_bits: of the shared features; "auto" takes 20 where that needs no wider comparison than 16.
    compare_bits: m of every comparison; "auto" takes the smallest that is proven. The last argmax, whose inputs are not
    truncated, takes the smallest that is proven and not below.
    calibrate: sample features (batch, channels, time). Each linear layer is then trusted to stay within `headroom`
    times the largest value seen, where that is less than the proof. Inputs beyond it give wrong labels without notice.
    Raises RangeProofError for a model that may overflow, ModelError for one that cannot be compiled.
    """
    if input_frac_bits == "auto":

        def compile_with(bits: int) -> Compiled:
            return compile_graph(
                graph,
                input_frac_bits=bits,
                compare_bits=compare_bits,
                outputs=outputs,
                calibrate=calibrate,
                headroom=headroom,
            )

        return _auto_input_bits(compile_with)
    if compare_bits != "auto" and compare_bits not in ir.COMPARE_BITS:
        raise ModelError(f"compile: compare_bits: expected 'auto' or one of {ir.COMPARE_BITS}, got {compare_bits!r}")
    if not 0 <= input_frac_bits <= ir.MAX_INPUT_FRAC_BITS:
        raise ModelError(f"compile: input_frac_bits: expected 0 to {ir.MAX_INPUT_FRAC_BITS}, got {input_frac_bits}")
    lowered, applied = rewrite(graph)
    stages = fuse(lowered)
    applied += _fusions(stages)
    observed = {} if calibrate is None else observe(lowered, stages, calibrate, headroom)
    choices = ir.COMPARE_BITS if compare_bits == "auto" else (compare_bits,)

    def build(caps: Mapping[int, int]) -> Compiled:
        settings = Settings(input_frac_bits, choices, outputs, caps, observed)
        return _build(graph, lowered, applied, stages, settings)

    linears = [i for i, s in enumerate(stages) if isinstance(s.node, Conv1d | Dense) and not s.last]
    caps, best = _first_fit(build, linears)
    if best.program.multiplications <= TUNE_WORK:
        best = _tune(build, linears, caps, best)
    ir.check(best.program)
    return best


def _auto_input_bits(compile_with: Callable[[int], Compiled]) -> Compiled:
    """Finer features cost nothing, unless the proof then needs wider comparisons or fails."""
    plain = compile_with(PLAIN_INPUT_FRAC_BITS)
    with suppress(RangeProofError):
        fine = compile_with(FINE_INPUT_FRAC_BITS)
        if _width(fine) <= _width(plain) and fine.report.margin_bound < plain.report.margin_bound:
            return fine
    return plain


def _build(
    graph: Graph, lowered: Graph, applied: tuple[str, ...], stages: tuple[Stage, ...], settings: Settings
) -> Compiled:
    """One pass over the stages with given caps: steps, tensors, proof and error bound together."""
    x = ranges.input_bounds(*lowered.box(), settings.input_frac_bits)
    _require("input", x.magnitude, 62)
    steps: list[ir.Step] = []
    weights: dict[str, NDArray[np.uint64]] = {}
    layers: list[LayerReport] = []
    pairs: tuple[float, float] | None = None
    for i, stage in enumerate(stages):
        node, before = stage.node, x
        if isinstance(node, Conv1d | Dense):
            cap = settings.caps.get(i, MAX_ACTIVATION_BITS)
            fit = fit_linear(stage, x, settings.compare_bits, cap, settings.observed.get(i))
            x = _finish(fit.value, stage)
            steps.append(_linear_step(stage, fit, before.low.shape, x))
            weights[f"{node.name}.weight"] = fixed.encode(fit.quantised.real_weight, fit.quantised.weight_frac_bits)
            weights[f"{node.name}.bias"] = fixed.encode(bias_of(node), fit.product.frac_bits)
            layers.append(_layer(node.name, x, fit, fit.compare_bits if stage.relu else None))
            pairs = ranges.differences(node, fit.quantised, before) if isinstance(node, Dense) and stage.last else None
        else:
            x, step = _plain_step(stage, x, settings.compare_bits)
            steps.append(step)
            layers.append(_layer(node.name, x, None, getattr(step, "compare_bits", None)))
            pairs = pairs if isinstance(node, Reshape) else None
        _require(node.name, x.magnitude, 62)
    spread, margin = pairs or ranges.plain_differences(x)
    choices = tuple(m for m in ir.COMPARE_BITS if m >= min(settings.compare_bits))
    program = ir.Program(
        name=graph.name,
        input_shape=graph.input_shape,
        input_frac_bits=settings.input_frac_bits,
        input_low=graph.input_low,
        input_high=graph.input_high,
        labels=graph.labels,
        steps=tuple(steps),
        compare_bits=_narrowest("argmax", spread, choices),
        outputs=settings.outputs,
        features=graph.features,
        calibrated=bool(settings.observed),
    )
    errors = tuple(float(e) for e in np.maximum(-x.error_low, x.error_high))
    report = Report(applied, tuple(layers), errors, margin, graph.parameters, program.calibrated)
    return Compiled(program, weights, report)


def _finish(x: Bounds, stage: Stage) -> Bounds:
    """ReLU and window sum, where the stage has them."""
    x = ranges.relu(x) if stage.relu or isinstance(stage.node, Relu) else x
    return x if stage.pool is None else ranges.sum_pool(x, stage.pool)


def _linear_step(stage: Stage, fit: Fit, in_shape: ir.Shape, out: Bounds) -> ir.Linear:
    node, q = stage.node, fit.quantised
    geometry = (
        (node.stride, node.padding, node.dilation, node.groups) if isinstance(node, Conv1d) else (1, (0, 0), 1, 1)
    )
    return ir.Linear(
        node.name,
        "conv1d" if isinstance(node, Conv1d) else "dense",
        in_shape,
        out.low.shape,
        out.frac_bits,
        ir.TensorSpec(f"{node.name}.weight", q.weight.shape, q.weight_frac_bits),
        ir.TensorSpec(f"{node.name}.bias", q.bias.shape, fit.product.frac_bits),
        *geometry,
        trunc_bits=fit.trunc_bits,
        relu=stage.relu,
        compare_bits=fit.compare_bits if stage.relu and fit.compare_bits else 64,
        sum_pool=None if stage.pool is None else _pool(stage.pool),
    )


def _plain_step(stage: Stage, x: Bounds, choices: tuple[int, ...]) -> tuple[Bounds, ir.Step]:
    """A step without weights, and the bounds after it."""
    node, in_shape = stage.node, x.low.shape
    if isinstance(node, Relu):
        m = _narrowest(node.name, x.magnitude, choices)
        out = _finish(x, stage)
        pool = None if stage.pool is None else _pool(stage.pool)
        return out, ir.Relu(node.name, in_shape, out.low.shape, out.frac_bits, m, pool)
    if isinstance(node, MaxPool):
        m = _narrowest(node.name, ranges.window_spread(x, node), choices)
        out = ranges.max_pool(x, node)
        return out, ir.MaxPool(node.name, in_shape, out.low.shape, out.frac_bits, _pool(node), m)
    if isinstance(node, SumPool):
        out = ranges.sum_pool(x, node)
        return out, ir.SumPool(node.name, in_shape, out.low.shape, out.frac_bits, _pool(node))
    if isinstance(node, Reshape):
        out = ranges.reshape(x, output_shape(node, in_shape))
        return out, ir.Reshape(node.name, in_shape, out.low.shape, out.frac_bits)
    raise ModelError(f"layer {node.name!r}: expected a layer that the compiler knows, got {type(node).__name__}")


def _pool(node: SumPool | MaxPool) -> ir.Pool:
    return ir.Pool(node.kernel, node.stride, node.padding)


def _layer(name: str, x: Bounds, fit: Fit | None, compare_bits: int | None) -> LayerReport:
    unit = 2.0**-x.frac_bits
    return LayerReport(
        name,
        x.frac_bits,
        None if fit is None else fit.quantised.weight_frac_bits,
        compare_bits,
        None if fit is None else math.frexp(fit.product.magnitude)[1],
        float(x.low.min()) * unit,
        float(x.high.max()) * unit,
        x.error,
    )


def _narrowest(name: str, magnitude: float, choices: tuple[int, ...]) -> int:
    for m in choices:
        if magnitude < 2.0 ** (m - 1):
            return m
    need = math.frexp(magnitude)[1] + 1
    raise RangeProofError(f"layer {name!r}: expected compared values of at most {max(choices)} bits, got {need} bits")


def _require(name: str, magnitude: float, bits: int) -> None:
    if magnitude >= 2.0**bits:
        need = math.frexp(magnitude)[1] + 1
        raise RangeProofError(f"layer {name!r}: expected values of at most {bits + 1} bits, got {need} bits")


def _fusions(stages: tuple[Stage, ...]) -> tuple[str, ...]:
    """What `fuse` did and the engine makes use of, in words for `explain`."""
    linears = [s for s in stages if isinstance(s.node, Conv1d | Dense)]
    found = (
        ("ReLU fused into the linear layer before it", any(s.relu for s in linears)),
        ("window sum fused into the ReLU before it", any(s.pool for s in stages)),
        ("padding never multiplied", any(isinstance(s.node, Conv1d) and any(s.node.padding) for s in linears)),
        ("no truncation before the final argmax", any(s.last for s in linears)),
    )
    return tuple(text for text, applies in found if applies)


def _first_fit(build: _Builder, linears: list[int]) -> tuple[dict[int, int], Compiled]:
    """Greedy scales; with fewer and fewer activation bits if a later layer then lacks room."""
    first: RangeProofError | None = None
    for cap in range(MAX_ACTIVATION_BITS, MIN_ACTIVATION_BITS - 1, -2):
        caps = dict.fromkeys(linears, cap)
        try:
            return caps, build(caps)
        except RangeProofError as error:
            first = first or error
    raise first or ModelError("compile: no scale was tried")


def _tune(build: _Builder, linears: list[int], caps: dict[int, int], best: Compiled) -> Compiled:
    """Lower one activation scale after the other by a few bits; keep what lowers the margin bound.

    It can: fewer bits here leave more for the next layer's weights under |z| < 2^62.
    """
    for i in linears:
        used = best.program.steps[i]
        fitted = used.out_frac_bits - (_pool_bits(used) if isinstance(used, ir.Linear) else 0)
        for cap in range(fitted - 1, max(fitted - TUNE_BITS, MIN_ACTIVATION_BITS) - 1, -1):
            try:
                tried = build(caps | {i: cap})
            except RangeProofError:
                continue
            if (_width(tried), tried.report.margin_bound) < (_width(best), best.report.margin_bound):
                best, caps = tried, caps | {i: cap}
    return best


def _pool_bits(step: ir.Linear) -> int:
    """Fraction bits that the fused window mean added."""
    return step.out_frac_bits - (step.bias.frac_bits - step.trunc_bits)


def _width(compiled: Compiled) -> int:
    return sum(layer.compare_bits or 0 for layer in compiled.report.layers)
