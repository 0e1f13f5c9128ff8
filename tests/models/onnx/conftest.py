"""Small ONNX models, made op by op."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from sottovoce.engine.errors import ModelError
from sottovoce.models.onnx import import_onnx

BOX = {"input_low": -4.0, "input_high": 4.0}

Step = tuple[Any, ...]
MakeOnnx = Callable[..., onnx.ModelProto]


def make_model(
    *steps: Step,
    shape: Sequence[int | str] = (3, 12),
    opset: int = 18,
    batch: int | str = "clips",
    flat: bool = True,
    integers: bool = False,
) -> onnx.ModelProto:
    """A chain of ONNX nodes from "x" (batch, *shape) to "y".

    A step is (op, constant or None, …, {attributes}): the tensor of the step before is the first input, constants
    follow; None leaves an optional input out. flat: a Flatten is added at the end, every element a logit.
    """
    nodes, tensors, value = [], [], "x"
    for number, (op, *rest) in enumerate(steps):
        attributes = rest.pop() if rest and isinstance(rest[-1], dict) else {}
        attributes = dict(attributes)
        inputs = [value]
        for place, constant in enumerate(rest):
            inputs.append("" if constant is None else f"c{number}_{place}")
            if constant is not None:
                tensors.append(numpy_helper.from_array(np.asarray(constant), inputs[-1]))
        if attributes.pop("swap", False):
            inputs = [inputs[1], inputs[0], *inputs[2:]]
        value = f"v{number}"
        nodes.append(helper.make_node(op, inputs, [value], name=f"/{op.lower()}{number}/{op}", **attributes))
    nodes.append(helper.make_node("Flatten" if flat else "Identity", [value], ["y"], name="end"))
    kind = TensorProto.INT64 if integers else TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "made",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, *shape])],
        [helper.make_tensor_value_info("y", kind, None)],
        tensors,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


@pytest.fixture(scope="session")
def onnx_model() -> MakeOnnx:
    """`make_model`."""
    return make_model


def ones(*shape: int) -> np.ndarray:
    """Weights that are all 1."""
    return np.ones(shape, dtype=np.float32)


def ints(*values: int) -> np.ndarray:
    """Axes, shapes and the like."""
    return np.asarray(values, dtype=np.int64)


def refused(source: onnx.ModelProto | bytes, match: str) -> str:
    """The message with which `source` is refused."""
    data = source if isinstance(source, bytes) else source.SerializeToString()
    with pytest.raises(ModelError, match=match) as caught:
        import_onnx(data, **BOX)
    return str(caught.value)
