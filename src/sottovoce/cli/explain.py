"""`sottovoce explain`: what a model costs, layer by layer, and what the compiler proved. For the model's owner."""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sottovoce import __version__
from sottovoce.cli.connect import Subparsers, add_protocol_options, choose_protocol, find_protocol, positive
from sottovoce.cli.exits import Exit
from sottovoce.cli.model import add_model_options, load_graph, load_samples
from sottovoce.cli.output import (
    TEXT_WIDTH,
    count,
    errors_as_json,
    has_random_weights,
    make_table,
    per_party,
    remark,
    show_marks,
    stdout_console,
    write_json,
)

if TYPE_CHECKING:
    from rich.table import Table

    from sottovoce.engine.program import OutputKind, Program, Step
    from sottovoce.engine.protocols.table import ProtocolRow
    from sottovoce.models.compiler.compile import Compiled, LayerReport
    from sottovoce.models.explain import Explanation, Row, StepCosts

PUBLIC = (
    "the program (architecture, slopes of leaky ReLUs, shapes, scales, comparison widths m, input box, names of the "
    "model, its layers, features and labels, whether ranges are calibrated), the protocol, and when messages are sent "
    "and how long they are"
)
PRIVATE = "ranges, errors and the margin bound come from the weights: they are for the model's owner"


def add(commands: Subparsers) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "explain",
        help="what a model costs, layer by layer",
        description="For the model's owner: shape, parameters, multiplications, comparisons, rounds and bytes of every "
        "layer, the compiler's rewrites, and the bound within which labels equal those of exact arithmetic.",
    )
    add_model_options(parser, positional=True)
    parser.add_argument("--batch", type=positive, default=1, metavar="N", help="clips per request (default 1)")
    add_protocol_options(parser, default="rep3", text="default: rep3; plain has no messages")
    parser.add_argument("--scores", action="store_true", help="of a deployment with --scores: another public program")
    parser.add_argument(
        "--write-program", type=Path, metavar="FILE", help="write the public program there, for `sottovoce prepare`"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.set_defaults(run=run)


@errors_as_json
def run(args: argparse.Namespace) -> int:
    """Compile and explain."""
    from sottovoce.engine.cost import predict_cost
    from sottovoce.models.compiler.compile import compile_graph
    from sottovoce.models.explain import explain

    find_protocol(args.protocol)
    graph = load_graph(args)
    outputs: tuple[OutputKind, ...] = ("label", "scores") if args.scores else ("label",)
    compiled = compile_graph(graph, outputs=outputs, calibrate=load_samples(args.calibrated, graph))
    row = None if args.protocol == "plain" else choose_protocol(args, compiled.program)
    if args.write_program is not None:
        args.write_program.write_bytes(compiled.program.to_json())
        name = compiled.program.name
        remark(f"wrote {args.write_program}: the public program of {name}, for `sottovoce prepare` at each party")
    costs: StepCosts | None = None
    sent: dict[str, tuple[int, ...]] = {}
    if row is not None:
        steps = {step.name: step for step in predict_cost(compiled.program, row, args.batch)}
        sent = {name: step.bytes_sent for name, step in steps.items()}

        def costs(step: Step | None, batch: int) -> tuple[int, int]:
            found = steps["argmax" if step is None else step.name]
            return found.rounds, sum(found.bytes_sent)

    explanation = explain(compiled, args.batch, costs)
    outside = None if row is None else client_bytes(compiled.program, row, args.batch)
    if args.json:
        write_json(_as_json(explanation, compiled, row, sent, outside))
    else:
        _show(explanation, compiled, row, sent, outside)
    return Exit.OK


def client_bytes(program: Program, row: ProtocolRow, batch: int) -> tuple[int, int]:
    """Bytes, headers included, of input sharing and of opening the labels: between client and all parties."""
    import math

    from sottovoce.engine.session import output_bytes
    from sottovoce.engine.transport.base import HEADER_BYTES

    elements = batch * math.prod(program.input_shape)
    sharing = sum(HEADER_BYTES + sum(row.slot_bytes(rank, elements)) for rank in range(row.parties))
    return sharing, row.parties * (HEADER_BYTES + output_bytes(program, batch, "label"))


def dealt_bytes(program: Program, row: ProtocolRow, batch: int) -> tuple[int, ...] | None:
    """What a dealer sends each party for a batch, headers not included; None without preprocessing."""
    from sottovoce.engine.cost import demand

    if not row.preprocessing:
        return None
    layout = demand(program, row)
    return 8 * layout.common * batch, 8 * (layout.derived + layout.common) * batch


def _show(
    explanation: Explanation,
    compiled: Compiled,
    row: ProtocolRow | None,
    sent: dict[str, tuple[int, ...]],
    outside: tuple[int, int] | None,
) -> None:
    console = stdout_console()
    program, total = compiled.program, explanation.total
    clips = count(explanation.batch, "clip")
    tables = [
        (f"{explanation.model}, layer by layer", _architecture(explanation)),
        (f"Cost of a request with {clips}{'' if row is None else f' under {row.name}'}", _costs(explanation)),
        ("Ranges, CALIBRATED, not proven" if program.calibrated else "Proven ranges", _ranges(explanation)),
    ]
    for title, table in tables:
        console.print(title, style="bold", soft_wrap=True)
        console.print(table)
        console.print()
    facts = []
    if outside is not None:
        parties = [sum(column) for column in zip(*sent.values(), strict=True)]
        facts.append(("to peers", f"{per_party(parties)} bytes"))
        facts.append(("besides", f"input sharing {outside[0]:,} bytes, label opening {outside[1]:,} bytes"))
    if row is not None:
        facts.append(("protocol", f"{row.name} ({row.security})"))
    if row is not None and (dealt := dealt_bytes(program, row, explanation.batch)) is not None:
        facts.append(("offline", f"prepared ahead of time, from a dealer: {per_party(dealt)} bytes"))
    low, high = min(program.input_low), max(program.input_high)
    features = count(len(program.input_low), "feature")
    shared = f"{explanation.model_parameters:,} model parameters, shared as {total.secret_elements:,} ring elements"
    bound = f"{explanation.margin_bound:.3g}"
    within = ", and no layer leaves its calibrated range" if program.calibrated else ""
    facts += [
        ("m, scale", "bits that a comparison looks at; fraction bits of a layer's output, and of its weights"),
        ("input", f"{features} within {low:g} … {high:g}, {program.input_frac_bits} fraction bits"),
        ("recordings", f"features {program.features}" if program.features else "no feature set is named: arrays only"),
        ("weights", shared),
        ("labels", f"same as in exact arithmetic if the two largest logits differ by more than {bound}" + within),
        *(("" if n else "rewrites", text) for n, text in enumerate(explanation.rewrites or ("none",))),
        ("program", program.digest.hex()),
        ("public", PUBLIC),
        ("owner only", PRIVATE),
    ]
    for name, text in facts:
        console.print(
            textwrap.fill(text, TEXT_WIDTH, initial_indent=f"{name:12}", subsequent_indent=" " * 12), soft_wrap=True
        )
    show_marks(console, program)


def _architecture(explanation: Explanation) -> Table:
    table = make_table(("layer", "kind", "shape"), ("parameters", "m", "scale", "weights"))
    for row in (*explanation.rows, explanation.total):
        shape = " -> ".join("x".join(map(str, side)) for side in (row.in_shape, row.out_shape))
        scales = (row.frac_bits, None if row.proof is None else row.proof.weight_frac_bits)
        bits = ["" if value is None else str(value) for value in (row.compare_bits, *scales)]
        table.add_row(row.name, row.kind, shape, _number(row.parameters or None), *bits)
    return table


def _costs(explanation: Explanation) -> Table:
    priced = explanation.total.rounds is not None
    names = ("multiplications", "ReLUs", "comparisons", *(("rounds", "bytes") if priced else ()))
    table = make_table(("layer",), names)
    for row in (*explanation.rows, explanation.total):
        cells = [_number(value or None) for value in (row.multiplications, row.relus, row.comparisons)]
        table.add_row(row.name, *cells, *([_number(row.rounds), _number(row.bytes_sent)] if priced else []))
    return table


def _ranges(explanation: Explanation) -> Table:
    table = make_table(("layer",), ("values within", "error at most"), ("",))
    for row in explanation.rows:
        if row.proof is not None:
            values = f"{row.proof.low:.4g} … {row.proof.high:.4g}"
            table.add_row(row.name, values, f"{row.proof.error:.2g}", _basis(row.proof))
    return table


def _basis(proof: LayerReport) -> str:
    """What a layer's range rests on."""
    return "calibrated" if proof.calibrated else "proven"


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _as_json(
    explanation: Explanation,
    compiled: Compiled,
    row: ProtocolRow | None,
    sent: dict[str, tuple[int, ...]],
    outside: tuple[int, int] | None,
) -> dict[str, Any]:
    program = compiled.program
    return {
        "version": __version__,
        "model": explanation.model,
        "program": program.digest.hex(),
        "protocol": "plain" if row is None else row.name,
        "batch": explanation.batch,
        "calibrated": explanation.calibrated,
        "random_weights": has_random_weights(program),
        "model_parameters": explanation.model_parameters,
        "margin_bound": explanation.margin_bound,
        "rewrites": list(explanation.rewrites or ()),
        "layers": [_row_json(row, sent.get(row.name)) for row in explanation.rows],
        "total": _row_json(explanation.total, [sum(column) for column in zip(*sent.values(), strict=True)] or None),
        "input_sharing_bytes": None if outside is None else outside[0],
        "output_opening_bytes": None if outside is None else outside[1],
        "dealt_bytes": None if row is None else dealt_bytes(program, row, explanation.batch),
    }


def _row_json(row: Row, sent: Any) -> dict[str, Any]:
    names = [name for name in row.__slots__ if name not in ("proof", "bytes_sent")]
    fields = {name: getattr(row, name) for name in names}
    if row.proof is not None:
        fields["weight_frac_bits"] = row.proof.weight_frac_bits
        fields["ranges"] = _basis(row.proof)
        fields["owner_only"] = {name: getattr(row.proof, name) for name in ("low", "high", "error")}
    return {**fields, "bytes_sent": None if sent is None else list(sent)}
