"""The fixtures: where they lie, inputs for them, and what onnxruntime makes of these."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from sottovoce.models.compiler.compile import Compiled
from sottovoce.models.encode import encode_input
from sottovoce.models.graph import Graph
from sottovoce.models.onnx import import_onnx
from sottovoce.serving.runner import InProcess, PlainRunner

FIXTURES = Path(__file__).resolve().parent / "fixtures"
BOX = 8.0
MFCC_BOX = 1131.0
TAKES_MFCC = (
    "torch/paper_",
    "torch/default_export",
    "keras/standardised_paper",
)  # they standardise their inputs themselves


@dataclass(frozen=True)
class Exported:
    """One fixture. file: "torch/view.onnx". end: the last operator that is left out, "" if none."""

    file: str
    end: str
    half: bool
    batch: int | None
    shape: tuple[int, ...]

    @property
    def path(self) -> Path:
        """Where it lies."""
        return FIXTURES / self.file

    @property
    def box(self) -> float:
        """Every input lies in -box … box."""
        return MFCC_BOX if self.file.startswith(TAKES_MFCC) else BOX

    def graph(self, **arguments: Any) -> Graph:
        """The imported model."""
        return import_onnx(self.path, **{"input_low": -self.box, "input_high": self.box, **arguments})

    def inputs(self, rng: np.random.Generator, rows: int) -> np.ndarray:
        """(rows, *shape) float32, of the size of the features that the model is made for; half fixtures round them."""
        x = rng.normal(0, 2, (rows, *self.shape)).clip(-BOX, BOX)
        if self.box == MFCC_BOX:
            x *= 20
            x.reshape(rows, -1)[:, 0] = rng.uniform(-900, -300, rows)
        return x.astype(np.float16).astype(np.float32) if self.half else x.astype(np.float32)

    def run(self, x: np.ndarray) -> np.ndarray:
        """What onnxruntime says: the file's own output, (rows, labels) or (rows,) after an ArgMax."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(str(self.path), options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        x = x.astype(np.float16) if self.half else x
        parts = [x] if self.batch is None else np.split(x, len(x) // self.batch)
        return np.concatenate([session.run(None, {name: part})[0] for part in parts])


def exported(file: str) -> Exported:
    """What a fixture's header says."""
    model = onnx.load(FIXTURES / file)
    tensor = model.graph.input[0].type.tensor_type
    dims = [dim.dim_value for dim in tensor.shape.dim]
    last = model.graph.node[-1].op_type
    end = last if last in ("Softmax", "LogSoftmax", "ArgMax") else ""
    return Exported(file, end, tensor.elem_type == onnx.TensorProto.FLOAT16, dims[0] or None, tuple(dims[1:]))


def end_of_model(end: str, logits: np.ndarray) -> np.ndarray:
    """The operators that the importer leaves out, on logits (rows, labels)."""
    if end == "ArgMax":
        return logits.argmax(axis=1)
    if not end:
        return logits
    shifted = logits - logits.max(axis=1, keepdims=True)
    normalised = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return np.exp(normalised) if end == "Softmax" else normalised


def margins(logits: np.ndarray) -> np.ndarray:
    """Distance of the two largest logits of each row (rows, labels)."""
    top = np.sort(logits, axis=1)
    return top[:, -1] - top[:, -2]


def labels_of(compiled: Compiled, x: np.ndarray, protocol: str) -> tuple[np.ndarray, int]:
    """(label indices (rows,), bytes that all parties sent) of x (rows, *input_shape) under a protocol or "plain"."""
    runner = PlainRunner(compiled) if protocol == "plain" else InProcess(compiled, protocol)
    try:
        labels, cost = runner.run(encode_input(compiled.program, x))
    finally:
        runner.close()
    return labels, sum(cost.bytes_sent)
