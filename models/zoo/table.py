"""The table of models that come with the package. A new model is a row and the function that stacks its layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from sottovoce.models.graph import Graph, Shape
from sottovoce.models.speech.corpora.ravdess import LABELS
from sottovoce.models.speech.features import FeatureSet, get_feature_set
from sottovoce.models.zoo.layers import Array, Layers, Parameter


def _tiny(net: Layers) -> None:
    net.conv("conv1", 64, 5).relu().flatten().dense("dense", net.classes)


def _paper(net: Layers) -> None:
    net.conv("conv1", 128, 5).relu().avg_pool(4).conv("conv2", 128, 5).relu().flatten().dense("dense", net.classes)


def _max(net: Layers) -> None:
    net.conv("conv1", 128, 5).relu().max_pool(8).conv("conv2", 128, 5).relu().flatten().dense("dense", net.classes)


def _medium(net: Layers) -> None:
    for number, channels in enumerate((256, 256, 128, 64), start=1):
        net.conv(f"conv{number}", channels, 5).relu().max_pool_same(5, 2)
    net.flatten().dense("dense1", 32).relu().dense("dense2", net.classes)


def _frames(net: Layers) -> None:
    for number in range(1, 5):
        net.conv(f"conv{number}", 256, 5).relu().avg_pool(2)
    net.flatten().dense("dense1", 128).relu().dense("dense2", net.classes)


@dataclass(frozen=True, slots=True)
class ZooModel:
    """One model of the zoo.

    layers: in words. features: name of the feature set that it takes. stack: puts its layers onto an empty `Layers`.
    weights: the folder beside this module with trained weights (weights.npz, MODEL_CARD.md, LICENSE-WEIGHTS), or None.
    labels: what the trained weights tell apart, and the default for others.
    """

    name: str
    layers: str
    features: str
    stack: Callable[[Layers], None]
    weights: str | None = None
    labels: tuple[str, ...] = LABELS

    @property
    def feature_set(self) -> FeatureSet:
        """The features that it takes, with their shape and their box."""
        return get_feature_set(self.features)

    def stacked(self, classes: int, parameter: Parameter) -> Layers:
        """Its layers for `classes` labels, with parameters from `parameter`."""
        net = Layers(self.feature_set.input_shape, classes, parameter)
        self.stack(net)
        return net

    def shapes(self, classes: int) -> dict[str, tuple[Shape, ...]]:
        """Array names of its weights for `classes` labels, and the shapes that each may have."""
        found: dict[str, tuple[Shape, ...]] = {}

        def note(name: str, shapes: tuple[Shape, ...], fan_in: int) -> Array:
            found[name] = shapes
            return np.broadcast_to(np.float32(0), shapes[0])

        self.stacked(classes, note)
        return found

    def graph(self, arrays: Mapping[str, Array], labels: tuple[str, ...]) -> Graph:
        """The model with `arrays`, whose names and shapes are those of `shapes`."""
        net = self.stacked(len(labels), lambda name, shapes, fan_in: arrays[name])
        features = self.feature_set
        low, high = (tuple(side.ravel().tolist()) for side in (features.low, features.high))
        return Graph(self.name, features.input_shape, tuple(net.nodes), labels, low, high, self.features)


MODELS: Mapping[str, ZooModel] = MappingProxyType(
    {
        row.name: row
        for row in (
            ZooModel("tiny", "Conv1D(64, 5, same), ReLU, Flatten 2560, Dense(8)", "mfcc40-mean", _tiny, weights="tiny"),
            ZooModel(
                "paper",
                "Conv1D(128, 5, same), ReLU, AvgPool(4), Conv1D(128, 5, same), ReLU, Flatten 1280, Dense(8)",
                "mfcc40-mean",
                _paper,
                weights="paper",
            ),
            ZooModel(
                "max",
                "Conv1D(128, 5, same), ReLU, MaxPool(8), Conv1D(128, 5, same), ReLU, Flatten 640, Dense(8)",
                "mfcc40-mean",
                _max,
                weights="max",
            ),
            ZooModel(
                "medium",
                "Conv1D(256 / 256 / 128 / 64, 5, same), each with ReLU and MaxPool(5, stride 2, same), Flatten 704, "
                "Dense(32), ReLU, Dense(8)",
                "spectral162-mean",
                _medium,
            ),
            ZooModel(
                "frames",
                "4 x Conv1D(256, 5, same), each with ReLU and AvgPool(2), Flatten 2304, Dense(128), ReLU, Dense(8)",
                "mfcc40-frames151",
                _frames,
            ),
        )
    }
)
