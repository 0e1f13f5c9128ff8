"""From a model with real weights to a public program, secret ring tensors and a proof that nothing overflows.

The proof (`compiler.ranges`) covers every input in the declared box: before each truncation |z| < 2^62, before each
comparison |v| < 2^(m-1). A model that cannot be proven is refused with the layer's name and the bits it would need;
only `calibrate=` replaces proven ranges by observed ones, and then the program says so.

Scales cost nothing on shares, so they are chosen for accuracy: the narrowest comparison (m = 32, then 48, then 64) that
leaves each activation at least 8 fraction bits (if that cannot be proven, at least 0), then the fraction bits of
features, activations, weights and slopes that make the error bound of a difference of two logits smallest. A wider m is
not taken for accuracy: |z| < 2^62 is shared by an activation and the next layer's weights, so an activation of more
than about 30 bits costs the weights more than it gains. The public program depends on the weights only through these
scales, m, and whether affine maps have a negative factor before a maximum or change along time (docs/security.md).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sottovoce.engine import fixed
from sottovoce.engine import program as ir
from sottovoce.engine.errors import ModelError, RangeProofError
from sottovoce.models.compiler.fit import Rules, bias_of
from sottovoce.models.compiler.lower import Lowered
from sottovoce.models.compiler.rewrites import rewrite
from sottovoce.models.compiler.search import LEAST_ACTIVATION_BITS, Attempt, Search
from sottovoce.models.compiler.stages import Stage, fuse, observe
from sottovoce.models.graph import Conv1d, Dense, Graph

CompareBits = Literal["auto", 32, 48, 64]

AUTO_INPUT_FRAC_BITS = (20, 16, 12)


@dataclass(frozen=True, slots=True)
class LayerReport:
    """What was proven about one step. The ranges come from secret weights: for the model's owner only.

    calibrated: the range was taken from sample data, because what can be proven is wider.
    """

    name: str
    out_frac_bits: int
    weight_frac_bits: int | None
    compare_bits: int | None
    product_bits: int | None = field(repr=False)  # |z| < 2**product_bits, the promise is 62
    low: float = field(repr=False)
    high: float = field(repr=False)
    error: float = field(repr=False)
    calibrated: bool = False


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

    input_frac_bits: of the shared features; "auto" takes the best of 20, 16 and 12.
    compare_bits: m of every comparison; "auto" takes the smallest that is proven. The last argmax, whose inputs are not
    truncated, takes the smallest that is proven and not below.
    calibrate: sample features (batch, channels, time). Each linear layer is then trusted to stay within `headroom`
    times the largest value seen, where that is less than the proof. Inputs beyond it give wrong labels without notice.
    Raises RangeProofError for a model that may overflow, ModelError for one that cannot be compiled.
    """
    if compare_bits != "auto" and compare_bits not in ir.COMPARE_BITS:
        raise ModelError(f"compile: compare_bits: expected 'auto' or one of {ir.COMPARE_BITS}, got {compare_bits!r}")
    input_bits = AUTO_INPUT_FRAC_BITS if input_frac_bits == "auto" else (input_frac_bits,)
    if not all(0 <= bits <= ir.MAX_INPUT_FRAC_BITS for bits in input_bits):
        raise ModelError(f"compile: input_frac_bits: expected 0 to {ir.MAX_INPUT_FRAC_BITS}, got {input_frac_bits}")
    lowered, applied = rewrite(graph)
    stages = fuse(lowered)
    observed = {} if calibrate is None else observe(lowered, stages, calibrate, headroom)
    choices = ir.COMPARE_BITS if compare_bits == "auto" else (compare_bits,)
    best = _search(lowered, stages, choices, observed, input_bits)
    program = ir.Program(
        name=graph.name,
        input_shape=graph.input_shape,
        input_frac_bits=best.start.frac_bits,
        input_low=graph.input_low,
        input_high=graph.input_high,
        labels=graph.labels,
        steps=tuple(found.step for found in best.lowered),
        compare_bits=best.compare_bits,
        outputs=outputs,
        features=graph.features,
        calibrated=bool(observed),
    )
    ir.check(program)
    return Compiled(program, _weights(stages, best), _report(graph, applied + _fusions(stages), best, program))


def _search(
    lowered: Graph,
    stages: tuple[Stage, ...],
    choices: tuple[int, ...],
    observed: dict[int, float],
    input_bits: tuple[int, ...],
) -> Attempt:
    first = next((i for i, stage in enumerate(stages) if isinstance(stage.node, Conv1d | Dense)), len(stages))
    for least in LEAST_ACTIVATION_BITS:
        try:
            return Search(lowered, stages, Rules(choices, least, observed, first)).best(input_bits)
        except RangeProofError as error:
            refused = error
    raise refused


def _weights(stages: tuple[Stage, ...], best: Attempt) -> dict[str, NDArray[np.uint64]]:
    weights = {}
    for stage, found in zip(stages, best.lowered, strict=True):
        node, fit = stage.node, found.fit
        if fit is not None and isinstance(node, Conv1d | Dense):
            weights[f"{node.name}.weight"] = fixed.encode(fit.quantised.real_weight, fit.quantised.weight_frac_bits)
            weights[f"{node.name}.bias"] = fixed.encode(bias_of(node), fit.product.frac_bits)
    return weights


def _report(graph: Graph, applied: tuple[str, ...], best: Attempt, program: ir.Program) -> Report:
    logits = best.lowered[-1].after
    errors = tuple(float(e) for e in np.maximum(-logits.error_low, logits.error_high))
    layers = tuple(_layer(found) for found in best.lowered)
    return Report(applied, layers, errors, best.margin, graph.parameters, program.calibrated)


def _layer(found: Lowered) -> LayerReport:
    x, fit = found.after, found.fit
    unit = 2.0**-x.frac_bits
    return LayerReport(
        found.step.name,
        x.frac_bits,
        None if fit is None else fit.quantised.weight_frac_bits,
        found.compare_bits,
        None if fit is None else math.frexp(fit.product.magnitude)[1],
        float(x.low.min()) * unit,
        float(x.high.max()) * unit,
        x.error,
        fit is not None and fit.calibrated,
    )


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
