"""Arithmetic with constants, activations, and what may stand at the model's end."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from sottovoce.models.graph import Affine, Array, Conv1d, Dense, LeakyRelu, Relu, Shape
from sottovoce.models.onnx.call import BRANCHES, Call, Handler
from sottovoce.models.onnx.chain import ZERO, Data, Value

NO_LIMIT = 1e30


def apply_affine(call: Call, data: Data, scale: Array, shift: Array) -> Data:
    """y = scale * x + shift, both broadcastable to the ONNX shape; merged into the last layer where that is exact."""
    chain = call.chain
    factors, terms = (_placed(call, data, values, rest) for values, rest in ((scale, 1.0), (shift, 0.0)))
    last = chain.nodes[-1] if chain.nodes else None
    if isinstance(last, Affine):
        chain.replace_last(Affine(last.name, last.scale * factors, last.shift * factors + terms))
    elif isinstance(last, Conv1d | Dense) and bool(np.all(factors == 1)):
        chain.replace_last(replace(last, bias=_with_bias(last.bias, terms, chain.shape)))
    else:
        chain.append(Affine(call.name(), factors, terms))
    return replace(data, version=chain.version)


def _placed(call: Call, data: Data, values: Array, rest: float) -> Array:
    """Values of the ONNX shape put where the chain holds their elements, `rest` elsewhere; equal axes shrink to 1."""
    index, shape = data.index, call.chain.shape
    if values.ndim > index.ndim and values.shape[0] == 1:  # along the batch
        values = values[0]
    if (
        values.ndim > index.ndim
        or any(size not in (1, dim) for size, dim in zip(values.shape[::-1], index.shape[::-1], strict=False))
        or (data.merged and values.ndim == index.ndim and values.shape[0] != 1)
    ):
        raise call.refuse(f"expected a constant that broadcasts to {('batch', *index.shape)}, got {values.shape}")
    if values.size == 1 and not (index == ZERO).any():
        return np.full([1] * len(shape), float(values.reshape(-1)[0]))
    wanted = np.broadcast_to(values, index.shape)
    real = index != ZERO
    if rest == 0.0 and bool(np.any(wanted[~real] != 0.0)):
        raise call.refuse("it adds to the padding before it: pad right before the convolution instead")
    placed = np.full(math.prod(shape), rest)
    placed[index[real]] = wanted[real]
    if not np.array_equal(placed[index[real]], wanted[real], equal_nan=True):
        raise call.refuse("it treats copies of one element differently")
    placed = placed.reshape(shape)
    for axis in range(placed.ndim):
        if np.array_equal(placed, np.broadcast_to(placed.take([0], axis), shape)):
            placed = placed.take([0], axis)
            shape = placed.shape
    return placed


def _with_bias(bias: Array, terms: Array, shape: Shape) -> Array:
    """The sum of a layer's bias and terms that broadcast to its output shape, as small as a bias may be."""
    if len(shape) == 2 and terms.shape[-1] > 1:
        return np.broadcast_to((bias[:, None] if bias.ndim == 1 else bias) + terms, shape)
    return np.asarray(bias + (terms if bias.ndim == 2 else np.broadcast_to(terms.reshape(-1), shape[:1])))


def _operands(call: Call) -> tuple[Data, Array, bool]:
    """(data, the constant, whether the data comes first) of an operator with two inputs."""
    first = isinstance(call.inputs[0], Data)
    if first and isinstance(call.inputs[1], Data):
        raise call.refuse(f"it joins two tensors that both depend on the clip: {BRANCHES}")
    data, constant = call.data(0 if first else 1), call.weights(1 if first else 0)
    if constant.ndim > data.rank:
        raise call.refuse(f"expected a constant of at most {data.rank} dimensions, got {constant.shape}")
    return data, constant, first


def _add(call: Call) -> Value:
    data, constant, _ = _operands(call)
    return apply_affine(call, data, np.ones(()), constant)


def _subtract(call: Call) -> Value:
    data, constant, first = _operands(call)
    return apply_affine(call, data, np.full((), 1.0 if first else -1.0), -constant if first else constant)


def _multiply(call: Call) -> Value:
    data, constant, _ = _operands(call)
    return apply_affine(call, data, constant, np.zeros(()))


def _divide(call: Call) -> Value:
    data, constant, first = _operands(call)
    if not first:
        raise call.refuse("it divides by data, which no layer here does: normalise with BatchNorm")
    return apply_affine(call, data, 1.0 / constant, np.zeros(()))


def _negate(call: Call) -> Value:
    return apply_affine(call, call.data(), np.full((), -1.0), np.zeros(()))


def _power(call: Call) -> Value:
    data = call.data()
    if call.scalar(1) != 1.0 or call.constant(1).ndim > data.rank:
        raise call.refuse("powers of data cannot be imported: use ReLU or LeakyReLU as the non-linear function")
    return data


def _relu(call: Call) -> Value:
    return _activation(call, call.data(), Relu)


def _activation(call: Call, data: Data, make: Callable[[str], Relu | LeakyRelu]) -> Data:
    call.chain.append(make(call.name()))
    return replace(data, version=call.chain.version)


def _leaky_relu(call: Call) -> Value:
    slope = call.float_attribute("alpha", 0.01)
    return _activation(call, call.data(), lambda name: LeakyRelu(name, slope))


def _prelu(call: Call) -> Value:
    data, slopes = call.data(), call.weights(1)
    if not slopes.size or not bool(np.all(slopes == slopes.flat[0])):
        raise call.refuse("its slopes differ: use one slope for all channels (LeakyReLU, or PReLU(1))")
    shape = (1, *data.index.shape[data.merged :])
    pairs = zip(slopes.shape[::-1], shape[::-1], strict=False)
    if slopes.ndim > len(shape) or any(size > 1 and dim == 1 for size, dim in pairs):
        raise call.refuse(f"expected slopes that broadcast to {('batch', *shape[1:])}, got {slopes.shape}")
    return _activation(call, data, lambda name: LeakyRelu(name, float(slopes.flat[0])))


def _absolute(call: Call) -> Value:
    return _activation(call, call.data(), lambda name: LeakyRelu(name, -1.0))


def _clip(call: Call) -> Value:
    data = call.data()
    if call.opset < 11:
        low, high = call.float_attribute("min", -math.inf), call.float_attribute("max", math.inf)
    else:
        low = call.scalar(1) if call.given(1) else -math.inf
        high = call.scalar(2) if call.given(2) else math.inf
    if low <= -NO_LIMIT and high >= NO_LIMIT:
        return data
    if low != 0.0 or high < NO_LIMIT:
        raise call.refuse("only a clip at 0 from below can be imported: use ReLU in place of ReLU6 or Hardtanh")
    return _activation(call, data, Relu)


def _maximum(call: Call) -> Value:
    if len(call.inputs) == 1:
        return call.data()
    data, constant, _ = _operands(call)
    if len(call.inputs) != 2 or constant.size != 1 or float(constant.reshape(-1)[0]) != 0.0:
        raise call.refuse("only the maximum with 0, a ReLU, can be imported")
    return _activation(call, data, Relu)


def _end(call: Call) -> Value:
    """Softmax and the like: they keep the order of the logits, so the label is the same without them."""
    data = call.data(after_end=True)
    axis = call.axis(data.rank, 1 if call.opset < 13 else -1)
    shape = (1, *data.index.shape)
    over = math.prod(shape[axis:]) if call.opset < 13 else shape[axis]
    if axis == 0 or over != data.index.size:
        raise call.refuse(
            f"it may stand only at the model's end, over one logit per label; here it works along axis {axis} of "
            f"{('batch', *data.index.shape)}"
        )
    return Data(data.version, data.index, f"{call.op} (node {call.number})")


def _argmax(call: Call) -> Value:
    data = call.data(after_end=True)
    axis = call.axis(data.rank, 0)
    if axis == 0 or data.index.shape[axis - 1] != data.index.size:
        raise call.refuse("it may stand only at the model's end, over one logit per label")
    if call.int_attribute("select_last_index", 0):
        raise call.refuse("select_last_index: expected 0: of equal logits the first one wins")
    return Data(data.version, data.index.reshape(-1), f"ArgMax (node {call.number})")


def _sigmoid(call: Call) -> Value:
    data = call.data()
    if data.index.size == 1:
        raise call.refuse("a single output with a Sigmoid cannot be imported: use two outputs and Softmax")
    return Data(data.version, data.index, f"{call.op} (node {call.number})")


ARITHMETIC: Mapping[str, Handler] = MappingProxyType(
    {
        "Add": _add,
        "Sub": _subtract,
        "Mul": _multiply,
        "Div": _divide,
        "Neg": _negate,
        "Pow": _power,
        "Relu": _relu,
        "LeakyRelu": _leaky_relu,
        "PRelu": _prelu,
        "Abs": _absolute,
        "Clip": _clip,
        "Max": _maximum,
        "Softmax": _end,
        "LogSoftmax": _end,
        "ArgMax": _argmax,
        "Sigmoid": _sigmoid,
    }
)
