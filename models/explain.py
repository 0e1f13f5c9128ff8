"""What a compiled model costs, layer by layer, as data; the command line makes tables of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from sottovoce.engine import program as ir
from sottovoce.engine.functions.maximum import max_pool_comparisons
from sottovoce.models.compiler.compile import Compiled, LayerReport

# (step, batch) -> (rounds, bytes sent by all parties). The step is None for the argmax over the logits.
StepCosts = Callable[[ir.Step | None, int], tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Row:
    """One step for `batch` clips; in `Explanation.total`, all of them.

    parameters: the model's own, one bias per channel. secret_elements: ring elements that the owner shares, where a
    bias that folding made depend on the position counts in full. comparisons: ReLUs, the comparisons of maxima, and in
    the argmax all pairs of classes. rounds, bytes_sent: None without a cost model. slope: of a leaky ReLU, as the
    program has it.
    """

    name: str
    kind: str
    in_shape: ir.Shape
    out_shape: ir.Shape
    parameters: int = 0
    secret_elements: int = 0
    multiplications: int = 0
    relus: int = 0
    comparisons: int = 0
    compare_bits: int | None = None
    frac_bits: int | None = None
    rounds: int | None = None
    bytes_sent: int | None = None
    proof: LayerReport | None = None
    slope: float | None = None


@dataclass(frozen=True, slots=True)
class Explanation:
    """rows in the order of the program, their sum, and what concerns the whole model.

    model_parameters: of the model before the compiler folded anything, where that is known. rewrites, margin_bound:
    None when only the public program is at hand.
    """

    model: str
    batch: int
    rows: tuple[Row, ...]
    total: Row
    model_parameters: int
    calibrated: bool
    rewrites: tuple[str, ...] | None = None
    margin_bound: float | None = None


def explain(compiled: Compiled | ir.Program, batch: int = 1, costs: StepCosts | None = None) -> Explanation:
    """Cost of each step of a program for `batch` clips.

    From a Compiled, which only the model's owner has, the rows also carry the proven ranges and the error bound.
    """
    program = compiled.program if isinstance(compiled, Compiled) else compiled
    proofs = compiled.report.layers if isinstance(compiled, Compiled) else (None,) * len(program.steps)
    rows = [_row(step, batch, costs, proof) for step, proof in zip(program.steps, proofs, strict=True)]
    if "label" in program.outputs:
        rows.append(_argmax(program, batch, costs))
    total = Row(
        "total",
        "",
        program.input_shape,
        program.steps[-1].out_shape,
        sum(row.parameters for row in rows),
        sum(row.secret_elements for row in rows),
        sum(row.multiplications for row in rows),
        sum(row.relus for row in rows),
        sum(row.comparisons for row in rows),
        rounds=None if costs is None else sum(row.rounds or 0 for row in rows),
        bytes_sent=None if costs is None else sum(row.bytes_sent or 0 for row in rows),
    )
    report = compiled.report if isinstance(compiled, Compiled) else None
    return Explanation(
        program.name,
        batch,
        tuple(rows),
        total,
        total.parameters if report is None else report.model_parameters,
        program.calibrated,
        None if report is None else report.rewrites,
        None if report is None else report.margin_bound,
    )


def _row(step: ir.Step, batch: int, costs: StepCosts | None, proof: LayerReport | None) -> Row:
    rounds, bytes_sent = (None, None) if costs is None else costs(step, batch)
    parameters = secret = products = relus = comparisons = 0
    compare_bits, slope = None, None
    kind = type(step).__name__.lower()
    if isinstance(step, ir.Linear):
        depthwise = step.kind == "conv1d" and step.groups == step.in_shape[0] > 1
        kind = "depthwise" if depthwise else step.kind
        kind += (" + relu" if step.relu else "") + (" + sum" if step.sum_pool else "")
        weight = math.prod(step.weight.shape)
        parameters = weight + step.weight.shape[0]
        secret = weight + math.prod(step.bias.shape)
        products = step.multiplications
        relus = math.prod(step.linear_shape) if step.relu else 0
    elif isinstance(step, ir.Relu):
        kind = ("leaky relu" if step.slope or step.slope_bits else kind) + (" + sum" if step.sum_pool else "")
        slope = step.slope * 2.0**-step.slope_bits if step.slope or step.slope_bits else None
        relus = math.prod(step.in_shape)
    elif isinstance(step, ir.MaxPool):
        comparisons = step.out_shape[0] * max_pool_comparisons(step.pool, step.in_shape[1])
    if relus or isinstance(step, ir.MaxPool):
        compare_bits = step.compare_bits if isinstance(step, ir.Linear | ir.Relu | ir.MaxPool) else None
    return Row(
        step.name,
        kind,
        step.in_shape,
        step.out_shape,
        parameters,
        secret,
        products * batch,
        relus * batch,
        (relus + comparisons) * batch,
        compare_bits,
        step.out_frac_bits,
        rounds,
        bytes_sent,
        proof,
        slope,
    )


def _argmax(program: ir.Program, batch: int, costs: StepCosts | None) -> Row:
    rounds, bytes_sent = (None, None) if costs is None else costs(None, batch)
    classes = len(program.labels)
    return Row(
        "argmax",
        "argmax",
        (classes,),
        (classes,),
        comparisons=classes * (classes - 1) // 2 * batch,
        compare_bits=program.compare_bits,
        rounds=rounds,
        bytes_sent=bytes_sent,
    )
