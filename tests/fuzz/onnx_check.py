"""What must hold for any bytes that are taken for an ONNX model."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from sottovoce.engine.errors import ModelError, SottovoceError
from sottovoce.models.compiler.compile import compile_graph
from sottovoce.models.evaluate import evaluate
from sottovoce.models.graph import Graph
from sottovoce.models.onnx import export_onnx, import_onnx

Outcome = Literal["refused", "imported", "too large to compile", "not compiled", "compiled"]

COMPILED_ELEMENTS = 20_000  # weights and activations up to which an imported model is also compiled


def check_bytes(data: bytes, *, compiled: bool = True) -> Outcome:
    """Import bytes that nobody vouches for. Anything but ModelError or a Graph that works is a finding.

    A Graph must evaluate, survive export and import, and compile or be refused with a SottovoceError.
    compiled: whether it is compiled.
    """
    try:
        graph = import_onnx(data, input_low=-4.0, input_high=4.0)
    except ModelError as error:
        _check_message(str(error))
        return "refused"
    if _size(graph) > COMPILED_ELEMENTS:
        return "too large to compile"
    with np.errstate(all="ignore"):  # weights of 1e38 overflow in float64 too
        logits = evaluate(graph, np.full((1, *graph.input_shape), 0.5))
    assert logits.shape == (1, len(graph.labels))
    again = import_onnx(export_onnx(graph))
    assert (again.labels, again.input_shape, again.box()[0].tolist()) == (
        graph.labels,
        graph.input_shape,
        graph.box()[0].tolist(),
    )
    if not compiled:
        return "imported"
    try:
        compile_graph(graph, input_frac_bits=16, compare_bits=64)  # one width, so that little is searched
    except SottovoceError:
        return "not compiled"
    return "compiled"


def _check_message(text: str) -> None:
    assert 10 < len(text) < 4000


def _size(graph: Graph) -> int:
    arrays = sum(
        int(getattr(node, part).size) for node in graph.nodes for part in ("weight", "scale") if hasattr(node, part)
    )
    return arrays + sum(math.prod(shape) for shape in graph.shapes)
