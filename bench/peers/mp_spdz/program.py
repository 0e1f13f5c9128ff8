"""The MP-SPDZ program of a network, and its weights as the integers that the program takes as inputs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sottovoce.bench.peers.model import Layer
from sottovoce.engine.errors import ConfigError
from sottovoce.models.evaluate import evaluate_node
from sottovoce.models.graph import AvgPool, Conv1d, Dense, Graph, Shape, SumPool

FRACTION: Final = 16
VALUE_BITS: Final = 31
"""Of a value with its sign; both are MP-SPDZ's defaults for fixed point."""
MAX_FINER: Final = 8
MAX_VALUE_BITS: Final = 62 - FRACTION - MAX_FINER
"""A product has the fraction bits of a weight more, and must fit in the ring."""
FEATURES_PARTY: Final = 0
WEIGHTS_PARTY: Final = 1


@dataclass(frozen=True, slots=True)
class Program:
    """Source text, the same for every batch size, and the integers that party 1 inputs, in their order."""

    text: str
    weights: tuple[NDArray[np.int64], ...] = field(repr=False)


def write_program(layers: Sequence[Layer], head: Sequence[str], parties: int, bits: int = VALUE_BITS) -> Program:
    """The program of `layers`, from (channels, time) to one logit per label.

    head: lines that choose how the protocol computes. bits: of a value. Raises ConfigError for a layer that it has no
    instruction for.
    """
    writer = _Writer(layers[0].before)
    for layer in layers:
        writer.add(layer)
    labels, time = writer.shape
    if time != 1:
        raise ConfigError(f"mp-spdz: expected logits from a dense layer, got (channels, time) {writer.shape}")
    features = math.prod(layers[0].before)
    lines = [
        *head,
        f"VALUE_BITS = {bits}",
        "",
        files("sottovoce.bench.peers.mp_spdz").joinpath("layers.mpc").read_text(encoding="utf-8"),
        "",
        f"features = secret_input({FEATURES_PARTY}, BATCH * {features})",
        *(f"{name} = secret_input({WEIGHTS_PARTY}, {size})" for name, size in writer.inputs),
        "",
        "",
        "def forward():",
        "    v = features.get_vector()",
        *(f"    {line}" for line in writer.lines),
        f"    return argmax(v, labels={labels})",
        "",
        "",
        f"serve(forward, asker={parties - 1})",
        "",
    ]
    return Program("\n".join(lines), tuple(writer.weights))


def encode_features(features: NDArray[np.float64]) -> NDArray[np.int64]:
    """(batch, channels, time) -> (channels, batch, time), as the program reads them."""
    return _integers(features.transpose(1, 0, 2), FRACTION)


def input_text(arrays: Sequence[NDArray[np.int64]]) -> str:
    """Inputs as MP-SPDZ reads them: numbers with white space between."""
    return "\n".join(" ".join(map(str, values.ravel().tolist())) for values in arrays) + "\n"


def value_bits(graph: Graph, features: NDArray[np.float64]) -> int:
    """Bits that the layers' values on these features need, VALUE_BITS or more. Raises ConfigError if there are none."""
    values, undivided, bits = features, 1, VALUE_BITS
    for node in graph.nodes:
        values = evaluate_node(node, values)
        if isinstance(node, Conv1d | Dense):
            undivided = 1
        elif isinstance(node, AvgPool | SumPool):
            undivided *= node.kernel if isinstance(node, AvgPool) else node.divisor
        needed = math.frexp(float(np.abs(values).max()) * undivided)[1] + FRACTION + 1
        if needed > MAX_VALUE_BITS:
            expected = f"values of at most {MAX_VALUE_BITS} bits, {FRACTION} of them after the point"
            raise ConfigError(f"mp-spdz: layer {node.name!r}: expected {expected}, got values of {needed}")
        bits = max(bits, needed)
    return bits


class _Writer:
    """Lines of the program's body, and the weights that they use. shape: (channels, time) of `v` so far."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.lines: list[str] = []
        self.inputs: list[tuple[str, int]] = []
        self.weights: list[NDArray[np.int64]] = []
        self._divisor = 1  # of averages: it waits for the next weights. None after the last: argmax does not need it.

    def add(self, layer: Layer) -> None:
        channels, time = self.shape
        if layer.kind == "conv1d":
            self._linear(layer, _array(layer.weight), layer.after[1], layer.padding[0])
        elif layer.kind == "dense":  # of all positions: a convolution whose kernel covers them
            self._linear(layer, _array(layer.weight).reshape(-1, channels, time), 1, 0)
        elif layer.kind == "relu":
            self.lines.append("v = relu(v)")
        elif layer.kind in ("sumpool", "maxpool"):
            self._divisor *= layer.divisor
            (left, right), steps = layer.padding, layer.after[1]
            self.lines.append(
                f"v = {'sum_pool' if layer.kind == 'sumpool' else 'max_pool'}(v, channels={channels}, time={time}, "
                f"kernel={layer.kernel}, stride={layer.stride}, left={left}, right={right}, steps={steps})"
            )
            self.shape = (channels, steps)

    def _linear(self, layer: Layer, weight: NDArray[np.float64], steps: int, left: int) -> None:
        """weight (filters, channels, kernel)."""
        if layer.groups > 1 or layer.dilation > 1:
            got = f"{layer.groups} groups, dilation {layer.dilation}"
            raise ConfigError(f"mp-spdz: layer {layer.name!r}: expected a convolution without groups, got {got}")
        weight = weight / self._divisor
        bias = _array(layer.bias)
        bits = _weight_fraction(weight)
        number = len(self.inputs) // 2
        for name, values in (
            (f"weight{number}", _integers(weight.transpose(0, 2, 1), bits)),
            (f"bias{number}", _integers(bias, FRACTION + bits)),
        ):
            self.inputs.append((name, values.size))
            self.weights.append(values)
        (channels, time), (filters, _, kernel) = self.shape, weight.shape
        self.lines += [
            f"v = conv(v, weight{number}, bias{number}, channels={channels}, time={time}, filters={filters}, "
            f"kernel={kernel}, stride={layer.stride}, left={left}, steps={steps})",
            f"v = rescale(v, {bits})",
        ]
        self.shape, self._divisor = (filters, steps), 1


def _weight_fraction(weight: NDArray[np.float64]) -> int:
    """FRACTION bits, and up to MAX_FINER more for weights that are all small."""
    largest = float(np.abs(weight).max())
    finer = MAX_FINER if largest == 0 else -math.frexp(largest)[1]
    return FRACTION + min(max(finer, 0), MAX_FINER)


def _integers(values: NDArray[np.float64], bits: int) -> NDArray[np.int64]:
    return np.rint(np.ldexp(values, bits)).astype(np.int64)


def _array(values: NDArray[np.float64] | None) -> NDArray[np.float64]:
    assert values is not None, "a linear layer has a weight and a bias"
    return values
