"""The IR to ONNX: one operator or two per node, weights in float32, for any runtime of the last years."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from sottovoce.models.graph import (
    Affine,
    Array,
    AvgPool,
    BatchNorm,
    Conv1d,
    Dense,
    Graph,
    LeakyRelu,
    MaxPool,
    Node,
    Relu,
    Reshape,
    Shape,
    SumPool,
    Transpose,
)
from sottovoce.models.onnx.metadata import Box, Metadata, write_metadata

OPSET = 17
IR_VERSION = 8
INPUT, OUTPUT, BATCH_AXIS = "features", "logits", "clips"


def export_onnx(graph: Graph) -> bytes:
    """The model as the bytes of an ONNX file: features (clips, channels, time) to logits (clips, labels), in float32.

    Labels, feature set and box go along as metadata, so that `import_onnx` needs nothing else.
    """
    writer = _Writer()
    shapes = graph.shapes
    for node, before, after in zip(graph.nodes, shapes, shapes[1:], strict=False):
        writer.add_node(node, before, after)
    writer.add("Identity", "logits", output=OUTPUT)
    model = helper.make_model(
        helper.make_graph(
            writer.nodes,
            graph.name,
            [helper.make_tensor_value_info(INPUT, onnx.TensorProto.FLOAT, [BATCH_AXIS, *graph.input_shape])],
            [helper.make_tensor_value_info(OUTPUT, onnx.TensorProto.FLOAT, [BATCH_AXIS, len(graph.labels)])],
            writer.tensors,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="sottovoce",
    )
    channels, time = graph.input_shape
    box = Box(tuple(map(float, graph.input_low)), tuple(map(float, graph.input_high)))
    write_metadata(model, Metadata(graph.name, graph.labels, graph.features, box, (channels, time)))
    return bytes(model.SerializeToString(deterministic=True))


class _Writer:
    """ONNX nodes in a row, each on the output of the one before."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []
        self._value = INPUT

    def add(self, op: str, name: str, *constants: Array, output: str = "", **attributes: Any) -> None:
        """Append one node; constants become tensors of the file."""
        inputs = [self._value]
        for kind, values in zip(("weight", "bias", "mean", "var"), constants, strict=False):
            inputs.append(f"{name}.{kind}")
            stored = values if values.dtype.kind == "i" else values.astype(np.float32)
            self.tensors.append(numpy_helper.from_array(np.ascontiguousarray(stored), inputs[-1]))
        self._value = output or f"{name}:0"
        self.nodes.append(helper.make_node(op, inputs, [self._value], name=f"{name}/{op}", **attributes))

    def add_node(self, node: Node, before: Shape, after: Shape) -> None:
        """Append one node of the IR, from shape `before` to `after`."""
        if isinstance(node, Conv1d):
            self._add_conv(node)
        elif isinstance(node, Dense):
            self.add("Gemm", node.name, node.weight, node.bias, transB=1)
        elif isinstance(node, Affine):
            self.add("Mul", f"{node.name}.scale", node.scale)
            self.add("Add", f"{node.name}.shift", node.shift)
        elif isinstance(node, BatchNorm):
            self.add("BatchNormalization", node.name, node.gamma, node.beta, node.mean, node.var, epsilon=node.eps)
        elif isinstance(node, Relu):
            self.add("Relu", node.name)
        elif isinstance(node, LeakyRelu):
            self.add("LeakyRelu", node.name, alpha=node.slope)
        elif isinstance(node, AvgPool | SumPool | MaxPool):
            self._add_pool(node)
        elif isinstance(node, Reshape):
            self.add("Reshape", node.name, np.asarray([0, *after], dtype=np.int64))
        elif isinstance(node, Transpose):
            self.add("Transpose", node.name, perm=[0, 2, 1])
        else:
            self.add("Identity", node.name)

    def _add_conv(self, node: Conv1d) -> None:
        everywhere = node.bias.ndim == 1 or node.bias.shape[1] == 1
        geometry: dict[str, Any] = {
            "strides": [node.stride],
            "dilations": [node.dilation],
            "group": node.groups,
            "pads": [*node.padding],
        }
        bias = (node.bias.reshape(-1),) if everywhere else ()
        self.add("Conv", node.name, node.weight, *bias, **geometry)
        if not everywhere:
            self.add("Add", f"{node.name}.position", node.bias)

    def _add_pool(self, node: AvgPool | SumPool | MaxPool) -> None:
        windows: dict[str, Any] = {"kernel_shape": [node.kernel], "strides": [node.stride], "pads": [*node.padding]}
        if isinstance(node, MaxPool):
            self.add("MaxPool", node.name, **windows)
            return
        self.add("AveragePool", node.name, count_include_pad=1, **windows)
        if isinstance(node, SumPool):
            self.add("Mul", f"{node.name}.sum", np.asarray(node.kernel / node.divisor))
